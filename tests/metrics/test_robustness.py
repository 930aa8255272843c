"""What attacks and damage leave, counted by hand and against the intervals of plain accuracy."""

import numpy as np
import pyarrow as pa
import pytest

from fundusray.metrics import figure_summary, paired_differences, predictions_table
from fundusray.metrics.robustness import (
    answers_under_attack,
    at_budget,
    attack_figures,
    damage_figures,
    robustly_right,
    share_difference,
    share_interval,
    smallest_breaking_eps,
)


def attacked() -> pa.Table:
    """Six images of three patients at two budgets; the fourth is wrong as it is."""
    images = [f"i{n}" for n in range(6)]
    target, clean = [0, 0, 1, 2, 1, 0], [0, 0, 1, 1, 1, 0]
    now = {1.0: [0, 1, 1, 1, 1, 0], 2.0: [1, 1, 0, 2, 1, 0]}
    rows = []
    for eps, answers in now.items():
        for n, image in enumerate(images):
            changed = answers[n] != clean[n]
            rows.append(
                {
                    "image_id": image, "patient_id": f"p{n // 2}", "target": target[n],
                    "attack": "pgd(steps=2)", "norm": "linf", "eps": eps,
                    "clean_prediction": clean[n], "prediction": answers[n],
                    "success": changed and clean[n] == target[n], "changed": changed,
                    "linf": eps if changed else 0.0, "l2": 1.0, "queries": 10,
                }
            )  # fmt: skip
    return pa.Table.from_pylist(rows)


def test_shares_are_counted() -> None:
    first, second = attack_figures(attacked())
    assert (first["eps"], second["eps"], first["n"], first["num_patients"]) == (1.0, 2.0, 6, 3)
    assert first["majority_accuracy"] == 0.5 and first["queries"] == 10
    assert first["clean_accuracy"] == second["clean_accuracy"] == pytest.approx(5 / 6)
    assert first["robust_accuracy"] == pytest.approx(4 / 6)
    assert second["robust_accuracy"] == pytest.approx(2 / 6)
    assert first["success_rate"] == pytest.approx(1 / 5)
    assert second["success_rate"] == pytest.approx(3 / 5)
    assert first["changed_rate"] == pytest.approx(1 / 6)
    # One that was wrong and is now right has changed, and is no success.
    assert second["changed_rate"] == pytest.approx(4 / 6)
    assert (second["up_rate"], second["down_rate"]) == pytest.approx((3 / 6, 1 / 6))
    assert second["robust_recall_0"] == pytest.approx(1 / 3)
    assert second["robust_recall_2"] == 0
    # Three patients are too few for an interval.
    assert first["robust_accuracy_low"] is None


def test_the_smallest_budget_that_breaks_an_image() -> None:
    found = smallest_breaking_eps(attacked())
    assert found == {"i0": 2.0, "i1": 1.0, "i2": 2.0, "i4": np.inf, "i5": np.inf}


def test_an_interval_is_that_of_plain_accuracy() -> None:
    rng = np.random.default_rng(0)
    target, patients = rng.integers(0, 3, 80), [f"p{n // 2}" for n in range(80)]
    logits = np.eye(3)[np.where(rng.random(80) < 0.7, target, (target + 1) % 3)]
    images = [f"i{n}" for n in range(80)]
    summary = figure_summary(predictions_table(images, patients, target, logits))
    right = logits.argmax(1) == target
    found = share_interval(right, np.ones(80, bool), np.array(patients))
    assert found["value"] == pytest.approx(summary["accuracy"])
    ends = [summary["accuracy_low"], summary["accuracy_high"]]
    assert [found["low"], found["high"]] == pytest.approx(ends)
    # Patients who are not known count one by one.
    unknown = share_interval(right, np.ones(80, bool), np.array([""] * 80))
    alone = share_interval(right, np.ones(80, bool), np.arange(80).astype(str))
    assert unknown == alone
    assert share_interval(right, np.zeros(80, bool), np.array(patients))["value"] is None


def test_a_difference_of_shares_near_one_is_that_of_accuracies() -> None:
    """23 of 240 images that one attack changes and the other does not decide; the same images give
    the same difference as two networks' accuracies do."""
    rng = np.random.default_rng(1)
    patients = np.array([f"p{n // 2}" for n in range(240)], dtype=object)
    more = np.ones(240, bool)
    fewer = ~np.isin(np.arange(240), rng.permutation(240)[:23])
    found = share_difference(more, fewer, patients, higher=False)
    assert found["difference"] == pytest.approx(23 / 240) and found["verdict"] == "worse"
    assert 0.03 < found["low"] < found["difference"] < found["high"] < 0.16
    other = share_difference(fewer, more, patients, higher=False)
    assert other["difference"] == -found["difference"] and other["verdict"] == "better"
    names, target = [f"i{n}" for n in range(240)], rng.integers(0, 2, 240)
    answers = (np.eye(2)[np.where(hits, target, 1 - target)] for hits in (more, fewer))
    tables = [predictions_table(names, patients.tolist(), target, logits) for logits in answers]
    accuracy = paired_differences(*tables)["accuracy"]
    assert [accuracy["low"], accuracy["high"]] == pytest.approx([found["low"], found["high"]])


def test_damage_is_told_by_level_and_by_kind() -> None:
    target = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    answered = np.array([0, 0, 1, 1, 0, 0, 1, 0])
    names = [f"i{n}" for n in range(8)]
    rows = predictions_table(names, names, target, np.eye(2)[answered])
    rows = rows.append_column("level", pa.array([1, 1, 1, 1, 2, 2, 2, 2], pa.int32()))
    kinds = ["motion_blur", "light_leakage"] * 4
    rows = rows.append_column("corruption", pa.array(kinds))
    figures = damage_figures(rows)
    told = [(row["corruption"], row["level"], row["n"], row["accuracy"]) for row in figures]
    assert told == [
        ("", 1, 4, 1.0), ("", 2, 4, 0.25), ("light_leakage", None, 4, 0.5),
        ("motion_blur", None, 4, 0.75),
    ]  # fmt: skip
    assert figures[0]["majority_accuracy"] == 0.5


def test_balanced_accuracy_under_attack_is_the_mean_of_what_is_left_in_each_class() -> None:
    _, second = attack_figures(attacked())
    recalls = [second[f"robust_recall_{k}"] for k in range(3)]
    assert second["robust_balanced_accuracy"] == pytest.approx(np.mean(recalls))
    rows = at_budget(attacked(), 2.0)
    assert robustly_right(rows).tolist() == [False, False, False, False, True, True]
    answers = answers_under_attack(rows, 3)
    given = np.stack([answers[f"logit_{k}"].to_numpy() for k in range(3)], axis=1).argmax(axis=1)
    # The fourth was wrong and is answered rightly under attack: that is no merit of the network.
    assert given.tolist() == [1, 1, 0, 1, 1, 0]
