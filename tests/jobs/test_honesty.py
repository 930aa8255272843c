"""What a job says of the networks behind its figures, and where it takes the rows to judge by."""

import pytest

from fundusray import recipes
from fundusray.config import Recipe, override
from fundusray.jobs.honesty import networks_said, notes_of
from fundusray.jobs.photographs import with_test_share

RESULT = {"best": {"epoch": 2}, "held_out_epochs": [1, 3], "held_out_by": "balanced_accuracy"}


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
    row = recipes.find("wu.table5.baseline")
    assert row.data.fractions == (0.7, 0.3, 0.0)
    recipe = with_test_share(row)
    assert recipe.data.fractions == (0.7, 0.15, 0.15)
    assert "data.fractions=0.7,0.15,0.15" in capsys.readouterr().out
    assert with_test_share(recipe) is recipe
    assert override(recipe, {"data.fractions": row.data.fractions}) == row
    assert capsys.readouterr().out == ""
