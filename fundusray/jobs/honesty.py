"""What a reader should know of how a network was trained and judged, in sentences."""

from collections.abc import Sequence
from typing import Any

from fundusray.attacks import judging_budget, shown
from fundusray.config import Recipe
from fundusray.losses import panel, sentences
from fundusray.reports.text import estimate, number

FLATTERED = (
    "of the network that was best on these very rows, so the figures under attack are optimistic"
)


def notes_of(
    recipe: Recipe, result: dict[str, Any], counts: list[int] | None, classes: Sequence[str]
) -> list[str]:
    """Phases, how the epoch was chosen, what the loss does to each class, robustness, an early end.

    Args:
        result: of a training, or of an evaluation, which knows less.
        counts: training images per class, None where they are not known.
    """
    found = [_phases(recipe), _chosen(result), result.get("ended", ""), _robust(recipe, result)]
    found = [note for note in found if note]
    if counts is None:
        return found
    said = panel(recipe.loss, recipe.sampling, counts, batch=recipe.train.batch)
    return found + sentences(said, classes)


def _phases(recipe: Recipe) -> str:
    return f"trained in phases: {recipe.train.phases}" if recipe.train.phases else ""


def _chosen(result: dict[str, Any]) -> str:
    """How the figures escape being the maximum they were chosen by."""
    epochs = result.get("held_out_epochs")
    if not epochs:
        return ""
    metric = result["held_out_by"].replace("_", " ")
    # Whose eyes are not known is dealt out image by image.
    unit = "patients" if result.get("metrics", {}).get("num_patients", 1) else "images"
    return (
        f"there are no test rows: each half of the validation {unit} is judged by the epoch that "
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
