"""Targeted modulation beside other maps on a bundle's photographs, over the cluster."""

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import CLEAN, named_rows, rows_of_units
from fundusray.cluster.runtime.pool import is_whole
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.training.evaluator import Evaluator
from fundusray.training.modulation import ModulationPlan, modulation_columns

CHUNK = 8192
"""Forward passes of one unit, about."""
LEAST = 4
"""Photographs of one unit, at least."""


def modulation_location(
    bundle: str, prepared: str, rows: np.ndarray, plan: ModulationPlan, folder: str, cpus: int = 0
) -> str:
    """Where in `folder` it stands what is measured of some rows of a set; it is measured unless it
    is there and whole. Broken off, the same call goes on with the units that are left.

    Columns: image_id, patient_id, target, and those of `training.modulation.modulation_columns`
    but row.

    Raises:
        InputError: no row, or a map that this network or these classes cannot have.
    """
    if not len(rows):
        raise InputError(f"no row of {prepared} is there to be explained")
    weights, data = weights_digest(bundle), open_set(prepared)
    key = files.hash_json([weights, files.base_name(prepared), rows.tolist(), plan.text], 8)
    location = files.join(folder, f"modulation-{key}.parquet")
    if is_whole(location):
        return location
    opened = load_bundle(bundle)
    data = in_classes_of(data, bundle, opened)
    parts = files.join(folder, f"parts-{key}")
    length = max(LEAST, CHUNK // plan.passes(data.size))
    units = [
        Unit(unit_key(weights, plan.text, chunk.tolist()), (plan, chunk), len(chunk))
        for chunk in (rows[start : start + length] for start in range(0, len(rows), length))
    ]
    table = rows_of_units("modulating", _modulated, units, (bundle, weights, prepared), parts, cpus)
    files.write_table(location, named_rows(data, table.sort_by("row"), {}))
    files.remove(parts)
    return location


def _modulated(evaluator: Evaluator, plan: ModulationPlan, rows: np.ndarray) -> pa.Table:
    """Of a unit's rows what is measured of each."""
    columns = modulation_columns(
        evaluator.model,
        evaluator.layers,
        evaluator.prepared,
        evaluator.batches(rows, CLEAN),
        plan,
    )
    return pa.table(columns)
