"""The figures of one table with their intervals."""

from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.confusion import confusion_counts, float_or_none
from fundusray.metrics.intervals import figure_spreads
from fundusray.metrics.jackknife import PatientFigures
from fundusray.metrics.predictions import NO_ORDER, PredictionRows, num_unknown, read_predictions
from fundusray.metrics.registered import METRICS, withheld_figures
from fundusray.metrics.spread import LEVEL


def point_figures(targets: np.ndarray, logits: np.ndarray) -> dict[str, float | None]:
    """METRICS of some rows; None where undefined (the AUC of one class, say)."""
    targets, logits = np.asarray(targets, np.int64), np.asarray(logits, np.float64)
    alone = np.arange(len(targets))
    rows = PredictionRows(targets, logits, alone, np.zeros(len(targets), np.int64))
    return {name: float_or_none(METRICS.find(name)(rows)) for name in METRICS}


def confusion_matrix(predictions: pa.Table) -> np.ndarray:
    """[K, K] counts, rows truth and columns prediction; those of two tables add up."""
    rows = read_predictions(predictions)
    return confusion_counts(rows.targets, rows.logits)


def figure_summary(predictions: pa.Table) -> dict[str, Any]:
    """n, num_patients, num_unknown, num_networks, majority_accuracy (what always answering the most
    frequent class would reach) and, of each metric and recall_<k>, value and interval.

    `num_unknown` are the images whose patient is not known; each counts as if it were independent
    of all others, and is not among `num_patients`.

    `<m>` is the value on all rows, `<m>_low` and `<m>_high` its 95 % interval. Both ends are None
    where there are too few patients, and `<m>_why` then says what is missing (empty otherwise);
    undefined values are None, too, and so is what needs an order of the classes where none is
    known. Intervals are computed, not drawn.

    Raises:
        InputError: no rows.
    """
    side = PatientFigures.of(predictions)
    counts = side.confusion
    result: dict[str, Any] = {
        "n": int(counts.sum()),
        "num_patients": side.num_patients - num_unknown(predictions),
        "num_unknown": num_unknown(predictions),
        "num_networks": side.num_networks,
        "majority_accuracy": float(counts.sum(axis=1).max() / counts.sum()),
    }
    for name, spread in figure_spreads(side).items():
        low, high = spread.ends(LEVEL) if spread.ends else (None, None)
        result[name] = float_or_none(spread.value)
        result |= {f"{name}_low": low, f"{name}_high": high, f"{name}_why": spread.why}
    for name in withheld_figures(predictions):
        result |= {f"{name}{end}": None for end in ("", "_low", "_high")}
        result[f"{name}_why"] = NO_ORDER
    return result
