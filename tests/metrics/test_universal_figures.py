"""What one change for all does, counted by hand."""

import pyarrow as pa
import pytest

from fundusray.metrics.universal import more_than_noise, universal_figures


def judged(copies: int = 1) -> pa.Table:
    """Eight images, each of a patient: right are all but the last; so many times."""
    target = [0, 0, 0, 1, 1, 1, 2, 2] * copies
    clean = [0, 0, 0, 1, 1, 1, 2, 1] * copies
    noise = [0, 0, 0, 1, 1, 1, 2, 2] * copies
    moved = [2, 2, 0, 2, 2, 1, 2, 2] * copies
    names = [f"p{n}" for n in range(8 * copies)]
    return pa.table(
        {
            "patient_id": names, "target": target, "clean_prediction": clean,
            "noise_prediction": noise, "prediction": moved,
        }
    )  # fmt: skip


def test_shares_are_counted() -> None:
    clean, noise, moved = universal_figures(judged(), goal=2)
    assert [row["added"] for row in (clean, noise, moved)] == ["as they are", "noise", "universal"]
    for row, accuracy, changed, success, goal in (
        (clean, 7 / 8, 0, 0, 1 / 8),
        (noise, 8 / 8, 1 / 8, 0, 2 / 8),
        (moved, 4 / 8, 5 / 8, 4 / 7, 6 / 8),
    ):
        shares = [row[f"{n}_rate"] for n in ("changed", "success", "goal")]
        assert [row["accuracy"], *shares] == pytest.approx([accuracy, changed, success, goal])
        assert (row["n"], row["num_patients"], row["majority_accuracy"]) == (8, 8, 3 / 8)
        assert row["accuracy_low"] <= accuracy <= row["accuracy_high"]
    assert "goal_rate" not in universal_figures(judged())[0]


def test_what_it_does_beyond_noise() -> None:
    found = more_than_noise(judged(4), goal=2)
    assert found["changed_rate"]["difference"] == pytest.approx(4 / 8)
    assert found["goal_rate"]["difference"] == pytest.approx(4 / 8)
    assert {row["verdict"] for row in found.values()} == {"better"}
    rows = judged(4)
    same = rows.set_column(3, "noise_prediction", rows["prediction"])
    alike = more_than_noise(same)["changed_rate"]
    assert (alike["difference"], alike["verdict"]) == (0, "undecided")
