"""Any statistic of rows: against closed forms, and what is not said."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from fundusray.errors import InputError
from fundusray.metrics import (
    METRICS,
    PredictionRows,
    figure_summary,
    interval,
    paired_differences,
    paired_interval,
    predictions_table,
    share,
    spread,
)
from fundusray.metrics.by_patient import FEW_TO_DRAW, GROUPS, MOST
from fundusray.metrics.registered import needing_order, selectors


@pytest.fixture
def scores() -> np.ndarray:
    """Of 30 patients with two images each, [60]."""
    rng = np.random.default_rng(3)
    return np.clip(rng.normal(0.6, 0.1, 30).repeat(2) + rng.normal(0, 0.1, 60), 0.05, 0.95)


PATIENTS = [f"p{number}" for number in np.arange(30).repeat(2)]


def test_a_mean_of_unbounded_scores_is_students_t_over_the_patients(scores) -> None:
    found = interval(np.mean, scores, PATIENTS)
    means = scores.reshape(30, 2).mean(axis=1)
    error = means.std(ddof=1) / np.sqrt(30)
    assert found["value"] == pytest.approx(scores.mean())
    half = (found["high"] - found["low"]) / 2
    # Fewer degrees of freedom than 29 only as far as the patients' kurtosis says.
    kurtosis = stats.kurtosis(means, fisher=False)
    freedom = min(2 * 30 / (kurtosis - 1), 29)
    assert half == pytest.approx(stats.t.ppf(0.975, freedom) * error, rel=2e-3)
    assert found["why"] == ""


def test_a_bounded_one_stays_within_its_span_and_a_share_is_wilsons(scores) -> None:
    high = interval(np.mean, 1 - (1 - scores) / 50, PATIENTS, span=(0, 1))
    assert high["value"] < high["high"] < 1
    hits = scores > 0.5
    patients = [f"p{number // 2}" for number in range(60)]
    table = predictions_table(
        [f"i{number}" for number in range(60)],
        patients,
        np.ones(60, int),
        np.stack([~hits, hits], axis=1).astype(float),
    )
    whole = figure_summary(table)
    found = interval(share, hits, patients)
    keys = ("accuracy", "accuracy_low", "accuracy_high")
    assert [found[key] for key in ("value", "low", "high")] == [whole[key] for key in keys]


def test_the_kappa_left_out_here_is_that_of_the_metrics(scores) -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(60) % 5
    logits = np.eye(5)[targets] + rng.normal(0, 0.7, (60, 5))
    patients = [f"p{number // 2:02}" for number in range(60)]
    table = predictions_table([f"i{n:02}" for n in range(60)], patients, targets, logits)
    whole = figure_summary(table)
    rows = PredictionRows(targets, logits, np.arange(60) // 2, np.zeros(60, np.int64))
    found = interval(METRICS.find("kappa"), rows, patients, span=(-1, 1))
    for end in ("low", "high"):
        assert found[end] == pytest.approx(whole[f"kappa_{end}"], abs=1e-9)


def test_rows_may_be_a_table_or_arrays_by_name(scores) -> None:
    columns = {"hit": scores * 10, "all": np.full(60, 10.0)}

    def of_arrays(rows: dict) -> float:
        return rows["hit"].sum() / rows["all"].sum()

    def of_table(rows: pa.Table) -> float:
        return rows["hit"].to_numpy().sum() / rows["all"].to_numpy().sum()

    first = interval(of_arrays, columns, PATIENTS, span=(0, 1))
    second = interval(of_table, pa.table(columns), PATIENTS, span=(0, 1))
    plain = interval(np.mean, scores, PATIENTS, span=(0, 1))
    for key in ("value", "low", "high"):
        assert first[key] == pytest.approx(second[key]) == pytest.approx(plain[key])


def test_images_of_unknown_patients_count_as_patients_of_their_own(scores) -> None:
    unknown = interval(np.mean, scores, [""] * 60)
    alone = interval(np.mean, scores, [f"q{number}" for number in range(60)])
    together = interval(np.mean, scores, PATIENTS)
    assert [unknown[key] for key in ("low", "high")] == pytest.approx(
        [alone[key] for key in ("low", "high")]
    )
    assert unknown["high"] - unknown["low"] < together["high"] - together["low"]


def test_the_order_of_rows_and_the_call_change_nothing(scores) -> None:
    order = np.random.default_rng(1).permutation(60)
    for statistic, smooth in ((np.mean, True), (np.median, False)):
        first, again = (interval(statistic, scores, PATIENTS, smooth=smooth) for _ in range(2))
        mixed = interval(statistic, scores[order], np.array(PATIENTS)[order], smooth=smooth)
        assert first == again
        assert mixed["low"] == pytest.approx(first["low"], abs=1e-12)


def test_too_few_and_what_cannot_be_measured_are_said(scores) -> None:
    few = interval(np.mean, scores[:8], PATIENTS[:8])
    assert (few["low"], few["high"]) == (None, None)
    assert few["why"] == "4 patients, at least 5 are needed"
    assert few["value"] == pytest.approx(scores[:8].mean())
    num = FEW_TO_DRAW - 1
    drawn = interval(np.median, scores[: 2 * num], PATIENTS[: 2 * num], smooth=False)
    assert drawn["why"] == f"{num} patients, at least {FEW_TO_DRAW} are needed"
    assert interval(np.mean, np.full(60, 0.5), PATIENTS)["why"] == "no patient changes it"
    lesions = {"found": np.zeros(60), "all": np.zeros(60)}
    lesions["found"][:2], lesions["all"][:2] = 1, 2

    def recall(rows: dict) -> float:
        with np.errstate(invalid="ignore"):
            return float(rows["found"].sum() / rows["all"].sum())

    why = interval(recall, lesions, PATIENTS, span=(0, 1))["why"]
    assert why == "not defined without one of the patients"
    lesions["found"][10:14], lesions["all"][10:14] = 1, 1
    why = interval(recall, lesions, PATIENTS, span=(0, 1))["why"]
    assert why == "3 patients who change it, at least 5 are needed"
    nothing = {"found": np.zeros(60), "all": np.zeros(60)}
    assert interval(recall, nothing, PATIENTS)["value"] is None


def test_all_right_is_not_certain(scores) -> None:
    found = interval(np.mean, np.ones(60), PATIENTS, span=(0, 1))
    assert (found["value"], found["high"]) == (1.0, 1.0)
    assert found["low"] == pytest.approx(30 / (30 + stats.norm.ppf(0.975) ** 2))


def test_pairs_know_that_both_meet_the_same_patients(scores) -> None:
    rng = np.random.default_rng(5)
    better = np.clip(scores + 0.03 + rng.normal(0, 0.01, 60), 0, 1)
    for statistic, smooth in ((np.mean, True), (np.median, False)):
        found = paired_interval(statistic, better, scores, PATIENTS, span=(0, 1), smooth=smooth)
        assert 0 < found["low"] < found["difference"] < found["high"] and found["p"] < 0.01
        assert found["verdict"] == "better"
        alone = interval(statistic, scores, PATIENTS, span=(0, 1), smooth=smooth)
        assert found["high"] - found["low"] < (alone["high"] - alone["low"]) / 2
        lower = paired_interval(
            statistic, better, scores, PATIENTS, span=(0, 1), smooth=smooth, higher=False
        )
        assert lower["verdict"] == "worse"
    same = paired_interval(np.mean, scores, scores, PATIENTS)
    assert same["why"] == "both answer alike here" and same["verdict"] == "undecided"
    hits = paired_interval(share, better > 0.6, scores > 0.6, PATIENTS)
    assert hits["difference"] == pytest.approx(np.mean(better > 0.6) - np.mean(scores > 0.6))


def test_groups_of_many_patients_say_the_same_as_each_of_them() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0.5, 0.1, 2 * MOST + 100)
    many = spread(np.mean, values, np.arange(len(values)) // 2)
    error = values.reshape(-1, 2).mean(axis=1).std(ddof=1) / np.sqrt(len(values) / 2)
    low, high = many.ends(0.05)
    # The error by so many groups has an error of its own of 1 / sqrt(2 groups).
    assert (high - low) / 2 == pytest.approx(1.97 * error, rel=3 / np.sqrt(2 * GROUPS))


def test_a_row_without_a_patient_is_refused(scores) -> None:
    with pytest.raises(InputError, match="59 patients for 60 rows"):
        interval(np.mean, scores, PATIENTS[:59])


def test_the_metrics_say_what_chooses_and_what_needs_an_order() -> None:
    assert list(METRICS) == ["accuracy", "balanced_accuracy", "kappa", "auc_referable"]
    corrupted = [f"corrupted_{name}" for name in METRICS]
    assert selectors() == (
        *METRICS,
        "robust_accuracy",
        "robust_balanced_accuracy",
        *corrupted,
        "dice",
    )
    assert needing_order() == ("kappa", "auc_referable")


def test_paired_figures_of_equal_tables_stay_undecided(scores) -> None:
    targets = np.arange(60) % 2
    table = predictions_table(
        [f"i{n}" for n in range(60)], PATIENTS, targets, np.stack([scores, 1 - scores], axis=1)
    )
    assert {row["verdict"] for row in paired_differences(table, table).values()} == {"undecided"}
