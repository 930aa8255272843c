"""Derived prepared sets on the cluster: every photograph of a set, damaged once and stored."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fundusray import files
from fundusray.cluster.runtime.hands import Workers
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.units import Unit
from fundusray.conditions import CorruptionCondition
from fundusray.config import Data
from fundusray.data.prepared.derived import complete_derived, derived_unit, unit_rows
from fundusray.data.prepared.prepared_set import PreparedSet, is_complete, open_set
from fundusray.harmless import file_name_slug
from fundusray.lock import locked


def derive_set(frames: str, data: Data, condition: CorruptionCondition, storage: str) -> str:
    """The folder of a set that holds every photograph of another one damaged; it is made unless it
    is there. Broken off, the same call goes on with the units that are left.

    Args:
        frames: folder of the frames (`cluster.prepare.prepare_set(..., frames=True)`).
        data: whose preprocessing and encoding the set is to have.
    """
    base = open_set(frames)
    how = [base.info["manifest"], base.info["preprocess_version"], data.preprocess]
    how += [data.preprocess_args, data.size, data.encoding, str(condition)]
    name = f"{files.base_name(frames)}-{file_name_slug(str(condition))}-{files.hash_json(how, 8)}"
    folder = files.join(storage, "prepared", name)
    if is_complete(folder):
        return folder
    with locked(folder):
        files.sweep(folder)
        rows = unit_rows(base)
        units = [Unit(str(i), (i,), len(part), f"unit {i}") for i, part in enumerate(rows)]
        work = partial(_derived, folder, data, condition)
        with Pool("deriving", work, Workers(partial(open_set, frames))) as pool:
            made = pool.values(units)
        complete_derived(base, data, str(condition), folder, [made[unit.key] for unit in units])
    return folder


def _derived(
    folder: str, data: Data, condition: CorruptionCondition, base: PreparedSet, index: int
) -> dict[str, Any]:
    """One unit, damaged; see `derived_unit`."""
    # A JPEG set encodes once, when the unit is written.
    damage = condition.damage(replace(data, encoding="raw"), base)

    def change(rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        none = np.zeros(len(rows), np.int64)
        pixels = damage(base.pixels(rows), rows, seed=0, epoch=0, repeat=none)
        return pixels, [receipt.to_json() for receipt in condition.receipts(rows, base.size)]

    return derived_unit(base, index, change, folder, data.encoding)
