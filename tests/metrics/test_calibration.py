"""The expected calibration error, against its closed form and a loop over bins."""

import numpy as np
import pytest

from fundusray.metrics import calibration_error, calibration_interval, predictions_table
from fundusray.metrics.predictions import PredictionRows


def rows_of(logits: np.ndarray, targets: np.ndarray) -> PredictionRows:
    nothing = np.zeros(len(targets), np.int64)
    return PredictionRows(targets, logits, np.arange(len(targets)), nothing)


def test_it_is_the_mean_distance_of_sureness_from_being_right_in_each_bin() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 2, (400, 4)), rng.integers(0, 4, 400)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sure, right = p.max(axis=1), p.argmax(axis=1) == targets
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (sure >= low) & (sure < low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert calibration_error(rows_of(logits, targets)) == pytest.approx(expected)


def test_of_four_fifths_sure_and_half_right_it_is_three_tenths() -> None:
    logits = np.tile([np.log(4.0), 0.0], (10, 1))
    assert calibration_error(rows_of(logits, np.arange(10) % 2)) == pytest.approx(0.3)
    assert calibration_error(rows_of(1000 * logits, np.zeros(10, np.int64))) == 0.0


def test_its_interval_has_patients_as_units_and_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 3, 200)
    logits = rng.normal(0, 1, (200, 3)) + 2 * np.eye(3)[targets]
    ids = [str(n) for n in range(200)]
    table = predictions_table(ids, [str(n // 2) for n in range(200)], targets, logits)
    found = calibration_interval(table)
    assert 0 <= found["low"] < found["value"] < found["high"] <= 1
    assert calibration_interval(table.take(rng.permutation(200))) == pytest.approx(found)
    # Two eyes of a patient that are twice the same say no more than one.
    twice = predictions_table(
        ids,
        [str(n % 100) for n in range(200)],
        np.tile(targets[:100], 2),
        np.tile(logits[:100], (2, 1)),
    )
    once = predictions_table(ids[:100], ids[:100], targets[:100], logits[:100])
    doubled, single = calibration_interval(twice), calibration_interval(once)
    assert (doubled["low"], doubled["high"]) == pytest.approx((single["low"], single["high"]))
