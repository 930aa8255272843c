"""A run as one value: made once in a command, and handed to whatever needs a part of it."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fundusray import files
from fundusray.config import Data, Recipe
from fundusray.data.epoch_plan import epoch_plan
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.models.load_weights import start_digest
from fundusray.runs.identity import run_folder, run_key
from fundusray.runs.provenance import Start
from fundusray.runs.split_of_run import OpenSets, Split
from fundusray.training.timetable import Timetable, passes_over_rows


@dataclass(frozen=True, eq=False)
class Run:
    """One recipe on one prepared set."""

    recipe: Recipe
    """Its batch is a number."""
    set_folder: str
    """Of the prepared set, as every machine finds it."""
    split: Split
    key: str
    """The digest of everything that decides the result; see `identity.run_key`."""
    storage: str
    sets: OpenSets = field(default_factory=OpenSets)

    @property
    def prepared(self) -> PreparedSet:
        """The prepared set, opened."""
        return self.split.prepared

    @property
    def folder(self) -> str:
        """Where the run lives."""
        return run_folder(self.recipe, self.key, self.storage)

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """The rows of each side of the split: train, val, test."""
        return self.split.rows

    @property
    def counts(self) -> list[int]:
        """Training images per class."""
        return self.split.counts

    @cached_property
    def start(self) -> Start:
        """What the network knows before it begins.

        Raises:
            DamagedError: what the start learned from is no longer what was written.
        """
        return self.sets.start(self.set_folder, self.recipe.model)

    @cached_property
    def copies(self) -> tuple[PreparedSet, ...]:
        """The sets that data.mix names, opened."""
        return tuple(self.sets.at(folder) for folder in self.recipe.data.mixed)

    @cached_property
    def timetable(self) -> Timetable:
        """How many steps and epochs it takes.

        Raises:
            InputError: a batch larger than the rows, or quotas that do not fit the classes.
        """
        return timetable_of(self.recipe, self.split)


def timetable_of(recipe: Recipe, split: Split) -> Timetable:
    """How many steps and epochs a recipe takes on the train side of a split.

    Raises:
        InputError: a batch larger than the rows, or quotas that do not fit the classes.
    """
    plan = epoch_plan(recipe, split.learned, split.rows["train"], 0)
    return Timetable(passes_over_rows(recipe), len(plan.rows))


def pixels_version(data: Data, info: dict[str, Any]) -> int:
    """The version of the preprocessing of a set; of frames with that of what finishes them."""
    frame, own = info["preprocess_version"], PREPROCESS.find(data.preprocess).version
    return frame if info["preprocess"] == data.preprocess else 1000 * frame + own


def plan_run(recipe: Recipe, set_folder: str, storage: str, sets: OpenSets | None = None) -> Run:
    """The run of a recipe, its batch a number, on the prepared set in a folder.

    Args:
        sets: those that the command has open; what is there already is not derived again.

    Raises:
        InputError: the set, the split file, the start or the copies are not there or do not fit.
    """
    sets = sets or OpenSets()
    split = sets.split(set_folder, recipe)
    info, mixed = split.prepared.info, recipe.data.mixed
    key = run_key(
        recipe,
        photographs=info["manifest"],
        pixels=pixels_version(recipe.data, info),
        split=split.digest,
        start=start_digest(recipe.model),
        copies="+".join(files.sha256_file(files.join(one, "set.json")) for one in mixed),
    )
    return Run(recipe, set_folder, split, key, storage, sets)
