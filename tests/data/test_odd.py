"""Odd files found in published sets or made of one: each ends as its table says."""

import csv
from pathlib import Path

import pytest

from fundusray.config import Data
from fundusray.data.photographs.decode import BadImage, DecodedPhotograph, decode_photograph
from fundusray.data.prepared.preprocess import PREPROCESS, preprocess_photograph

REFUSED = {
    "natural/0024cdab0c1e.png": "git-lfs",
    "made/truncated_header.jpg": "damaged header",
    "made/empty.jpg": "empty file",
    "made/html.jpg": "web page",
    "made/black.jpg": "no retina",
    "made/tiny_1x1.jpg": "1x1 pixels",
    "made/wide_2000x50.jpg": "no fundus",
}
REPAIRED = {"made/truncated_60.jpg", "made/truncated_no_eoi.jpg"}
SIZES = {"natural/13_right.jpeg": (2592, 1944), "made/exif_orientation.jpg": (1072, 712)}


def prepared(content: bytes) -> DecodedPhotograph | str:
    """The decoded photograph, or why preparing refuses it."""
    data = Data(size=128)
    try:
        decoded = decode_photograph(content, PREPROCESS.find(data.preprocess).min_side(data.size))
        preprocess_photograph(data, decoded.pixels)
    except BadImage as error:
        return str(error)
    return decoded


def test_every_odd_file_ends_as_its_table_says(real_data: Path) -> None:
    root = real_data / "odd"
    if not root.is_dir():
        pytest.skip(f"no odd files in {root}")
    with open(root / "odd.csv", newline="") as stream:
        names = [row["file"] for row in csv.DictReader(stream)]
    assert len(names) == 21 and set(REFUSED) | REPAIRED | set(SIZES) <= set(names)
    for name in names:
        found = prepared((root / name).read_bytes())
        if name in REFUSED:
            assert isinstance(found, str) and REFUSED[name] in found, (name, found)
            continue
        assert isinstance(found, DecodedPhotograph), (name, found)
        assert found.repaired == (name in REPAIRED), (name, found.note)
        if name in SIZES:
            assert (found.width, found.height) == SIZES[name]
        if name == "made/truncated_60.jpg":
            assert 0.5 < found.recovered < 0.7 and "truncated" in found.note
