"""What a network marked in photographs, as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable
from fundusray.reports.number_text import count_text, printable_text
from fundusray.reports.segmented_sheet import area_text

MOST_SHEETS = 6
"""Photographs whose sheets are on the page, those with the largest marked area."""
DEFINITIONS = (
    "Pixels are those of the photograph itself. A pixel has the class that is likeliest where its "
    "centre falls in the prepared square; outside the fundus all is background.",
    "Areas are counted, not measured against a truth: without masks nothing says how right they "
    "are. How many pixels a small lesion has depends on the rule that the likeliest class wins.",
    "Share: of the pixels of the fundus that the photograph shows.",
)


@dataclass(frozen=True)
class SegmentedFacts:
    """What a page says beside figures."""

    name: str
    """Of the network."""
    classes: tuple[str, ...]
    how: str
    """Scale and tiles, in words."""
    notes: tuple[str, ...]
    command: str


def segmented_page(
    facts: SegmentedFacts, rows: Sequence[dict[str, Any]], sheets: Sequence[tuple[str, bytes]]
) -> EvaluationPage:
    """The page of some photographs.

    Args:
        rows: of each image, status, reason and areas [C].
        sheets: (image, PNG) of those that are shown.
    """
    done = [row for row in rows if row["areas"]]
    refused = [row for row in rows if not row["areas"]]
    summary = [f"{count_text(len(done), 'photograph')} segmented, {len(refused):,} refused."]
    for number, name in enumerate(facts.classes[1:], 1):
        having = sum(row["areas"][number] > 0 for row in done)
        summary.append(f"{name.replace('_', ' ')}: marked in {having:,} of {len(done):,}.")
    head = ["photograph", "fundus", *(name.replace("_", " ") for name in facts.classes[1:])]
    cells = [
        [row["image"], f"{sum(row['areas']):,} px"]
        + [area_text(area, sum(row["areas"])) for area in row["areas"][1:]]
        for row in done
    ]
    caption = "Pixels of each class, and their share of the fundus."
    tables = [PageTable("Areas", caption, head, cells)]
    if refused:
        reasons = [[row["image"], row["reason"]] for row in refused]
        tables.append(PageTable("Refused", "Not segmented.", ["photograph", "why"], reasons))
    pictures = [
        PageFigure(name, png, f"{printable_text(name)}: as taken, and as segmented.")
        for name, png in sheets
    ]
    return EvaluationPage(
        title=f"{facts.name}: {count_text(len(done), 'photograph')} segmented",
        caption=facts.how,
        summary=summary,
        tables=tables,
        figures=pictures,
        notes=[*facts.notes, *DEFINITIONS],
        command=facts.command,
    )
