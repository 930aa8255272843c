"""Attacks on the segmentation of some images, and what is written of each: a row for the image as
it is, and for each budget and candidate."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.attacks import evaluation_mode
from fundusray.attacks.segmentation.maps import images_of_pass
from fundusray.conditions import SegmentationAttack
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Columns, Task


def attacked_segmentation_columns(
    attacks: Sequence[SegmentationAttack],
    model: nn.Module,
    batches: Iterable[Batch],
    precision: AbstractContextManager[Any],
    task: Task,
) -> Columns:
    """What becomes of the valid images of some batches, a row for each image as it is (eps 0) and
    for each attack and candidate: row, eps (pixels in [0, 1]), candidate (its name, "" where an
    attack makes one), linf, queries (of all candidates together), and the columns of the task.

    Every image is attacked anew at each budget, from its own draws.
    """

    def network(image: Tensor) -> Tensor:
        with precision:
            return model(image).float()

    parts: list[Columns] = []
    with evaluation_mode(model):
        for batch in batches:
            image, row = batch.image[batch.valid], batch.row[batch.valid]
            target = task.target(batch)[batch.valid]
            if not len(row):
                continue
            # The way back through a network of maps needs much memory.
            length = images_of_pass(image)
            for some in zip(*(whole.split(length) for whole in (image, target, row)), strict=True):
                parts += _of_images(attacks, network, *some, task)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _of_images(
    attacks: Sequence[SegmentationAttack],
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    target: Tensor,
    row: Tensor,
    task: Task,
) -> Iterator[Columns]:
    """The columns of some images, attack after attack."""

    def columns(
        shown: Tensor, eps: float, candidate: str, linf: Tensor, queries: Tensor
    ) -> Columns:
        with torch.no_grad():
            written = task.columns(network(shown.to(image.dtype)), target)
        num = len(row)
        return {
            "row": row.cpu().numpy(),
            "eps": np.full(num, eps),
            "candidate": np.full(num, candidate, dtype=object),
            "linf": linf.cpu().numpy(),
            "queries": queries.cpu().numpy(),
        } | written

    none = torch.zeros_like(row)
    yield columns(image, 0.0, "", none.double(), none)
    for attack in attacks:
        outcome = attack.outcome(network, image, target, row)
        for name, attacked in outcome.candidates.items():
            yield columns(attacked, attack.eps, name, outcome.linf[name], outcome.queries)
