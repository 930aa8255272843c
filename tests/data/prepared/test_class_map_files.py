"""Class maps go to PNG and back, in the colours of their classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fundusray.data.prepared.class_map_files import (
    read_class_map,
    write_class_map,
)
from fundusray.errors import InputError

COLOURS = [(0, 0, 0), (255, 80, 200), (213, 64, 0), (1, 2, 3), (86, 180, 233), (0, 158, 115)]


def test_there_and_back_in_the_colours_of_the_classes(tmp_path: Path) -> None:
    classes = np.arange(24, dtype=np.uint8).reshape(4, 6) % 6
    place = str(tmp_path / "map.png")
    write_class_map(place, classes, COLOURS)
    assert np.array_equal(read_class_map(place), classes)
    with Image.open(place) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.asarray(picture.convert("RGB")), np.array(COLOURS)[classes])
    first = Path(place).read_bytes()
    write_class_map(place, classes, COLOURS)
    assert Path(place).read_bytes() == first


def test_a_number_that_is_no_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="class 3 in a map of 3 classes"):
        write_class_map(str(tmp_path / "map.png"), np.full((2, 2), 3, np.uint8), COLOURS[:3])


def test_what_is_no_class_map_is_refused_by_name(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("rgb.png", "text.png"):
        with pytest.raises(InputError, match=rf"{name}: no class map"):
            read_class_map(str(tmp_path / name))
