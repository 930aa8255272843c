"""Sheets of masks keep small lesions and their colours; curves are drawn of what they are given."""

import io

import numpy as np
from PIL import Image

from fundusray.metrics.segmentation import froc
from fundusray.reports.contact_sheet import SheetCell, contact_sheet
from fundusray.reports.segmentation_figures import (
    froc_curves,
    precision_recall_curves,
    validation_loss_curves,
)
from fundusray.reports.segmentation_sheets import (
    COLOURS,
    SegmentationPanels,
    class_colours,
    fitted_mask,
    segmentation_sheet,
)
from tests.metrics.segmentation.drawn_segmentations import drawn_table

LESIONS = (
    "background",
    "microaneurysms",
    "haemorrhages",
    "hard_exudates",
    "soft_exudates",
    "optic_disc",
)


def pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=2).sum())


def test_a_lesion_of_one_pixel_is_not_lost() -> None:
    random = np.random.default_rng(0)
    mask = np.zeros((173, 241), np.int64)
    mask[60:120, 60:150] = 3
    mask[random.integers(0, 173, 30), random.integers(0, 241, 30)] = 1
    small = fitted_mask(mask, 50, 70)
    for y in range(50):
        for x in range(70):
            tops = slice(y * 173 // 50, -(-(y + 1) * 173 // 50))
            own = mask[tops, x * 241 // 70 : -(-(x + 1) * 241 // 70)]
            first = min(set(own.ravel().tolist()) - {0}, default=0)
            assert small[y, x] == first, (y, x)
    large = fitted_mask(mask[:20, :20], 60, 40)
    assert (large == np.repeat(np.repeat(mask[:20, :20], 3, 0), 2, 1)).all()
    assert (fitted_mask(mask, 173, 241) == mask).all()


def test_a_sheet() -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    mask = np.zeros((40, 60), np.int64)
    mask[5:15, 5:15], mask[30, 30] = 2, 1
    predicted = np.zeros((40, 60), np.int64)
    predicted[5:15, 5:15] = 5
    panels = [
        SegmentationPanels(image, mask, {"prediction": predicted, "attacked": 0 * mask}, "first"),
        SegmentationPanels(image, mask, {"prediction": mask}, "second", {"attacked": image}),
    ]
    png = segmentation_sheet(panels, LESIONS, title="Four models", side=120)
    assert png == segmentation_sheet(panels, LESIONS, title="Four models", side=120)
    picture = pixels(png)
    swatch = 14 * 14
    # Twice as large as the mask; the second row has the mask and a prediction alike.
    assert count(picture, COLOURS["haemorrhages"]) == 3 * 400 + swatch
    assert count(picture, COLOURS["microaneurysms"]) == 3 * 4 + swatch
    assert count(picture, COLOURS["optic_disc"]) == 400 + swatch
    assert count(picture, COLOURS["soft_exudates"]) == swatch
    # The photograph and the attacked one are seen, other pictures are dimmed behind their masks.
    assert count(picture, (200, 200, 200)) >= 3 * 120 * 80
    assert count(picture, (80, 80, 80)) > 4 * 80 * 60
    vessels = ("background", "vessels")
    lines = [SegmentationPanels(image, mask // 2, {"prediction": mask // 2})]
    assert count(pixels(segmentation_sheet(lines, vessels)), COLOURS["vessels"]) > 400


def test_every_class_has_a_colour_of_its_own() -> None:
    classes = ("background", "drusen", "microaneurysms", "scars", "optic_disc")
    colours = class_colours(classes)
    assert len(set(colours)) == 4 and colours[1] == COLOURS["microaneurysms"]
    assert len(class_colours(tuple(map(str, range(20))))) == 19


def test_rows_of_wide_pictures_are_as_tall_as_they_are() -> None:
    rows = [[SheetCell(np.zeros((20, 40, 3), np.uint8), "wide")]]
    loose, tight = (pixels(contact_sheet(rows, side=80, tight=tight)) for tight in (False, True))
    assert loose.shape[0] - tight.shape[0] == 40 and loose.shape[1] == tight.shape[1]


def has_colour(png: bytes, colour: str) -> bool:
    wanted = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
    return bool((np.abs(pixels(png).astype(int) - wanted).max(axis=2) <= 6).any())


def test_curves() -> None:
    blue, orange = "#0072B2", "#D55E00"
    tables = {"clean": drawn_table(4, side=24), "attacked": drawn_table(4, side=24, sure=1.0)}
    curves = {name: froc(table) for name, table in tables.items()}
    png = froc_curves(curves)
    assert png == froc_curves(curves) and has_colour(png, blue) and has_colour(png, orange)
    assert not has_colour(froc_curves({"clean": curves["clean"]}), orange)
    line = (np.array([0.5, 1.0]), np.array([1.0, 0.5]))
    png = precision_recall_curves({"a": {"vessels": line}, "b": {}}, {"vessels": 0.1})
    assert has_colour(png, blue)
    losses = [{"epoch": n, "val_loss": 1 / n} for n in range(1, 7)]
    models = {"original": [losses, losses[:4]], "combined": [losses[:2]], "failed": [[]]}
    png = validation_loss_curves(models)
    assert has_colour(png, blue) and has_colour(png, orange)
    assert png != validation_loss_curves({"original": [losses]})
    assert validation_loss_curves({"failed": [[{"epoch": 1, "val_loss": None}]]})
