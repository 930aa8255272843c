"""Figures: valid, small, the same twice, and true to their numbers."""

import io

import numpy as np
import pytest
from PIL import Image

from fundusray.reports import figures

HISTORY = [{"epoch": e, "train_loss": 1 / e, "val_kappa": 0.1 * e} for e in range(1, 6)]
PAIRED = {"difference": 0.03, "low": 0.01, "high": 0.05, "verdict": "better"}


def _estimates(number: int) -> list[figures.IntervalLine]:
    first = figures.IntervalLine("plain", 0.5, 0.4, 0.6, {}, 0.8, True)
    rest = [
        figures.IntervalLine(f"trial {i}", 0.6, 0.5, 0.7, PAIRED, None, False)
        for i in range(number)
    ]
    return [first, *rest]


DRAWN = {
    "confusion": lambda: figures.confusion_plot(
        np.diag([9, 3, 0]), ["none", "mild", "worse"], "plain"
    ),
    "confusion of ten": lambda: figures.confusion_plot(np.ones((10, 10), int), ["c"] * 10, "ten"),
    "curves": lambda: figures.training_curves(HISTORY, "kappa", 5, "$a$b$", (0, 1), [HISTORY]),
    "curves with holes": lambda: figures.training_curves(
        [{"epoch": 1, "train_loss": float("nan"), "val_kappa": None}], "kappa", 1, "diverged"
    ),
    "forest": lambda: figures.interval_plot(_estimates(8)),
    "forest of forty": lambda: figures.interval_plot(_estimates(40)),
    "forest without baseline": lambda: figures.interval_plot(_estimates(0)),
    "forest without interval": lambda: figures.interval_plot(
        [figures.IntervalLine("one patient", 0.5, None, None, {}, None, False)]
    ),
    "search": lambda: figures.search_history(
        [{"number": 0, "value": 0.4}, {"number": 1, "value": None}, {"number": 2, "value": 0.6}]
    ),
    "importances": lambda: figures.importance_plot({"loss.name": 0.8, "train.lr": 0.2}),
}


def _open(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_a_small_picture_without_metadata_and_the_same_twice(name):
    content = DRAWN[name]()
    picture = _open(content)
    assert picture.format == "PNG"
    assert not picture.info.keys() - {"transparency"}
    assert min(picture.size) > 150
    assert len(content) < 150_000
    assert content == DRAWN[name]()


def test_a_confusion_cell_is_as_dark_as_its_share_of_the_row():
    """Rows differ hundredfold in size; shares, not counts, must set the shade."""
    even = figures.confusion_plot(np.array([[500, 500], [5, 5]]), ["a", "b"], "even")
    sure = figures.confusion_plot(np.array([[1000, 0], [0, 10]]), ["a", "b"], "sure")
    dark = np.array([11, 60, 102])

    def dark_share(content: bytes) -> float:
        pixels = np.asarray(_open(content).convert("RGB")).astype(int)
        return float((np.abs(pixels - dark).sum(axis=2) < 30).mean())

    assert dark_share(even) < 0.005
    assert dark_share(sure) > 0.1


def test_an_examples_sheet_has_a_row_per_stage_and_keeps_pixels():
    red, grey = np.zeros((300, 200, 3), np.uint8), np.full((64, 64, 3), 128, np.uint8)
    red[..., 0] = 255
    picture = _open(figures.examples_sheet([("raw", [red, red]), ("prepared", [grey, grey])]))
    pixels = np.asarray(picture.convert("RGB"))
    half = len(pixels) // 2
    assert (pixels[:half] == [255, 0, 0]).all(axis=2).any()
    assert not (pixels[half:] == [255, 0, 0]).all(axis=2).any()
    assert (pixels[half:] == 128).all(axis=2).sum() == 2 * 64 * 64


def test_a_sheet_of_noise_is_drawn_smaller_until_it_fits():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert len(figures.examples_sheet([("raw", [noise] * 6)] * 3)) <= figures.SHEET_BYTES


def test_a_sheet_without_images_is_still_a_picture():
    assert _open(figures.examples_sheet([])).format == "PNG"
