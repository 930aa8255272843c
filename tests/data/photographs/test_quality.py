"""Flags of photographs: no fundus for what is none, nothing for what is one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fundusray.data.drawn.source import draw_photograph
from fundusray.data.photographs.decode import decode_photograph
from fundusray.data.photographs.quality import quality_flags
from tests.conftest import jpeg

SIDE = 400


@pytest.fixture(scope="module")
def fundus() -> np.ndarray:
    """A drawn photograph, uint8 [SIDE, SIDE, 3]."""
    return draw_photograph(0, 3, 3, side=SIDE).image


def page(ground: str, ink: str) -> np.ndarray:
    """Lines of text."""
    rng = np.random.default_rng(0)
    image = Image.new("RGB", (480, 640), ground)
    pen = ImageDraw.Draw(image)
    for y in range(16, 620, 14):
        pen.text((16, y), "".join(chr(c) for c in rng.integers(97, 123, 60)), fill=ink)
    return np.asarray(image)


def histogram(ground: str, bars: str) -> np.ndarray:
    image = Image.new("RGB", (640, 480), ground)
    pen = ImageDraw.Draw(image)
    for place, height in enumerate((20, 80, 200, 340, 300, 160, 60)):
        pen.rectangle((80 + 70 * place, 430 - height, 140 + 70 * place, 430), fill=bars)
    return np.asarray(image)


def screenshot(ground: int) -> np.ndarray:
    """A window that shows a fundus beside a list."""
    image = Image.new("RGB", (960, 600), (ground, ground, ground))
    image.paste(Image.fromarray(draw_photograph(0, 1, 0, side=256).image), (60, 200))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 960, 50), fill=(40, 80, 160))
    for y in range(80, 560, 20):
        pen.text((500, y), "visit, eye, acuity, pressure", fill=(255 - ground,) * 3)
    return np.asarray(image)


def section(height: int, width: int) -> np.ndarray:
    """Layers of a retina as optical coherence tomography shows them: bright bands on black."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    middle = height / 2 + 30 * np.sin(3 * x / width)
    bands = ((0, 8, 200), (30, 10, 120), (60, 9, 150), (80, 14, 230))
    grey = sum(level * np.exp(-(((y - middle - at) / wide) ** 2)) for at, wide, level in bands)
    grey = grey + np.random.default_rng(0).gamma(2, 12, (height, width))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


NONE: dict[str, Callable[[], np.ndarray]] = {
    "white page": lambda: np.full((300, 400, 3), 255, np.uint8),
    "grey page": lambda: np.full((300, 400, 3), 128, np.uint8),
    "text": lambda: page("white", "black"),
    "white text on black": lambda: page("black", "white"),
    "histogram": lambda: histogram("white", "#1f77b4"),
    "dark histogram": lambda: histogram("black", "#8dd3c7"),
    "warm histogram": lambda: histogram("white", "#d62728"),
    "screenshot": lambda: screenshot(240),
    "dark screenshot": lambda: screenshot(32),
    "section": lambda: section(496, 768),
    "wide section": lambda: section(400, 1200),
    "square section": lambda: section(512, 512),
    "noise": lambda: np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8),
    "blue sky": lambda: (
        np.linspace((90, 120, 200), (160, 190, 240), 300)[:, None]
        .repeat(400, axis=1)
        .astype(np.uint8)
    ),
    "black": lambda: np.zeros((100, 100, 3), np.uint8),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_fundus(name: str) -> None:
    assert "no_fundus" in quality_flags(NONE[name]())


FUNDI: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "whole": lambda image: image,
    "small": lambda image: image[::4, ::4],
    "upside down": lambda image: image[::-1],
    "cut above and below": lambda image: image[60:-60],
    "middle": lambda image: image[100:300, 100:300],
    "corner": lambda image: image[:200, :200],
    "off centre": lambda image: np.pad(image, ((10, 60), (200, 20), (0, 0))),
    "grey": lambda image: np.repeat(image[..., 1:2], 3, axis=2),
    "dark": lambda image: (image * 0.3).astype(np.uint8),
    "bright": lambda image: np.clip(image * 1.8, 0, 255).astype(np.uint8),
    "coarse": lambda image: decode_photograph(jpeg(image, quality=25)).pixels,
    "stretched": lambda image: np.asarray(Image.fromarray(image).resize((300, 400))),
}


@pytest.mark.parametrize("name", FUNDI)
def test_what_is_a_fundus(fundus: np.ndarray, name: str) -> None:
    flags = quality_flags(np.ascontiguousarray(FUNDI[name](fundus)))
    assert not {"no_fundus", "torn"} & set(flags)
    assert ("grey" in flags) == (name == "grey")
    assert "dark" not in flags or name in ("dark", "corner")


@pytest.mark.parametrize("index", range(10))
def test_no_drawn_photograph_is_flagged(index: int) -> None:
    assert quality_flags(draw_photograph(7, index, index % 5, side=256).image) == ()


@pytest.mark.parametrize("side", [200, 400])
def test_tears_are_seen(fundus: np.ndarray, side: int) -> None:
    image = np.asarray(Image.fromarray(fundus).resize((side, side)))
    row, left = int(0.55 * side), int(0.3 * side)
    moved = image.copy()
    moved[row:] = np.roll(image[row:], side // 3, axis=1)
    recoloured = image.copy()
    recoloured[row:, left:] = np.clip(image[row:, left:] + np.array([-60, 40, 60]), 0, 255)
    black = image.copy()
    black[row:] = 0
    assert "torn" in quality_flags(recoloured) and "torn" in quality_flags(moved)
    assert "torn" not in quality_flags(image), "a whole one"
    assert "torn" not in quality_flags(black), "rows that are missing are told otherwise"
    assert "torn" not in quality_flags(image.transpose(1, 0, 2)[:, ::-1].copy())


def test_no_real_fundus_is_taken_for_something_else(real_data: Path) -> None:
    sets = ("eyepacs/train", "odir5k", "odir_graded_256", "CHASEDB1", "aptos2019", "IDRiD")
    paths = [
        path
        for name in sets
        for path in sorted((real_data / name).rglob("*.j*g"))
        + sorted((real_data / name).rglob("*_*.png"))
        if "HO.png" not in path.name
    ][::12]
    if not paths:
        pytest.skip(f"no photographs in {real_data}")
    seen = {
        str(path): set(quality_flags(decode_photograph(path.read_bytes(), 256).pixels))
        for path in paths
    }
    wrong = {path: flags for path, flags in seen.items() if flags & {"no_fundus", "torn", "grey"}}
    assert not wrong
    assert sum(bool(flags) for flags in seen.values()) < 0.05 * len(seen), "few are odd"
