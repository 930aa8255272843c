"""The page of a segmentation says n, baselines, intervals and verdicts; tables stand beside the
paper's."""

from typing import Any

import numpy as np
import pytest

from fundusray.errors import InputError
from fundusray.jobs.segmentation_scheme_report import published_tables
from fundusray.metrics.segmentation import (
    segmentation_columns_of,
    segmentation_differences,
    segmentation_summary,
    segmentation_table,
)
from fundusray.metrics.segmentation.repeats import repeated_segmentation_summary
from fundusray.reports.evaluation_page import EvaluationPage, PageTable, evaluation_page
from fundusray.reports.number_text import estimate_text, number_text
from fundusray.reports.scheme_tables import M2MRF, scheme_rows, scheme_tables
from fundusray.reports.segmentation_page import (
    BACKGROUND,
    SegmentationFacts,
    segmentation_page,
    verdict_text,
)
from tests.metrics.segmentation.drawn_segmentations import CLASSES, drawn_table
from tests.reports.test_html import EVIL, POLICY

IMAGES = 8
PUBLISHED = published_tables()
CLEAN = drawn_table(IMAGES, side=24)
ATTACKED = drawn_table(IMAGES, side=24, sure=0.8, noise=2)


def named(page: EvaluationPage, title: str) -> PageTable:
    return next(table for table in page.tables if table.title == title)


def test_the_page() -> None:
    facts = SegmentationFacts(name=f"net {EVIL}", notes=("a note",), command="make it")
    page = segmentation_page(facts, {"as they are": CLEAN, "pgd, eps 1 %": ATTACKED})
    summary = segmentation_summary(CLEAN)
    html = evaluation_page(page)
    assert POLICY in html and "<script" not in html and EVIL not in html
    for part in (
        "8 images of 8 patients", "a note", "make it", f"mIoU {estimate_text(summary, 'miou')}",
        f"has {number_text(summary['background_accuracy'])} of it", "Porwal",
        "pgd, eps 1 %: mIoU −", " worse; mAUPR −",
    ):  # fmt: skip
        assert part in html, part
    assert [table.title for table in page.tables] == [
        "All classes", "What conditions change", "By class: as they are",
        "By class: pgd, eps 1 %", "AUPR by size of lesion", "Falls by size: pgd, eps 1 %",
        "Do small lesions fall first: pgd, eps 1 %", "Free response: as they are",
        "Free response: pgd, eps 1 %",
    ]  # fmt: skip
    base = named(page, "All classes").rows[0]
    assert base[0] == BACKGROUND and base[3] == number_text(summary["background_miou"])
    by_class = named(page, "By class: as they are")
    own = segmentation_columns_of(CLEAN)["lesions"].sum(axis=(0, 2))
    assert [row[6] for row in by_class.rows] == ["–", *(str(n) for n in own)]
    assert [row[0] for row in by_class.rows] == [n.replace("_", " ") for n in CLASSES]
    assert [figure.title for figure in page.figures] == [
        "Precision and recall",
        "Free-response curves",
    ]
    for table in page.tables:
        assert all(len(row) == len(table.head) for row in table.rows), table.title


def test_one_condition_without_lesions_counted() -> None:
    columns = segmentation_columns_of(CLEAN)
    pixels = {n: v for n, v in columns.items() if n not in ("lesions", "detected", "false_alarms")}
    ids = CLEAN["image_id"].to_pylist()
    table = segmentation_table(ids, [""] * IMAGES, pixels, CLASSES)
    published = {"others, full resolution": {"maupr": 0.675}}
    page = segmentation_page(SegmentationFacts(name="net", published=published), {"clean": table})
    assert [t.title for t in page.tables] == [
        "All classes", "By class: clean", "AUPR by size of lesion",
    ]  # fmt: skip
    assert page.tables[0].rows[-1] == ["others, full resolution", "–", "–", "–", "–", "0.675"]
    assert "8 images; patients unknown" in page.caption
    assert {row[1] for row in page.tables[2].rows} == {"–"}
    assert len(page.figures) == 1


def test_few_patients_are_said_to_be_few() -> None:
    small = CLEAN.slice(0, 3)
    html = evaluation_page(segmentation_page(SegmentationFacts(name="net"), {"clean": small}))
    assert "too few to say" in html
    with pytest.raises(InputError, match="same images"):
        segmentation_page(SegmentationFacts(name="net"), {"clean": CLEAN, "other": small})


def test_a_difference_in_words() -> None:
    row: dict[str, Any] = {"difference": -0.25, "low": -0.3, "high": -0.125, "why": ""}
    assert verdict_text(row | {"verdict": "worse"}) == "−0.250 [−0.300, −0.125] worse"
    nothing = {"low": None, "high": None, "verdict": "undecided"}
    said = verdict_text(row | nothing | {"why": "3 patients, at least 5 are needed"})
    assert said == "−0.250 (3 patients, at least 5 are needed)"
    assert verdict_text(nothing | {"difference": None, "why": "not defined here"}) == (
        "– (not defined here)"
    )


def test_the_papers_tables() -> None:
    models = {
        "original": CLEAN,
        "layered": drawn_table(IMAGES, side=24, noise=3),
        "ours alone": drawn_table(IMAGES, side=24, noise=4),
    }
    clean = {name: segmentation_summary(table) for name, table in models.items()}
    attacked = {"original": repeated_segmentation_summary([ATTACKED, CLEAN])}
    versus = {"layered": segmentation_differences(models["layered"], CLEAN, ["miou", "maupr"])}
    tables = scheme_tables(clean, attacked, PUBLISHED, {"To the original": versus}, M2MRF)
    assert [table.title.partition(":")[0] for table in tables] == [
        "Table 1", "Table 2", "To the original",
    ]  # fmt: skip
    first, second, third = tables
    assert first.head == [
        "model", "loss", "paper", "pixel accuracy", "paper", "mIoU", "Dice", "mAUPR",
    ]  # fmt: skip
    rows = {row[0]: row[1:] for row in first.rows}
    assert rows["original"][1] == "0.4959" and rows["layered"][3] == "0.8655"
    assert rows["ours alone"][1] == "–" and rows["original"][4].startswith(
        number_text(clean["original"]["miou"])
    )
    assert rows[BACKGROUND][2] == number_text(clean["original"]["background_accuracy"])
    assert [row[-1] for name, row in rows.items() if name.startswith("M2MRF")] == ["0.675"]
    assert "means over 2 trainings" in second.caption and "trainings" not in first.caption
    assert second.rows[1][4] == "0.8087" and third.rows[0][0] == "layered"
    for table in tables:
        assert all(len(row) == len(table.head) for row in table.rows), table.title


def test_the_rows_of_the_papers_tables() -> None:
    clean = {"original": segmentation_summary(CLEAN), "new": segmentation_summary(ATTACKED)}
    rows = scheme_rows(clean, PUBLISHED["table1"])
    assert list(rows[0])[:3] == ["model", "n", "num_patients"]
    assert rows[0]["paper_loss"] == 0.4959 and rows[1]["paper_pixel_accuracy"] is None
    names = ["loss", "pixel_accuracy", "miou", *(f"dice_{name}" for name in CLASSES[1:])]
    for name in [*names, *(f"aupr_{name}" for name in CLASSES[1:])]:
        for end in ("", "_low", "_high"):
            assert rows[0][name + end] == clean["original"][name + end], name
    assert rows[0]["background_miou"] == clean["original"]["background_miou"]
    repeated = {"original": repeated_segmentation_summary([CLEAN, ATTACKED])}
    row = scheme_rows(repeated, PUBLISHED["table2"])[0]
    assert row["repeats"] == 2 and row["miou_seed_sd"] > 0 and row["paper_loss"] == 2.3628
    assert not {name for name in row if name.endswith("_why")}
    # The orders that the paper draws its conclusions from.
    losses = {name: figures["loss"] for name, figures in PUBLISHED["table2"].items()}
    assert sorted(losses, key=losses.get) == ["layered", "combined", "selective", "original"]
    assert np.argmax([f["pixel_accuracy"] for f in PUBLISHED["table2"].values()]) == 3
