"""The leak premium's table says what its predictions say."""

from pathlib import Path

import numpy as np
import pytest

from fundusray import files, metrics
from fundusray.reports import premium


def predictions(location: Path, sure: float, seed: int) -> str:
    """80 eyes of 60 patients; `sure` of them graded rightly, in the order of the seed."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 5, 80)
    right = np.random.default_rng(seed).random(80) < sure
    said = np.where(right, targets, (targets + 1) % 5)
    logits = 4.0 * np.eye(5)[said] + rng.normal(0, 0.1, (80, 5))
    ids = [f"{k // 40}:eye{k % 40}" for k in range(80)]
    patients = [f"p{k % 60}" for k in range(80)]
    files.write_table(str(location), metrics.predictions_table(ids, patients, targets, logits))
    return str(location)


RUNS = [
    {"repeat": repeat, "arm": arm, "tested": 40, "swapped": 37, "known": known}
    for repeat in range(2)
    for arm, known in (("patient", 0), ("image", 38))
]


@pytest.mark.parametrize(
    "sure, verdict", [((0.3, 0.9), "flattered by the leak"), ((0.9, 0.3), "lower with the leak")]
)
def test_the_premium_is_image_minus_patient(tmp_path: Path, sure, verdict) -> None:
    patient = predictions(tmp_path / "a.parquet", sure[0], 1)
    image = predictions(tmp_path / "b.parquet", sure[1], 2)
    found = {"runs": RUNS, "predictions": {"patient": patient, "image": image}}
    places = premium.write(str(tmp_path), "odd | name", found)
    rows = {row["metric"]: row for row in premium.rows(patient, image)}
    assert set(rows) == set(metrics.METRICS)
    accuracy = rows["accuracy"]
    both = [metrics.summary(files.read_table(place)) for place in (patient, image)]
    assert accuracy["premium"] == pytest.approx(both[1]["accuracy"] - both[0]["accuracy"])
    assert accuracy["patient_low"] == both[0]["accuracy_low"]
    assert accuracy["verdict"] == verdict and accuracy["n"] == 80
    text = files.read_bytes(places["report"]).decode()
    assert "80 tested eyes of 60 patients in 2 repeats; majority baseline accuracy" in text
    assert "fellow eyes of 38, 38 of 40, 40 tested eyes, 37, 37 of them in place" in text
    assert verdict in text and text.count("\n| ") == 2 + len(rows)
    assert files.read_bytes(places["table"]).startswith(b"metric,n,num_patients,patient,")


def test_unknown_patients_are_said(tmp_path: Path) -> None:
    place = predictions(tmp_path / "a.parquet", 0.5, 1)
    table = premium.rows(place, place)
    text = premium.markdown_table("x", RUNS, table, "patients unknown (aptos): y")
    assert "- Only eyes of known patients are tested; patients unknown (aptos): y." in text
    assert "unknown" not in premium.markdown_table("x", RUNS, table)


def test_equal_predictions_have_no_premium(tmp_path: Path) -> None:
    place = predictions(tmp_path / "a.parquet", 0.5, 1)
    for row in premium.rows(place, place):
        assert row["premium"] == 0 and row["verdict"] == "undecided"
