"""Which rows of a prepared set are on which side of a run's split, derived once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.config import Model, Recipe
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.data.split import split_files
from fundusray.data.split.assign_sides import rows_by_side
from fundusray.data.split.leaks import SplitLeaks, find_leaks
from fundusray.data.split.permuted_labels import with_permuted_labels
from fundusray.errors import DamagedError
from fundusray.runs.provenance import Start, start_of, start_on


@dataclass(frozen=True, eq=False)
class Split:
    """Who is on which side, and what follows from it; each derived when it is first asked for."""

    prepared: PreparedSet
    sides: np.ndarray
    """Of every row [N]: train, val, test, or "" where it is left out."""
    permutation: int | None = None
    """Seed of the permutation of the training labels (data.permute_labels); None: they are as the
    set has them."""

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """The rows of each side: train, val, test."""
        return rows_by_side(self.sides)

    @cached_property
    def digest(self) -> str:
        """A hash of who is where."""
        return split_files.assignment_digest(self.prepared.table, self.sides)

    @cached_property
    def learned(self) -> PreparedSet:
        """The set with the labels that the training side learns; all others are the set's own."""
        if self.permutation is None:
            return self.prepared
        return with_permuted_labels(self.prepared, self.rows["train"], self.permutation)

    @cached_property
    def leaks(self) -> SplitLeaks:
        """Patients and near-duplicates that are on two sides."""
        return find_leaks(self.prepared.table, self.sides)

    @cached_property
    def counts(self) -> list[int]:
        """Training images per class."""
        targets = self.learned.targets()[self.rows["train"]]
        return np.bincount(targets, minlength=len(self.prepared.classes)).tolist()


class OpenSets:
    """The prepared sets that a command works with, each opened once, and each split of them derived
    once: for all trials of a search and all rows of a table that split in the same way. It is
    handed down from where the command begins, and does not travel to other processes."""

    def __init__(self, opened: dict[str, PreparedSet] | None = None) -> None:
        """
        Args:
            opened: sets that are open already, by their folders.
        """
        self._sets = dict(opened or {})
        self._splits: dict[str, Split] = {}
        self._starts: dict[tuple[str, str], Start] = {}

    def at(self, folder: str) -> PreparedSet:
        """The set in a folder; `open_set` says what it raises."""
        if folder not in self._sets:
            self._sets[folder] = open_set(folder)
        return self._sets[folder]

    def split(self, folder: str, recipe: Recipe) -> Split:
        """The split of the set in a folder as a recipe has it.

        Raises:
            InputError: as `split_of`.
        """
        key = files.hash_json([folder, _how(recipe)], 32)
        if key not in self._splits:
            self._splits[key] = split_of(self.at(folder), recipe)
        return self._splits[key]

    def start(self, folder: str, model: Model) -> Start:
        """What a run of this model starts from, as far as the rows of the set in a folder go.

        Raises:
            DamagedError: what the start learned from is no longer what was written.
        """
        key = folder, start_of(model)
        if key not in self._starts:
            self._starts[key] = start_on(model, self.at(folder).table)
        return self._starts[key]


def _how(recipe: Recipe) -> list[Any]:
    """What decides a split of given rows."""
    data = recipe.data
    permutation = permutation_seed(recipe)
    if data.split_file and files.exists(data.split_file):
        return ["file", files.sha256_file(data.split_file), permutation]
    return [data.split_file, data.split, data.fractions, recipe.split_seed, permutation]


def permutation_seed(recipe: Recipe) -> int | None:
    """The seed by which a recipe permutes the labels it learns; None where it does not."""
    return recipe.seed if recipe.data.permute_labels else None


def split_of(prepared: PreparedSet, recipe: Recipe) -> Split:
    """The split of a prepared set as a recipe has it.

    Raises:
        InputError: a split file that does not fit, no publisher's split, or a side that gets none.
    """
    sides = split_files.assign_split(prepared.table, recipe.data, recipe.split_seed)
    return Split(prepared, sides, permutation_seed(recipe))


def write_sides(folder: str, table: pa.Table, sides: np.ndarray) -> None:
    """Writes a manifest with these sides in its split column, which later stages read, and
    `split.csv`, which gives the same split to another run (data.split_file)."""
    column = pa.array(sides.tolist(), pa.string())
    place = table.schema.get_field_index("split")
    table = table.set_column(place, table.schema.field("split"), column)
    files.write_table(files.join(folder, "manifest.parquet"), table)
    split_files.write_split_file(files.join(folder, "split.csv"), table, sides)


def written_split(
    folder: str, prepared: PreparedSet, digest: str, permutation: int | None = None
) -> Split:
    """The split that a run's driver wrote into its folder, as its workers read it; the permutation
    of its labels, which is not written, is the recipe's (`permutation_seed`).

    Raises:
        DamagedError: it is not the one of that digest.
    """
    place = files.join(folder, "manifest.parquet")
    sides = np.array(files.read_table(place)["split"].to_pylist())
    split = Split(prepared, sides, permutation)
    if len(sides) != len(prepared.table) or split.digest != digest:
        raise DamagedError(f"{place} holds another split than the run's; give the command again")
    return split
