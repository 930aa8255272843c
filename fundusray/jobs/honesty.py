"""What a reader should know of how a network was trained and judged, in sentences."""

from collections.abc import Sequence
from typing import Any

from fundusray.attacks import judging_budget, shown
from fundusray.config import Recipe
from fundusray.losses import panel, sentences
from fundusray.reports.text import count, estimate, number

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
    """By what the halves chose, and the papers' way; the page says the rest of any such figure."""
    if not result.get("held_out_epochs"):
        return ""
    metric = result["held_out_by"].replace("_", " ")
    return (
        f"the halves chose their epochs by {metric}; train.report=selected gives the papers' way, "
        "the maximum over the same rows"
    )


def networks_said(result: dict[str, Any]) -> str:
    """Whether the figures are of two epochs, and whether the judged rows chose what the network
    began from; empty where neither is so."""
    parts = []
    if epochs := result.get("held_out_epochs"):
        whose = "two networks" if len(set(epochs)) > 1 else "one network, which both chose"
        parts.append(
            f"figures of {whose}: each half of the patients judged by the epoch that was best "
            f"on the other half ({epochs[0]} and {epochs[1]}; the bundle is of epoch "
            f"{result['best']['epoch']}, the best on all)"
        )
    if number_of := result.get("start_chosen", 0):
        parts.append(
            f"{count(number_of, 'judged image')} chose the epoch of the network that it began "
            "from: the figures flatter"
        )
    return "; ".join(parts)


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
