"""Drawn photographs to learn from, with masks of all that is on them: a start without downloads."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from fundusray.config import Recipe
from fundusray.data.manifest.contract import GRADES
from fundusray.data.sampling import EpochPlan, plan_epoch
from fundusray.pipeline.augment import augmentation as augment
from fundusray.pipeline.augment.augmentation import Augmentation
from fundusray.pipeline.loader import Batch
from fundusray.training.drawn_lesions import DrawnLesions, drawn_batch

COVERED = 0.25
"""Share of a pixel that has to be covered for it to count: as in `sketches`, so that a small lesion
stays seen."""


class DrawnExamples:
    """Drawn photographs and their masks, in memory; see `examples.Examples`."""

    def __init__(self, sketches: DrawnLesions, recipe: Recipe) -> None:
        self.sketches, self.recipe = sketches, recipe
        self.sides, self.targets = sides(recipe), sketches.grade
        eyes = [(row // 2 + 1, ("left", "right")[row % 2]) for row in range(len(self.targets))]
        self.patients = [f"{recipe.split_seed}-{patient}" for patient, _ in eyes]
        self.image_ids = [
            f"{name}_{eye}" for name, (_, eye) in zip(self.patients, eyes, strict=True)
        ]
        self.about: dict[str, Any] = {"pretrained": "on drawn photographs", "ordered": True}
        texts = augment.train_text(recipe.data), augment.view_text(recipe.data)
        self._learned, self._judged = (augment.parse_augmentation(text) for text in texts)

    def plan(self, epoch: int) -> EpochPlan:
        return plan_of_drawn(self.recipe, self.targets, epoch)

    def learned(self, plan: EpochPlan, epoch: int, start: int) -> Iterator[Batch]:
        return self._batches(plan, self._learned, epoch, start)

    def judged(self, plan: EpochPlan, damaged: bool = False) -> Iterator[Batch]:
        assert not damaged, "drawings are judged as they are"
        return self._batches(plan, self._judged, 0, 0)

    def _batches(
        self, plan: EpochPlan, augmentation: Augmentation, epoch: int, start: int
    ) -> Iterator[Batch]:
        keys = {"seed": self.recipe.seed, "epoch": epoch}
        for rows, valid in zip(plan.rows[start:], plan.valid[start:], strict=True):
            parts = drawn_batch(self.sketches, rows, augmentation, self.recipe.data, **keys)
            image, masks, grade = parts
            counts = torch.from_numpy(valid)
            seen = (masks >= COVERED).to(torch.uint8)
            yield Batch(image, grade, torch.from_numpy(rows), counts, seen)

    def halves(self, rows: np.ndarray) -> np.ndarray:
        """The eyes of every second patient."""
        return rows // 2 % 2

    def undecodable(self) -> dict[int, str]:
        return {}


def sides(recipe: Recipe) -> dict[str, np.ndarray]:
    """Rows to learn from and to judge by: the val share of the patients, the last ones."""
    num = recipe.data.num_images
    held = 2 * max(1, round(num * recipe.data.fractions[1] / 2))
    learned, judged = np.arange(num - held), np.arange(num - held, num)
    return {"train": learned, "val": judged, "test": judged[:0]}


def plan_of_drawn(recipe: Recipe, targets: np.ndarray, epoch: int) -> EpochPlan:
    """The order of an epoch over drawn photographs of these classes [N].

    Raises:
        InputError: a batch larger than the rows, or quotas that do not fit the classes.
    """
    rows = sides(recipe)["train"]
    return plan_epoch(
        recipe.sampling,
        rows,
        targets[rows],
        num_classes=len(GRADES),
        batch=recipe.train.batch,
        seed=recipe.seed,
        epoch=epoch,
        drop_last=recipe.train.drop_last,
    )
