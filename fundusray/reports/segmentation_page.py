"""A segmentation network as a page: figures by class, lesions one by one, sizes, and what attacks
and damage take of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from fundusray.metrics.segmentation import (
    aupr_by_size,
    froc,
    segmentation_classes_of,
    segmentation_columns_of,
    segmentation_differences,
    segmentation_summary,
    sensitivity_at,
    size_differences,
    small_lesions_fall_first,
)
from fundusray.metrics.segmentation.average_precision import precision_recall
from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable
from fundusray.reports.number_text import (
    DASH,
    change_text,
    count_text,
    estimate_text,
    interval_around,
    number_text,
    people_text,
)
from fundusray.reports.segmentation_figures import froc_curves, precision_recall_curves

Row = dict[str, Any]
POOLED = {
    "loss": "loss",
    "pixel_accuracy": "pixel accuracy",
    "miou": "mIoU",
    "dice": "Dice",
    "maupr": "mAUPR",
}
"""Figures of all classes, with their heads in a table."""
BACKGROUND = "everything background"
REACHED_BY_BACKGROUND = {
    "pixel_accuracy": "background_accuracy",
    "miou": "background_miou",
    "dice": "background_dice",
    "maupr": "background_maupr",
}
"""Figure -> the key of a summary that holds what calling everything background reaches of it."""
DEFINITIONS = (
    "Counts of pixels are summed over all images before anything is divided. mIoU: over the "
    "classes in the truth, the background too; Dice: over those without it; mAUPR: over lesions "
    "alone, without the optic disc. A class that no image has counts in no mean.",
    "Everything background: what calling every pixel background reaches. The background being "
    "nearly all of a photograph, pixel accuracy says little, and an attack towards the background "
    "leaves that much. By chance: the AUPR of scores at random, the class's share of the pixels; "
    "so the mAUPR of the background is theirs.",
    "AUPR: average precision of the probabilities in 8 bits over the pixels of all images, as "
    "IDRiD's first sub-challenge judges (Porwal et al. 2020). Where two networks predicted a half "
    "of the images each, the mean of theirs, weighted by pixels.",
    "A lesion is a connected part of the mask. It is detected at a threshold where marks cover "
    "more than a fifth of it, of which more than a fifth lies on lesions each; any other mark is a "
    "false alarm (the rule of Zhang et al. 2014, for components).",
    "Size: the longer side of a lesion's bounding box, pixels of the prepared picture. The AUPR of "
    "a size leaves out the pixels of the class's lesions of other sizes. AUPR of two sizes has no "
    "common scale: falls are compared as shares of the AUPR without attack.",
    "Intervals are 95 %, with patients as units (the image itself where the patient is not "
    "known); a difference whose interval holds 0 is undecided.",
)


@dataclass(frozen=True, kw_only=True)
class SegmentationFacts:
    """What a page says beside figures."""

    name: str
    """Of the network."""
    notes: Sequence[str] = ()
    command: str = ""
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of others, by their name and how they were measured: figures by their keys in POOLED."""
    figures: Sequence[PageFigure] = ()
    """Further ones, sheets of photographs, say."""


def segmentation_page(facts: SegmentationFacts, tables: Mapping[str, pa.Table]) -> EvaluationPage:
    """The page of a network.

    Args:
        tables: a condition's name -> its table, see `metrics.segmentation`; the first are the
            photographs as they are, to which the others are compared.

    Raises:
        InputError: a table of other images than the first.
    """
    clean_name, clean = next(iter(tables.items()))
    others = {name: table for name, table in tables.items() if name != clean_name}
    summaries = {name: segmentation_summary(table) for name, table in tables.items()}
    first, classes = summaries[clean_name], segmentation_classes_of(clean)
    people = people_text(first, "image")
    differences = {
        name: segmentation_differences(table, clean, list(POOLED)) for name, table in others.items()
    }
    pages = [pooled_table("All classes", summaries, people, facts.published)]
    if others:
        pages.append(difference_table("What conditions change", differences, people))
    pages += [_class_table(name, table, summaries[name], classes) for name, table in tables.items()]
    pages.append(_size_table(clean_name, tables, people))
    for name, table in others.items():
        pages += fall_tables(name, clean, table, people)
    counted = {name: table for name, table in tables.items() if "lesions" in table.column_names}
    pages += [_froc_table(name, table) for name, table in counted.items()]
    return EvaluationPage(
        title=facts.name,
        caption=f"Segmentation into {len(classes)} classes; {people}.",
        summary=_summary(summaries, differences),
        tables=pages,
        figures=[*_figures(tables, counted, first, classes), *facts.figures],
        notes=[*facts.notes, *DEFINITIONS],
        command=facts.command,
    )


def pooled_table(
    title: str,
    summaries: Mapping[str, Row],
    people: str,
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> PageTable:
    """POOLED of several summaries by name, below what calling everything background reaches, and
    above published figures by name."""
    first = next(iter(summaries.values()))
    rows = [[BACKGROUND, *background_texts(first).values()]]
    rows += [
        [name, *(estimate_text(summary, figure) for figure in POOLED)]
        for name, summary in summaries.items()
    ]
    rows += [
        [name, *(number_text(figures.get(figure)) for figure in POOLED)]
        for name, figures in (published or {}).items()
    ]
    caption = f"{people}; with 95 % intervals, patients as units."
    return PageTable(title, caption, ["", *POOLED.values()], rows)


def background_texts(summary: Row) -> dict[str, str]:
    """What calling everything background reaches of each figure of POOLED."""
    keys = REACHED_BY_BACKGROUND
    return {name: number_text(summary[keys[name]] if name in keys else None) for name in POOLED}


def background_sentence(summary: Row) -> str:
    """The same: `pixel accuracy 0.964, mIoU 0.161, Dice 0.000, mAUPR 0.004`."""
    texts = background_texts(summary)
    return ", ".join(f"{POOLED[name]} {texts[name]}" for name in REACHED_BY_BACKGROUND)


def difference_table(
    title: str, differences: Mapping[str, Sequence[Row]], people: str
) -> PageTable:
    """Rows of `segmentation_differences` by name, a column for each figure."""
    names = [row["name"] for row in next(iter(differences.values()), [])]
    rows = [[name, *(verdict_text(row) for row in own)] for name, own in differences.items()]
    caption = f"{people}, the same on both sides; 95 % intervals, patients as units."
    heads = [POOLED.get(name, name.replace("_", " ")) for name in names]
    return PageTable(title, caption, ["", *heads], rows)


def verdict_text(difference: Row) -> str:
    """A difference with its interval and verdict, or with why there is none."""
    why = f" ({difference['why']})" if difference["why"] else ""
    if difference["difference"] is None:
        return f"{DASH}{why}"
    if why:
        return f"{change_text(difference).partition(' ')[0]}{why}"
    return f"{change_text(difference)} {difference['verdict']}"


def _summary(summaries: Mapping[str, Row], differences: Mapping[str, Sequence[Row]]) -> list[str]:
    """What it reaches beside the background, and what each condition takes of mIoU and mAUPR."""
    (name, first), *_ = summaries.items()
    lines = [
        f"{name}: mIoU {estimate_text(first, 'miou')}, mAUPR {estimate_text(first, 'maupr')}, "
        f"Dice {estimate_text(first, 'dice')}. Pixel accuracy "
        f"{estimate_text(first, 'pixel_accuracy')}; calling everything background has "
        f"{number_text(first['background_accuracy'])} of it and an mIoU of "
        f"{number_text(first['background_miou'])}."
    ]
    for condition, rows in differences.items():
        own = {row["name"]: row for row in rows}
        lines.append(
            f"{condition}: mIoU {verdict_text(own['miou'])}; mAUPR {verdict_text(own['maupr'])}."
        )
    return lines


def _class_table(name: str, table: pa.Table, summary: Row, classes: Sequence[str]) -> PageTable:
    found = {}
    if "lesions" in table.column_names:
        found = {row["class"]: row for row in sensitivity_at(table)}
    rows = []
    for k, kind in enumerate(classes):
        row = found.get(kind)
        rows.append(
            [
                kind.replace("_", " "),
                number_text(summary[f"share_{kind}"], 4),
                estimate_text(summary, f"iou_{kind}"),
                estimate_text(summary, f"dice_{kind}") if k else DASH,
                estimate_text(summary, f"aupr_{kind}") if k else DASH,
                _estimate(row) if row else DASH,
                f"{row['lesions']:,}" if row else DASH,
                f"{row['num_patients']:,}" if row else DASH,
            ]
        )
    head = ["class", "share of pixels", "IoU", "Dice", "AUPR", "sensitivity at 1 false alarm"]
    head += ["lesions", "patients"]
    caption = (
        f"{people_text(summary, 'image')}. The share of pixels is the AUPR by chance; patients are "
        "those with such a lesion."
    )
    return PageTable(f"By class: {name}", caption, head, rows)


def _size_table(clean_name: str, tables: Mapping[str, pa.Table], people: str) -> PageTable:
    every = {name: aupr_by_size(table) for name, table in tables.items()}
    rows = []
    for place, first in enumerate(every[clean_name]):
        rows.append(
            [
                f"{first['class'].replace('_', ' ')}, {_size(first['size'])}",
                DASH if first["lesions"] is None else f"{first['lesions']:,}",
                f"{first['pixels']:,}",
                number_text(first["by_chance"], 4),
                *(_estimate(found[place]) for found in every.values()),
            ]
        )
    head = ["class and size", "lesions", "pixels", "by chance", *(f"AUPR, {n}" for n in every)]
    return PageTable("AUPR by size of lesion", f"{people}; 95 % intervals.", head, rows)


def fall_tables(name: str, clean: pa.Table, table: pa.Table, people: str) -> list[PageTable]:
    """How much each size falls under a condition, and whether small ones fall first."""
    rows = []
    for row in size_differences(clean, table):
        fall = {"difference": row["fall"], "low": row["low"], "high": row["high"]}
        said = row["why"] or row["verdict"]
        share = interval_around(row["relative_fall"], row["relative_low"], row["relative_high"])
        rows.append(
            [
                f"{row['class'].replace('_', ' ')}, {_size(row['size'])}",
                f"{change_text(fall)} {said}" if row["fall"] is not None else f"{DASH} ({said})",
                f"{number_text(row['relative_fall'])} {share}".strip(),
            ]
        )
    caption = f"{people}; AUPR as they are less AUPR here, and as a share of the former."
    head = ["class and size", "fall of AUPR", "as a share"]
    found = [PageTable(f"Falls by size: {name}", caption, head, rows)]
    first = small_lesions_fall_first(clean, table)
    if first:
        compared = [
            [
                row["class"].replace("_", " "),
                f"{_size(row['small'])} and {_size(row['large'])}" if row["small"] else "the mean",
                _estimate(row),
                row["why"] or row["verdict"],
            ]
            for row in first
        ]
        head = ["class", "sizes", "fall of the small less fall of the large, as shares", "verdict"]
        found.append(
            PageTable(f"Do small lesions fall first: {name}", f"{people}.", head, compared)
        )
    return found


def _froc_table(name: str, table: pa.Table) -> PageTable:
    rows = froc(table)
    thresholds = list(dict.fromkeys(row["threshold"] for row in rows))
    kinds = list(dict.fromkeys(row["class"] for row in rows))
    cells = []
    for kind in kinds:
        own = [row for row in rows if row["class"] == kind]
        texts = [
            f"{number_text(row['sensitivity'], 2)} at {number_text(row['false_alarms'], 2)}"
            for row in own
        ]
        cells.append([f"{kind.replace('_', ' ')} ({own[0]['lesions']:,})", *texts])
    caption = (
        f"Sensitivity for lesions at so many false alarms an image, of "
        f"{count_text(table.num_rows, 'image')}, by the threshold of the probability."
    )
    head = ["class (lesions)", *(f"{threshold:.2f}" for threshold in thresholds)]
    return PageTable(f"Free response: {name}", caption, head, cells)


def _figures(
    tables: Mapping[str, pa.Table],
    counted: Mapping[str, pa.Table],
    first: Row,
    classes: Sequence[str],
) -> list[PageFigure]:
    curves = {}
    for name, table in tables.items():
        columns = segmentation_columns_of(table)
        positives = columns["positives"].sum(axis=(0, 2))
        negatives = columns["negatives"].sum(axis=0)
        curves[name] = {
            kind: precision_recall(positives[k], negatives[k]) for k, kind in enumerate(classes[1:])
        }
    chance = {kind: first[f"share_{kind}"] for kind in classes[1:] if first[f"share_{kind}"]}
    found = []
    if chance:
        said = "Precision against recall of pixels, by class; dashed: scores at random."
        picture = precision_recall_curves(curves, chance)
        found.append(PageFigure("Precision and recall", picture, said))
    if counted:
        said = "Sensitivity for lesions against false alarms an image, by class; dashed: one."
        picture = froc_curves({name: froc(table) for name, table in counted.items()})
        found.append(PageFigure("Free-response curves", picture, said))
    return found


def _estimate(row: Row) -> str:
    sure = interval_around(row["value"], row["low"], row["high"])
    return f"{number_text(row['value'])} {sure}".strip()


def _size(name: str) -> str:
    return name.replace("_", " ") + " px"
