"""Predictions of a bundle over a prepared set under a condition, spread over the cluster."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.class_matching import in_classes_of, order_known
from fundusray.cluster.prediction_rows import predictions_of
from fundusray.cluster.runtime.hands import Workers
from fundusray.cluster.runtime.pool import Pool, is_whole
from fundusray.cluster.runtime.start import cluster_resources, cpus_each
from fundusray.cluster.runtime.train_workers import MOST_CPUS
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.conditions import Clean, Condition, with_condition
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.metrics.table_summary import table_summary
from fundusray.models.load_weights import weights_digest
from fundusray.runs.joined_networks import open_network
from fundusray.runs.provenance import UnseenRows
from fundusray.tasks import Columns, is_segmentation, task_of
from fundusray.tasks.classification import logits_of
from fundusray.tasks.column_tables import column_table, table_columns
from fundusray.training.evaluator import Evaluator
from fundusray.training.predicting import split_measured

CLEAN = Clean()
CHUNK = 512
"""Clean rows of one unit."""
LEAST = 32
"""Rows of one unit of a costly condition."""


def predictions_location(
    bundle: str,
    prepared: str,
    rows: np.ndarray,
    folder: str,
    condition: Condition = CLEAN,
    cpus: int = 0,
) -> str:
    """Where in `folder` the predictions of some rows of a set are; they are made unless they are
    there and whole.

    The file's name holds a hash of the weights, the set, the rows and the condition, so that those
    of an earlier state of the bundle are never taken for these. Its rows say the condition, and of
    changed images how far each was changed. Broken off, the same call goes on with the units that
    are left.

    Args:
        cpus: of each worker; 0: so many that few units, too, keep the cluster busy.

    Raises:
        InputError: the set has classes that the bundle does not know, or a training that still
            runs wrote the bundle anew meanwhile.
    """
    weights, data = weights_digest(bundle), open_set(prepared)
    key = _key(weights, data, rows, condition)
    location = files.join(folder, f"predictions-{key}.parquet")
    if is_whole(location):
        return location
    opened = open_network(bundle)
    data = in_classes_of(data, bundle, opened)
    parts = files.join(folder, f"parts-{key}")
    try:
        found, columns = _spread(bundle, prepared, rows, condition, parts, cpus)
    except FileNotFoundError:
        # Another process has done the same just now, and cleared up.
        if is_whole(location):
            return location
        raise
    columns, measured = split_measured(columns)
    # The set may call its classes otherwise than the network does.
    task = task_of(opened.recipe, data.classes, data.ordered)
    if not is_segmentation(opened.recipe):
        columns["target"] = data.targets()[found]
    table = predictions_of(data, found, columns, task)
    files.write_table(location, with_condition(table, condition, measured))
    files.remove(parts)
    return location


def _key(weights: str, data: PreparedSet, rows: np.ndarray, condition: Condition) -> str:
    """A hash of all that decides predictions."""
    shown = [files.base_name(data.folder), data.info["manifest"]]
    return files.hash_json([weights, *shown, rows.tolist(), str(condition)], 8)


def answer_unlabelled(bundle: str, prepared: str, folder: str) -> dict[str, Any]:
    """What a bundle says of photographs without a label, e.g. of ungradable ones.

    Writes `answers.parquet` and `.csv` into `folder`: image_id, patient_id, called (the class),
    probability (of that class), and probability_<k> of each.

    Returns:
        {"status", "folder", "answers" (the table), "n", "called" (class -> photographs),
        "probability" (mean of the class they are called)}.
    """
    data, opened = open_set(prepared), open_network(bundle)
    rows = np.arange(len(data))
    parts = files.join(folder, f"parts-{_key(weights_digest(bundle), data, rows, CLEAN)}")
    found, columns = _spread(bundle, prepared, rows, CLEAN, parts)
    files.remove(parts)
    logits = logits_of(columns).astype(np.float64)
    shares = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    ids, patients = data.image_ids(), data.patients()
    rows = [
        {
            "image_id": ids[row],
            "patient_id": patients[row],
            "called": opened.classes[share.argmax()],
            "probability": float(share.max()),
        }
        | {f"probability_{k}": float(value) for k, value in enumerate(share)}
        for row, share in zip(found.tolist(), shares, strict=True)
    ]
    files.write_table(files.join(folder, "answers.parquet"), pa.Table.from_pylist(rows))
    files.write_csv(files.join(folder, "answers.csv"), rows)
    called = Counter(row["called"] for row in rows)
    return {
        "status": "finished",
        "folder": folder,
        "answers": files.join(folder, "answers.csv"),
        "n": len(rows),
        "called": {name: called[name] for name in opened.classes},
        "probability": float(shares.max(axis=1).mean()),
    }


def evaluate_bundle(
    bundle: str,
    judged: UnseenRows,
    prepared: str,
    folder: str,
    condition: Condition = CLEAN,
    cpus: int = 0,
) -> dict[str, Any]:
    """The figures of a bundle on the rows of a set that are new to it, under a condition.

    Predictions are written into `folder` by workers of so many `cpus`, see `predictions_location`.

    Raises:
        InputError: the set has classes that the bundle does not know, or no row is new to it.
    """
    if not len(judged.rows):
        raise InputError(
            f"none of the {len(judged.sides):,} photographs is new to {bundle}: it was trained on "
            "them or chose its epoch by them; give others (data.source=, data.root=)"
        )
    location = predictions_location(bundle, prepared, judged.rows, folder, condition, cpus)
    return {
        "status": "finished",
        "folder": folder,
        "bundle": bundle,
        "predictions": location,
        "condition": str(condition),
        "reported_split": judged.side,
        "optimistic": judged.side == "val",
        "notes": judged.notes,
        "metrics": table_summary(files.read_table(location)),
    }


def _spread(
    bundle: str, prepared: str, rows: np.ndarray, condition: Condition, parts: str, cpus: int = 0
) -> tuple[np.ndarray, Columns]:
    """(rows, columns) of some rows, sorted; each unit's is a file in `parts` that stays until the
    caller removes it."""
    weights = weights_digest(bundle)
    units = units_of(weights, rows, condition)
    place = (bundle, weights, prepared)
    return _joined(rows_of_units("predicting", _part, units, place, parts, cpus))


def rows_of_units(
    what: str,
    work: Callable[..., pa.Table],
    units: list[Unit],
    place: tuple[str, str, str],
    parts: str,
    cpus: int = 0,
) -> pa.Table:
    """The rows of all units, done by workers that each hold an evaluator; a unit's is a file in
    `parts` that stays until the caller removes it.

    Args:
        work: (evaluator, a unit's arguments) -> its rows.
        place: the bundle, the digest of its weights, and the prepared set.
        cpus: of each worker; 0: so many that few units, too, keep the cluster busy.
    """
    gpu = cluster_resources()["GPU"] > 0
    threads = cpus or cpus_each(len(units), MOST_CPUS, float(gpu))
    opened = partial(opened_evaluator, *place, threads, gpu)
    with Pool(what, work, Workers(opened, threads, float(gpu)), parts) as pool:
        return pa.concat_tables([files.read_table(part) for _, part in pool.results(units)])


def named_rows(data: PreparedSet, rows: pa.Table, said: dict[str, list[str]]) -> pa.Table:
    """Rows of a set, known by their column `row`, with whose they are and what is said of all."""
    which, ids, patients = rows["row"].to_numpy(), data.image_ids(), data.patients()
    named = {
        "image_id": [ids[row] for row in which],
        "patient_id": [patients[row] for row in which],
        "target": pa.array(data.targets()[which], pa.int32()),
    }
    measured = {name: rows[name] for name in rows.column_names if name != "row"}
    return pa.table(named | said | measured)


def units_of(weights: str, rows: np.ndarray, condition: Condition) -> list[Unit]:
    """The rows in units of about equal cost; the cut does not depend on the cluster, which may be
    another one when a broken-off evaluation goes on."""
    length = max(LEAST, CHUNK // condition.passes)
    chunks = [rows[start : start + length] for start in range(0, len(rows), length)]
    return [
        Unit(unit_key(weights, chunk.tolist(), str(condition)), (condition, chunk), len(chunk))
        for chunk in chunks
    ]


def opened_evaluator(
    bundle: str, weights: str, prepared: str, threads: int, gpu: bool
) -> Evaluator:
    """The bundle of these weights, open for the photographs of a set.

    Raises:
        InputError: there is no bundle, or it has other weights.
    """
    opened = open_network(bundle)
    if weights_digest(bundle) != weights:
        raise InputError(
            f"{bundle} was written anew while it predicted, by a training that still runs; give "
            "the command again, or after the training"
        )
    task = task_of(opened.recipe, opened.classes, order_known(opened)).of_bundle()
    # An attack, and the worst damage, have to know which answer is right.
    data = in_classes_of(open_set(prepared), bundle, opened)
    return Evaluator(opened, task, data, threads, gpu)


def _part(evaluator: Evaluator, condition: Condition, rows: np.ndarray) -> pa.Table:
    """Of a unit's rows: row, and what is written of each."""
    found, columns = evaluator.predictions(rows, condition)
    return column_table({"row": found} | columns)


def _joined(table: pa.Table) -> tuple[np.ndarray, Columns]:
    """(rows, columns) that `_part` wrote, of all units, in order of the rows."""
    columns = table_columns(table.sort_by("row"))
    return columns.pop("row"), columns
