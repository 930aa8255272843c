"""One change for all photographs and what it does to a network, as a page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fundusray.reports.attack_page import budget_text
from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable
from fundusray.reports.number_text import change_text, estimate_text, number_text, people_text

SIDE = 256
"""Pixels of a picture's side, at least."""
WORDS = {"better": "more", "worse": "less", "undecided": "undecided"}
DEFINITIONS = (
    "One perturbation is added to every photograph, and the sum is kept in [0, 1]; it was learned "
    "from photographs that are not judged here.",
    "Changed (the fooling rate of Moosavi-Dezfooli et al. 2017): answered otherwise than as they "
    "are, right or wrong, of all photographs. Made wrong: of those that were right.",
    "Noise: every number as large as the budget allows, its sign drawn at random. What the "
    "perturbation does beyond it is what was learned.",
    "Intervals are 95 %, with patients as units, for this one perturbation: learned from other "
    "photographs or from another seed it would be another one.",
)


@dataclass(frozen=True)
class UniversalFacts:
    """What a page says beside figures."""

    name: str
    """Of the network."""
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    command: str


def difference_text(difference: dict[str, Any]) -> str:
    """A difference to noise with its interval and what it says."""
    why = f" ({difference['why']})" if difference["why"] else ""
    return f"{change_text(difference)}, {WORDS[difference['verdict']]}{why}"


def perturbation_picture(perturbation: np.ndarray) -> bytes:
    """A PNG of a perturbation [3, S, S]: grey where it changes nothing, black and white where it
    changes most."""
    largest = float(np.abs(perturbation).max()) or 1.0
    levels = np.rint((perturbation / largest * 0.5 + 0.5) * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))
    times = -(-SIDE // picture.width)
    side = (picture.width * times, picture.height * times)
    sink = io.BytesIO()
    picture.resize(side, Image.Resampling.NEAREST).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def universal_page(
    facts: UniversalFacts,
    figures: Sequence[dict[str, Any]],
    differences: dict[str, dict[str, Any]],
    goal: int | None,
    picture: bytes,
) -> EvaluationPage:
    """The page of a perturbation.

    Args:
        figures: rows of `metrics.universal.universal_figures`, with attack, norm and eps.
        differences: `metrics.universal.more_than_noise`.
        picture: `perturbation_picture`.
    """
    first, noise, last = figures
    eps = f"{last['norm']} {budget_text(last['eps'], last['norm'])}"
    summary = [
        f"One change within {eps} changes the answer to {estimate_text(last, 'changed_rate')} of "
        f"{people_text(last, 'image')}; noise of the same length changes "
        f"{estimate_text(noise, 'changed_rate')}. Difference: "
        f"{difference_text(differences['changed_rate'])}.",
        f"Right of {estimate_text(first, 'accuracy')} as they are, and of "
        f"{estimate_text(last, 'accuracy')} with it; always the most frequent class is right of "
        f"{number_text(first['majority_accuracy'])}.",
    ]
    names = {"accuracy": "right", "changed_rate": "changed", "success_rate": "made wrong"}
    if goal is not None:
        title = facts.classes[goal]
        names["goal_rate"] = f"answered {title}"
        summary.append(
            f"It was to be taken for {title}: {estimate_text(last, 'goal_rate')} are, with noise "
            f"{estimate_text(noise, 'goal_rate')}, as they are "
            f"{estimate_text(first, 'goal_rate')}. Difference to noise: "
            f"{difference_text(differences['goal_rate'])}."
        )
    rows = [[row["added"], *(estimate_text(row, name) for name in names)] for row in figures]
    caption = (
        f"{people_text(first, 'image')}; always the most frequent class is right of "
        f"{number_text(first['majority_accuracy'])}. Shares with 95 % intervals."
    )
    drawn = f"Grey is no change, black and white the largest ({eps}); colours are its channels."
    return EvaluationPage(
        title=f"{facts.name}, one change for all photographs",
        caption=f"{last['attack']}, {eps}; {people_text(first, 'image')}.",
        summary=summary,
        tables=[PageTable("What is added", caption, ["added", *names.values()], rows)],
        figures=[PageFigure("The perturbation", picture, drawn)],
        notes=[*facts.notes, *DEFINITIONS],
        command=facts.command,
    )
