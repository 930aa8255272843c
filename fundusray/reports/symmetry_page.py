"""Maps toward two classes and how far they are each other's opposite, as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable
from fundusray.reports.number_text import count_text, estimate_text, number_text, people_text

DEFINITIONS = (
    "Of each photograph the map toward the first class is correlated with the map toward the "
    "second, over all pixels; -1 is the exact opposite, 0 what unrelated maps have. Spearman's is "
    "of ranks; pixels without attribution share one.",
    "Complementary (Li et al., figure b): supported where the mean of Pearson's correlation is "
    "below 0 with its whole 95 % interval, patients as units. The logits of a network may be "
    "opposed by its training alone, whatever it looks at: symmetry does not say that a map is "
    "right.",
    "Sum heat map: the mean of maps of photographs that the network is right of, by their class, "
    "in the coordinates of the prepared photographs; left and right eyes are not turned onto each "
    "other.",
)


@dataclass(frozen=True)
class SymmetryFacts:
    """What a page says beside figures."""

    name: str
    """Of the network."""
    pair: tuple[str, str]
    """The two classes."""
    method: str
    notes: tuple[str, ...]
    command: str


def symmetry_summary(facts: SymmetryFacts, figures: dict[str, Any]) -> list[str]:
    """What came of it, in sentences."""
    left_out = ""
    if figures["undefined"]:
        count = count_text(figures["undefined"], "photograph")
        left_out = f" Left out: {count} (both classes the same, or a map without attribution)."
    return [
        f"Maps toward {facts.pair[0]} and toward {facts.pair[1]} are complementary: "
        f"{figures['verdict']}{f' ({why})' if (why := figures['why']) else ''}. Pearson's "
        f"correlation is {estimate_text(figures, 'pearson')}, Spearman's "
        f"{estimate_text(figures, 'spearman')}, over {people_text(figures, 'image')}; unrelated "
        f"maps have 0. It is below 0 in {number_text(figures.get('negative_share'))} of them."
        f"{left_out}"
    ]


def symmetry_page(
    facts: SymmetryFacts,
    figures: dict[str, Any],
    by_class: Sequence[tuple[str, dict[str, Any]]],
    pictures: Sequence[PageFigure],
) -> EvaluationPage:
    """The page of a study of symmetry.

    Args:
        figures: `metrics.symmetry.symmetry_figures` of all photographs.
        by_class: (a class, the same of its photographs).
        pictures: its sheets.
    """
    rows = [
        [name, f"{one['n']:,}", estimate_text(one, "pearson"), estimate_text(one, "spearman")]
        for name, one in [("all", figures), *by_class]
    ]
    people = people_text(figures, "image")
    caption = f"Means over photographs with 95 % intervals; {people}. Unrelated maps have 0."
    head = ["labelled", "photographs", "Pearson", "Spearman"]
    return EvaluationPage(
        title=f"{facts.name}, maps toward {facts.pair[0]} and {facts.pair[1]}",
        caption=f"{facts.method}; {people}.",
        summary=symmetry_summary(facts, figures),
        tables=[PageTable("Correlations", caption, head, rows)],
        figures=pictures,
        notes=[*facts.notes, *DEFINITIONS],
        command=facts.command,
    )
