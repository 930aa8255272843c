"""What a network says of a patient's two eyes, together: fitted on one side, judged on another."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.evaluate import predictions_location
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.metrics import METRICS, figure_summary, paired_differences, predictions_table
from fundusray.models.second_stage import SecondStage, fellow_probabilities, fit_second_stage
from fundusray.runs.provenance import UnseenRows

ONE, BOTH = "one eye", "both eyes"


def judge_both_eyes(
    bundle: str, judged: UnseenRows, prepared: str, folder: str, fit: str, cpus: int = 0
) -> dict[str, Any]:
    """Fits a second stage on the eyes of side `fit` and judges it on the rows that are new.

    Writes into `folder`: predictions of the network, `both_eyes.parquet` (those of both eyes) and
    `both_eyes.json` (the second stage).

    Returns:
        {"networks": rows of network, predictions and `metrics.figure_summary`, "differences": of
        both eyes to one, rows of metric and what `metrics.paired_differences` says, "pairs": judged
        photographs with a fellow eye, "fitted_on": photographs, "predictions", "second_stage"}.

    Raises:
        InputError: classes without an order, no eyes to fit on, or no patient with two eyes.
    """
    data = open_set(prepared)
    if not data.ordered:
        raise InputError(
            "a second stage of both eyes sums evidence on ordered grades, and the order of these "
            f"classes is not known ({', '.join(data.classes)}); give data.classes in their order"
        )
    learned = np.flatnonzero(judged.sides == fit)
    if not len(learned):
        raise InputError(
            f"fit={fit}: {bundle} was trained on other photographs than these, so there is no "
            f"{fit} side to fit a second stage on; leave data.source and data.root out"
        )
    own = {
        name: _seen(data, predictions_location(bundle, prepared, rows, folder, cpus=cpus))
        for name, rows in (("fit", learned), ("judged", judged.rows))
    }
    rows, _, probabilities, fellow, has_fellow = own["judged"]
    if not has_fellow.any():
        raise InputError(
            "no judged photograph has one of the same patient's other eye beside it; a second "
            "stage of both eyes needs patients and eyes (data.patient_pattern=, or columns)"
        )
    fit_rows, _, fit_own, fit_fellow, _ = own["fit"]
    stage = fit_second_stage(fit_own, fit_fellow, data.targets()[fit_rows])
    logits = stage.class_logits(probabilities, fellow)
    ids, patients = data.image_ids(), data.patients()
    both = predictions_table(
        [ids[row] for row in rows],
        [patients[row] for row in rows],
        data.targets()[rows],
        logits.astype(np.float32),
        ordered=data.ordered,
    )
    return _written(own["judged"][1], both, stage, folder) | {
        "pairs": int(has_fellow.sum()),
        "fitted_on": len(fit_rows),
        "optimistic": judged.side == "val" or fit == judged.side,
    }


def _written(one: pa.Table, both: pa.Table, stage: SecondStage, folder: str) -> dict[str, Any]:
    location = files.join(folder, "both_eyes.parquet")
    files.write_table(location, both)
    files.write_json(files.join(folder, "both_eyes.json"), asdict(stage))
    differences = paired_differences(both, one)
    return {
        "networks": [
            {"network": ONE} | figure_summary(one),
            {"network": BOTH} | figure_summary(both),
        ],
        "differences": [{"metric": metric} | differences[metric] for metric in METRICS],
        "predictions": location,
        "second_stage": files.join(folder, "both_eyes.json"),
    }


def _seen(
    data: PreparedSet, location: str
) -> tuple[np.ndarray, pa.Table, np.ndarray, np.ndarray, np.ndarray]:
    """(rows [N], the predictions, probabilities [N, K], those of fellow eyes, which have one)."""
    table = files.read_table(location)
    row_of = {name: row for row, name in enumerate(data.image_ids())}
    rows = np.array([row_of[name] for name in table["image_id"].to_pylist()], np.int64)
    names = [name for name in table.column_names if name.startswith("logit_")]
    logits = np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float64)
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    patients, eyes = data.patients(), data.table["eye"].to_pylist()
    fellow, has = fellow_probabilities(
        probabilities, [patients[row] for row in rows], [eyes[row] for row in rows]
    )
    return rows, table, probabilities, fellow, has
