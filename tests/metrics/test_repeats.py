"""Figures of several trainings: what their intervals hold, by hand and by simulation."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from fundusray.errors import InputError
from fundusray.metrics import (
    METRICS,
    NO_ORDER,
    figure_summary,
    paired_differences,
    predictions_table,
    repeated_differences,
    repeated_summary,
)
from fundusray.metrics.repeats import combine_repeats, t_exceeded, two_sided

PATIENTS = 60


def trained(seed: int, skill: float = 1.2, ordered: bool = True, unknown: bool = False) -> pa.Table:
    """Predictions of one training for the same 120 eyes of 60 patients, or of unknown ones."""
    rng = np.random.default_rng(0)
    targets = rng.choice(5, 2 * PATIENTS, p=(0.4, 0.2, 0.2, 0.1, 0.1))
    logits = rng.normal(size=(len(targets), 5))
    logits[np.arange(len(targets)), targets] += skill
    # What one training sees otherwise than another one.
    logits += 0.5 * np.random.default_rng(seed).normal(size=logits.shape)
    ids = [f"image{i}" for i in range(len(targets))]
    patients = ["" if unknown else f"p{i // 2}" for i in range(len(targets))]
    return predictions_table(ids, patients, targets, logits, ordered=ordered)


@pytest.mark.parametrize("freedom", range(1, 12))
def test_students_distribution_equals_scipys(freedom: int) -> None:
    for student in (0.0, 0.3, 1.0, 2.5, 7.0, 40.0):
        expected = 2 * stats.t.sf(student, freedom)
        assert two_sided(student, freedom) == pytest.approx(expected, abs=1e-12)
    assert t_exceeded(0.05, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_a_single_training_has_the_figures_it_always_had() -> None:
    one, other = trained(1), trained(2)
    alone = repeated_summary([one])
    assert {key: alone[key] for key in figure_summary(one)} == figure_summary(one)
    assert alone["repeats"] == 1 and alone["kappa_seed_sd"] is None
    versus = repeated_differences([one], [other])["kappa"]
    assert versus == paired_differences(one, other)["kappa"] | {"repeats": 1, "seed_sd": None}


def test_values_are_means_and_the_sd_is_over_the_trainings() -> None:
    tables = [trained(seed) for seed in (1, 2, 3)]
    each = [figure_summary(table) for table in tables]
    whole = repeated_summary(tables)
    assert set(each[0]) <= set(whole) and whole["repeats"] == 3
    assert (whole["n"], whole["num_patients"]) == (120, 60)
    for metric in (*METRICS, "cohen_kappa", "sensitivity", "recall_4"):
        values = [one[metric] for one in each]
        assert whole[metric] == pytest.approx(np.mean(values))
        assert whole[f"{metric}_seed_sd"] == pytest.approx(np.std(values, ddof=1))
        assert whole[f"{metric}_low"] <= whole[metric] <= whole[f"{metric}_high"] <= 1
    differences = [figure_summary(trained(s + 10))["kappa"] for s in (1, 2, 3)]
    differences = [a["kappa"] - b for a, b in zip(each, differences, strict=True)]
    versus = repeated_differences(tables, [trained(s + 10) for s in (1, 2, 3)])["kappa"]
    assert versus["difference"] == pytest.approx(np.mean(differences))
    assert versus["seed_sd"] == pytest.approx(np.std(differences, ddof=1))
    assert versus["repeats"] == 3 and (versus["p"] < 0.05) == (versus["verdict"] != "undecided")


def test_trainings_that_agree_have_one_trainings_interval() -> None:
    one = trained(1)
    whole, alone = repeated_summary([one, one, one]), figure_summary(one)
    for metric in METRICS:
        for end in ("", "_low", "_high"):
            assert whole[metric + end] == pytest.approx(alone[metric + end], abs=1e-12)
        assert whole[f"{metric}_seed_sd"] == pytest.approx(0, abs=1e-12)


def test_an_interval_by_hand() -> None:
    # Patients move both trainings together, by a standard error of 1: the interval is that of
    # patients and of t(1) = 12.706 times s / sqrt(2) = .1 / sqrt(2), in quadrature.
    normal = np.tile(stats.norm.ppf((np.arange(2000) + 0.5) / 2000), (2, 1))
    found = combine_repeats([5.0, 5.1], [3.0, 3.1], [8.0, 8.1], normal)
    assert found["value"] == pytest.approx(5.05)
    seeds = 12.7062047 * 0.1 / np.sqrt(2) / np.sqrt(2)
    assert found["low"] == pytest.approx(5.05 - np.hypot(2, seeds))
    assert found["high"] == pytest.approx(5.05 + np.hypot(3, seeds))
    # Of seeds alone p is that of a t test.
    values = [0.02, 0.03, 0.025]
    still = combine_repeats(values, values, values, np.zeros((3, 10)))
    assert still["p"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-6)
    assert combine_repeats([0.1, None], [0, 0], [1, 1], normal)["value"] is None
    bare = combine_repeats([0.1, 0.2], [None, 0], [None, 1], normal)
    assert bare["value"] == pytest.approx(0.15) and bare["low"] is bare["p"] is None


def test_images_of_unknown_patients_are_units_of_their_own() -> None:
    tables = [trained(seed, unknown=True) for seed in (1, 2)]
    whole = repeated_summary(tables)
    assert (whole["num_unknown"], whole["num_patients"]) == (120, 0)
    # As if each had a patient of its own, whatever the names.
    names = pa.array([f"q{i}" for i in range(120)])
    own = repeated_summary([table.set_column(1, "patient_id", names) for table in tables])
    for metric in METRICS:
        for end in ("_low", "_high", "_seed_sd"):
            assert whole[metric + end] == pytest.approx(own[metric + end])
    versus = repeated_differences(tables, [trained(seed, 0.2, unknown=True) for seed in (3, 4)])
    assert versus["accuracy"]["p"] is not None and versus["accuracy"]["difference"] > 0


def test_what_needs_an_order_is_withheld_of_several_trainings_too() -> None:
    tables = [trained(seed, ordered=False) for seed in (1, 2)]
    whole = repeated_summary(tables)
    versus = repeated_differences(tables, [trained(seed) for seed in (3, 4)])
    for name in ("kappa", "auc_referable", "sensitivity", "specificity"):
        assert [whole[name + end] for end in ("", "_low", "_high", "_seed_sd")] == [None] * 4
        assert whole[f"{name}_why"] == NO_ORDER == versus[name]["why"]
        assert versus[name]["difference"] is versus[name]["p"] is None
        assert (versus[name]["verdict"], versus[name]["repeats"]) == ("undecided", 2)
    assert whole["accuracy_low"] < whole["accuracy"] and versus["accuracy"]["p"] is not None


def test_too_few_patients_of_one_training_leave_the_mean_without_an_interval() -> None:
    # Of other rows each: the second has four patients.
    tables = [trained(1), trained(2).slice(0, 8)]
    whole = repeated_summary(tables, elsewhere=True)
    each = [figure_summary(table) for table in tables]
    assert whole["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in each]))
    assert whole["accuracy_low"] is None is whole["accuracy_high"]
    assert whole["accuracy_why"] == each[1]["accuracy_why"] != ""
    versus = repeated_differences(tables, [trained(3), trained(4).slice(0, 8)], elsewhere=True)
    assert versus["accuracy"]["low"] is None is versus["accuracy"]["p"]
    assert versus["accuracy"]["why"] == each[1]["accuracy_why"]


def test_trainings_on_other_rows_are_refused() -> None:
    one = trained(1)
    with pytest.raises(InputError, match="needs the same rows"):
        repeated_summary([one, one.slice(1)])
    with pytest.raises(InputError, match="got 1 and 2 of them"):
        repeated_differences([one], [one, one])


def simulated(trainings: int, shared: float, seed: float, own: float) -> tuple[float, float]:
    """How often 0, the truth, is outside the interval: of one training alone, and of all.

    Args:
        shared, seed, own: standard deviations of what patients do to all trainings, of what a
            seed does, and of what patients do to a single training.
    """
    rng = np.random.default_rng(trainings)
    missed, rounds, draws = np.zeros(2), 3000, 100
    reach = 1.959964 * np.hypot(shared, own)
    for _ in range(rounds):
        values = shared * rng.normal() + rng.normal(size=trainings) * np.hypot(seed, own)
        noise = shared * rng.normal(size=draws) + own * rng.normal(size=(trainings, draws))
        found = combine_repeats(values, values - reach, values + reach, values[:, None] + noise)
        missed += abs(values[0]) > reach, not found["low"] <= 0 <= found["high"]
    alone, together = missed / rounds
    return alone, together


@pytest.mark.parametrize("trainings", [2, 3, 5])
def test_equal_methods_are_told_apart_by_one_training_and_not_by_several(trainings: int) -> None:
    # Kappa of two networks on the size of EyePACS' validation side: the difference has a standard
    # error of .0045 by patients; a seed's standard deviation of .01 is .014 in a difference.
    alone, together = simulated(trainings, 0.0, 0.01 * np.sqrt(2), 0.0045)
    assert alone > 0.5
    # 3,000 rounds tell a rate of .05 to within .008.
    assert together <= 0.058


@pytest.mark.parametrize("trainings", [3, 5])
@pytest.mark.parametrize(
    "parts", [(0.0066, 0.01, 0.003), (0.02, 0.01, 0.01), (0.0, 0.0, 0.01), (0.01, 0.0, 0.0)]
)
def test_intervals_hold_patients_and_seeds(trainings: int, parts: tuple[float, ...]) -> None:
    assert 0.008 <= simulated(trainings, *parts)[1] <= 0.058
