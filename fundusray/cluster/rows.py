"""Rows of a prepared set: which side of the split they are on, and what was predicted for them."""

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.config import Recipe, override
from fundusray.data import given
from fundusray.data.shards import PreparedSet
from fundusray.data.splits import rows_by_side
from fundusray.tasks import Columns, Task


def reseeded(recipe: Recipe, repeat: int) -> Recipe:
    """The recipe of the training of that number, from 0: another seed of training on the split of
    the first."""
    if not repeat:
        return recipe
    return override(recipe, {"seed": recipe.seed + repeat, "data.split_seed": recipe.split_seed})


def split_of(prepared: PreparedSet, recipe: Recipe) -> np.ndarray:
    """The side of every row: train, val, test, or "" where a split file leaves it out, [N]."""
    return given.assign(prepared.table, recipe.data, recipe.split_seed)


def split_digest(prepared: PreparedSet, recipe: Recipe) -> str:
    """A hash of who is on which side of the split."""
    return given.digest(prepared.table, split_of(prepared, recipe))


def split_rows(prepared: PreparedSet, recipe: Recipe) -> dict[str, np.ndarray]:
    """The rows of each side of the split: train, val, test."""
    return rows_by_side(split_of(prepared, recipe))


def write_sides(folder: str, table: pa.Table, sides: np.ndarray) -> None:
    """Writes a manifest with these sides in its split column, which later stages read, and
    `split.csv`, which gives the same split to another run (data.split_file)."""
    column = pa.array(sides.tolist(), pa.string())
    place = table.schema.get_field_index("split")
    table = table.set_column(place, table.schema.field("split"), column)
    files.write_table(files.join(folder, "manifest.parquet"), table)
    given.write(files.join(folder, "split.csv"), table, sides)


def predictions_of(
    prepared: PreparedSet, rows: np.ndarray, columns: Columns, task: Task
) -> pa.Table:
    """The table of some rows of a prepared set, by what the task wrote of each."""
    ids, patients = prepared.image_ids(), prepared.patients()
    return task.table([ids[row] for row in rows], [patients[row] for row in rows], columns)
