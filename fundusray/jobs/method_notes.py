"""What a reader should know of how a network was trained and judged, in sentences."""

import re
from collections.abc import Sequence
from typing import Any

from fundusray import recipes
from fundusray.attacks import judging_budget, length_text
from fundusray.config import Recipe
from fundusray.losses import class_effect_sentences, effects_on_classes
from fundusray.reports import training_repeats
from fundusray.reports.number_text import count_text, estimate_text, number_text

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
    found = [
        permuted_note(recipe),
        _ours(recipe),
        _phases(recipe),
        _replayed(recipe),
        _chosen(result),
        _undefined(result),
        unlearned_note(result),
    ]
    found += [result.get("ended", ""), _robust(recipe, result)]
    found = [note for note in found if note]
    if counts is None:
        return found
    said = effects_on_classes(recipe.loss, recipe.sampling, counts, batch=recipe.train.batch)
    return found + class_effect_sentences(said, classes)


def permuted_note(recipe: Recipe) -> str:
    """That a network learned labels of other patients; empty where it did not."""
    if not recipe.data.permute_labels:
        return ""
    return (
        "LABELS PERMUTED (data.permute_labels=true): in training every patient bore the labels of "
        f"another (seed {recipe.seed}), so there was nothing to learn; validation and test labels "
        "are true. This network is the null that others are held against"
    )


def _ours(recipe: Recipe) -> str:
    """Which values of a paper's recipe its paper does not state; a change shows in the command."""
    unstated = recipe.name in recipes.RECIPES and recipes.RECIPES.facts(recipe.name).ours
    return f"{recipe.name}: not stated by the paper and ours: {unstated}" if unstated else ""


def _phases(recipe: Recipe) -> str:
    return f"trained in phases: {recipe.train.phases}" if recipe.train.phases else ""


def _replayed(recipe: Recipe) -> str:
    """How free adversarial training counts its epochs."""
    attacked = recipe.adversarial
    if attacked.method != "free":
        return ""
    asked = recipe.train.phases or f"{recipe.train.epochs} epochs"
    return (
        f"free adversarial training shows every batch {attacked.replays} times in a row and goes "
        f"over the rows as many times less often: {asked}, divided by {attacked.replays}"
    )


def _chosen(result: dict[str, Any]) -> str:
    """By what the halves chose, and the papers' way; the page says the rest of any such figure."""
    if not result.get("held_out_epochs"):
        return ""
    metric = result["held_out_by"].replace("_", " ")
    return (
        f"the halves chose their epochs by {metric}; train.report=selected gives the papers' way, "
        "the maximum over the same rows"
    )


def _undefined(result: dict[str, Any]) -> str:
    """Which halves had too few classes for the metric that was to choose the other's epoch."""
    halves = result.get("held_out_undefined", [])
    if not halves:
        return ""
    which = "half 1 and half 2" if len(halves) == 2 else f"half {halves[0] + 1}"
    return (
        f"the validation rows that choose for {which} hold too few classes for "
        f"{result['held_out_by'].replace('_', ' ')}; there the lowest validation loss chose"
    )


def unlearned_note(result: dict[str, Any]) -> str:
    """That no epoch was better than a network that has learned nothing."""
    best = result.get("best") or {}
    if best.get("better", True):
        return ""
    metric = best["metric"].removeprefix("val_").replace("_", " ")
    return (
        f"no epoch was better by {metric} than always answering one class, which reaches "
        f"{number_text(best['constant'])} on the validation rows: kept is epoch {best['epoch']}, "
        f"whose "
        f"validation loss was lowest ({metric} {number_text(best['value'])})"
    )


def networks_said(result: dict[str, Any]) -> str:
    """Whether the figures are of two epochs, and whether the judged rows chose what the network
    began from; empty where neither is so."""
    parts = []
    if epochs := result.get("held_out_epochs"):
        whose = "two networks" if len(set(epochs)) > 1 else "one network, which both chose"
        unit = training_repeats.interval_unit(result.get("metrics", {}))
        parts.append(
            f"figures of {whose}: each half of the {unit} judged by the epoch that was best "
            f"on the other half ({epochs[0]} and {epochs[1]}; the bundle is of epoch "
            f"{result['best']['epoch']}, the best on all)"
        )
    if number_of := result.get("start_chosen", 0):
        parts.append(
            f"{count_text(number_of, 'judged image')} chose the epoch of the network that it began "
            "from: the figures flatter"
        )
    return "; ".join(parts)


def _robust(recipe: Recipe, result: dict[str, Any]) -> str:
    robust = result.get("robust")
    if not robust:
        return ""
    budget = judging_budget(recipe.adversarial)
    how = f"{budget.steps}-step PGD, {budget.norm} within {length_text(budget.eps)}"
    return (
        f"under attack ({how}): accuracy {estimate_text(robust, 'accuracy')} on {robust['n']} "
        f"images, "
        f"balanced {estimate_text(robust, 'balanced_accuracy')}; {constant_words(robust)}. The "
        f"attack "
        "makes any other class of the right one, so a kappa of these rows is no worst case"
        + (f"; {FLATTERED}" if robust["optimistic"] else "")
    )


def constant_words(robust: dict[str, Any]) -> str:
    """How robust a network is that always answers the most frequent class: no attack changes it."""
    present = sum(
        value is not None for name, value in robust.items() if re.fullmatch(r"recall_\d+", name)
    )
    return (
        f"always answering the most frequent class has {number_text(robust['majority_accuracy'])}, "
        f"balanced {number_text(1 / max(present, 1))}"
    )
