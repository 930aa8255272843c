"""What the job that attacks a network writes of a segmentation."""

from typing import Any

import pyarrow as pa

from fundusray import files
from fundusray.metrics.segmentation.attacked import CLEAN, attacked_segmentation_figures
from fundusray.reports.attack_page import budget_text
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.number_text import estimate_text, people_text
from fundusray.reports.segmentation_attack_page import (
    NORM,
    case_text,
    hardest_case,
    segmentation_attack_page,
)
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
    where they are."""
    figures = attacked_segmentation_figures(table_columns(table), classes)
    place, page = files.join(folder, "robustness.csv"), files.join(folder, "report.html")
    files.write_csv(place, figures)
    made = segmentation_attack_page(title, figures, classes, notes, command)
    files.write_bytes(page, evaluation_page(made).encode())
    first, last = figures[0], hardest_case(figures)
    print(f"{first['attack']}, {NORM}, on {people_text(first, 'image')}")
    for row in figures:
        name = "clean"
        if row["case"] != CLEAN:
            name = f"eps {budget_text(row['eps'], NORM)}, {case_text(row['case'])}"
        print(
            f"  {name}: mean IoU {estimate_text(row, 'miou')}, Dice {estimate_text(row, 'dice')}, "
            f"mean AUPR {estimate_text(row, 'maupr')}, pixel accuracy "
            f"{estimate_text(row, 'pixel_accuracy')}, called background "
            f"{row['background_called']:.3f}"
        )
    print(
        "  all background, as an attack towards it leaves at last: mean IoU "
        f"{first['background_miou']:.3f}, Dice 0, pixel accuracy {first['background_accuracy']:.3f}"
    )
    for note in notes:
        print(f"note: {note}")
    print(f"table: {place}\nreport: {page}")
    names = ("pixel_accuracy", "miou", "dice", "maupr")
    return {"table": place, "report": page, "n": first["n"], "attack": first["attack"]} | {
        f"{kind}_{name}": row[name]
        for kind, row in (("clean", first), ("robust", last))
        for name in names
    } | {name: first[name] for name in ("background_accuracy", "background_miou")}  # fmt: skip
