"""What is said of how a network was chosen, of the networks behind figures and how robust one is,
and where a job takes the rows to judge by."""

import numpy as np
import pytest

from fundusray import recipes
from fundusray.config import Recipe, override
from fundusray.jobs.method_notes import constant_words, networks_said, notes_of
from fundusray.jobs.photographs import with_test_share
from fundusray.metrics import figure_summary, predictions_table

TARGETS = np.repeat(np.arange(5), [20, 10, 5, 3, 2])
RESULT = {"best": {"epoch": 2}, "held_out_epochs": [1, 3], "held_out_by": "balanced_accuracy"}


def attacked(answers: np.ndarray) -> dict:
    """The figures of attacked rows with these answers."""
    names = [str(row) for row in range(len(TARGETS))]
    found = figure_summary(predictions_table(names, names, TARGETS, np.eye(5)[answers]))
    return found | {"optimistic": False}


def notes(result: dict, **changes: object) -> str:
    given = {key.replace("__", "."): value for key, value in changes.items()}
    recipe = override(recipes.find_recipe("demo"), {"adversarial.eps": "8/255"} | given)
    return "\n".join(notes_of(recipe, result, None, "01234"))


@pytest.mark.parametrize("answers", [np.zeros(40, np.int64), TARGETS, (TARGETS + 1) % 5])
def test_robustness_stands_beside_that_of_a_constant_answer(answers: np.ndarray) -> None:
    told = notes({"robust": attacked(answers)})
    assert "under attack (20-step PGD, linf within 8/255)" in told
    assert "always answering the most frequent class has 0.500, balanced 0.200" in told
    assert "no worst case" in told


def test_classes_without_rows_are_not_counted_in_the_constant_answer() -> None:
    figures = attacked(TARGETS) | {"recall_4": None, "majority_accuracy": 20 / 38}
    assert constant_words(figures).endswith("has 0.526, balanced 0.250")


def test_a_network_that_is_no_better_than_constant_is_called_so() -> None:
    best = {"epoch": 3, "metric": "val_balanced_accuracy", "value": 0.2, "constant": 0.2}
    told = notes({"best": best | {"better": False}})
    assert "no epoch was better by balanced accuracy than always answering one class" in told
    assert "kept is epoch 3" in told
    assert "no epoch was better" not in notes({"best": best | {"value": 0.3, "better": True}})
    assert "no epoch was better" not in notes({"best": {}}) + notes({})


def test_a_half_that_cannot_choose_is_named() -> None:
    halves = {"held_out_epochs": [1, 2], "held_out_by": "auc_referable", "held_out_undefined": [1]}
    assert "choose for half 2 hold too few classes for auc referable" in notes(halves)
    assert "too few" not in notes(halves | {"held_out_undefined": []})


def test_free_training_says_how_it_counts() -> None:
    told = notes({}, adversarial__method="free", adversarial__replays=4, train__epochs=8)
    assert "every batch 4 times in a row" in told and "8 epochs, divided by 4" in told
    assert "times in a row" not in notes({}, adversarial__method="pgd")


def test_what_a_paper_does_not_state_is_on_the_page() -> None:
    told = notes_of(recipes.find_recipe("wu.table5.baseline"), {}, None, "01234")
    assert "not stated by the paper and ours: Adam at 1e-4" in told[0]
    assert not any(
        "ours" in note for note in notes_of(recipes.find_recipe("demo"), {}, None, "01234")
    )


def test_figures_of_two_epochs_and_of_a_start_that_was_chosen_are_told() -> None:
    assert networks_said({"best": {"epoch": 2}, "held_out_epochs": []}) == ""
    said = networks_said(RESULT)
    assert said.startswith("figures of two networks: each half of the patients judged by")
    assert "(1 and 3; the bundle is of epoch 2, the best on all)" in said
    same = networks_said(RESULT | {"held_out_epochs": [2, 2]})
    assert same.startswith("figures of one network, which both chose: each half")
    told = networks_said(RESULT | {"start_chosen": 12})
    assert told.endswith("12 judged images chose the epoch of the network that it began from: "
                         "the figures flatter")  # fmt: skip
    assert networks_said({"start_chosen": 1}).startswith("1 judged image chose")
    notes = notes_of(Recipe(), RESULT, None, ())
    assert any("chose their epochs by balanced accuracy" in note for note in notes)


def test_a_leak_premium_of_a_paper_s_row_has_rows_that_chose_no_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = recipes.find_recipe("wu.table5.baseline")
    assert row.data.fractions == (0.7, 0.3, 0.0)
    recipe = with_test_share(row)
    assert recipe.data.fractions == (0.7, 0.15, 0.15)
    assert "data.fractions=0.7,0.15,0.15" in capsys.readouterr().out
    assert with_test_share(recipe) is recipe
    assert override(recipe, {"data.fractions": row.data.fractions}) == row
    assert capsys.readouterr().out == ""
