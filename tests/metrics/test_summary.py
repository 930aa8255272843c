"""Figures against scikit-learn and by hand."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from fundusray.errors import InputError
from fundusray.metrics import (
    METRICS,
    confusion_matrix,
    figure_summary,
    from_confusion,
    point_figures,
    predictions_table,
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
    assert point_figures(targets, logits) == pytest.approx(expected, abs=1e-12, rel=0)
    whole = figure_summary(table(targets, logits))
    assert {m: whole[m] for m in METRICS} == pytest.approx(expected, abs=1e-12, rel=0)
    recalls = reference.recall_score(targets, logits.argmax(1), average=None, zero_division=np.nan)
    assert [whole[f"recall_{k}"] for k in range(classes)] == pytest.approx(recalls, abs=1e-12)


def test_summed_confusion_matrices_give_the_same_metrics():
    targets, logits = drawn(1)
    rows = table(targets, logits)
    parts = [confusion_matrix(rows.slice(start, 37)) for start in range(0, rows.num_rows, 37)]
    summed = from_confusion(np.sum(parts, axis=0))
    expected = sklearn_values(targets, logits)
    for name in ("accuracy", "balanced_accuracy", "kappa"):
        assert summed[name] == pytest.approx(expected[name], abs=1e-12)
    assert (confusion_matrix(rows) == reference.confusion_matrix(targets, logits.argmax(1))).all()


def test_kappa_by_hand():
    """[[1, 1], [0, 2]]: one miss at distance 1; by chance 2*3/4 + 2*1/4 = 2 of 4; 1 - 1/2."""
    values = from_confusion(np.array([[1, 1], [0, 2]]))
    assert values["kappa"] == pytest.approx(0.5)
    assert values["balanced_accuracy"] == pytest.approx(0.75)


def test_balanced_accuracy_is_over_the_classes_present():
    targets = np.array([0, 0, 4, 4])
    logits = np.eye(5)[[0, 1, 4, 4]]
    values = figure_summary(table(targets, logits))
    assert values["balanced_accuracy"] == pytest.approx(0.75)
    assert values["recall_2"] is None and values["recall_2_low"] is None


def test_referable_starts_at_grade_2_and_at_class_1_of_two():
    logits = np.array([[0.0, 5, 0], [0, 0, 1], [0, 0, 2.0]])
    assert point_figures(np.array([1, 1, 2]), logits)["auc_referable"] == 1.0
    assert point_figures(np.array([0, 1]), np.array([[0.0, 1], [1, 0]]))["auc_referable"] == 0.0


def test_saturated_probabilities_keep_their_order():
    logits = np.array([[0.0, 0, 40], [0, 0, 50], [0, 0, 60.0]])
    assert softmax(logits)[1, 2] == softmax(logits)[2, 2] == 1.0
    assert point_figures(np.array([0, 0, 2]), logits)["auc_referable"] == 1.0


def test_equal_scores_count_half():
    assert point_figures(np.array([0, 2, 0, 2]), np.zeros((4, 5)))["auc_referable"] == 0.5


def test_one_class_only_has_no_auc_and_no_kappa():
    values = point_figures(np.zeros(3, int), np.eye(5)[[0, 0, 0]])
    assert values == {
        "accuracy": 1.0,
        "balanced_accuracy": 1.0,
        "kappa": None,
        "auc_referable": None,
    }


def test_majority_accuracy_is_that_of_the_lazy_model():
    targets = np.repeat(np.arange(5), (7673, 733, 1632, 270, 228))
    whole = figure_summary(table(targets, np.eye(5)[targets]))
    assert round(whole["majority_accuracy"], 4) == 0.7283
    assert whole["n"] == 10536 and whole["num_patients"] == 5268


class TestTable:
    def test_columns(self):
        rows = predictions_table(["a", "b"], ["p", ""], np.array([0, 1]), np.eye(2, dtype="f4"))
        assert rows.column_names == ["image_id", "patient_id", "target", "logit_0", "logit_1"]
        assert rows["patient_id"].to_pylist() == ["p", ""]
        of_two = predictions_table(["a", "b"], ["", ""], np.zeros(2), np.eye(2), np.array([0, 1]))
        assert of_two.column_names[-1] == "half" and str(of_two["half"].type) == "int8"

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
            figure_summary(table(*drawn(0, n=20)).slice(0, 0))


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
