"""What a layer's units are given along a gradient, as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fundusray.metrics.linearity import CONSTANT, LINEAR, UNCHANGED
from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable
from fundusray.reports.number_text import (
    change_text,
    count_text,
    estimate_text,
    number_text,
    people_text,
)

TEXTS = {
    "r_squared_difference": "R² by the difference",
    "r_squared_gradient": "R² by the mean gradient",
    "r_squared_c": "R² by c",
    "linear_share": f"units with R² of at least {LINEAR:g} by the difference",
    "difference_change": "change of the difference",
    "gradient_change": "change of the mean gradient",
    "rising_share": "units that rise",
    "falling_share": "units that fall",
    "constant_share": "units that remain constant",
}
DEFINITIONS = (
    "A photograph is moved along the gradient of what is explained, x + c dF/dx, kept in [0, 1]; c "
    "doubles from step to step (Li et al., linearity of the model). The first c moves the number "
    "that it changes most by one level of 255.",
    "A unit's attribution (integrated gradients of the layer, from a half-grey image) is its "
    "difference, activation less that of the half-grey image, times its mean gradient on the line. "
    "R²: how much of the attribution over the steps a line in the one or the other explains; c "
    "doubles, so that the last steps weigh most. Of a feature map the unit is its mean.",
    "Change: the mean over the steps of how far a term is from what it is at the photograph "
    "itself, summed over units, as a share of that. Constant: the attribution changes by less than "
    f"{CONSTANT:.0%} of the largest change among the photograph's units.",
    f"Supported: R² by the difference of at least {LINEAR:g} and a change of the gradient of at "
    f"most {UNCHANGED:g}, with their whole intervals. The bounds are ours: the paper says "
    "“almost unchanged”.",
    "Intervals are 95 %, of means over photographs, with patients as units.",
)


@dataclass(frozen=True)
class LinearityFacts:
    """What a page says beside figures."""

    name: str
    """Of the network."""
    layer: str
    output: str
    """What is explained: "the logit of the answer"."""
    notes: tuple[str, ...]
    command: str


def linearity_summary(facts: LinearityFacts, figures: dict[str, Any]) -> list[str]:
    """What came of it, in sentences."""
    more = change_text(figures["more_than_gradient"])
    explained = facts.output[:1].upper() + facts.output[1:]
    verdict = "by its build" if figures["built"] else figures["verdict"]
    said = [
        f"{explained} is linear in the units of {facts.layer}: {verdict}. R² of attributions by "
        f"the difference to the baseline is {estimate_text(figures, 'r_squared_difference')}, by "
        f"the mean gradient {estimate_text(figures, 'r_squared_gradient')} (difference {more}), "
        f"over {people_text(figures, 'image')} and {count_text(figures['units'], 'unit')}.",
        f"The mean gradient changes by {estimate_text(figures, 'gradient_change')} of itself, the "
        f"difference by {estimate_text(figures, 'difference_change')}.",
    ]
    if figures["built"]:
        said.append(
            "Only linear layers stand between these units and what is explained: their gradient is "
            "the same everywhere by the network's build, and the linearity is no finding. An "
            "earlier layer (layer=), or output=probability, asks more."
        )
    return said


def linearity_page(
    facts: LinearityFacts,
    figures: dict[str, Any],
    steps: Sequence[dict[str, float]],
    pictures: Sequence[tuple[str, bytes]],
) -> EvaluationPage:
    """The page of a sweep.

    Args:
        figures: `metrics.linearity.linearity_figures`.
        steps: `metrics.linearity.step_figures`.
        pictures: (photograph, `linearity_figures.unit_squares`).
    """
    people = people_text(figures, "image")
    means = [[text, estimate_text(figures, name)] for name, text in TEXTS.items()]
    means.insert(2, ["more by the difference", change_text(figures["more_than_gradient"])])
    head = ["step", "image moved by", "output", "attributions", "difference", "mean gradient"]
    rows = [
        [
            "as it is" if row["step"] == 0 else f"{2 ** (row['step'] - 1):g}",
            number_text(row["moved"], 4),
            *(number_text(row[name]) for name in ("output", "attribution")),
            *(number_text(row[f"{name}_change"]) for name in ("difference", "gradient")),
        ]
        for row in steps
    ]
    caption = (
        f"Means over {people}. Moved: mean change of a number of the image in [0, 1]; "
        "attributions: sum of their sizes; difference and mean gradient: their change from the "
        "photograph."
    )
    explained = (
        "Each row is a unit, those with the largest attributions; a square's area is the size of "
        "its attribution, green above 0, red below."
    )
    return EvaluationPage(
        title=f"{facts.name}, linearity of {facts.layer}",
        caption=f"{facts.output}; {people}.",
        summary=linearity_summary(facts, figures),
        tables=[
            PageTable("Units", f"Means over {people}, 95 % intervals.", ["what", "mean"], means),
            PageTable("By c", caption, head, rows),
        ],
        figures=[
            PageFigure(f"Unit attribution against c, {name}", picture, explained)
            for name, picture in pictures
        ],
        notes=[*facts.notes, *DEFINITIONS],
        command=facts.command,
    )
