"""Intervals: their parts against closed forms and brute force, and what is not said."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from fundusray import files
from fundusray.metrics import figure_summary, predictions_table
from fundusray.metrics.intervals import figure_spreads
from fundusray.metrics.jackknife import PatientFigures
from fundusray.metrics.predictions import PredictionRows
from fundusray.metrics.spread import FEW, t_quantile, wilson_interval


def drawn(seed: int, n: int = 300, skill: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Targets and logits of a network that knows something."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(5, n, p=[0.6, 0.1, 0.15, 0.1, 0.05])
    logits = rng.normal(size=(n, 5))
    logits[np.arange(n), targets] += skill
    return targets, logits


def table(targets, logits, per_patient=2, half=None):
    ids = [f"image{i:05d}" for i in range(len(targets))]
    patients = [f"patient{i // per_patient:05d}" for i in range(len(targets))]
    return predictions_table(ids, patients, targets, logits, half)


@pytest.mark.parametrize("freedom", [1, 2, 2.4, 3, 4.5, 7, 30, 500.5])
@pytest.mark.parametrize("level", [0.9, 0.5, 0.05, 1e-3, 1e-9])
def test_quantiles_of_t_are_those_of_scipy(freedom: float, level: float) -> None:
    assert t_quantile(level, freedom) == pytest.approx(stats.t.isf(level / 2, freedom), rel=2e-3)


def test_wilson_s_interval_by_hand() -> None:
    """4 of 4: the lower end is 4 / (4 + z^2) = 0.5101; 0 of 10: the upper is z^2 / (10 + z^2)."""
    z = stats.norm.isf(0.025)
    assert wilson_interval(1.0, 4, z) == pytest.approx((4 / (4 + z**2), 1.0))
    assert wilson_interval(0.0, 10, z) == pytest.approx((0.0, z**2 / (10 + z**2)))
    found = stats.binomtest(7, 20).proportion_ci(0.95, method="wilson")
    assert wilson_interval(0.35, 20, z) == pytest.approx((found.low, found.high))


def test_eyes_that_have_nothing_in_common_give_wilson_s_interval() -> None:
    targets = np.zeros(60, int)
    logits = np.eye(2)[(np.arange(60) % 4 == 0).astype(int)]
    whole = figure_summary(table(targets, logits, per_patient=1))
    found = stats.binomtest(45, 60).proportion_ci(0.95, method="wilson")
    # One eye a patient: a design effect of n / (n - 1), which is no less than the most there is.
    assert (whole["accuracy_low"], whole["accuracy_high"]) == pytest.approx((found.low, found.high))


def test_every_patient_is_left_out_as_if_never_measured() -> None:
    """Against figures of the other rows; patients of one to six eyes, rows of two networks."""
    rng = np.random.default_rng(3)
    targets, logits = drawn(3, n=120)
    logits = np.round(logits, 1)
    patient = np.sort(rng.integers(0, 40, 120))
    patient = np.unique(patient, return_inverse=True)[1]
    for part in (np.zeros(120, int), patient % 2, rng.integers(0, 3, 120)):
        side = PatientFigures(PredictionRows(targets, logits, patient, part))
        for who in range(side.num_patients):
            kept = patient != who
            numbers = np.unique(patient[kept], return_inverse=True)[1]
            rest = PatientFigures(
                PredictionRows(targets[kept], logits[kept], numbers, part[kept])
            ).values
            for name, values in side.left_out.items():
                assert values[who] == pytest.approx(rest[name], abs=1e-12), (name, who)


def test_five_of_five_is_not_certain_and_four_are_too_few() -> None:
    targets = np.array([0] * 40 + [4] * 5)
    whole = figure_summary(table(targets, np.eye(5)[targets], per_patient=1))
    assert (whole["recall_4"], whole["recall_4_high"]) == (1.0, 1.0)
    assert whole["recall_4_low"] == pytest.approx(0.5655, abs=1e-3)
    assert whole["balanced_accuracy"] == 1.0 and whole["balanced_accuracy_low"] < 0.95
    assert whole["kappa"] == whole["auc_referable"] == 1.0
    assert whole["kappa_low"] == whole["auc_referable_low"] == whole["recall_4_low"]
    fewer = figure_summary(table(targets[:-1], np.eye(5)[targets[:-1]], per_patient=1))
    assert fewer["recall_4"] == 1.0 and fewer["recall_4_low"] is fewer["recall_4_high"] is None
    assert fewer["recall_4_why"] == "4 patients of class 4, at least 5 are needed"
    assert fewer["kappa_why"] == "4 patients with an eye outside class 0, at least 5 are needed"
    assert "referable" in fewer["auc_referable_why"]
    assert fewer["balanced_accuracy_low"] is not None and fewer["accuracy_why"] == ""


def test_two_classes_taken_for_one_another_have_a_kappa_of_minus_1() -> None:
    targets = np.arange(40) % 2
    whole = figure_summary(table(targets, np.eye(2)[1 - targets], per_patient=1))
    assert [whole[f"kappa{end}"] for end in ("", "_low")] == [-1.0, -1.0]
    assert whole["kappa_high"] == pytest.approx(-20 / (20 + 1.96**2), abs=1e-3)
    assert whole["auc_referable"] == 0.0 and whole["auc_referable_high"] > 0.1


def test_one_answer_for_every_eye_has_a_balanced_accuracy_of_exactly_a_fifth() -> None:
    """A resample that misses a class must not make it a quarter."""
    targets = np.repeat(np.arange(5), (160, 14, 20, 6, 6))
    whole = figure_summary(table(targets, np.eye(5)[np.zeros(206, int)], per_patient=1))
    ends = [whole[f"balanced_accuracy{end}"] for end in ("", "_low", "_high")]
    assert ends == pytest.approx([0.2] * 3)
    assert [whole[f"kappa{end}"] for end in ("", "_low", "_high")] == [0.0] * 3
    assert whole["recall_0_low"] < 1.0 and whole["recall_4_high"] > 0.35


def test_a_class_that_is_rare_makes_the_mean_of_recalls_unsure() -> None:
    """Three of three hits say little, and the mean of five recalls has to know it."""
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(5), (200, 200, 200, 200, 3))
    guess = np.where(rng.random(803) < 0.8, targets, (targets + 1) % 5)
    guess[-3:] = 4
    whole = figure_summary(table(targets, np.eye(5)[guess], per_patient=1))
    down = whole["balanced_accuracy"] - whole["balanced_accuracy_low"]
    assert down > (1 - 3 / (3 + 1.96**2)) / 5
    two = figure_summary(table(targets[:-1], np.eye(5)[guess[:-1]], per_patient=1))
    assert two["balanced_accuracy_why"] == "2 patients of class 4, at least 3 are needed"


def test_classes_that_do_not_occur_are_not_averaged() -> None:
    targets, logits = drawn(4, n=200)
    targets = np.where(targets == 4, 3, targets)
    whole = figure_summary(table(targets, logits))
    assert whole["balanced_accuracy_low"] < whole["balanced_accuracy"]
    assert whole["recall_4"] is whole["recall_4_low"] is None
    assert whole["recall_4_why"] == "not defined here"


def test_the_order_of_rows_changes_nothing() -> None:
    rows = table(*drawn(2))
    shuffled = rows.take(np.random.default_rng(0).permutation(rows.num_rows))
    assert figure_summary(shuffled) == figure_summary(rows)


def test_json_ready_and_through_parquet(tmp_path) -> None:
    rows = table(*drawn(4, n=40), half=np.arange(40) // 2 % 2)
    files.write_table(str(tmp_path / "p.parquet"), rows)
    back = files.read_table(str(tmp_path / "p.parquet"))
    assert figure_summary(back) == figure_summary(rows)
    files.write_json(str(tmp_path / "s.json"), figure_summary(rows))
    assert files.read_json(str(tmp_path / "s.json")) == figure_summary(rows)


def test_one_patient_has_no_interval() -> None:
    whole = figure_summary(table(*drawn(5, n=10), per_patient=10))
    assert whole["accuracy"] is not None and whole["accuracy_low"] is None
    assert whole["accuracy_why"] == f"1 patient, at least {FEW} are needed"


def test_patients_who_fail_as_one_widen_the_interval() -> None:
    """Ten images that always agree are one observation: sqrt(10) times the width."""
    right = np.repeat(np.random.default_rng(0).random(100) < 0.7, 10)
    logits = np.where(right[:, None], [1.0, 0, 0], [0, 1.0, 0])
    widths = []
    for per_patient in (1, 10):
        whole = figure_summary(table(np.zeros(1000, int), logits, per_patient))
        widths.append(whole["accuracy_high"] - whole["accuracy_low"])
    assert widths[1] / widths[0] == pytest.approx(10**0.5, rel=0.05)


def test_many_eyes_have_the_width_of_the_delta_method() -> None:
    """Independent eyes, 20,000 of them: AUC by DeLong's variance, accuracy by the binomial's."""
    rng = np.random.default_rng(6)
    targets = rng.integers(2, size=20_000)
    score = targets + rng.normal(size=20_000)
    logits = np.stack([np.zeros_like(score), score], axis=1)
    side = PatientFigures(PredictionRows(targets, logits, np.arange(20_000), np.zeros(20_000, int)))
    found = figure_spreads(side)["auc_referable"]
    ranks = stats.rankdata(score)
    placed = [
        (ranks[targets == k] - stats.rankdata(score[targets == k])) / (targets != k).sum()
        for k in (0, 1)
    ]
    error = math.sqrt(sum(part.var(ddof=1) / len(part) for part in placed))
    low, high = found.ends(0.05)
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.005)


def test_the_whole_of_eyepacs_fits_in_memory() -> None:
    rows = table(*drawn(6, n=35_000))
    tracemalloc.start()
    figure_summary(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
