"""Source folder, where photographs have a folder of masks beside them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fundusray.config import Data
from fundusray.data import SOURCES, SourceContent
from fundusray.data.manifest.build import build_manifest
from fundusray.data.photographs.decode import BadImage
from fundusray.data.photographs.read import read_mask
from fundusray.errors import InputError
from tests.data.trees import mask, photograph, write

INDICES = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % 3


def pairs(root: Path, data: Data | None = None) -> SourceContent:
    return SOURCES["folder"](data or Data(source="folder"), str(root), 0)


def told(found: SourceContent) -> list[str]:
    return [f"{one.where}: {one.reason}" for one in found.problems]


def png(values: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(values).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three photographs: one with both kinds, one with one, one without any."""
    for name in ("a_left.jpg", "a_right.JPEG", "b.png"):
        write(tmp_path / "images" / name, photograph())
    write(tmp_path / "masks" / "optic_disc" / "a_left.png", mask("PNG"))
    write(tmp_path / "masks" / "drusen" / "a_left.tif", mask("TIFF"))
    write(tmp_path / "masks" / "drusen" / "a_right.tiff", mask("TIFF", "RGBA"))
    write(tmp_path / "masks" / "microaneurysms" / "a_right.png", mask("PNG", "1"))
    return tmp_path


def test_a_folder_for_each_kind(tree: Path) -> None:
    found = pairs(tree)
    assert found.problems == []
    assert found.labels == {"lesions": ("background", "microaneurysms", "drusen", "optic_disc")}
    assert found.columns["image_id"] == ["a_left", "a_right", "b"]
    assert found.columns["path"] == ["images/a_left.jpg", "images/a_right.JPEG", "images/b.png"]
    assert found.columns["masks"] == [
        [("drusen", "masks/drusen/a_left.tif"), ("optic_disc", "masks/optic_disc/a_left.png")],
        [
            ("microaneurysms", "masks/microaneurysms/a_right.png"),
            ("drusen", "masks/drusen/a_right.tiff"),
        ],
        [],
    ]
    for held in found.columns["masks"]:
        for _, path in held:
            assert read_mask(str(tree), path).sum() == 200
    ordered = Data(
        source="folder", classes=("background", "optic_disc", "drusen", "microaneurysms")
    )
    assert pairs(tree, ordered).labels == {"lesions": ordered.classes}
    some = Data(source="folder", classes=("background", "optic_disc"))
    whole = ("background", "optic_disc", "microaneurysms", "drusen")
    assert pairs(tree, some).labels == {"lesions": whole}


def test_files_of_class_indices(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.jpg", photograph())
    write(tmp_path / "images" / "b.jpg", photograph())
    write(tmp_path / "masks" / "a.png", png(INDICES))
    data = Data(source="folder", classes=("background", "exudates", "vessels"))
    found = pairs(tmp_path, data)
    assert found.labels == {
        "lesions": ("background", "exudates", "vessels"), "vessels": ("background", "vessels")
    }  # fmt: skip
    assert found.columns["masks"] == [
        [("exudates", "masks/a.png#index=1"), ("vessels", "masks/a.png#index=2")], [],
    ]  # fmt: skip
    for index, (_, path) in enumerate(found.columns["masks"][0], 1):
        assert np.array_equal(read_mask(str(tmp_path), path), index == INDICES)
    for classes in ((), ("exudates", "vessels")):
        with pytest.raises(InputError, match=r"class indices.*give data\.classes=background,<kind"):
            pairs(tmp_path, Data(source="folder", classes=classes))


def test_class_indices_in_a_jpeg_are_named_as_what_they_are(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.jpg", photograph())
    write(tmp_path / "masks" / "a.jpg", photograph())
    data = Data(source="folder", target="lesions", classes=("background", "exudates"))
    manifest = build_manifest(data, str(tmp_path), 0)
    assert manifest.skipped.num_rows == 0
    ((_, path),) = manifest.table["masks"][0].as_py()
    with pytest.raises(BadImage, match="not a PNG or TIFF"):
        read_mask(str(tmp_path), path)


def test_sides(tmp_path: Path) -> None:
    for side, name in (("train", "1.jpg"), ("train", "2.jpg"), ("testing", "1.jpg")):
        write(tmp_path / side / "images" / name, photograph())
    write(tmp_path / "train" / "masks" / "drusen" / "1.png", mask("PNG"))
    write(tmp_path / "testing" / "masks" / "vessels" / "1.png", mask("PNG"))
    found = pairs(tmp_path)
    assert found.problems == [] and found.columns["split"] == ["test", "train", "train"]
    assert found.columns["image_id"] == ["testing-1", "train-1", "2"]
    assert found.labels["lesions"] == ("background", "drusen", "vessels")
    assert found.labels["vessels"] == ("background", "vessels")
    assert found.columns["masks"] == [
        [("vessels", "testing/masks/vessels/1.png")],
        [("drusen", "train/masks/drusen/1.png")],
        [],
    ]
    (tmp_path / "train").rename(tmp_path / "val")
    with pytest.raises(InputError, match="folders testing, val, expected train and one each"):
        pairs(tmp_path)


def test_files_that_cannot_be_meant(tree: Path) -> None:
    write(tree / "masks" / "drusen" / "a_left.png", mask("PNG"))
    write(tree / "masks" / "optic_disc" / "c.png", mask("PNG"))
    write(tree / "images" / "b.jpg", photograph())
    found = pairs(tree)
    assert sorted(told(found)) == [
        "images/: 'b' is there with another extension; keep one",
        "masks/drusen/: mask 'a_left' is there with another extension; keep one",
        "masks/optic_disc/: mask 'c.png' without its photograph c.jpg",
    ]
    assert [one.refused for one in found.problems if "without" in one.reason] == [False]


def test_layouts_that_cannot_be_meant(tree: Path) -> None:
    for classes, words in (
        (("background", "druse"), r"no folder of masks in .*'druse'; did you mean 'drusen'"),
        (("drusen", "optic_disc", "microaneurysms"), "the first is background, then come kinds"),
    ):
        with pytest.raises(InputError, match=words):
            pairs(tree, Data(source="folder", classes=classes))
    write(tree / "masks" / "b.png", mask("PNG"))
    with pytest.raises(InputError, match=r"masks holds files beside the folders drusen"):
        pairs(tree)


def test_masks_that_nothing_bears_the_name_of(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.jpg", photograph())
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="masks holds neither files nor folders"):
        pairs(tmp_path)
    write(tmp_path / "masks" / "drusen" / "a_mask.png", mask("PNG"))
    with pytest.raises(InputError, match="no mask bears the name of a photograph"):
        pairs(tmp_path)
    (tmp_path / "images" / "a.jpg").unlink()
    with pytest.raises(InputError, match="no images found; pairs are"):
        pairs(tmp_path)


def test_pairs_are_learned_by_their_masks(tree: Path) -> None:
    with pytest.raises(InputError, match=r"data\.target=grade: none of 3 images.*are lesions"):
        build_manifest(Data(source="folder"), str(tree), 0)
    manifest = build_manifest(Data(source="folder", target="lesions"), str(tree), 0)
    assert manifest.classes == ("background", "microaneurysms", "drusen", "optic_disc")
    assert manifest.table["image_id"].to_pylist() == ["a_left", "a_right"]
    assert manifest.unlabelled == 1 and manifest.skipped.num_rows == 0
    with pytest.raises(InputError, match=r"data\.target=vessels: none of 3 images has a mask.*dru"):
        build_manifest(Data(source="folder", target="vessels"), str(tree), 0)
    some = Data(source="folder", target="lesions", classes=("background", "optic_disc"))
    manifest = build_manifest(some, str(tree), 0)
    assert manifest.classes == some.classes and manifest.table["image_id"].to_pylist() == ["a_left"]
