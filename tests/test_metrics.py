"""Metrics against scikit-learn and by hand; intervals against simulated truth."""

import tracemalloc
import warnings

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as reference

from fundusray import files
from fundusray.errors import InputError
from fundusray.metrics import (
    METRICS,
    confusion,
    from_confusion,
    paired,
    point,
    predictions_table,
    summary,
)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def drawn(seed, n=300, classes=5, skill=1.5, coarse=False):
    """Targets and logits of a network that knows something; coarse ones have many equal scores."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.6, 0.1, 0.15, 0.1, 0.05])[:classes]
    targets = rng.choice(classes, n, p=shares / shares.sum())
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), targets] += skill
    return targets, np.round(logits) if coarse else logits


def table(targets, logits, per_patient=2):
    ids = [f"image{i:05d}" for i in range(len(targets))]
    patients = [f"patient{i // per_patient:05d}" for i in range(len(targets))]
    return predictions_table(ids, patients, targets, logits)


def sklearn_values(targets, logits):
    classes, guess = logits.shape[1], logits.argmax(axis=1)
    first = 2 if classes > 2 else 1
    score = softmax(logits)[:, first:].sum(axis=1)
    grades = list(range(classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "accuracy": reference.accuracy_score(targets, guess),
            "balanced_accuracy": reference.balanced_accuracy_score(targets, guess),
            "kappa": reference.cohen_kappa_score(
                targets, guess, weights="quadratic", labels=grades
            ),
            # Equal logits can differ in the last bit as probabilities: ties are told by rounding.
            "auc_referable": reference.roc_auc_score(targets >= first, np.round(score, 12)),
        }


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_point_equals_sklearn(seed, classes, coarse):
    targets, logits = drawn(seed, classes=classes, coarse=coarse)
    expected = sklearn_values(targets, logits)
    assert point(targets, logits) == pytest.approx(expected, abs=1e-12, rel=0)
    whole = summary(table(targets, logits), resamples=10)
    assert {m: whole[m] for m in METRICS} == pytest.approx(expected, abs=1e-12, rel=0)
    recalls = reference.recall_score(targets, logits.argmax(1), average=None, zero_division=np.nan)
    assert [whole[f"recall_{k}"] for k in range(classes)] == pytest.approx(recalls, abs=1e-12)


def test_summed_confusion_matrices_give_the_same_metrics():
    targets, logits = drawn(1)
    rows = table(targets, logits)
    parts = [confusion(rows.slice(start, 37)) for start in range(0, rows.num_rows, 37)]
    summed = from_confusion(np.sum(parts, axis=0))
    expected = sklearn_values(targets, logits)
    for name in ("accuracy", "balanced_accuracy", "kappa"):
        assert summed[name] == pytest.approx(expected[name], abs=1e-12)
    assert (confusion(rows) == reference.confusion_matrix(targets, logits.argmax(1))).all()


def test_kappa_by_hand():
    """[[1, 1], [0, 2]]: one miss at distance 1; by chance 2*3/4 + 2*1/4 = 2 of 4; 1 - 1/2."""
    values = from_confusion(np.array([[1, 1], [0, 2]]))
    assert values["kappa"] == pytest.approx(0.5)
    assert values["balanced_accuracy"] == pytest.approx(0.75)


def test_balanced_accuracy_is_over_the_classes_present():
    targets = np.array([0, 0, 4, 4])
    logits = np.eye(5)[[0, 1, 4, 4]]
    values = summary(table(targets, logits), resamples=10)
    assert values["balanced_accuracy"] == pytest.approx(0.75)
    assert values["recall_2"] is None and values["recall_2_low"] is None
    assert values["recall_2_dropped"] == 10


def test_referable_starts_at_grade_2_and_at_class_1_of_two():
    logits = np.array([[0.0, 5, 0], [0, 0, 1], [0, 0, 2.0]])
    assert point(np.array([1, 1, 2]), logits)["auc_referable"] == 1.0
    assert point(np.array([0, 1]), np.array([[0.0, 1], [1, 0]]))["auc_referable"] == 0.0


def test_saturated_probabilities_keep_their_order():
    logits = np.array([[0.0, 0, 40], [0, 0, 50], [0, 0, 60.0]])
    assert softmax(logits)[1, 2] == softmax(logits)[2, 2] == 1.0
    assert point(np.array([0, 0, 2]), logits)["auc_referable"] == 1.0


def test_equal_scores_count_half():
    assert point(np.array([0, 2, 0, 2]), np.zeros((4, 5)))["auc_referable"] == 0.5


def test_one_class_only_has_no_auc_and_no_kappa():
    values = point(np.zeros(3, int), np.eye(5)[[0, 0, 0]])
    assert values == {
        "accuracy": 1.0,
        "balanced_accuracy": 1.0,
        "kappa": None,
        "auc_referable": None,
    }


def test_majority_accuracy_is_that_of_the_lazy_model():
    targets = np.repeat(np.arange(5), (7673, 733, 1632, 270, 228))
    whole = summary(table(targets, np.eye(5)[targets]), resamples=1)
    assert round(whole["majority_accuracy"], 4) == 0.7283
    assert whole["n"] == 10536 and whole["num_patients"] == 5268


def test_an_image_without_a_patient_is_counted_alone():
    """As if each had a patient of its own, whose name no other image has; nobody is claimed."""
    targets, logits = drawn(6, n=60)
    ids = [f"image{i:05d}" for i in range(60)]
    own = predictions_table(ids, ids, targets, logits)
    nobody = predictions_table(ids, [""] * 60, targets, logits)
    alone, claimed = (summary(rows, resamples=200, seed=1) for rows in (nobody, own))
    assert (alone["num_patients"], alone["num_unknown"]) == (0, 60)
    assert (claimed["num_patients"], claimed["num_unknown"]) == (60, 0)
    counted = {"num_patients", "num_unknown"}
    assert {k: v for k, v in alone.items() if k not in counted} == {
        k: v for k, v in claimed.items() if k not in counted
    }
    # A patient who is called as an image is another one.
    mixed = predictions_table(["a", "b", "c"], ["b", "", "b"], targets[:3], logits[:3])
    told = summary(mixed, resamples=1)
    assert (told["num_patients"], told["num_unknown"]) == (1, 1)


class TestBootstrap:
    def test_same_seed_same_interval_whatever_the_order_of_rows(self):
        rows = table(*drawn(2))
        shuffled = rows.take(np.random.default_rng(0).permutation(rows.num_rows))
        first = summary(rows, resamples=200, seed=3)
        assert summary(shuffled, resamples=200, seed=3) == first
        assert summary(rows, resamples=200, seed=4) != first

    def test_chunks_do_not_change_the_draws(self):
        """More rows than fit one chunk give the same as a resample-by-resample loop."""
        targets, logits = drawn(3, n=3000)
        whole = summary(table(targets, logits), resamples=400, seed=5)
        rng = np.random.default_rng(5)
        values = []
        for _ in range(400):
            patients = rng.integers(1500, size=1500)
            rows = np.concatenate([2 * patients, 2 * patients + 1])
            values.append(point(targets[rows], logits[rows]))
        for name in METRICS:
            low, high = np.percentile([value[name] for value in values], [2.5, 97.5])
            assert whole[f"{name}_low"] == pytest.approx(low, abs=1e-12)
            assert whole[f"{name}_high"] == pytest.approx(high, abs=1e-12)

    def test_json_ready_and_through_parquet(self, tmp_path):
        rows = table(*drawn(4, n=40))
        files.write_table(str(tmp_path / "p.parquet"), rows)
        back = files.read_table(str(tmp_path / "p.parquet"))
        assert summary(back, resamples=50) == summary(rows, resamples=50)
        files.write_json(str(tmp_path / "s.json"), summary(rows, resamples=50))

    def test_undefined_resamples_are_dropped_and_counted(self):
        targets = np.array([0] * 5 + [2])
        rows = table(targets, np.eye(5)[targets] + 0.1, per_patient=1)
        whole = summary(rows, resamples=2000)
        # A resample misses the one referable patient with probability (5/6)^6 = 0.335, and holds
        # nobody else with 6^-6.
        assert whole["auc_referable_dropped"] / 2000 == pytest.approx((5 / 6) ** 6, abs=0.05)
        assert whole["auc_referable_low"] == whole["auc_referable_high"] == 1.0
        assert whole["accuracy_dropped"] == 0

    def test_one_patient_has_no_interval(self):
        whole = summary(table(*drawn(5, n=10), per_patient=10), resamples=20)
        assert whole["accuracy"] is not None and whole["accuracy_low"] is None

    def test_patients_who_fail_as_one_widen_the_interval(self):
        """Ten images that always agree are one observation: sqrt(10) times the width."""
        rng = np.random.default_rng(0)
        right = np.repeat(rng.random(100) < 0.7, 10)
        logits = np.where(right[:, None], [1.0, 0, 0], [0, 1.0, 0])
        targets = np.zeros(1000, int)
        widths = []
        for per_patient in (1, 10):
            whole = summary(table(targets, logits, per_patient), resamples=1000)
            widths.append(whole["accuracy_high"] - whole["accuracy_low"])
        assert widths[1] / widths[0] == pytest.approx(10**0.5, rel=0.15)

    def test_interval_covers_the_truth_95_times_in_100(self):
        """Patients with two correlated eyes; the truth is known by construction."""
        rng = np.random.default_rng(11)
        covered = {"accuracy": 0, "auc_referable": 0}
        truth = {"accuracy": 0.7, "auc_referable": 0.760249938906523}  # the latter: Phi(1 / 2^.5)
        trials, patients = 600, 120
        for trial in range(trials):
            right = np.repeat(rng.random(patients) < 0.7, 2)
            targets = np.repeat(rng.integers(2, size=patients), 2)
            shared = np.repeat(rng.normal(size=patients), 2)
            own = rng.normal(size=2 * patients)
            score = targets + 0.8**0.5 * shared + 0.2**0.5 * own
            auc_rows = table(targets, np.stack([np.zeros_like(score), score], axis=1))
            hit_rows = table(targets, np.eye(2)[np.where(right, targets, 1 - targets)])
            for name, rows in (("accuracy", hit_rows), ("auc_referable", auc_rows)):
                whole = summary(rows, resamples=200, seed=trial)
                covered[name] += whole[f"{name}_low"] <= truth[name] <= whole[f"{name}_high"]
        for name, count in covered.items():
            assert 0.92 <= count / trials <= 0.975, name

    def test_the_whole_of_eyepacs_fits_in_memory(self):
        rows = table(*drawn(6, n=35_000))
        tracemalloc.start()
        summary(rows, resamples=100)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 300e6


class TestPaired:
    def test_difference_is_that_of_the_points_and_turns_its_sign(self):
        targets, logits = drawn(7)
        other = drawn(8)[1]
        a, b = table(targets, logits), table(targets, other)
        forth, back = paired(a, b, resamples=200), paired(b, a, resamples=200)
        left, right = point(targets, logits), point(targets, other)
        for name in METRICS:
            assert forth[name]["difference"] == pytest.approx(left[name] - right[name], abs=1e-12)
            assert forth[name]["low"] == pytest.approx(-back[name]["high"], abs=1e-12)
            assert forth[name]["verdict"] == "better" and back[name]["verdict"] == "worse"

    def test_a_table_with_itself_is_undecided_at_exactly_0(self):
        rows = table(*drawn(9))
        for value in paired(rows, rows, resamples=50).values():
            assert (value["difference"], value["low"], value["high"]) == (0, 0, 0)
            assert value["verdict"] == "undecided"

    def test_rows_are_matched_by_image_not_by_place(self):
        rows = table(*drawn(10))
        other = table(drawn(10)[0], drawn(11)[1])
        turned = other.take(np.arange(other.num_rows)[::-1])
        assert paired(rows, turned, resamples=50) == paired(rows, other, resamples=50)

    def test_pairing_sees_what_two_intervals_cannot(self):
        """One patient in fifty better, none worse: intervals overlap, the pair decides."""
        targets, logits = drawn(12, n=2000, skill=1.0)
        better = logits.copy()
        better[::50, :] += 10 * np.eye(5)[targets[::50]]
        a, b = table(targets, better), table(targets, logits)
        high, low = summary(b, resamples=300), summary(a, resamples=300)
        assert low["accuracy_low"] < high["accuracy_high"]
        assert paired(a, b, resamples=300)["accuracy"]["verdict"] == "better"

    def test_equal_networks_are_told_apart_one_time_in_twenty(self):
        rng = np.random.default_rng(14)
        decided = 0
        for trial in range(300):
            right = rng.random((2, 120)) < 0.7
            targets = np.zeros(240, int)
            sides = [table(targets, np.eye(2)[np.repeat(~r, 2).astype(int)]) for r in right]
            verdict = paired(*sides, resamples=200, seed=trial)["accuracy"]["verdict"]
            decided += verdict != "undecided"
        assert 0.02 <= decided / 300 <= 0.09

    def test_undefined_is_undecided(self):
        targets = np.zeros(6, int)
        rows = table(targets, np.eye(3)[targets])
        value = paired(rows, rows, resamples=20)["auc_referable"]
        assert value["difference"] is None and value["verdict"] == "undecided"
        assert value["dropped"] == 20

    @pytest.mark.parametrize("column", ["image_id", "target", "patient_id"])
    def test_other_rows_are_refused(self, column):
        rows = table(*drawn(13, n=20))
        values = rows[column].to_pylist()
        values[0] = (values[0] + 1) % 5 if column == "target" else "other"
        place = rows.column_names.index(column)
        changed = rows.set_column(place, column, pa.array(values, rows[column].type))
        with pytest.raises(InputError, match=column):
            paired(rows, changed)
        with pytest.raises(InputError):
            paired(rows, rows.slice(1))

    def test_other_classes_are_refused(self):
        with pytest.raises(InputError, match="other classes"):
            paired(table(*drawn(0, n=20)), table(*drawn(0, n=20, classes=3)))


class TestTable:
    def test_columns(self):
        rows = predictions_table(["a", "b"], ["p", ""], np.array([0, 1]), np.eye(2, dtype="f4"))
        assert rows.column_names == ["image_id", "patient_id", "target", "logit_0", "logit_1"]
        assert rows["patient_id"].to_pylist() == ["p", ""]

    @pytest.mark.parametrize(
        "ids, targets, logits, told",
        [
            (["a", "a"], [0, 1], [[0.0, 1], [1, 0]], "twice"),
            (["a", "b"], [0, 1], [[0.0, 1], [1, float("nan")]], "'b'"),
            (["a", "b"], [0, 2], [[0.0, 1], [1, 0]], "0 to 1"),
            (["a", "b"], [0, -1], [[0.0, 1], [1, 0]], "0 to 1"),
        ],
    )
    def test_impossible_rows_are_refused(self, ids, targets, logits, told):
        with pytest.raises(InputError, match=told):
            predictions_table(ids, ["p", "q"], np.array(targets), np.array(logits))

    def test_no_rows_have_no_summary(self):
        with pytest.raises(InputError, match="empty"):
            summary(table(*drawn(0, n=20)).slice(0, 0))


def test_any_disease_and_the_kappa_without_weights() -> None:
    rng = np.random.default_rng(5)
    targets = rng.integers(4, size=200)
    guesses = np.where(rng.random(200) < 0.6, targets, rng.integers(4, size=200))
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (targets, guesses), 1)
    found = from_confusion(counts)
    some, told = targets > 0, guesses > 0
    assert found["sensitivity"] == pytest.approx(reference.recall_score(some, told))
    assert found["specificity"] == pytest.approx(reference.recall_score(~some, ~told))
    assert found["cohen_kappa"] == pytest.approx(reference.cohen_kappa_score(targets, guesses))


def test_li_s_columns_are_interchanged() -> None:
    """With 73.5 % of eyes healthy a specificity of .30 caps accuracy at .48; .74 is printed."""
    healthy = 0.735
    as_printed = healthy * 0.2999 + (1 - healthy) * 0.9505
    interchanged = healthy * 0.9505 + (1 - healthy) * 0.2999
    assert as_printed < 0.48 < 0.7376 < interchanged
