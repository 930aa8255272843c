"""Certificates by randomised smoothing for a bundle, spread over the cluster."""

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.certificates import Smoothing
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import CLEAN, named_rows, rows_of_units
from fundusray.cluster.runtime.pool import is_whole
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.data.prepared.prepared_set import open_set
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.training.evaluator import Evaluator

ROWS = 8
"""Of one unit: each costs about a thousand passes."""


def certify_bundle(
    bundle: str, prepared: str, rows: np.ndarray, smoothing: Smoothing, folder: str, cpus: int = 0
) -> str:
    """Where in `folder` the certificates of some rows are; they are made unless they are there and
    whole. Broken off, the same call goes on with the units that are left.

    Columns: image_id, patient_id, target, answer (-1: abstained), radius (L2, pixels in [0, 1]),
    referable_answer (0, 1 or -1), referable_radius.

    Raises:
        InputError: the set has classes that the bundle does not know.
    """
    weights, data = weights_digest(bundle), open_set(prepared)
    data = in_classes_of(data, bundle, load_bundle(bundle))
    how = [weights, files.base_name(data.folder), data.info["manifest"], rows.tolist()]
    key = files.hash_json([*how, str(smoothing)], 8)
    location = files.join(folder, f"certified-{key}.parquet")
    if is_whole(location):
        return location
    parts = files.join(folder, f"parts-{key}")
    chunks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    units = [
        Unit(unit_key(weights, chunk.tolist(), str(smoothing)), (smoothing, chunk), len(chunk))
        for chunk in chunks
    ]
    table = rows_of_units("certifying", _certified, units, (bundle, weights, prepared), parts, cpus)
    files.write_table(location, named_rows(data, table.sort_by("row"), {}))
    files.remove(parts)
    return location


def _certified(evaluator: Evaluator, smoothing: Smoothing, rows: np.ndarray) -> pa.Table:
    """Of a unit's rows what is certain."""
    columns = evaluator.certificates(rows, smoothing, CLEAN)
    return pa.table({name: pa.array(values) for name, values in columns.items()})
