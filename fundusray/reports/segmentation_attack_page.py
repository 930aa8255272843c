"""What an attack left of a segmentation, as a page: a table by budget and case, then what any
condition of a segmentation is said by."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fundusray.metrics.segmentation.attacked import ATTACKED, CLEAN, WORST_CASES
from fundusray.reports.attack_page import budget_text
from fundusray.reports.evaluation_page import EvaluationPage, PageTable
from fundusray.reports.number_text import DASH, estimate_text, number_text, people_text
from fundusray.reports.segmentation_page import (
    SegmentationFacts,
    background_sentence,
    segmentation_page,
)

NORM = "linf"
FIGURES = {
    "pixel_accuracy": "pixel accuracy",
    "miou": "mIoU",
    "dice": "Dice",
    "maupr": "mAUPR",
}
DEFINITIONS = (
    "Every attacked image was measured to be within the budget and in [0, 1]. Attacks see the true "
    "masks, and each is taken to its end: no image is done early.",
    "Called background: the share of pixels that are. An attack towards the background leaves the "
    "pixel accuracy, mIoU and Dice of calling everything background once it has wholly succeeded; "
    "the AUPR is of scores, which may still rank pixels.",
    "Worst by image: of an attack's losses the one that leaves each image the fewest right pixels. "
    "Worst by running mIoU: the one that makes the mIoU of all images lowest, image by image "
    "(Croce, Singh and Hein 2024). Both know the masks, and choose after the fact.",
)


def case_text(eps: float, case: str) -> str:
    """A budget and case as people read them: `1/100, worst by image`."""
    if case == CLEAN:
        return "as they are"
    own = "" if case == ATTACKED else f", {case.replace('_', ' ').replace('miou', 'mIoU')}"
    return f"{budget_text(eps, NORM)}{own}"


def budget_table(figures: Sequence[dict[str, Any]]) -> PageTable:
    """The table by budget and case, of `attacked_segmentation_figures`."""
    first = figures[0]
    caption = (
        f"{first['attack']}, {NORM}; {people_text(first, 'image')}. Everything background: "
        f"{background_sentence(first)}. 95 % intervals, patients as units. Queries: of an "
        "image, for all losses of an attack together."
    )
    head = ["eps, case", *FIGURES.values(), "change of mIoU", "called background", "queries"]
    rows = [
        [
            case_text(row["eps"], row["case"]),
            *(estimate_text(row, name) for name in FIGURES),
            estimate_text(row, "miou_change") if row["eps"] else DASH,
            number_text(row["background_called"]),
            f"{row['queries']:,.0f}",
        ]
        for row in figures
    ]
    return PageTable("By budget", caption, head, rows)


def segmentation_attack_page(
    facts: SegmentationFacts,
    figures: Sequence[dict[str, Any]],
    tables: Mapping[tuple[float, str], pa.Table],
) -> EvaluationPage:
    """The page of one attack on one network.

    Args:
        figures, tables: of `metrics.segmentation.attacked`. Where an attack makes several
            candidates, the first table has each, and what follows the worst cases alone.
    """
    judged = {
        case_text(eps, case): table
        for (eps, case), table in tables.items()
        if case in (CLEAN, ATTACKED, *WORST_CASES)
    }
    several = any(case in WORST_CASES for _, case in tables)
    said = [one for one in DEFINITIONS if several or not one.startswith("Worst")]
    page = segmentation_page(dataclasses.replace(facts, notes=[*facts.notes, *said]), judged)
    return dataclasses.replace(page, tables=[budget_table(figures), *page.tables])
