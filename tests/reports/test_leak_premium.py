"""The leak premium's table says what its predictions say."""

from pathlib import Path

import numpy as np
import pytest

from fundusray import files, metrics
from fundusray.reports import leak_premium


def predictions(location: Path, sure: float, seed: int) -> str:
    """80 eyes of 60 patients; `sure` of them graded rightly, in the order of the seed."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 5, 80)
    right = np.random.default_rng(seed).random(80) < sure
    said = np.where(right, targets, (targets + 1) % 5)
    logits = 4.0 * np.eye(5)[said] + rng.normal(0, 0.1, (80, 5))
    ids = [f"{k // 20}:eye{k % 20}" for k in range(80)]
    patients = [f"p{k % 60}" for k in range(80)]
    files.write_table(str(location), metrics.predictions_table(ids, patients, targets, logits))
    return str(location)


RUNS = [
    {"repeat": repeat, "arm": arm, "tested": 40, "swapped": 37, "known": known}
    for repeat in range(4)
    for arm, known in (("patient", 0), ("image", 38))
]


@pytest.mark.parametrize(
    "sure, verdict", [((0.3, 0.9), "flattered by the leak"), ((0.9, 0.3), "lower with the leak")]
)
def test_the_premium_is_image_minus_patient(tmp_path: Path, sure, verdict) -> None:
    patient = predictions(tmp_path / "a.parquet", sure[0], 1)
    image = predictions(tmp_path / "b.parquet", sure[1], 2)
    found = {"runs": RUNS, "predictions": {"patient": patient, "image": image}}
    places = leak_premium.write_premium(str(tmp_path), "odd | name", found)
    rows = {row["metric"]: row for row in leak_premium.premium_rows(patient, image)}
    assert set(rows) == set(metrics.METRICS)
    accuracy = rows["accuracy"]
    parts = [leak_premium.premium_by_repeat(files.read_table(place)) for place in (patient, image)]
    assert [part.num_rows for part in parts[0]] == [20] * 4 and accuracy["repeats"] == 4
    both = [metrics.repeated_summary(tables, elsewhere=True) for tables in parts]
    each = [
        metrics.paired_differences(b, a)["accuracy"]["difference"]
        for a, b in zip(*parts, strict=True)
    ]
    assert accuracy["premium"] == pytest.approx(np.mean(each))
    assert accuracy["premium_seed_sd"] == pytest.approx(np.std(each, ddof=1))
    assert accuracy["premium"] == pytest.approx(both[1]["accuracy"] - both[0]["accuracy"])
    assert accuracy["patient_low"] == both[0]["accuracy_low"]
    assert accuracy["verdict"] == verdict and accuracy["n"] == 80
    text = files.read_bytes(places["report"]).decode()
    assert "80 tested eyes of 60 patients in 4 repeats; majority baseline accuracy" in text
    known, tested, swapped = (", ".join([number] * 4) for number in ("38", "40", "37"))
    assert f"fellow eyes of {known} of {tested} tested eyes, {swapped} of them in place" in text
    assert "each with a split and a seed of training of its own" in text
    assert verdict in text and text.count("\n| ") == 2 + len(rows)
    assert files.read_bytes(places["table"]).startswith(b"metric,n,num_patients,patient,")


def test_unknown_patients_are_said(tmp_path: Path) -> None:
    place = predictions(tmp_path / "a.parquet", 0.5, 1)
    table = leak_premium.premium_rows(place, place)
    text = leak_premium.markdown_table("x", RUNS, table, "patients unknown (aptos): y")
    assert "- Only eyes of known patients are tested; patients unknown (aptos): y." in text
    assert "unknown" not in leak_premium.markdown_table("x", RUNS, table)


def test_equal_predictions_have_no_premium(tmp_path: Path) -> None:
    place = predictions(tmp_path / "a.parquet", 0.5, 1)
    for row in leak_premium.premium_rows(place, place):
        assert row["premium"] == 0 and row["verdict"] == "undecided"


def test_one_repeat_is_of_two_networks(tmp_path: Path) -> None:
    table = files.read_table(predictions(tmp_path / "a.parquet", 0.5, 1)).slice(0, 20)
    files.write_table(str(tmp_path / "b.parquet"), table)
    rows = leak_premium.premium_rows(*[str(tmp_path / "b.parquet")] * 2)
    text = leak_premium.markdown_table("x", RUNS[:2], rows)
    assert "the verdict is of these two networks" in text and "of its own" not in text
    assert rows[0]["patient_low"] == metrics.figure_summary(table)["accuracy_low"]
