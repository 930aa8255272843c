"""Contact sheets: rows of captioned pictures as one PNG."""

import io
import math
from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fundusray.reports.number_text import printable_text

GROUND, INK, MUTED = "#14181d", "#f2f4f6", "#b9c1c9"
GAP = 8
LINES = 5
"""A caption's lines at most; the last one then ends in dots."""
POINTS, TITLE_POINTS = 12, 16
DOTS = "…"


class SheetCell(NamedTuple):
    """One picture of a sheet."""

    image: np.ndarray
    """uint8 [H, W, 3]."""
    caption: str


def contact_sheet(
    rows: list[list[SheetCell]], *, side: int = 192, title: str = "", tight: bool = False
) -> bytes:
    """A PNG of the rows, each picture within a square of `side` pixels, its caption below; tight: a
    row is as tall as its tallest picture.

    Pictures keep their proportions. Captions are wrapped, and characters that would not be seen
    (control characters, or what the font lacks) are written as escapes. No metadata; equal input
    gives equal bytes.
    """
    font, bold = sheet_font(POINTS), sheet_font(TITLE_POINTS)
    width = GAP + max([len(row) for row in rows], default=1) * (side + GAP)
    heading = _wrapped(title, bold, width - 2 * GAP) if title else []
    captions = [[_wrapped(cell.caption, font, side) for cell in row] for row in rows]
    line, title_line = _line(font), _line(bold)
    top = GAP + len(heading) * title_line + (GAP if heading else 0)
    talls = [
        max([_fit(cell.image, side).height for cell in row], default=0) if tight else side
        for row in rows
    ]
    heights = [
        tall + GAP + line * max([len(c) for c in row], default=0)
        for tall, row in zip(talls, captions, strict=True)
    ]
    height = top + sum(heights) + GAP * len(rows)
    sheet = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(sheet)
    for number, text in enumerate(heading):
        draw.text((GAP, GAP + number * title_line), text, fill=INK, font=bold)
    for row, texts, tall, whole in zip(rows, captions, talls, heights, strict=True):
        for column, (cell, lines) in enumerate(zip(row, texts, strict=True)):
            left = GAP + column * (side + GAP)
            picture = _fit(cell.image, side)
            place = (left + (side - picture.width) // 2, top + (tall - picture.height) // 2)
            sheet.paste(picture, place)
            for number, text in enumerate(lines):
                place = (left, top + tall + GAP // 2 + number * line)
                draw.text(place, text, fill=MUTED, font=font)
        top += whole + GAP
    sink = io.BytesIO()
    sheet.save(sink, "PNG", optimize=True)
    return sink.getvalue()


def sheet_font(points: int) -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow, so that a sheet looks the same everywhere."""
    return ImageFont.load_default(points)


def _line(font: ImageFont.FreeTypeFont) -> int:
    """Height of a line, pixels."""
    ascent, descent = font.getmetrics()
    return ascent + descent + 2


def _fit(pixels: np.ndarray, side: int) -> Image.Image:
    """The picture as large as the square allows, smaller or larger than it was."""
    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    sides = [max(1, round(length * scale)) for length in image.size]
    return image.resize(sides, Image.Resampling.LANCZOS)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines of at most `width` pixels, at most LINES of them."""
    # No character is narrower than a pixel: what is cut here could never be shown.
    lines, rest = [], drawable_text(text[: LINES * width + 1], font).strip()
    while rest and len(lines) < LINES:
        line = _head(rest, font, width)
        lines.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    if rest:
        dots = _head(lines[-1] + " ", font, width - math.ceil(font.getlength(DOTS))).rstrip()
        lines[-1] = dots + DOTS
    return lines


def _head(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """As many whole words as fit; of a word that is too long for a line, what fits of it."""
    lengths = range(len(text) + 1)
    # One character always goes, so that the text gets shorter.
    end = max(1, bisect_right(lengths, width, key=lambda n: font.getlength(text[:n])) - 1)
    space = text.rfind(" ", 0, end + 1)
    return text[:space] if end < len(text) and space > 0 else text[:end]


def drawable_text(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text with characters that would be an empty box, or nothing, written as escapes."""
    lacking = bytes(font.getmask("\uffff"))
    shown = []
    for character in printable_text(text):
        ink = bytes(font.getmask(character))
        drawn = character == " " or (ink and ink != lacking)
        shown.append(character if drawn else character.encode("unicode_escape").decode())
    return "".join(shown)
