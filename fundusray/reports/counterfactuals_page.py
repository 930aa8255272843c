"""Counterfactuals of one or several networks as a page: what reaches the class, how far, how
smooth, and what it looks like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.counterfactuals import MATCHED, METHODS
from fundusray.reports.contact_sheet import SheetCell, contact_sheet
from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable
from fundusray.reports.number_text import (
    change_text,
    estimate_text,
    interval_text,
    number_text,
    people_text,
)

Row = dict[str, Any]
LEVELS = 255
TITLES = {"integrated_gradients": "integrated gradients", "gradient": "gradient"}
STRONG = 99.5
"""Percentile of a change that is drawn as black or white."""
IN_LEVELS = ("tv_change", "tv_image", "linf", "equal_tv_change")
"""Measured where pixels are in [0, 1], written in levels of 255."""
MEASURES = {
    "reached_rate": "class reached",
    "tv_change": "variation of the change",
    "tv_image": "variation of the image",
    "equal_tv_change": "variation of the change at equal length",
    "l2": "L2",
    "linf": "L-inf",
    "probability": "probability of the class",
}
DEFINITIONS = (
    "Integrated gradients: x' = clip(x + c sgn(x - grey) IG(x), 0, 1); gradient: x' = clip(x + c "
    "dF/dx, 0, 1) (Li et al.). c is swept upwards for both by the same rule: a step of k levels "
    "moves the pixel that moves most by k levels of 255 before clipping. The rows hold the paper's "
    "c, for pixels of 0 to 255, beside it.",
    "Reached: at some step the network takes the image for the class. The smallest step is then "
    "looked for by halves. Rising: the class's logit rises with every step up to one level.",
    "Variation: the absolute differences of neighbouring numbers, across and down, summed over the "
    "change (or the image) and divided by its numbers, in levels of 255; the smaller, the "
    "smoother. L2: over all numbers of an image, pixels in [0, 1]; L-inf in levels of 255.",
    "At the smallest step the methods are compared on photographs that both lead to the class. At "
    "equal length every change has the same root mean square, whether the class is reached or not.",
    "The verdict on whether integrated gradients make smoother counterfactuals rests on the "
    "variation of the change at the smallest step that reaches the class: supported where the "
    "interval of the difference lies below 0, not supported where it lies above.",
    "Intervals are 95 %, with patients as units.",
)


@dataclass(frozen=True)
class CounterfactualFacts:
    """What a page says beside figures."""

    question: str
    """Which photographs are led to which class."""
    length: float
    """Root mean square of changes of equal length, levels of 255."""
    steps: int
    output: str
    notes: tuple[str, ...]
    command: str


def counterfactuals_page(
    facts: CounterfactualFacts,
    figures: Sequence[Row],
    differences: Sequence[Row],
    networks: Sequence[Row],
    verdicts: Mapping[str, Row],
    pictures: tuple[bytes, bytes],
) -> EvaluationPage:
    """The page of counterfactuals.

    Args:
        figures, differences: of `metrics.counterfactuals.counterfactual_figures` and
            `method_differences`, with network.
        networks: `network_differences`; may be empty.
        verdicts: network -> `h9_verdict`.
        pictures: `robustness_curves.probability_curves` and `counterfactual_sheet`.
    """
    curve, sheet = pictures
    tables = [_reached(figures, facts), _compared(differences)]
    if networks:
        tables.append(_between(networks))
    said = (
        "From left to right: the photograph; the counterfactual of integrated gradients and its "
        "change; that of the gradient and its change. Changes are grey where nothing moves; the "
        "strongest half per cent is black or white."
    )
    return EvaluationPage(
        title=f"Counterfactuals of {len(verdicts)} network{'s' if len(verdicts) > 1 else ''}",
        caption=f"{facts.question}; integrated gradients of the {facts.output} in {facts.steps} "
        "steps from half-grey.",
        summary=[
            *(verdict_sentence(name, differences, one) for name, one in verdicts.items()),
            *(reached_sentence(name, figures) for name in verdicts),
        ],
        tables=tables,
        figures=[
            PageFigure("Probability of the class", curve, "Mean over the photographs, by step."),
            PageFigure("Photographs", sheet, said),
        ],
        notes=[*facts.notes, *DEFINITIONS],
        command=facts.command,
    )


def verdict_sentence(network: str, differences: Sequence[Row], verdict: Row) -> str:
    """Whether integrated gradients make the smoother counterfactuals of a network."""
    row = variation_difference(network, differences, "smallest")
    equal = variation_difference(network, differences, "equal")
    why = f" ({verdict['why']})" if verdict["why"] else ""
    ratio = ""
    if row.get("ratio") is not None:
        ends = interval_text(row["ratio_low"], row["ratio_high"], 2)
        ratio = f", {number_text(row['ratio'], 2)} {ends}".rstrip() + " times as much"
    return (
        f"{network}: that counterfactuals of integrated gradients are smoother than those of the "
        f"gradient is {verdict['verdict']}{why}. Variation of the change {_change(row)} levels"
        f"{ratio}, {people_text(row, 'image')} that both lead to the class; at equal length "
        f"{_change(equal)}, {verdict['equal_verdict']}."
    )


def reached_sentence(network: str, figures: Sequence[Row]) -> str:
    """How often and how far off the class is reached by both methods."""
    ours, theirs = (row for row in figures if row["network"] == network)
    reached, far = (
        [_estimate(row, name) for row in (ours, theirs)] for name in ("reached_rate", "l2")
    )
    return (
        f"{network}: integrated gradients lead {reached[0]} of {people_text(ours, 'image')} to the "
        f"class, at an L2 of {far[0]}, the gradient {reached[1]}, at {far[1]}; as "
        f"they are the class has a probability of {_estimate(ours, 'clean_probability')}."
    )


def variation_difference(network: str, differences: Sequence[Row], compared: str) -> Row:
    """The difference in variation of the change of one network."""
    wanted = (network, compared, "tv_change")
    return next(r for r in differences if (r["network"], r["compared"], r["measure"]) == wanted)


def counterfactual_sheet(
    pictures: Mapping[str, pa.Table], classes: Sequence[str], side: int = 192
) -> bytes:
    """A PNG of a few photographs, a line for each and network, of which images and methods stand in
    a table: image_id, goal, method, levels, reached, prediction, probability, size, original and
    counterfactual."""
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for network, table in pictures.items():
        for row in table.to_pylist():
            lines.setdefault((row["image_id"], network), {})[row["method"]] = row
    cells = []
    for (image_id, network), methods in sorted(lines.items(), key=lambda item: item[0][0]):
        goal = classes[next(iter(methods.values()))["goal"]]
        first = _pixels(next(iter(methods.values())), "original")
        line = [SheetCell(_levels(first), f"{image_id}, toward {goal}; {network}")]
        for method in METHODS:
            row = methods[method]
            changed = _pixels(row, "counterfactual")
            answer = f"{classes[row['prediction']]}, {goal} {row['probability']:.2f}"
            end = "" if row["reached"] else ", not reached"
            caption = f"{TITLES[method]}: {answer}, {_step(row['levels'])}{end}"
            drawn, strongest = _drawn_change(changed - first)
            line += [
                SheetCell(_levels(changed), caption),
                SheetCell(drawn, f"its change, black and white {_step(strongest * LEVELS)}"),
            ]
        cells.append(line)
    return contact_sheet(cells, side=side, title="Counterfactuals")


def _step(levels: float) -> str:
    return f"{levels:,.0f} levels" if levels >= 10 else f"{levels:.2g} levels"


def _pixels(row: Row, name: str) -> np.ndarray:
    """An image [S, S, 3]."""
    values = np.asarray(row[name], np.float32).reshape(3, row["size"], row["size"])
    return values.transpose(1, 2, 0)


def _levels(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.rint(image.clip(0, 1) * LEVELS).astype(np.uint8))


def _drawn_change(change: np.ndarray) -> tuple[np.ndarray, float]:
    """(a change as a picture, what is drawn as black or white)."""
    strongest = float(np.percentile(np.abs(change), STRONG)) or float(np.abs(change).max())
    return _levels(0.5 + 0.5 * change / (strongest or 1.0)), strongest


def _reached(figures: Sequence[Row], facts: CounterfactualFacts) -> PageTable:
    head = ["network and method", "photographs", "class reached", "rising", "step (levels)", "L2",
            "L-inf (levels)", "variation of the change", "variation of the image",
            "at equal length: variation", "at equal length: probability"]  # fmt: skip
    names = ["reached_rate", "rising_rate", "levels", "l2", "linf", "tv_change", "tv_image",
             "equal_tv_change", "equal_probability"]  # fmt: skip
    cells = [
        [
            f"{row['network']}, {TITLES[row['method']]}",
            people_text(row, "image"),
            *(_estimate(row, name) for name in names),
        ]
        for row in figures
    ]
    caption = (
        f"{facts.question}. From the step on: means of those that reach the class, at their "
        f"smallest step; at equal length (root mean square {facts.length:g} levels): of all."
    )
    return PageTable("What it takes", caption, head, cells)


def _compared(differences: Sequence[Row]) -> PageTable:
    cells = [
        [
            f"{row['network']}, {MATCHED.get(row['compared'], 'of all')}",
            MEASURES[row["measure"]],
            people_text(row, "image"),
            *(number_text(_scaled(row, name)[name]) for name in METHODS),
            _change(row),
            _verdict(row),
        ]
        for row in differences
    ]
    head = ["network", "measure", "photographs", *TITLES.values(), "difference", "verdict"]
    caption = (
        "Integrated gradients minus gradient, photograph by photograph; better is shorter, "
        "smoother, surer."
    )
    return PageTable("Integrated gradients against the gradient", caption, head, cells)


def _between(networks: Sequence[Row]) -> PageTable:
    cells = [
        [
            f"{row['network']} minus {row['against']}",
            MEASURES[row["measure"]],
            people_text(row, "image"),
            _change(row),
            _verdict(row),
        ]
        for row in networks
    ]
    caption = "By integrated gradients, on photographs that both networks lead to the same class."
    head = ["networks", "measure", "photographs", "difference", "verdict"]
    return PageTable("Networks against the first", caption, head, cells)


def _verdict(row: Row) -> str:
    return row["verdict"] + (f" ({row['why']})" if row["why"] else "")


def _change(row: Row) -> str:
    return change_text(_scaled(row, "difference", "low", "high"))


def _scaled(row: Row, *names: str) -> Row:
    """The row with some numbers in levels where its measure is written so."""
    factor = LEVELS if row["measure"] in IN_LEVELS else 1
    return row | {n: None if row[n] is None else row[n] * factor for n in names}


def _estimate(row: Row, name: str) -> str:
    factor = LEVELS if name in IN_LEVELS else 1
    ends = {f"{name}{end}": row[f"{name}{end}"] for end in ("", "_low", "_high")}
    return estimate_text({n: None if v is None else v * factor for n, v in ends.items()}, name)
