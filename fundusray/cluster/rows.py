"""Rows of a prepared set: which side of the split they are on, and what was predicted for them."""

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.config import Recipe, override
from fundusray.data import given
from fundusray.data.leaks import SIDES
from fundusray.data.mixing import mixed
from fundusray.data.sampling import Plan, plan_epoch
from fundusray.data.shards import PreparedSet
from fundusray.data.splits import kin
from fundusray.metrics import predictions_table


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
    sides = split_of(prepared, recipe)
    return {name: np.flatnonzero(sides == name) for name in SIDES}


def epoch_plan(recipe: Recipe, prepared: PreparedSet, rows: np.ndarray, epoch: int) -> Plan:
    """The order of one training epoch over `rows`; rows beyond the set are copies of data.mix.

    Raises:
        InputError: a batch larger than the rows, or quotas that do not fit the classes.
    """
    train = recipe.train
    plan = plan_epoch(
        recipe.sampling,
        rows,
        prepared.targets()[rows],
        num_classes=len(prepared.classes),
        batch=train.batch,
        seed=recipe.seed,
        epoch=epoch,
        drop_last=train.drop_last,
    )
    if recipe.data.mix:
        return mixed(plan, recipe.data.mix_share, len(prepared), recipe.seed, epoch)
    return plan


def reported_split(sides: dict[str, np.ndarray]) -> str:
    """The side whose figures are reported: test, or val where the recipe has no test rows."""
    return "test" if len(sides["test"]) else "val"


def write_sides(folder: str, table: pa.Table, sides: np.ndarray) -> None:
    """Writes a manifest with these sides in its split column, which later stages read, and
    `split.csv`, which gives the same split to another run (data.split_file)."""
    column = pa.array(sides.tolist(), pa.string())
    place = table.schema.get_field_index("split")
    table = table.set_column(place, table.schema.field("split"), column)
    files.write_table(files.join(folder, "manifest.parquet"), table)
    given.write(files.join(folder, "split.csv"), table, sides)


def predictions_of(
    prepared: PreparedSet, rows: np.ndarray, logits: np.ndarray, half: np.ndarray | None = None
) -> pa.Table:
    """The predictions table of some rows of a prepared set; `half` as in `predictions_table`."""
    ids, patients = prepared.image_ids(), prepared.patients()
    return predictions_table(
        [ids[row] for row in rows],
        [patients[row] for row in rows],
        prepared.targets()[rows],
        logits,
        half,
        prepared.ordered,
    )


def halves(prepared: PreparedSet, rows: np.ndarray, seed: int) -> np.ndarray:
    """0 or 1 for each of some rows: two halves of their patients, near-duplicates together.

    Patients are ordered by a keyed hash and dealt out in turn, so that halves are of equal size.
    """
    group, names = kin(prepared.table)
    present = np.unique(group[rows])
    order = sorted(present, key=lambda g: files.sha256(f"{seed}/half/{names[g]}".encode()))
    of_group = {g: place % 2 for place, g in enumerate(order)}
    return np.array([of_group[g] for g in group[rows]], np.int64)
