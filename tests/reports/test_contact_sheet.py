"""Contact sheets show every picture whole, and every caption as text."""

import io

import numpy as np
import pytest
from PIL import Image

from fundusray.reports.contact_sheet import SheetCell, contact_sheet

RED = np.array([220, 30, 30], np.uint8)


def opened(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG" and image.mode == "RGB" and not image.info
        return np.asarray(image)


def plain(height: int, width: int) -> np.ndarray:
    return np.broadcast_to(RED, (height, width, 3)).copy()


def where_red(sheet: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is red."""
    red = (np.abs(sheet.astype(int) - RED) <= 2).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert red[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    return rows[0], columns[0], len(rows), len(columns)


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((100, 100), (120, 120)),
        ((300, 200), (120, 80)),
        ((20, 40), (60, 120)),
        ((16, 4000), (1, 120)),
    ],
)
def test_pictures_keep_their_proportions(shape: tuple[int, int], shown: tuple[int, int]) -> None:
    sheet = opened(contact_sheet([[SheetCell(plain(*shape), "")]], side=120))
    _, left, *sides = where_red(sheet)
    assert tuple(sides) == shown
    assert left + shown[1] / 2 == sheet.shape[1] / 2
    assert sheet[0, 0].max() < 40


def test_pictures_are_in_rows_and_columns() -> None:
    shades = [[40, 90], [140, 190, 240]]
    rows = [
        [SheetCell(np.full((9, 9, 3), shade, np.uint8), "x") for shade in row] for row in shades
    ]
    sheet = opened(contact_sheet(rows, side=64))
    places = [
        [np.argwhere((sheet == shade).all(axis=2)).mean(axis=0) for shade in row] for row in shades
    ]
    assert places[0][0][1] == places[1][0][1] and places[0][1][1] == places[1][1][1]
    assert places[1][0][0] == places[1][2][0] > places[0][0][0] == places[0][1][0]
    assert places[1][0][1] < places[1][1][1] < places[1][2][1]


def test_equal_input_gives_equal_bytes_and_more_text_a_taller_sheet() -> None:
    def sheet(caption: str, title: str = "") -> bytes:
        return contact_sheet([[SheetCell(plain(50, 50), caption)]], side=100, title=title)

    assert sheet("one", "two") == sheet("one", "two")
    heights = [len(opened(sheet("lesion " * n))) for n in (1, 5, 10)]
    assert heights[0] < heights[1] < heights[2]
    assert len(opened(sheet("one", "a title"))) > heights[0]


@pytest.mark.parametrize("text", ["word " * 20_000, "w" * 100_000, "i" * 100_000, "正" * 9_999])
def test_text_without_end_takes_a_few_lines(text: str) -> None:
    few = "word " * 200
    cell, longer = ([[SheetCell(plain(9, 9), caption)]] for caption in (few, text))
    assert (
        opened(contact_sheet(longer, title=text)).shape
        == opened(contact_sheet(cell, title=few)).shape
    )


def test_text_stays_in_its_column() -> None:
    caption = "a_file_name_without_a_single_space_" * 8
    cells = [
        SheetCell(plain(9, 9), caption),
        SheetCell(plain(9, 9), ""),
        SheetCell(plain(9, 9), ""),
    ]
    sheet = opened(contact_sheet([cells], side=90))
    top, _, height, _ = where_red(sheet[:, : 8 + 90])  # of the first picture
    below = sheet[top + height :]
    ground = sheet[0, 0]
    inked = (below != ground).any(axis=(0, 2))
    assert inked[:100].any() and not inked[8 + 90 :].any()


def test_lines_break_between_words() -> None:
    two, one = (
        opened(contact_sheet([[SheetCell(plain(9, 9), caption)]], side=100))
        for caption in ("haemorrhages microaneurysms", "haemorrhages")
    )
    assert len(two) > len(one)
    first_line = slice(len(one) - 12)
    assert (two[first_line] == one[first_line]).all()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("13\x1b[31m_left", "13\\x1b[31m_left"),
        ("a\nb\tc\x00", "a\\x0ab\\x09c\\x00"),
        ("left\u202egpj", "left\\u202egpj"),
        ("正常", "\\u6b63\\u5e38"),
        ("Größe", "Gr\\xf6\\xdfe"),
        ("a\u200bb", "a\\u200bb"),
        ("\udcff.jpg", "\\udcff.jpg"),
    ],
)
def test_what_would_not_be_seen_is_written_as_escapes(text: str, written: str) -> None:
    def sheet(caption: str) -> bytes:
        return contact_sheet([[SheetCell(plain(9, 9), caption)]], side=200, title=caption)

    assert sheet(text) == sheet(written)
    assert sheet(text) != sheet("")


@pytest.mark.parametrize("rows", [[], [[]]])
def test_a_sheet_of_nothing_is_a_picture(rows: list) -> None:
    assert opened(contact_sheet(rows, title="nothing")).size
