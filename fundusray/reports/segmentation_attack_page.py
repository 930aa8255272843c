"""What an attack left of a segmentation, as a page: a table by budget and case, one by class."""

from collections.abc import Sequence
from typing import Any

from fundusray.metrics.segmentation.attacked import CLEAN, WORST_CASES
from fundusray.reports.attack_page import budget_text
from fundusray.reports.evaluation_page import EvaluationPage, PageTable
from fundusray.reports.number_text import count_text, estimate_text, number_text, people_text

NORM = "linf"
FIGURES = {
    "pixel_accuracy": "pixel accuracy",
    "miou": "mean IoU",
    "dice": "Dice",
    "maupr": "mean AUPR",
}
KINDS = {"dice": "Dice", "aupr": "AUPR"}
"""Figures of each class."""
DEFINITIONS = (
    "Every attacked image was measured to be within the budget and in [0, 1]. Attacks see the true "
    "masks, and each is taken to its end: no image is done early.",
    "Figures are of counts pooled over images; Dice and AUPR are means over what is sought, mean "
    "IoU over the background as well.",
    "All background: what calling every pixel background reaches, and what an attack towards the "
    "background leaves once it has wholly succeeded.",
    "Worst by image: of an attack's losses the one that leaves each image the fewest right pixels. "
    "Worst by running mIoU: the one that makes the mean IoU of all images lowest, image by image "
    "(Croce, Singh and Hein 2024). Both know the masks, and choose after the fact.",
    "Change: attacked less clean, in pairs. Intervals are 95 %, with patients as units.",
)


def case_text(case: str) -> str:
    """A case as people read it."""
    return case.replace("_", " ").replace("miou", "mIoU")


def hardest_case(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row by which an attack is judged: at the largest budget the worst case by mean IoU, or
    the only one."""
    last = figures[-1]
    return last if last["case"] != CLEAN else figures[0]


def segmentation_attack_tables(
    figures: Sequence[dict[str, Any]], classes: Sequence[str]
) -> list[PageTable]:
    """The table by budget and the one by class, of `attacked_segmentation_figures`."""
    first = figures[0]
    caption = (
        f"{people_text(first, 'image')}. All background: pixel accuracy "
        f"{number_text(first['background_accuracy'])}, mean IoU "
        f"{number_text(first['background_miou'])}, Dice and what it finds 0."
    )
    head = ["eps, case", *FIGURES.values(), "change of mean IoU", "called background", "queries"]
    rows = [
        [
            _name(row),
            *(estimate_text(row, name) for name in FIGURES),
            estimate_text(row, "miou_change") if row["eps"] else "–",
            number_text(row["background_called"]),
            f"{row['queries']:,.0f}",
        ]
        for row in figures
    ]
    sought = [name for name in classes[1:] if f"dice_{name}" in first]
    by_class = [
        [
            _name(row),
            *(estimate_text(row, f"{kind}_{name}", 2) for name in sought for kind in KINDS),
        ]
        for row in figures
    ]
    titles = [f"{name.replace('_', ' ')}, {KINDS[kind]}" for name in sought for kind in KINDS]
    return [
        PageTable("By budget", caption, head, rows),
        PageTable("By class", caption, ["eps, case", *titles], by_class),
    ]


def _name(row: dict[str, Any]) -> str:
    if row["case"] == CLEAN:
        return "0, clean"
    return f"{budget_text(row['eps'], NORM)}, {case_text(row['case'])}"


def segmentation_attack_page(
    title: str,
    figures: Sequence[dict[str, Any]],
    classes: Sequence[str],
    notes: Sequence[str],
    command: str,
) -> EvaluationPage:
    """The page of one attack on one network."""
    first, last = figures[0], hardest_case(figures)
    summary = [
        f"Mean IoU {estimate_text(first, 'miou')} and Dice {estimate_text(first, 'dice')} of "
        f"{count_text(first['n'], 'image')} as they are; within {NORM} "
        f"{budget_text(last['eps'], NORM)} ({case_text(last['case'])}) mean IoU "
        f"{estimate_text(last, 'miou')} and Dice {estimate_text(last, 'dice')}. All background has "
        f"a mean IoU of {number_text(first['background_miou'])} and a pixel accuracy of "
        f"{number_text(first['background_accuracy'])}."
    ]
    several = any(row["case"] in WORST_CASES for row in figures)
    definitions = [one for one in DEFINITIONS if several or not one.startswith("Worst")]
    return EvaluationPage(
        title=title,
        caption=f"{first['attack']}, {NORM}; {people_text(first, 'image')}.",
        summary=summary,
        tables=segmentation_attack_tables(figures, classes),
        notes=[*notes, *definitions],
        command=command,
    )
