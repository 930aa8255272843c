"""The page of an attacked segmentation says budgets, cases and what all background reaches."""

from fundusray.metrics.segmentation.attacked import (
    attacked_segmentation_figures,
    attacked_segmentation_tables,
)
from fundusray.reports.evaluation_page import EvaluationPage, evaluation_page
from fundusray.reports.number_text import number_text
from fundusray.reports.segmentation_attack_page import case_text, segmentation_attack_page
from fundusray.reports.segmentation_page import SegmentationFacts
from tests.metrics.segmentation.drawn_segmentations import CLASSES
from tests.metrics.segmentation.test_attacked_figures import LOSSES, rows

CLEAN = {(0.0, ""): 3.0}


def page(cases: dict[tuple[float, str], float]) -> tuple[EvaluationPage, list[dict]]:
    whole = rows(CLEAN | cases)
    tables = attacked_segmentation_tables(whole, CLASSES)
    figures = attacked_segmentation_figures(whole, tables)
    facts = SegmentationFacts(name="eyes <1>", notes=["a note"], command="python jobs/attack.py")
    return segmentation_attack_page(facts, figures, tables), figures


def test_the_page_says_every_case_beside_all_background() -> None:
    made, figures = page({(0.01, name): 1.0 for name in LOSSES})
    html = evaluation_page(made)
    first = made.tables[0]
    assert [cells[0] for cells in first.rows] == [
        "as they are", *(f"1/100, {name}" for name in LOSSES), "1/100, worst by image",
        "1/100, worst by running mIoU",
    ]  # fmt: skip
    assert number_text(figures[0]["background_miou"]) in first.caption
    assert "everything background" in html and "Worst by image" in html and "a note" in html
    assert "sea(steps=3)" in html and "python jobs/attack.py" in html
    assert "<script" not in html and "eyes <1>" not in html
    # What follows is of the worst cases alone.
    later = {table.title for table in made.tables[1:]}
    assert "By class: 1/100, worst by image" in later and "By class: 1/100, one" not in later
    for cells, row in zip(first.rows, figures, strict=True):
        assert cells[2].startswith(number_text(row["miou"]))


def test_a_single_case_needs_no_word_on_worst_ones() -> None:
    made, _ = page({(2 / 255, ""): 1.0, (4 / 255, ""): 0.5})
    assert not [note for note in made.notes if note.startswith("Worst")]
    assert [cells[0] for cells in made.tables[0].rows] == ["as they are", "2/255", "4/255"]
    assert made.tables[0].rows[0][5] == "–"
    assert case_text(0.01, "worst_by_running_miou") == "1/100, worst by running mIoU"
