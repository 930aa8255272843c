"""Masks and photographs that cannot be used, and those that only look so, of pairs of both."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.build import build_manifest
from fundusray.data.photographs.decode import BadImage
from fundusray.data.photographs.read import read_mask
from fundusray.data.prepared import prepared_set
from fundusray.data.prepared.geometry import prepared_mask
from fundusray.data.prepared.masks import mask_kinds
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.scan.examine import examine_photographs
from tests.data.trees import write

SHAPE = (120, 160)
GIVEN = {"source": "folder", "target": "lesions", "size": 48, "max_bad": 0.9}
NAMES = ("sound", "damaged", "small", "unknown", "jpeg", "bare", "unlit")


def content(pixels: np.ndarray | Image.Image, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(sink, kind)
    return sink.getvalue()


@pytest.fixture
def photographs(tmp_path: Path, drawn: Callable[..., np.ndarray]) -> Path:
    """A photograph of each name; what is called unlit shows a bar of light and no fundus."""
    for place, name in enumerate(NAMES):
        pixels = drawn(*SHAPE, 55.0 - place)
        if name == "unlit":
            pixels = np.zeros((*SHAPE, 3), np.uint8)
            pixels[:, 75:85] = 200
        write(tmp_path / "images" / f"{name}.png", content(pixels))
    return tmp_path


def marks(*indices: int) -> np.ndarray:
    """A mask file with a square of every class index."""
    values = np.zeros(SHAPE, np.uint8)
    for place, index in enumerate(indices):
        values[30:60, 40 + 24 * place : 60 + 24 * place] = index
    return values


def made(root: Path, data: Data) -> tuple[PreparedSet, dict[str, str]]:
    """The prepared set of a tree, and why photographs are not in it."""
    manifest = build_manifest(data, str(root), 0)
    data = Data(**GIVEN | {"classes": data.classes, "masks": mask_kinds(data, manifest.table)})
    folder = prepared_set.set_folder(str(root.parent / "out"), data, manifest)
    unit = prepared_set.write_shard(folder, 0, manifest.table, data, manifest.roots)
    prepared_set.assemble_set(folder, data, manifest, [unit])
    skipped = files.read_table(files.join(folder, "skipped.parquet")).to_pylist()
    return prepared_set.open_set(folder), {row["image_id"]: row["reason"] for row in skipped}


def test_class_indices_that_cannot_be_used(photographs: Path) -> None:
    masks = photographs / "masks"
    write(masks / "sound.png", content(marks(1, 2)))
    write(masks / "damaged.png", content(marks(1))[:-40])
    write(masks / "small.png", content(marks(1)[:-1]))
    write(masks / "unknown.png", content(marks(2, 7)))
    write(masks / "jpeg.png", content(marks(1), "JPEG"))
    write(masks / "unlit.png", content(marks(1)))
    classes = ("background", "hard_exudates", "optic_disc")
    kept, reasons = made(photographs, Data(**GIVEN, classes=classes))
    assert kept.classes == classes and kept.mask_kinds == classes[1:]
    assert kept.image_ids() == ["sound"] and "bare" not in reasons
    assert reasons["small"] == (
        "mask of hard_exudates: 160x119 pixels, not 160x120 as the photograph"
    )
    assert reasons["unknown"] == (
        "mask of hard_exudates: class index 7 (600 pixels) in masks/unknown.png is nobody's; known "
        "are 0 background, 1 hard_exudates, 2 optic_disc: correct the mask, or name the class in "
        "data.classes"
    )
    assert reasons["damaged"].startswith("mask of hard_exudates: damaged mask: ")
    assert reasons["jpeg"].startswith("mask of hard_exudates: not a PNG or TIFF mask: begins with ")
    assert reasons["unlit"].startswith("no fundus: the lit area, 10x120 of 160x120 pixels, is no")
    for own, index in zip(kept.masks(np.array([0]))[0], (1, 2), strict=True):
        expected = prepared_mask(kept.geometry(0), marks(1, 2) == index)
        assert np.array_equal(own, expected) and own.any()


def test_a_scan_says_the_same_of_masks(photographs: Path) -> None:
    write(photographs / "masks" / "unknown.png", content(marks(2, 7)))
    data = Data(**GIVEN, classes=("background", "hard_exudates", "optic_disc"))
    manifest = build_manifest(data, str(photographs), 0)
    (row,) = examine_photographs(manifest.table, data, manifest.roots).to_pylist()
    assert (
        row["flags"] == ["masks"]
        and "class index 7 (600 pixels) in masks/unknown" in (row["mask_faults"])
    )
    secret = Data(**GIVEN, classes=data.classes, id_key="key")
    (row,) = examine_photographs(manifest.table, secret, manifest.roots).to_pylist()
    assert "class index 7" in row["mask_faults"] and "unknown" not in row["mask_faults"]


def test_a_kind_without_a_file_is_not_there(photographs: Path) -> None:
    """And masks of every way to store one, also those of IDRiD: palettes, and colours with what is
    transparent."""
    mark = marks(1)
    palette = Image.fromarray(mark)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    colours = np.dstack([mark * np.uint8(200), mark * 0, mark * 0, np.full(SHAPE, 255, np.uint8)])
    for kind, name, tiff in (("drusen", "sound", palette), ("drusen", "small", colours)):
        write(photographs / "masks" / kind / f"{name}.tif", content(tiff, "TIFF"))
    write(photographs / "masks" / "optic_disc" / "sound.png", content(mark))
    kept, reasons = made(photographs, Data(**GIVEN))
    assert reasons == {} and kept.image_ids() == ["small", "sound"]
    assert kept.classes == ("background", "drusen", "optic_disc")
    assert kept.annotated(np.arange(2)).tolist() == [[True, False], [True, True]]
    masks = kept.masks(np.arange(2))
    for row, own in enumerate(masks):
        expected = prepared_mask(kept.geometry(row), mark)
        assert np.array_equal(own[0], expected) and expected.any()
        assert np.array_equal(own[1], expected if row else 0 * expected)


def test_fractions_and_colours_are_no_class_indices(photographs: Path) -> None:
    masks = photographs / "masks"
    write(masks / "sound.tif", content(marks(1).astype(np.float32), "TIFF"))
    write(masks / "small.png", content(np.dstack([marks(1), marks(2), marks(1)])))
    write(masks / "jpeg.tif", content(Image.fromarray(marks(1)).convert("RGBA"), "TIFF"))
    kept, reasons = made(photographs, Data(**GIVEN, classes=("background", "drusen")))
    assert kept.image_ids() == ["jpeg"] and kept.masks(np.array([0])).any()
    assert "mask of drusen: a mask of fractions" in reasons["sound"]
    assert "mask of drusen: a mask in colours" in reasons["small"]
    with pytest.raises(BadImage, match="in colours"):
        read_mask(str(photographs), "masks/small.png#index=1")
