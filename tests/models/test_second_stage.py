"""The second stage of both eyes: whose fellow is whose, its closed form, and what it gains."""

import numpy as np
import pytest

from fundusray.errors import InputError
from fundusray.metrics import point_figures
from fundusray.models.second_stage import fellow_probabilities, fit_second_stage


def drawn(patients: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, list, list]:
    """(probabilities [N, 5], grades [N], patients, eyes) of eyes whose grades go together."""
    rng = np.random.default_rng(seed)
    severity = np.repeat(rng.normal(2, 1.2, patients), 2)
    grades = np.clip(np.rint(severity + rng.normal(0, 0.3, 2 * patients)), 0, 4).astype(int)
    seen = grades + rng.normal(0, noise, 2 * patients)
    logits = -((seen[:, None] - np.arange(5)) ** 2)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [str(patient) for patient in range(patients) for _ in range(2)]
    return shares, grades, names, ["left", "right"] * patients


def test_the_fellow_is_the_other_eye_of_the_same_patient() -> None:
    shares = np.eye(5)[[0, 1, 2, 3, 4, 0, 1]]
    patients = ["a", "a", "b", "b", "c", "d", "d"]
    eyes = ["left", "right", "left", "left", "right", "", ""]
    fellow, has = fellow_probabilities(shares, patients, eyes)
    assert has.tolist() == [True, True, False, False, False, True, True]
    # Two photographs of one eye are no pair; of unknown eyes two of a patient are.
    assert fellow.argmax(axis=1).tolist() == [1, 0, 2, 3, 4, 1, 0]


def test_several_photographs_of_the_other_eye_are_averaged() -> None:
    shares = np.eye(3)[[0, 1, 2]]
    fellow, has = fellow_probabilities(shares, ["a"] * 3, ["left", "right", "right"])
    assert has.all()
    np.testing.assert_allclose(fellow, [[0, 0.5, 0.5], [1, 0, 0], [1, 0, 0]])


def test_it_is_least_squares_of_the_grade() -> None:
    """On eyes that are seen as they are the score is the grade; the fellow has no say in it."""
    rng = np.random.default_rng(0)
    targets, others = rng.integers(0, 5, (2, 4000))
    stage = fit_second_stage(np.eye(5)[targets], np.eye(5)[others], targets)
    scores = np.eye(5) @ np.array(stage.weights[:5])
    np.testing.assert_allclose(np.diff(scores), 1, atol=0.05)
    np.testing.assert_allclose(stage.weights[5:], 0, atol=0.01)
    logits = stage.class_logits(np.eye(5)[targets], np.eye(5)[others])
    assert (logits.argmax(axis=1) == targets).all()


def test_both_eyes_say_more_than_one_where_eyes_go_together() -> None:
    shares, grades, names, eyes = drawn(600, noise=1.0, seed=1)
    fellow, _ = fellow_probabilities(shares, names, eyes)
    stage = fit_second_stage(shares, fellow, grades)
    shares, grades, names, eyes = drawn(600, noise=1.0, seed=2)
    fellow, _ = fellow_probabilities(shares, names, eyes)
    one = point_figures(grades, np.log(shares))["kappa"]
    both = point_figures(grades, stage.class_logits(shares, fellow))["kappa"]
    alone = fit_second_stage(shares, shares, grades)
    refitted = point_figures(grades, alone.class_logits(shares, shares))["kappa"]
    assert both > one + 0.05 and both > refitted + 0.03


def test_one_grade_is_nothing_to_fit() -> None:
    with pytest.raises(InputError, match="needs eyes of two grades or more"):
        fit_second_stage(np.eye(5)[[1, 2]], np.eye(5)[[2, 1]], np.array([3, 3]))
