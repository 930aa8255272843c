"""Avramidis et al.'s Tables 1 and 2: four models on photographs as they are and under attack,
beside the published figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from fundusray.reports.evaluation_page import PageTable
from fundusray.reports.number_text import DASH, estimate_text, number_text, people_text
from fundusray.reports.segmentation_page import (
    BACKGROUND,
    POOLED,
    background_texts,
    difference_table,
)

Row = dict[str, Any]
Published = Mapping[str, Mapping[str, float]]
"""Model -> the paper's figures in one of its tables, of 561 images."""
PAPER = ("loss", "pixel_accuracy")
"""The figures that it gives."""
TITLES = {"table1": "Table 1: photographs as they are", "table2": "Table 2: under the attack"}
OTHER_DATA = (
    "The paper's figures are of histological photographs with the same number of classes, of which "
    "the background is .816 in pixels: their order can be compared with the one here, their size "
    "cannot. Its loss is of its own network."
)
M2MRF = {"M2MRF on IDRiD (published: full resolution, GPU)": {"maupr": 0.675}}
"""Mean AUPR of the four lesions, to stand beside measured ones (`beside`)."""


def scheme_rows(summaries: Mapping[str, Row], published: Published) -> list[Row]:
    """A row for each model as a table of values: model, n, num_patients, num_unknown, repeats where
    there are several, each figure with `_low`, `_high` (and `_seed_sd`), what everything background
    reaches, and paper_loss, paper_pixel_accuracy (None of a model that the paper has not).

    Args:
        summaries: model -> `segmentation_summary`, or `repeated_segmentation_summary` of its
            trainings.
        published: of this table.
    """
    found = []
    for model, summary in summaries.items():
        figures = [name.removesuffix("_low") for name in summary if name.endswith("_low")]
        row: Row = {"model": model}
        keys = ("n", "num_patients", "num_unknown", "repeats")
        row |= {key: summary[key] for key in keys if key in summary}
        for name in figures:
            ends = ("", "_low", "_high", "_seed_sd")
            row |= {name + end: summary[name + end] for end in ends if name + end in summary}
        row |= {key: value for key, value in summary.items() if key.startswith("background_")}
        paper = published.get(model, {})
        row |= {f"paper_{name}": paper.get(name) for name in PAPER}
        found.append(row)
    return found


def scheme_tables(
    clean: Mapping[str, Row],
    attacked: Mapping[str, Row],
    published: Mapping[str, Published],
    differences: Mapping[str, Mapping[str, Sequence[Row]]] | None = None,
    beside: Mapping[str, Mapping[str, float]] | None = None,
) -> list[PageTable]:
    """Tables 1 and 2 beside the published figures, and one for each set of differences.

    Args:
        clean, attacked: model -> summary, see `scheme_rows`.
        published: "table1" and "table2" -> the paper's figures.
        differences: a table's title -> model -> rows of `segmentation_differences` (or of
            `repeated_segmentation_differences`) to the original, say.
        beside: further published rows of Table 1, e.g. M2MRF.
    """
    found = [
        _table("table1", clean, published["table1"], beside or {}),
        _table("table2", attacked, published["table2"], {}),
    ]
    people = people_text(next(iter(clean.values())), "image")
    tables = (differences or {}).items()
    return found + [difference_table(title, own, people) for title, own in tables]


def _table(
    name: str,
    summaries: Mapping[str, Row],
    paper: Published,
    beside: Mapping[str, Mapping[str, float]],
) -> PageTable:
    first = next(iter(summaries.values()))
    rows = [[BACKGROUND, *_cells(background_texts(first), {})]]
    for model, summary in summaries.items():
        texts = {figure: estimate_text(summary, figure) for figure in POOLED}
        rows.append([model, *_cells(texts, paper.get(model, {}))])
    for other, figures in beside.items():
        texts = {figure: number_text(value) for figure, value in figures.items()}
        rows.append([other, *_cells(texts, {})])
    head = ["model"]
    for figure, title in POOLED.items():
        head += [title, "paper"] if figure in PAPER else [title]
    several = first.get("repeats", 1)
    trained = f"; means over {several} trainings" if several > 1 else ""
    whose = "patients and trainings" if several > 1 else "patients"
    caption = f"{people_text(first, 'image')}{trained}; 95 % intervals, of {whose}. {OTHER_DATA}"
    return PageTable(TITLES[name], caption, head, rows)


def _cells(texts: Mapping[str, str], paper: Mapping[str, float]) -> list[str]:
    """A row of texts by figure, with a column more where the paper has one."""
    found = []
    for figure in POOLED:
        found.append(texts.get(figure, DASH))
        if figure in PAPER:
            found.append(number_text(paper.get(figure), 4))
    return found
