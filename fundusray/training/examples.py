"""What a network learns from and is judged on, in batches."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from fundusray.conditions.damage import Damage, finishing, judging_damage, training_damage
from fundusray.config import Recipe
from fundusray.data.epoch_plan import epoch_plan
from fundusray.data.manifest.patients import unknown_patients_caveat
from fundusray.data.prepared.copies import with_copies
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.data.sampling import EpochPlan
from fundusray.data.split.assign_sides import halves
from fundusray.pipeline.augment import augmentation
from fundusray.pipeline.loader import Batch, Loader, make_loader
from fundusray.training.ranks import Ranks


class Examples(Protocol):
    """Rows with a class each, on sides, and the batches of them."""

    sides: dict[str, np.ndarray]
    """Rows of train, val and test."""
    targets: np.ndarray
    """The class of every row, int64 [N]."""
    image_ids: list[str]
    patients: list[str]
    about: dict[str, Any]
    """What a bundle says of them."""

    def plan(self, epoch: int) -> EpochPlan:
        """The order of an epoch; a row beyond the set is a copy of row % N."""

    def learned(self, plan: EpochPlan, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of a plan from step `start` on, augmented."""

    def judged(self, plan: EpochPlan, damaged: bool = False) -> Iterator[Batch]:
        """The batches of a plan as they are judged, or as data.judge_corrupt damages them."""

    def halves(self, rows: np.ndarray) -> np.ndarray:
        """0 or 1 for each of some rows: two halves of their patients."""

    def undecodable(self) -> dict[int, str]:
        """Rows that turned out not to decode -> reason."""


class PreparedExamples:
    """Those of a prepared set, read by one worker."""

    def __init__(
        self,
        prepared: PreparedSet,
        recipe: Recipe,
        sides: dict[str, np.ndarray],
        ranks: Ranks,
        threads: int = 1,
    ) -> None:
        self.prepared, self.recipe, self.sides = prepared, recipe, sides
        self.targets = prepared.targets()
        self.image_ids, self.patients = prepared.image_ids(), prepared.patients()
        unknown = unknown_patients_caveat(prepared.table)
        self.about: dict[str, Any] = {"patients": unknown} if unknown else {}
        self.about |= {"manifest": prepared.info["manifest"], "ordered": prepared.ordered}
        data = recipe.data
        shown = with_copies(prepared, *map(open_set, data.mixed))
        damage, clean = training_damage(data, shown, recipe.seed), finishing(data, prepared)
        self._learned = self._loader(shown, augmentation.train_text(data), ranks, threads, damage)
        view, judged = augmentation.view_text(data), judging_damage(data, prepared)
        self._judged = self._loader(prepared, view, ranks, threads, clean)
        self._damaged = self._loader(prepared, view, ranks, threads, judged) if judged else None

    def _loader(
        self, shown: PreparedSet, text: str, ranks: Ranks, threads: int, change: Damage | None
    ) -> Loader:
        return make_loader(
            shown,
            # The largest slice that falls to one worker.
            batch=self.recipe.train.batch // ranks.world + 3,
            augment=text,
            max_bad=self.recipe.data.max_bad,
            engine=self.recipe.data.pipeline,
            device="gpu" if ranks.device.type == "cuda" else "cpu",
            threads=threads,
            change=change,
        )

    def plan(self, epoch: int) -> EpochPlan:
        return epoch_plan(self.recipe, self.prepared, self.sides["train"], epoch)

    def learned(self, plan: EpochPlan, epoch: int, start: int) -> Iterator[Batch]:
        return self._learned.epoch(plan, seed=self.recipe.seed, epoch=epoch, start=start)

    def judged(self, plan: EpochPlan, damaged: bool = False) -> Iterator[Batch]:
        loader = self._damaged if damaged else self._judged
        assert loader is not None, "data.judge_corrupt names no damage"
        return loader.epoch(plan, seed=0, epoch=0)

    def halves(self, rows: np.ndarray) -> np.ndarray:
        return halves(self.prepared.table, rows, self.recipe.split_seed)

    def undecodable(self) -> dict[int, str]:
        loaders = [loader for loader in (self._learned, self._judged, self._damaged) if loader]
        return {row: why for loader in loaders for row, why in loader.quarantined.items()}
