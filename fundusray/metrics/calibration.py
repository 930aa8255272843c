"""How far the probability of an answer is from how often such answers are right."""

import numpy as np
import pyarrow as pa

from fundusray.metrics.any_statistic import interval
from fundusray.metrics.predictions import PredictionRows, read_predictions

BINS = 15
"""Of equal width between 0 and 1, as Guo et al. have them."""


def calibration_error(rows: PredictionRows) -> float:
    """Expected calibration error: over bins of the answer's softmax probability, the distance
    between its mean and the share of right answers, weighted by rows.

    Guo et al., On calibration of modern neural networks (2017), eq. 3. By chance alone it is above
    0 of a network that is calibrated, the more the fewer rows there are.
    """
    shifted = rows.logits - rows.logits.max(axis=1, keepdims=True)
    sure = 1.0 / np.exp(shifted).sum(axis=1)
    right = rows.logits.argmax(axis=1) == rows.targets
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    apart = np.bincount(bins, sure - right, minlength=BINS)
    return float(np.abs(apart).sum() / len(sure))


def calibration_interval(predictions: pa.Table) -> dict[str, float | str | None]:
    """value, low, high and why of the calibration error of a table of predictions, with patients as
    units; see `any_statistic.interval`."""
    rows = read_predictions(predictions)
    return interval(calibration_error, rows, rows.patient.astype(str), span=(0.0, 1.0))
