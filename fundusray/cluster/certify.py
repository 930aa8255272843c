"""Certificates by randomised smoothing for a bundle, spread over the cluster."""

from functools import partial

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.certificates import Smoothing
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import CLEAN, opened_evaluator
from fundusray.cluster.runtime.hands import Workers
from fundusray.cluster.runtime.pool import Pool, is_whole
from fundusray.cluster.runtime.start import cluster_resources, cpus_each
from fundusray.cluster.runtime.train_workers import MOST_CPUS
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
    parts, gpu = files.join(folder, f"parts-{key}"), cluster_resources()["GPU"] > 0
    chunks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    units = [
        Unit(unit_key(weights, chunk.tolist(), str(smoothing)), (smoothing, chunk), len(chunk))
        for chunk in chunks
    ]
    threads = cpus or cpus_each(len(units), MOST_CPUS, float(gpu))
    holding = partial(opened_evaluator, bundle, weights, prepared, threads, gpu)
    with Pool("certifying", _certified, Workers(holding, threads, float(gpu)), parts) as pool:
        tables = [files.read_table(place) for _, place in pool.results(units)]
    table = pa.concat_tables(tables).sort_by("row")
    which, ids, patients = table["row"].to_numpy(), data.image_ids(), data.patients()
    named = {
        "image_id": [ids[row] for row in which],
        "patient_id": [patients[row] for row in which],
        "target": pa.array(data.targets()[which], pa.int32()),
    }
    measured = {name: table[name] for name in table.column_names if name != "row"}
    files.write_table(location, pa.table(named | measured))
    files.remove(parts)
    return location


def _certified(evaluator: Evaluator, smoothing: Smoothing, rows: np.ndarray) -> pa.Table:
    """Of a unit's rows what is certain."""
    columns = evaluator.certificates(rows, smoothing, CLEAN)
    return pa.table({name: pa.array(values) for name, values in columns.items()})
