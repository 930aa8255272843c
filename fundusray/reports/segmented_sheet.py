"""A photograph beside what was marked in it, with a legend, as one PNG."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from fundusray.reports.contact_sheet import (
    GROUND,
    INK,
    SheetCell,
    contact_sheet,
    drawable_text,
    sheet_font,
)

SIDE = 560
"""Of each of the three pictures, pixels."""
FAINTEST = 0.5
"""Strength of a colour where a class covers the least part of a pixel: a lesion of a few pixels of
a large photograph stays seen."""
DIMMED = 0.55
"""Of its light a photograph keeps behind them; on an orange retina red is not seen."""
POINTS, SWATCH = 16, 20


def coloured_classes(
    photograph: np.ndarray, classes: np.ndarray, colours: np.ndarray, side: int = SIDE
) -> np.ndarray:
    """The photograph, dimmed, with its classes in their colours, uint8 [h, w, 3] within a square of
    `side` pixels. Class 0 is not drawn, and of several in a pixel the lowest is seen.

    Args:
        photograph: uint8 [H, W, 3], of any size.
        classes: uint8 [H', W'], of the same view.
        colours: uint8 [C, 3].
    """
    scale = side / max(classes.shape)
    sides = tuple(max(1, round(length * scale)) for length in classes.shape[::-1])
    ground = Image.fromarray(photograph).resize(sides, Image.Resampling.LANCZOS)
    drawn = np.asarray(ground, np.float32) * DIMMED
    for number in range(len(colours) - 1, 0, -1):
        marked = classes == number
        if not marked.any():
            continue
        layer = Image.fromarray(marked.astype(np.uint8) * np.uint8(255))
        # A single pixel is not rounded away as long as fewer than 500 share one of the picture's.
        share = np.asarray(layer.resize(sides, Image.Resampling.BOX), np.float32) / 255
        strength = np.where(share > 0, FAINTEST + (0.9 - FAINTEST) * share, 0)[..., None]
        drawn = drawn * (1 - strength) + colours[number].astype(np.float32) * strength
    return np.rint(drawn).astype(np.uint8)


def legend_picture(
    names: Sequence[str], colours: np.ndarray, lines: Sequence[str], side: int = SIDE
) -> np.ndarray:
    """A picture `side` pixels wide of names [K] beside their colours [K, 3], each with a line of
    text."""
    step = 2 * SWATCH
    picture = Image.new("RGB", (side, max(step * len(names), 1)), GROUND)
    draw, font = ImageDraw.Draw(picture), sheet_font(POINTS)
    for place, (name, line) in enumerate(zip(names, lines, strict=True)):
        top = SWATCH // 2 + place * step
        box = (SWATCH, top, 2 * SWATCH, top + SWATCH)
        draw.rectangle(box, fill=tuple(colours[place].tolist()), outline=INK)
        text = drawable_text(f"{name.replace('_', ' ')}: {line}", font)
        draw.text((3 * SWATCH, top), text, fill=INK, font=font)
    return np.asarray(picture)


def segmented_sheet(
    photograph: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str],
    colours: np.ndarray,
    areas: np.ndarray,
    title: str = "",
) -> bytes:
    """A PNG: the photograph, the same with its classes in colour, and what each colour is.

    Args:
        photograph: uint8 [H, W, 3], of any size.
        classes: uint8 [H', W'], of the same view.
        names: of the classes [C], the background first.
        colours: uint8 [C, 3].
        areas: int [C], pixels of the fundus of each class.
    """
    whole = max(int(areas.sum()), 1)
    lines = [area_text(int(area), whole) for area in areas[1:]]
    cells = [
        SheetCell(photograph, "as taken"),
        SheetCell(coloured_classes(photograph, classes, colours), "as segmented"),
        SheetCell(legend_picture(names[1:], colours[1:], lines), "pixels, and share of the fundus"),
    ]
    return contact_sheet([cells], side=SIDE, title=title, tight=True)


def area_text(area: int, fundus: int) -> str:
    """`1,234 px, 0.05 %` of a fundus of so many pixels."""
    share = 100 * area / fundus
    digits = 1 if share >= 1 else 2 if share >= 0.1 else 4
    return f"{area:,} px, {share:.{digits}f} %" if area else "none"
