"""What the report of a training of masks says beside its figures."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.jobs.training import segmentation_notes
from fundusray.recipes import find_recipe
from fundusray.runs.run import Run
from fundusray.runs.split_of_run import OpenSets, Split

RESULT: dict[str, Any] = {"optimistic": False, "metrics": {"num_patients": 2}}


def run_of(patients: str) -> Run:
    """A run on a photograph of each of these patients, the first one learned."""
    num = len(patients)
    columns = {"patient_id": [*patients], "twin": [""] * num, "dataset": ["drawn"] * num}
    data: Any = SimpleNamespace(
        table=pa.table(columns | {"image_id": [f"i{n}" for n in range(num)]}),
        classes=("background", "microaneurysms"),
        ordered=False,
        info={"num_conflicts": 0},
        folder="set",
    )
    split = Split(data, np.array(["train", "val", "test"]))
    recipe = find_recipe("avramidis.table1.original")
    sets = OpenSets({"set": data})
    return Run(recipe, "set", split, "key", "/nowhere", sets)


def said(patients: str, **result: Any) -> str:
    return "\n".join(segmentation_notes(run_of(patients), RESULT | result))


def test_who_is_on_which_side_and_what_the_paper_does_not_say() -> None:
    notes = said("pqr")
    assert "no patient or near-duplicate is on two sides" in notes
    assert "not stated by the paper and ours" in notes
    # Kinds of masks have no order that could be unknown.
    assert "order" not in notes and "LEAK" not in notes and "flatter" not in notes
    assert "1 of 1 test images show a patient" in said("pqp")


def test_figures_that_are_of_the_rows_that_chose_the_epoch() -> None:
    assert "the judged photographs chose the epoch" in said("pqr", optimistic=True)
    halves = {"held_out_epochs": [3, 5], "held_out_by": "dice", "best": {"epoch": 4}}
    notes = said("pqr", **halves)
    assert "each half of the patients judged by the epoch that was best on the other" in notes
    assert "the halves chose their epochs by dice" in notes


def test_that_nothing_was_learned() -> None:
    best = {"better": False, "metric": "val_dice", "constant": 0.0, "value": 0.0, "epoch": 7}
    assert "no epoch was better by dice than always answering one class" in said("pqr", best=best)
