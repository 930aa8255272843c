"""Which photographs are led to which class, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from fundusray.errors import InputError
from fundusray.jobs.counterfactual_questions import (
    LEAST,
    PAPER,
    Question,
    asked_question,
    chosen_photographs,
    chosen_rows,
)
from fundusray.jobs.counterfactuals import drawn_photographs
from fundusray.runs.provenance import UnseenRows
from fundusray.saliency.counterfactuals import Sweep
from tests.metrics.test_counterfactual_figures import table

CLASSES = ("none", "mild", "moderate")
TARGETS = np.array([0, 1, 2, 1, 0, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 1, 2])


def photographs(targets, ordered=True):
    """What is read of a set of which every second row is judged."""
    whole = np.repeat(targets, 2)
    data = SimpleNamespace(targets=lambda: whole, classes=CLASSES, ordered=ordered)
    sides = np.array(["train", "test"] * len(targets))
    return data, UnseenRows(sides, "test", [])


@pytest.mark.parametrize(
    ("question", "goals", "part"),
    [
        (PAPER, [-1, 1, -1, 1, -1, -1], [1]),
        (Question(), [1, 2, -1, 2, 1, -1], [0, 1, 3]),
        (Question(goal=0), [0] * 6, [2, 3, 4, 5]),
        (Question(goal=2, answer=1), [2] * 6, [2, 3, 4]),
    ],
)
def test_who_takes_part(question: Question, goals: list[int], part: list[int]) -> None:
    found = question.goals(TARGETS, 3)
    assert found.tolist() == goals
    assert np.flatnonzero(question.taking_part(found, PREDICTIONS)).tolist() == part


def test_what_is_asked_for() -> None:
    assert asked_question("", "", CLASSES, True) is None
    assert asked_question("next", "", CLASSES, True) == Question()
    assert asked_question("moderate", "0", CLASSES, False) == Question(goal=2, answer=0)
    assert asked_question("", "mild", CLASSES, True) == Question(answer=1)
    for target, source, ordered, message in (
        ("milde", "", True, "did you mean 'mild'"),
        ("3", "", True, "target"),
        ("1", "mild", True, "are one class"),
        ("next", "", False, "needs classes in their order"),
        ("", "1", False, "leads to no class"),
    ):
        with pytest.raises(InputError, match=message):
            asked_question(target, source, CLASSES, ordered)
    assert PAPER.text(CLASSES) == "photographs of class mild taken for none, led to class mild"
    assert "the class after their own" in Question().text(CLASSES)


def test_those_of_most_networks_come_first() -> None:
    part = np.array([[1, 0, 1, 0, 1, 1], [1, 0, 0, 0, 0, 1]], bool)
    assert chosen_rows(part, 2, seed=0).tolist() == [0, 5]
    three = {tuple(chosen_rows(part, 3, seed).tolist()) for seed in range(20)}
    assert three == {(0, 2, 5), (0, 4, 5)}
    assert chosen_rows(part, 0, seed=0).tolist() == chosen_rows(part, 9, 1).tolist() == [0, 2, 4, 5]


def test_the_papers_photographs_where_there_are_enough() -> None:
    targets = np.array([1] * (LEAST + 4) + [0] * 4)
    answers = np.zeros((2, len(targets)), int)
    answers[1, :4] = 1  # the second network is right of four
    data, judged = photographs(targets)
    found = chosen_photographs(None, data, judged, answers, (12, 0))
    assert found.question == PAPER and set(found.goals) == {1} and len(found.rows) == 12
    # The odd rows are judged; those of both networks come first.
    assert set(range(9, 2 * LEAST + 8, 2)) <= set(found.rows.tolist())
    assert any("12 of 14 such photographs" in note for note in found.notes)
    assert any("takes no part" in note for note in found.notes)
    first, second = (found.plan(n, Sweep()) for n in (0, 1))
    assert first.rows == tuple(found.rows) and len(second.rows) == LEAST
    assert set(second.goals) == {1} and set(second.rows) == set(range(9, 2 * LEAST + 8, 2))


def test_otherwise_the_next_class_and_why() -> None:
    data, judged = photographs(TARGETS)
    found = chosen_photographs(None, data, judged, PREDICTIONS[None], (0, 0))
    assert found.question == Question()
    assert found.rows.tolist() == [1, 3, 7] and found.goals.tolist() == [1, 2, 2]
    assert found.predictions.tolist() == [[0, 0, 1]]
    (note,) = found.notes
    assert note.startswith("1 photographs of class mild are taken for none")
    unordered, judged = photographs(TARGETS, ordered=False)
    with pytest.raises(InputError, match="give target=<class>"):
        chosen_photographs(None, unordered, judged, PREDICTIONS[None], (0, 0))
    with pytest.raises(InputError, match="there are no photographs taken for none"):
        asked = Question(goal=1, answer=0)
        chosen_photographs(asked, data, judged, np.full((1, 6), 2), (0, 0))


def test_the_sheet_is_of_those_that_most_lead_to_the_class() -> None:
    """The gradient does not lead the first there, integrated gradients of one network not the
    second."""
    assert drawn_photographs([table(8), table(8, failing=(1,))]) == ["i02", "i03", "i04", "i05"]
    assert drawn_photographs([table(3, failing=(1,))]) == ["i02", "i00", "i01"]
