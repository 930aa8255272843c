"""Photograph, mask and predictions side by side: classes as colours, with a legend."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fundusray.reports.contact_sheet import (
    GAP,
    GROUND,
    INK,
    POINTS,
    SheetCell,
    contact_sheet,
    drawable_text,
)

SIDE = 288
COLOURS = {
    "microaneurysms": (255, 80, 200),
    "haemorrhages": (213, 64, 0),
    "hard_exudates": (240, 228, 66),
    "soft_exudates": (86, 180, 233),
    "optic_disc": (0, 158, 115),
    "vessels": (230, 159, 0),
}
"""Of the kinds that come with the package, apart for colour-blind readers too."""
OTHERS = ((204, 121, 167), (0, 114, 178), (170, 255, 170), (160, 110, 60), (255, 255, 255))
DIMMED = 0.4
"""Of its light a photograph keeps behind a mask."""
SWATCH = 14


@dataclass(frozen=True)
class SegmentationPanels:
    """What a row of the sheet shows of a photograph."""

    image: np.ndarray
    """uint8 [H, W, 3]."""
    mask: np.ndarray
    """int [H, W]: the true class of each pixel, 0 the background."""
    predictions: Mapping[str, np.ndarray]
    """By what a caption calls them, class maps as the mask: "prediction", "attacked, 1 %"."""
    name: str = ""
    """Of the photograph."""
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further photographs by caption, the attacked one, say."""


def class_colours(classes: Sequence[str]) -> list[tuple[int, int, int]]:
    """A colour for each foreground class, `classes` with the background first."""
    spare = iter(OTHERS * len(classes))
    return [COLOURS.get(name) or next(spare) for name in classes[1:]]


def segmentation_sheet(
    panels: Sequence[SegmentationPanels],
    classes: Sequence[str],
    *,
    title: str = "",
    side: int = SIDE,
) -> bytes:
    """A PNG with a row for each photograph: it, its mask, each prediction (Avramidis et al.,
    Figures 1-3 and 5-8), over the photograph dimmed, and the colours of the classes below.

    A sheet's pixel has the first class that any pixel below it has, so that a lesion of a few
    pixels in a photograph of many is not lost.
    """
    colours = class_colours(classes)
    rows = []
    for each in panels:
        ground = _fitted(each.image, side)
        name = f"{each.name}: " if each.name else ""
        row = [SheetCell(ground, f"{name}photograph")]
        row += [SheetCell(_fitted(one, side), caption) for caption, one in each.images.items()]
        masks = {"mask": each.mask, **each.predictions}
        row += [
            SheetCell(_mask_picture(mask, ground, colours), caption)
            for caption, mask in masks.items()
        ]
        rows.append(row)
    png = contact_sheet(rows, side=side, title=title, tight=True)
    sheet = Image.open(io.BytesIO(png))
    return _with_legend(sheet, classes[1:], colours)


def fitted_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A class map [H, W] in another size, int [height, width]: of each new pixel the first
    foreground class that lies under it, the background where none does."""
    tops, bottoms = _edges(mask.shape[0], height)
    lefts, rights = _edges(mask.shape[1], width)
    found = np.zeros((height, width), np.int64)
    # The first class last, so that it stays.
    for k in sorted(set(np.unique(mask).tolist()) - {0}, reverse=True):
        sums = np.pad((mask == k).cumsum(0, dtype=np.int32).cumsum(1), ((1, 0), (1, 0)))
        inside = sums[np.ix_(bottoms, rights)] - sums[np.ix_(tops, rights)]
        inside -= sums[np.ix_(bottoms, lefts)] - sums[np.ix_(tops, lefts)]
        found[inside > 0] = k
    return found


def _edges(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the old pixels under each new one begin and end, [new] each; one at least."""
    starts = np.arange(new) * old // new
    ends = -(-(np.arange(new) + 1) * old // new)
    # A larger picture repeats pixels, and mixes none at their borders.
    return starts, ends if new < old else starts + 1


def _fitted(image: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side of `side` pixels."""
    height, width = (max(1, round(n * side / max(image.shape[:2]))) for n in image.shape[:2])
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def _mask_picture(
    mask: np.ndarray, ground: np.ndarray, colours: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """The mask in its colours over the dimmed photograph, uint8 as `ground`."""
    fitted = fitted_mask(mask, *ground.shape[:2])
    picture = np.rint(ground * DIMMED).astype(np.uint8)
    for k, colour in enumerate(colours, 1):
        picture[fitted == k] = colour
    return picture


def _with_legend(
    sheet: Image.Image, kinds: Sequence[str], colours: Sequence[tuple[int, int, int]]
) -> bytes:
    """The sheet with a line or more of swatches and names below it, as PNG."""
    font = ImageFont.load_default(POINTS)
    entries, left, line = [], GAP, 0
    for name, colour in zip(kinds, colours, strict=True):
        text = drawable_text(name.replace("_", " "), font)
        width = SWATCH + GAP // 2 + round(font.getlength(text)) + 2 * GAP
        if left > GAP and left + width > sheet.width:
            left, line = GAP, line + 1
        entries.append((left, line, text, colour))
        left += width
    tall = SWATCH + GAP
    whole = Image.new("RGB", (sheet.width, sheet.height + (line + 1) * tall), GROUND)
    whole.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(whole)
    for left, line, text, colour in entries:
        top = sheet.height + line * tall
        draw.rectangle((left, top, left + SWATCH - 1, top + SWATCH - 1), fill=colour)
        draw.text((left + SWATCH + GAP // 2, top), text, fill=INK, font=font)
    sink = io.BytesIO()
    whole.save(sink, "PNG", optimize=True)
    return sink.getvalue()
