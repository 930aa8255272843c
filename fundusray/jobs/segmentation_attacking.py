"""What the job that attacks a network writes of a segmentation."""

from typing import Any

import pyarrow as pa

from fundusray import files
from fundusray.metrics.segmentation.attacked import (
    attacked_segmentation_figures,
    attacked_segmentation_tables,
)
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.number_text import estimate_text, people_text
from fundusray.reports.segmentation_attack_page import (
    FIGURES,
    NORM,
    case_text,
    segmentation_attack_page,
)
from fundusray.reports.segmentation_page import SegmentationFacts, background_sentence
from fundusray.tasks.column_tables import table_columns


def write_segmentation_attack(
    folder: str,
    table: pa.Table,
    classes: tuple[str, ...],
    title: str,
    notes: list[str],
    command: str,
) -> dict[str, Any]:
    """Writes the figures and the page of an attack on a segmentation, and prints what came of it;
    where they are.

    `robust_<figure>` is of the last row: at the largest budget the attack itself, or of several
    candidates the worst by running mIoU.
    """
    rows = table_columns(table)
    tables = attacked_segmentation_tables(rows, classes)
    figures = attacked_segmentation_figures(rows, tables)
    place, report = files.join(folder, "robustness.csv"), files.join(folder, "report.html")
    files.write_csv(place, figures)
    facts = SegmentationFacts(name=title, notes=notes, command=command)
    page = segmentation_attack_page(facts, figures, tables)
    files.write_bytes(report, evaluation_page(page).encode())
    first, last = figures[0], figures[-1]
    _print_figures(figures)
    for note in notes:
        print(f"note: {note}")
    print(f"table: {place}\nreport: {report}")
    told = {"table": place, "report": report, "n": first["n"], "attack": first["attack"]}
    for name in FIGURES:
        told |= {f"clean_{name}": first[name], f"robust_{name}": last[name]}
    return told | {name: first[name] for name in ("background_accuracy", "background_miou")}


def _print_figures(figures: list[dict[str, Any]]) -> None:
    first = figures[0]
    print(f"{first['attack']}, {NORM}, on {people_text(first, 'image')}")
    for row in figures:
        said = ", ".join(f"{text} {estimate_text(row, name)}" for name, text in FIGURES.items())
        called = f"called background {row['background_called']:.3f}"
        print(f"  {case_text(row['eps'], row['case'])}: {said}, {called}")
    print(f"  everything background, with scores alike: {background_sentence(first)}")
