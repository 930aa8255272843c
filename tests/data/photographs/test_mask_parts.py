"""Files that hold several masks: as bits, or as class indices."""

import io
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fundusray.data.manifest.contract import SourceContent
from fundusray.data.manifest.leftovers import untaken_files
from fundusray.data.photographs.decode import BadImage
from fundusray.data.photographs.digests import FRESH, file_stamps, row_digests
from fundusray.data.photographs.mask_paths import MaskPath, mask_part, parse_mask_path
from fundusray.data.photographs.read import PhotographMasks, read_mask
from fundusray.errors import InputError
from tests.data.trees import photograph, write

VALUES = np.random.default_rng(0).integers(0, 8, (48, 64), np.uint8)
CLASSES = [(f"kind{index}", f"m.png#index={index}") for index in range(1, 8)]


def stored(place: Path, values: np.ndarray, mode: str = "L", kind: str = "PNG") -> None:
    """A file whose pixels hold these numbers, in one of Pillow's modes."""
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tolist())
    elif mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    elif mode != "L":
        image = image.convert(mode)
    sink = io.BytesIO()
    image.save(sink, kind)
    write(place, sink.getvalue())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_parts_of_a_file(tmp_path: Path, mode: str, kind: str) -> None:
    name = "m.png" if kind == "PNG" else "m.tif"
    stored(tmp_path / name, VALUES, mode, kind)
    root = str(tmp_path)
    for index in range(8):
        assert np.array_equal(read_mask(root, f"{name}#index={index}"), index == VALUES)
    assert np.array_equal(read_mask(root, f"{name}#index=2,5"), (VALUES == 2) | (VALUES == 5))
    for bit in range(9):
        assert np.array_equal(read_mask(root, f"{name}#bit={bit}"), VALUES >> bit & 1 == 1)
    assert np.array_equal(read_mask(root, f"{name}#bit=0,2"), VALUES & 5 > 0)
    assert np.array_equal(read_mask(root, name), VALUES != 0)


def test_what_is_transparent_is_background(tmp_path: Path) -> None:
    seen = np.zeros((48, 64), bool)
    seen[10:30] = True
    stored(tmp_path / "m.png", np.dstack([VALUES] * 3 + [seen * np.uint8(255)]), "L")
    expected = (VALUES == 3) & seen
    assert np.array_equal(read_mask(str(tmp_path), "m.png#index=3"), expected)
    assert np.array_equal(read_mask(str(tmp_path), "m.png#bit=1"), (VALUES >> 1 & 1 == 1) & seen)


def test_paths_are_taken_apart() -> None:
    assert parse_mask_path("a/x.png#bit=2") == MaskPath("a/x.png", "bit", (2,))
    assert parse_mask_path("a/x.TIFF#INDEX=3,10") == MaskPath("a/x.TIFF", "index", (3, 10))
    # A file that is no mask is still the one that is meant, and is named as it is.
    assert parse_mask_path("a/x.jpg#index=1") == MaskPath("a/x.jpg", "index", (1,))
    assert mask_part("a/x.png#bit=1,5") == "#bit=1,5" and mask_part("a/x.png") == ""
    for path in ("a#1/x.png", "x#bit=2", "x.png#bit=", "x.png#bit=-1", "x.png#class=1", "x.jpg"):
        assert parse_mask_path(path) == MaskPath(path)


@pytest.mark.parametrize("path", ["../m.png#bit=0", "/m.png#index=1", "a/../../m.png#bit=1"])
def test_parts_out_of_the_root_are_not_read(tmp_path: Path, path: str) -> None:
    stored(tmp_path / "m.png", VALUES)
    (tmp_path / "root").mkdir()
    with pytest.raises(InputError, match="leads out of"):
        read_mask(str(tmp_path / "root"), path)


def test_a_class_index_that_nobody_named_is_refused(tmp_path: Path) -> None:
    stored(tmp_path / "m.png", VALUES)
    root = str(tmp_path)
    masks = PhotographMasks(root, CLASSES)
    for index in range(1, 8):
        assert np.array_equal(masks.read(f"kind{index}"), index == VALUES)
    num = int((VALUES == 6).sum())
    fewer = [pair for pair in CLASSES if pair[0] != "kind6"][:3] + CLASSES[6:]
    words = rf"class index 4 \(.*, 5 \(.*, 6 \({num} pixels\) in m\.png is nobody's; known are "
    words += r"0 background, 1 kind1, 2 kind2, 3 kind3, 7 kind7: .*data\.classes"
    with pytest.raises(BadImage, match=words):
        PhotographMasks(root, fewer).read("kind1")
    with pytest.raises(BadImage, match=r"6 \(\d+ pixels\) is nobody's") as told:
        PhotographMasks(root, fewer, named=False).read("kind1")
    assert "m.png" not in str(told.value)
    stored(tmp_path / "m.png", np.arange(48 * 64, dtype=np.uint16).reshape(48, 64), "I;16")
    with pytest.raises(BadImage, match=r"8 \(1 pixels\), .*12 \(1 pixels\) and 3059 more"):
        PhotographMasks(root, CLASSES).read("kind1")


def test_parts_that_cannot_be_read(tmp_path: Path) -> None:
    root = str(tmp_path)
    colours = np.random.default_rng(0).integers(0, 9, (48, 64, 3), np.uint8)
    stored(tmp_path / "m.png", colours)
    for part in ("#index=1", "#bit=0"):
        with pytest.raises(BadImage, match="in colours; bits and class indices need one number"):
            read_mask(root, f"m.png{part}")
    stored(tmp_path / "m.tif", VALUES.astype(np.float32), kind="TIFF")
    with pytest.raises(BadImage, match="a mask of fractions"):
        read_mask(root, "m.tif#index=1")
    stored(tmp_path / "m.png", VALUES)
    with pytest.raises(BadImage, match="bit 16: a pixel has at most 16"):
        read_mask(root, "m.png#bit=16")
    with pytest.raises(FileNotFoundError):
        read_mask(root, "none.png#bit=1")


def test_digests_are_of_the_file_and_of_the_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time_ns() + int(2 * FRESH * 1e9)
    monkeypatch.setattr(time, "time_ns", lambda: later)
    stored(tmp_path / "m.png", VALUES)
    write(tmp_path / "p.jpg", photograph())
    roots = {"x": str(tmp_path)}

    def row(*paths: str) -> dict:
        masks = [(f"kind{i}", path) for i, path in enumerate(paths)]
        return {"image_id": "p", "dataset": "x", "path": "p.jpg", "masks": masks}

    def told(*paths: str) -> tuple[str, str]:
        rows = [row(*paths)]
        schema = pa.schema([("masks", pa.map_(pa.string(), pa.string()))])
        table = pa.Table.from_pylist([{"masks": one["masks"]} for one in rows], schema)
        for name in ("image_id", "dataset", "path"):
            table = table.append_column(name, pa.array([rows[0][name]]))
        return row_digests(rows[0], roots)[1], file_stamps(table, roots)[0]

    whole, one, other = told("m.png"), told("m.png#bit=0"), told("m.png#bit=1")
    assert all(map(all, (whole, one, other)))
    for digests in zip(whole, one, other, strict=True):
        assert len(set(digests)) == 3
    stored(tmp_path / "m.png", VALUES // 2)
    assert told("m.png#bit=0")[0] != one[0]


def test_a_file_of_several_masks_is_no_leftover(tmp_path: Path) -> None:
    stored(tmp_path / "masks" / "m.png", VALUES)
    stored(tmp_path / "masks" / "n.png", VALUES)
    found = SourceContent(
        {"path": ["p.jpg"], "masks": [[("a", "masks/m.png#bit=0"), ("b", "masks/m.png#bit=1")]]},
        [], {},
    )  # fmt: skip
    assert [one.where for one in untaken_files("idrid", str(tmp_path), found)] == ["masks/n.png"]
