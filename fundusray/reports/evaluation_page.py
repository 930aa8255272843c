"""The page of an evaluation: a summary, tables, figures, notes; nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from fundusray.reports.html import embedded_image, rendered_page


@dataclass(frozen=True)
class PageTable:
    """A table of texts; its first column names the row."""

    title: str
    caption: str
    """n, the baseline, what an interval is of."""
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class PageFigure:
    """A picture and what it says, also for those who do not see it."""

    title: str
    png: bytes
    said: str


@dataclass(frozen=True, kw_only=True)
class EvaluationPage:
    """What a page says."""

    title: str
    caption: str
    summary: Sequence[str]
    tables: Sequence[PageTable] = ()
    figures: Sequence[PageFigure] = ()
    notes: Sequence[str] = ()
    command: str = ""
    """That makes it again."""


def evaluation_page(page: EvaluationPage) -> str:
    """The page as HTML: no script, no link out, every value escaped."""
    figures = [
        {"title": one.title, "image": embedded_image(one.png), "said": one.said}
        for one in page.figures
    ]
    return rendered_page("evaluation.html", {"page": page, "figures": figures})
