"""Masks kept beside the images of a prepared set."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.photographs.decode import decode_photograph
from fundusray.data.photographs.read import read_mask
from fundusray.data.prepared import prepared_set
from fundusray.data.prepared.geometry import prepared_mask
from fundusray.data.prepared.masks import mask_kinds, num_planes, unpacked_masks
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import preprocess_photograph
from fundusray.errors import BadInputsError, InputError

SIZE = 64
KINDS = ("MA", "HE", "EX", "SE", "OD")
FOLDERS = dict(
    zip(
        KINDS,
        (
            "1. Microaneurysms",
            "2. Haemorrhages",
            "3. Hard Exudates",
            "4. Soft Exudates",
            "5. Optic Disc",
        ),
        strict=True,
    )
)
NAMES = ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates", "optic_disc")
GIVEN = {"source": "idrid", "size": SIZE, "judge": "ungradable", "max_bad": 0.5}


@pytest.fixture
def tree(tmp_path: Path, drawn: Callable[..., np.ndarray]) -> Path:
    """Six photographs in the layout of IDRiD's part A, with masks as palette TIFF; the soft
    exudates of the second half have no files."""
    root = tmp_path / "idrid"
    images = root / "1. Original Images" / "a. Training Set"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(6):
        name = f"IDRiD_{index + 1:02d}"
        pixels = drawn(300, 420, 130.0, (190.0 + 5 * index, 150.0))
        Image.fromarray(pixels).save(images / f"{name}.jpg", quality=92)
        for place, (short, folder) in enumerate(FOLDERS.items()):
            if short == "SE" and index >= 3:
                continue
            marked = np.zeros((300, 420), np.uint8)
            for x, y in rng.integers(60, 240, (4, 2)):
                marked[y : y + 12 + place, x + 40 : x + 49] = 1
            saved = Image.fromarray(marked, "P")
            saved.putpalette([0, 0, 0, 255, 0, 0])
            where = root / "2. All Segmentation Groundtruths" / "a. Training Set" / folder
            where.mkdir(parents=True, exist_ok=True)
            saved.save(where / f"{name}_{short}.tif")
    return root


def make(root: Path, storage: Path, **changes: Any) -> tuple[str, Data, Manifest]:
    """Prepares a tree in two units; folder, settings and manifest."""
    data = Data(**(GIVEN | {"root": str(root)} | changes))
    manifest = build_manifest(data, data.root, 0, labelled=False)
    data = Data(
        **(GIVEN | {"root": str(root)} | changes | {"masks": mask_kinds(data, manifest.table)})
    )
    folder = prepared_set.set_folder(str(storage), data, manifest)
    half = manifest.table.num_rows // 2
    chunks = (manifest.table.slice(0, half), manifest.table.slice(half))
    units = [
        prepared_set.write_shard(folder, index, chunk, data, manifest.roots)
        for index, chunk in enumerate(chunks)
    ]
    prepared_set.assemble_set(folder, data, manifest, units)
    return folder, data, manifest


def opened(*args: Any, **changes: Any) -> PreparedSet:
    return prepared_set.open_set(make(*args, **changes)[0])


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
@pytest.mark.parametrize("preprocess", ["graham", "contour"])
def test_masks_are_those_of_the_photographs(
    tree: Path, tmp_path: Path, encoding: str, preprocess: str
) -> None:
    kept = opened(tree, tmp_path, encoding=encoding, preprocess=preprocess, masks=("all",))
    assert kept.mask_kinds == tuple(sorted(NAMES))
    rows = np.array([5, 0, 3, 3])
    masks = kept.masks(rows)
    assert masks.shape == (4, 5, SIZE, SIZE) and masks.dtype == np.uint8 and masks.max() == 1
    for row, own in zip(rows.tolist(), masks, strict=True):
        files_of = dict(kept.table["masks"][row].as_py())
        for kind, mask in zip(kept.mask_kinds, own, strict=True):
            whole = np.zeros((300, 420), bool)
            if kind in files_of:
                whole = read_mask(str(tree), files_of[kind])
            assert np.array_equal(mask, prepared_mask(kept.geometry(row), whole))
    assert masks.any(axis=(2, 3)).sum() >= 15
    photograph = decode_photograph((tree / kept.table["path"][5].as_py()).read_bytes()).pixels
    direct = preprocess_photograph(Data(size=SIZE, preprocess=preprocess), photograph).geometry
    stored = kept.geometry(5)
    assert stored.photograph == (300, 420) and abs(stored.left - direct.left) < 3


def test_which_kinds_are_annotated_is_kept(tree: Path, tmp_path: Path) -> None:
    kept = opened(tree, tmp_path, masks=("soft_exudates", "optic_disc"))
    assert kept.mask_kinds == ("soft_exudates", "optic_disc")
    assert kept.annotated(np.arange(6)).tolist() == [[True, True]] * 3 + [[False, True]] * 3
    assert kept.annotated(np.zeros(0, np.int64)).shape == (0, 2)
    masks = kept.masks(np.arange(6))
    assert masks[:3, 0].any(axis=(1, 2)).all() and not masks[3:, 0].any()
    every = opened(tree, tmp_path, masks=("all",))
    place = every.mask_kinds.index("optic_disc")
    assert np.array_equal(masks[:, 1], every.masks(np.arange(6))[:, place])


def test_a_set_with_other_masks_is_another_set(tree: Path, tmp_path: Path) -> None:
    names = {
        kinds: make(tree, tmp_path, masks=kinds)[0] for kinds in ((), ("all",), ("optic_disc",))
    }
    assert len(set(names.values())) == 3
    plain = prepared_set.open_set(names[()])
    assert plain.mask_kinds == () and plain.stored_masks is None and "masks" not in plain.info
    with pytest.raises(InputError, match=r"without masks; prepare it with data\.masks"):
        plain.mask_planes(np.arange(2))
    where = tree / "2. All Segmentation Groundtruths" / "a. Training Set" / FOLDERS["SE"]
    (where / "IDRiD_01_SE.tif").rename(where / "IDRiD_05_SE.tif")
    assert make(tree, tmp_path, masks=("all",))[0] != names[("all",)]
    assert make(tree, tmp_path, masks=("optic_disc",))[0] == names[("optic_disc",)]
    assert make(tree, tmp_path)[0] == names[()]


def test_a_mask_of_another_size_sets_its_photograph_aside(tree: Path, tmp_path: Path) -> None:
    place = tree / "2. All Segmentation Groundtruths" / "a. Training Set" / FOLDERS["EX"]
    Image.fromarray(np.ones((300, 419), np.uint8)).save(place / "IDRiD_02_EX.tif")
    (place / "IDRiD_04_EX.tif").write_bytes(b"no mask" * 9)
    folder, _, _ = make(tree, tmp_path, masks=("hard_exudates",))
    skipped = files.read_table(files.join(folder, "skipped.parquet")).to_pylist()
    reasons = {row["image_id"]: row["reason"] for row in skipped}
    assert set(reasons) == {"IDRiD_02", "IDRiD_04"}
    assert reasons["IDRiD_02"] == (
        "mask of hard_exudates: 419x300 pixels, not 420x300 as the photograph"
    )
    assert reasons["IDRiD_04"].startswith("mask of hard_exudates: not a PNG or TIFF mask")
    assert "IDRiD_02" not in prepared_set.open_set(folder).image_ids()
    # A set that does not ask for that kind takes the photograph.
    assert len(opened(tree, tmp_path, masks=("optic_disc",))) == 6
    with pytest.raises(BadInputsError, match=r"(?s)2 of 6 images.*mask of hard_exudates"):
        make(tree, tmp_path / "other", masks=("hard_exudates",), max_bad=0.1)


def test_a_unit_s_masks_are_made_again_when_they_are_damaged(tree: Path, tmp_path: Path) -> None:
    folder, data, manifest = make(tree, tmp_path, masks=("all",), encoding="raw")
    chunk = manifest.table.slice(0, 3)
    own = Path(folder) / "unit-00000.masks"
    whole = own.read_bytes()
    unit = prepared_set.write_shard(folder, 0, chunk, data, manifest.roots)
    for content in (whole[:-9], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], None):
        own.unlink()
        if content is not None:
            own.write_bytes(content)
        with pytest.raises(InputError, match=r"unit-00000\.masks is damaged: .*set\.json"):
            prepared_set.open_set(folder)
        assert prepared_set.write_shard(folder, 0, chunk, data, manifest.roots) == unit
        assert own.read_bytes() == whole
    assert len(prepared_set.open_set(folder).masks(np.arange(6))) == 6


def test_a_unit_of_another_version_is_made_anew(tree: Path, tmp_path: Path) -> None:
    """One whose record lacks what is kept of each row now."""
    folder, data, manifest = make(tree, tmp_path)
    place = files.join(folder, "unit-00000.json")
    unit = files.read_json(place)
    old = {key: value for key, value in unit.items() if key not in ("fields", "sealed")}
    files.write_json(place, old | {"prints": "0"})
    assert (
        prepared_set.write_shard(folder, 0, manifest.table.slice(0, 3), data, manifest.roots)
        == unit
    )


def test_a_set_of_an_earlier_version_is_read_but_knows_no_geometry(
    tree: Path, tmp_path: Path
) -> None:
    kept = opened(tree, tmp_path)
    columns = [name for name in kept.table.column_names if not name.startswith("crop_")]
    assert len(columns) == len(kept.table.column_names) - 4
    earlier = prepared_set.PreparedSet(
        kept.folder, kept.info, kept.table.select(columns), kept.images
    )
    assert len(earlier.encoded(np.arange(6))) == 6
    with pytest.raises(InputError, match=r"earlier version.*delete .*set\.json and prepare"):
        earlier.geometry(0)


def test_kinds_that_are_not_there_are_named(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"kind of mask in data\.masks.*did you mean 'haemorr"):
        make(tree, tmp_path, masks=("hemorrhages",))
    bare = build_manifest(Data(source="idrid", root=str(tree)), str(tree), 0, labelled=False)
    rows = [row | {"masks": []} for row in bare.table.to_pylist()]
    empty = pa.Table.from_pylist(rows, bare.table.schema)
    with pytest.raises(InputError, match=r"data\.masks=all: no photograph .*'idrid'.*empty"):
        mask_kinds(Data(source="idrid", masks=("all",)), empty)
    assert mask_kinds(Data(source="idrid"), empty) == ()
    assert mask_kinds(Data(source="idrid", masks=("any",)), empty) == ()
    every = mask_kinds(Data(source="idrid", masks=("all",)), bare.table)
    assert mask_kinds(Data(source="idrid", masks=("any",)), bare.table) == every != ()
    for kinds in (("a", "a"), ("all", "optic_disc"), ("optic_disc", "all"), ("any", "all")):
        with pytest.raises(InputError, match=r"data\.masks.*all or any alone"):
            Data(masks=kinds)


def test_more_than_eight_kinds_take_another_plane() -> None:
    assert [num_planes(num) for num in (0, 1, 8, 9, 16, 17)] == [0, 1, 1, 2, 2, 3]
    masks = np.random.default_rng(0).integers(0, 2, (3, 11, 5, 5), np.uint8)
    planes = np.zeros((3, 5, 5, 2), np.uint8)
    for kind in range(11):
        planes[..., kind // 8] |= masks[:, kind] << (kind % 8)
    assert np.array_equal(unpacked_masks(planes, 11), masks)


@pytest.mark.parametrize("preprocess", ["resize", "graham", "diameter", "contour", "center_crop"])
def test_real_masks_lie_on_their_lesions(real_data: Path, tmp_path: Path, preprocess: str) -> None:
    """Hard exudates are brighter than what is beside them and haemorrhages darker; a few pixels
    farther on they are not."""
    root = real_data / "idrid_small" / "A. Segmentation"
    if not root.is_dir():
        pytest.skip(f"no IDRiD in {real_data}")
    kinds = ("hard_exudates", "haemorrhages")
    data = Data(**GIVEN | {"size": 256, "preprocess": preprocess, "masks": kinds})
    manifest = build_manifest(data, str(root), 0, labelled=False)
    manifest = replace(manifest, table=manifest.table.slice(0, 6))
    folder = prepared_set.set_folder(str(tmp_path), data, manifest)
    unit = prepared_set.write_shard(folder, 0, manifest.table, data, manifest.roots)
    prepared_set.assemble_set(folder, data, manifest, [unit])
    kept, rows = prepared_set.open_set(folder), np.arange(6)
    seen = np.stack([decode_photograph(content.tobytes()).pixels for content in kept.encoded(rows)])
    green, masks = seen[..., 1].astype(float), kept.masks(rows).astype(bool)
    for kind, sign in enumerate((1, -1)):
        on, off = (
            np.array([sign * contrast(green[i], np.roll(masks[i, kind], by, (0, 1))) for i in rows])
            for by in ((0, 0), (5, 5))
        )
        assert (on > 0).all() and (on > off).all() and np.median(off) < 0.5 * np.median(on)


def contrast(green: np.ndarray, mask: np.ndarray) -> float:
    """How many levels what is marked is brighter than what lies 2 to 4 pixels beside it."""
    around = binary_dilation(mask, iterations=4) & ~binary_dilation(mask, iterations=1)
    return green[mask].mean() - green[around].mean()
