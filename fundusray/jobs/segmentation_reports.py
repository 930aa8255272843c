"""What a training or an evaluation of a network of pixels leaves behind: a page, a sheet, a table
of figures, and a few lines on the terminal."""

import shlex
import sys
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from fundusray import files
from fundusray.config import Recipe
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.jobs.looks import record_look
from fundusray.jobs.segmentation_pictures import SegmentedPicture, most_lesions, segmented_pictures
from fundusray.metrics.segmentation import segmentation_classes_of, segmentation_summary
from fundusray.models.bundle import load_bundle
from fundusray.reports.evaluation_page import PageFigure, evaluation_page
from fundusray.reports.number_text import estimate_text, people_text
from fundusray.reports.segmentation_figures import validation_loss_curves
from fundusray.reports.segmentation_page import (
    SegmentationFacts,
    background_sentence,
    segmentation_page,
)
from fundusray.reports.segmentation_sheets import SegmentationPanels, segmentation_sheet

PICTURES = 4
"""Photographs on a sheet, those with the most kinds of lesions."""
CLEAN = "photographs as they are"


def report_segmentation(
    recipe: Recipe, opened: PreparedSet, result: dict[str, Any], notes: list[str]
) -> dict[str, Any]:
    """Writes the report of one training or evaluation and prints its summary; the job's result, but
    for where the prepared set is."""
    folder, condition = result["folder"], result.get("condition", "clean")
    files.sweep(folder)
    looks = record_look(opened.info["manifest"], result, recipe.run.storage, folder)
    table = files.read_table(result["predictions"])
    figures = []
    if result.get("history"):
        curves = validation_loss_curves({recipe.name: [result["history"]]})
        figures.append(PageFigure("Validation loss", curves, "by share of the training"))
    sheet = _sheet(opened, result, table, folder)
    said = "photograph, mask, prediction" + ("" if condition == "clean" else f" ({CLEAN})")
    figures.append(PageFigure("As the network sees them", sheet, said))
    notes = [*notes, *looks.notes]
    name = recipe.name if condition == "clean" else f"{recipe.name}, {condition}"
    command = f"python {shlex.join(sys.argv)}"
    facts = SegmentationFacts(
        name=name,
        notes=notes,
        command=command,
        published=_published(recipe, result),
        figures=figures,
    )
    shown = CLEAN if condition == "clean" else condition
    page = segmentation_page(facts, {shown: table})
    place = files.join(folder, "report.html")
    files.write_bytes(place, evaluation_page(page).encode())
    summary = segmentation_summary(table)
    written = files.join(folder, "segmentation.csv")
    files.write_csv(written, [{"model": recipe.name, "condition": condition} | summary])
    print_summary(summary, segmentation_classes_of(table), result["reported_split"])
    for note in notes:
        print(f"note: {note}")
    print(f"table: {written}\nreport: {place}")
    keys = ("status", "folder", "bundle", "predictions", "held_out_epochs")
    told = {key: result[key] for key in keys if result.get(key)}
    means = {key: summary[key] for key in ("n", "dice", "miou", "maupr", "pixel_accuracy")}
    return told | {"report": place, "table": written} | means | looks.result


def print_summary(summary: Mapping[str, Any], classes: tuple[str, ...], side: str) -> None:
    """The figures of a summary, and what calling everything background reaches."""
    print(f"{people_text(dict(summary), 'image')} ({side} rows)")
    for name in ("pixel_accuracy", "miou", "dice", "maupr"):
        print(f"  {name:24} {estimate_text(dict(summary), name)}")
    for kind in classes[1:]:
        figures = [f"Dice {estimate_text(dict(summary), f'dice_{kind}')}"]
        figures.append(f"AUPR {estimate_text(dict(summary), f'aupr_{kind}')}")
        print(f"  {kind:24} {', '.join(figures)}")
    print(f"  everything background, with scores alike: {background_sentence(dict(summary))}")


def _sheet(opened: PreparedSet, result: dict[str, Any], table: pa.Table, folder: str) -> bytes:
    """The sheet of some of the photographs that are reported on, as it was written."""
    ids = set(table["image_id"].to_pylist())
    rows = [row for row, name in enumerate(opened.image_ids()) if name in ids]
    bundle = load_bundle(result["bundle"])
    made = segmented_pictures(bundle, opened, most_lesions(opened, rows, PICTURES))
    classes = segmentation_classes_of(table)
    sheet = segmentation_sheet([panels_of(one) for one in made], classes, title="Segmentation")
    files.write_bytes(files.join(folder, "segmentation.png"), sheet)
    return sheet


def panels_of(picture: SegmentedPicture) -> SegmentationPanels:
    """A photograph's row of a sheet."""
    predictions, images = {"prediction": picture.called}, {}
    if picture.attacked is not None and picture.changed is not None:
        predictions["prediction, attacked"] = picture.attacked
        images["attacked"] = picture.changed
    return SegmentationPanels(picture.image, picture.truth, predictions, picture.image_id, images)


def _published(recipe: Recipe, result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The paper's figures of the row that a training is, which are of other photographs."""
    figures = {key: value for key, value in recipe.published.items() if not isinstance(value, str)}
    if not figures or result.get("condition", "clean") != "clean":
        return {}
    return {"as published (other photographs, for orientation)": figures}
