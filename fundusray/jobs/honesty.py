"""What a reader should know of how a network was trained and judged, in sentences."""

from typing import Any

import numpy as np

from fundusray.attacks import judging_budget, shown
from fundusray.cluster.rows import split_rows
from fundusray.config import Recipe
from fundusray.data.shards import PreparedSet
from fundusray.losses import panel, sentences
from fundusray.reports.text import estimate, number

FLATTERED = (
    "of the network that was best on these very rows, so the figures under attack are optimistic"
)


def notes_of(recipe: Recipe, result: dict[str, Any], opened: PreparedSet) -> list[str]:
    """Phases, how the epoch was chosen, what the loss does to each class, robustness, an early end.

    Args:
        result: of a training, or of an evaluation, which knows less.
    """
    found = [_phases(recipe), _chosen(result), result.get("ended", ""), _robust(recipe, result)]
    rows = split_rows(opened, recipe)["train"]
    counts = np.bincount(opened.targets()[rows], minlength=len(opened.classes)).tolist()
    said = panel(recipe.loss, recipe.sampling, counts, batch=recipe.train.batch)
    return [note for note in found if note] + sentences(said, opened.classes)


def _phases(recipe: Recipe) -> str:
    return f"trained in phases: {recipe.train.phases}" if recipe.train.phases else ""


def _chosen(result: dict[str, Any]) -> str:
    """How the figures escape being the maximum they were chosen by."""
    epochs = result.get("held_out_epochs")
    if not epochs:
        return ""
    metric = result["held_out_by"].replace("_", " ")
    return (
        "there are no test rows: each half of the validation patients is judged by the epoch that "
        f"was best on the other half by {metric} (epochs {epochs[0]} and {epochs[1]}); "
        "train.report=selected gives the papers' way, the maximum over the same rows"
    )


def _robust(recipe: Recipe, result: dict[str, Any]) -> str:
    robust = result.get("robust")
    if not robust:
        return ""
    budget = judging_budget(recipe.adversarial)
    how = f"{budget.steps}-step PGD, {budget.norm} within {shown(budget.eps)}"
    return (
        f"under attack ({how}): accuracy {estimate(robust, 'accuracy')} on {robust['n']} images, "
        f"balanced {estimate(robust, 'balanced_accuracy')}; majority class "
        f"{number(robust['majority_accuracy'])}"
        + (f"; {FLATTERED}" if robust["optimistic"] else "")
    )
