"""A few photographs as a network segments them, for pictures: the only place where whole maps are
looked at, of the rows that are asked for and no more."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fundusray.conditions import Clean
from fundusray.conditions.segmentation_attack import SegmentationAttack
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.models.bundle import Bundle
from fundusray.tasks import task_of
from fundusray.training.evaluator import Evaluator

THREADS = 2


class SegmentedPicture(NamedTuple):
    """A photograph, what is on it, and what a network calls it."""

    image_id: str
    image: np.ndarray
    """uint8 [S, S, 3], as prepared."""
    truth: np.ndarray
    """uint8 [S, S], the class of each pixel."""
    called: np.ndarray
    """The same, as the network answers."""
    attacked: np.ndarray | None = None
    """The same of the attacked photograph; None without an attack."""
    changed: np.ndarray | None = None
    """The attacked photograph, as `image`."""


def segmented_pictures(
    bundle: Bundle,
    prepared: PreparedSet,
    rows: Sequence[int],
    attack: SegmentationAttack | None = None,
) -> list[SegmentedPicture]:
    """Each of some rows of a set, in their order."""
    task = task_of(bundle.recipe, bundle.classes, False)
    gpu = torch.cuda.is_available()
    evaluator = Evaluator(bundle, task, prepared, THREADS, gpu)
    model = evaluator.model.eval()

    def network(image: Tensor) -> Tensor:
        return model(image).float()

    def classes(image: Tensor) -> np.ndarray:
        with torch.no_grad():
            return network(image).argmax(dim=1).to(torch.uint8).cpu().numpy()

    ids, made = prepared.image_ids(), []
    for batch in evaluator.batches(np.asarray(rows, np.int64), Clean()):
        keep = batch.valid
        image, row, target = batch.image[keep], batch.row[keep], task.target(batch)[keep]
        called, truth = classes(image), target.to(torch.uint8).cpu().numpy()
        shown, pairs = _levels(image), [(None, None)] * len(row)
        if attack is not None:
            changed = attack.changed(network, image, target, row, task.attack_success)
            pairs = list(zip(classes(changed), _levels(changed), strict=True))
        for k, place in enumerate(row.tolist()):
            made.append(SegmentedPicture(ids[place], shown[k], truth[k], called[k], *pairs[k]))
    return made


def _levels(image: Tensor) -> np.ndarray:
    """Images [B, 3, S, S] in [0, 1] as uint8 [B, S, S, 3]."""
    return (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def most_lesions(prepared: PreparedSet, rows: np.ndarray, number: int) -> list[int]:
    """So many of some rows that show the most kinds of masks, of equal ones the first."""
    kinds = [int((prepared.masks(np.array([row]))[0].any(axis=(1, 2))).sum()) for row in rows]
    order = sorted(range(len(rows)), key=lambda place: (-kinds[place], place))
    return sorted(int(rows[place]) for place in order[:number])
