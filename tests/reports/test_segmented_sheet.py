"""A lesion of one pixel is seen on a sheet of a large photograph, in the colour of its class."""

import io

import numpy as np
import pytest
from PIL import Image

from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.segmented_page import SegmentedFacts, segmented_page
from fundusray.reports.segmented_sheet import (
    DIMMED,
    FAINTEST,
    area_text,
    coloured_classes,
    legend_picture,
    segmented_sheet,
)

COLOURS = np.array([(0, 0, 0), (230, 25, 75), (60, 180, 75)], np.uint8)
NAMES = ("background", "microaneurysms", "optic_disc")


def test_a_single_pixel_of_a_large_photograph_is_seen() -> None:
    photograph = np.full((400, 600, 3), 100, np.uint8)
    classes = np.zeros((800, 1200), np.uint8)
    classes[401, 603] = 1
    drawn = coloured_classes(photograph, classes, COLOURS, side=60)
    assert drawn.shape == (40, 60, 3)
    changed = np.argwhere((drawn != round(100 * DIMMED)).any(2))
    assert changed.tolist() == [[20, 30]]
    strength = FAINTEST + (0.9 - FAINTEST) / 400
    expected = 100 * DIMMED + strength * (COLOURS[1].astype(float) - 100 * DIMMED)
    assert np.abs(drawn[20, 30] - expected).max() <= 1


def test_of_two_classes_in_a_pixel_the_lower_is_seen() -> None:
    classes = np.full((80, 80), 2, np.uint8)
    classes[40, 40] = 1
    drawn = coloured_classes(np.zeros((80, 80, 3), np.uint8), classes, COLOURS, side=8)
    assert drawn[4, 4, 0] > drawn[0, 0, 0] + 50 and drawn[0, 0, 1] > 100


def test_the_legend_has_each_colour() -> None:
    picture = legend_picture(NAMES[1:], COLOURS[1:], ["10 px, 0.1 %", "none"], side=200)
    assert picture.shape[1:] == (200, 3)
    for colour in COLOURS[1:]:
        assert (picture == colour).all(2).sum() > 100


def test_the_sheet_is_a_png_and_repeats() -> None:
    photograph = np.full((40, 60, 3), 100, np.uint8)
    areas = np.array([2300, 50, 50])
    arguments = (photograph, np.ones((80, 120), np.uint8), NAMES, COLOURS, areas, "eye.jpg")
    sheet = segmented_sheet(*arguments)
    assert sheet == segmented_sheet(*arguments)
    assert Image.open(io.BytesIO(sheet)).format == "PNG"


@pytest.mark.parametrize(
    ("area", "text"),
    [
        (0, "none"),
        (12, "12 px, 0.0012 %"),
        (25_000, "25,000 px, 2.5 %"),
        (5000, "5,000 px, 0.50 %"),
    ],
)
def test_small_shares_keep_their_digits(area: int, text: str) -> None:
    assert area_text(area, 1_000_000) == text


def test_the_page_counts_and_names_the_refused() -> None:
    facts = SegmentedFacts("lesions", NAMES, "Tiles.", (), "python jobs/segment.py")
    rows = [
        {"image": "a.jpg", "areas": [900, 100, 0], "reason": ""},
        {"image": "<b>.jpg", "areas": [], "reason": "no fundus"},
    ]
    page = evaluation_page(segmented_page(facts, rows, []))
    assert "1 photograph segmented, 1 refused" in page and "100 px, 10.0 %" in page
    assert "&lt;b&gt;.jpg" in page and "no fundus" in page and "<b>" not in page
