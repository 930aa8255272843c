"""The page of an attacked segmentation says budgets, cases and what all background reaches."""

from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.segmentation_attack_page import hardest_case, segmentation_attack_page

CLASSES = ("background", "hard_exudates", "optic_disc")


def row(eps: float, case: str, miou: float) -> dict:
    """Figures as `attacked_segmentation_figures` gives them, the ones the page reads."""
    names = ("pixel_accuracy", "miou", "dice", "maupr", "miou_change")
    names += tuple(f"{kind}_{name}" for kind in ("dice", "aupr") for name in CLASSES[1:])
    figures = dict.fromkeys(names, 0.5) | {"miou": miou}
    ends = {f"{name}_{end}": figures[name] for name in names for end in ("low", "high")}
    return figures | ends | {
        "attack": "sea(steps=<3>)", "eps": eps, "case": case, "n": 18, "num_patients": 17,
        "num_unknown": 0, "background_accuracy": 0.942, "background_miou": 0.314,
        "background_called": 0.98, "queries": 1234.0,
    }  # fmt: skip


def test_the_page_says_every_case_beside_all_background() -> None:
    figures = [
        row(0, "clean", 0.7), row(0.01, "masked_spherical", 0.4),
        row(0.01, "worst_by_image", 0.3), row(0.01, "worst_by_running_miou", 0.2),
    ]  # fmt: skip
    assert hardest_case(figures) is figures[-1]
    page = segmentation_attack_page("eyes", figures, CLASSES, ["a note"], "python jobs/attack.py")
    html = evaluation_page(page)
    for words in (
        "0, clean", "1/100, masked spherical", "1/100, worst by running mIoU", "0.942", "0.314",
        "0.980", "1,234", "hard exudates, Dice", "a note", "Worst by image", "18 images of 17",
        "python jobs/attack.py",
    ):  # fmt: skip
        assert words in html, words
    assert "<script" not in html and "sea(steps=<3>)" not in html
    assert "mean IoU 0.200 [0.200, 0.200]" in " ".join(page.summary)


def test_a_single_case_needs_no_word_on_worst_ones() -> None:
    figures = [row(0, "clean", 0.7), row(2 / 255, "attacked", 0.4)]
    page = segmentation_attack_page("eyes", figures, CLASSES, [], "")
    assert not [note for note in page.notes if note.startswith("Worst")]
    assert [cells[0] for cells in page.tables[0].rows] == ["0, clean", "2/255, attacked"]
