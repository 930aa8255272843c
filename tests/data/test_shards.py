"""Prepared sets: what went in comes out, damage is found, bad photographs are set aside."""

import io
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fundusray import files
from fundusray.config import Data
from fundusray.data import shards
from fundusray.data.images import decode, encode_jpeg
from fundusray.data.manifest import Manifest, build
from fundusray.data.preprocess import PREPROCESS
from fundusray.data.shards import PreparedSet
from fundusray.errors import BadInputsError, InputError

SIZE = 48


def make(root: Path, storage: str, chunk: int = 5, **changes) -> tuple[str, Manifest, list[dict]]:
    """Prepares a tree of photographs; folder, manifest and units."""
    settings = {"source": "eyepacs", "root": str(root), "size": SIZE, "max_bad": 0.5}
    data = Data(**(settings | changes))
    manifest = build(data, str(root), 0)
    folder = shards.set_folder(storage, data, manifest)
    units = [
        shards.write_shard(folder, i, manifest.table.slice(start, chunk), data, str(root))
        for i, start in enumerate(range(0, manifest.table.num_rows, chunk))
    ]
    shards.finish(folder, data, manifest, units)
    return folder, manifest, units


@pytest.fixture
def tree(eyepacs_tree: Callable[..., Path]) -> Path:
    return eyepacs_tree()


def spoil(root: Path) -> None:
    """Cuts one photograph's end off and makes another one garbage."""
    cut, garbage = root / "train" / "2_left.jpeg", root / "train" / "5_right.jpeg"
    cut.write_bytes(cut.read_bytes()[:-400])
    garbage.write_bytes(b"no picture" * 100)


def test_every_row_is_its_photograph(tree: Path, tmp_path: Path) -> None:
    folder, manifest, _ = make(tree, str(tmp_path / "out"))
    opened = shards.open_set(folder)
    assert len(opened) == 12 and opened.size == SIZE and opened.fill == 128 / 255
    assert opened.image_ids() == manifest.table["image_id"].to_pylist()
    assert opened.targets().tolist() == manifest.table["grade"].to_pylist()
    assert opened.targets().dtype == np.int64
    assert opened.patients() == manifest.table["patient_id"].to_pylist()
    assert opened.classes == manifest.classes
    for row in (11, 0, 5, 5, 4):
        path = tree / manifest.table["path"][row].as_py()
        pixels = decode(path.read_bytes(), PREPROCESS["graham"].min_side(SIZE)).pixels
        expected = encode_jpeg(PREPROCESS["graham"].function(pixels, SIZE))
        (encoded,) = opened.encoded(np.array([row]))
        assert bytes(encoded) == expected
        assert Image.open(io.BytesIO(encoded)).size == (SIZE, SIZE)


def test_rows_know_their_originals(tree: Path, tmp_path: Path) -> None:
    table = shards.open_set(make(tree, str(tmp_path / "out"))[0]).table
    row = table.slice(3, 1).to_pylist()[0]
    content = (tree / row["path"]).read_bytes()
    assert (row["width"], row["height"], row["repaired"]) == (128, 96, False)
    assert row["sha256"] == files.sha256(content) and row["num_bytes"] == len(content)
    assert b"proliferative" in table.schema.metadata[b"classes"]


def test_encoded_is_a_view_of_the_mapped_file(tree: Path, tmp_path: Path) -> None:
    opened = shards.open_set(make(tree, str(tmp_path / "out"))[0])
    before = pa.total_allocated_bytes()
    views = opened.encoded(np.array([7, 2, 7]))
    assert pa.total_allocated_bytes() == before
    assert all(v.dtype == np.uint8 and v.ndim == 1 and not v.flags.writeable for v in views)
    assert np.shares_memory(views[0], views[2]) and not np.shares_memory(views[0], views[1])


def test_bad_photographs_are_set_aside_and_named(tree: Path, tmp_path: Path) -> None:
    spoil(tree)
    folder, _, _ = make(tree, str(tmp_path / "out"), max_bad=0.1)
    opened = shards.open_set(folder)
    assert len(opened) == 11 and "5_right" not in opened.image_ids()
    row = opened.table.to_pylist()[opened.image_ids().index("2_left")]
    assert row["repaired"] and sum(opened.table["repaired"].to_pylist()) == 1
    (skipped,) = files.read_table(f"{folder}/skipped.parquet").to_pylist()
    assert skipped["image_id"] == "5_right" and skipped["where"] == "train/5_right.jpeg"
    assert "not a JPEG" in skipped["reason"]
    assert opened.info["num_skipped"] == 1
    assert sum(opened.info["counts"]) == 11


def test_too_many_bad_ones_stop_and_raising_the_bound_goes_on(tree: Path, tmp_path: Path) -> None:
    spoil(tree)
    with pytest.raises(BadInputsError, match=r"1 of 12 .*8\.3%.*1\.0%") as caught:
        make(tree, str(tmp_path / "out"), max_bad=0.01)
    assert "train/5_right.jpeg: not a JPEG" in str(caught.value) and caught.value.exit_code == 5
    enough = float(re.search(r"max_bad=([\d.]+)", str(caught.value))[1])
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("unit-*")}
    assert len(written) == 6
    folder, _, _ = make(tree, str(tmp_path / "out"), max_bad=enough)
    assert len(shards.open_set(folder)) == 11
    assert all(p.stat().st_mtime_ns == changed for p, changed in written.items())


def test_rows_missing_from_the_table_count_as_bad(tree: Path, tmp_path: Path) -> None:
    (tree / "train" / "1_left.jpeg").unlink()
    spoil(tree)
    folder, _, _ = make(tree, str(tmp_path / "out"), max_bad=0.2)
    skipped = files.read_table(f"{folder}/skipped.parquet").to_pylist()
    assert [row["image_id"] for row in skipped] == ["1_left", "5_right"]
    with pytest.raises(BadInputsError, match="2 of 12"):
        make(tree, str(tmp_path / "out"), max_bad=0.1)


def test_a_file_that_cannot_be_read_is_tried_again(tree: Path, tmp_path: Path) -> None:
    data = Data(source="eyepacs", root=str(tree), size=SIZE)
    manifest = build(data, str(tree), 0)
    lost = tree / "train" / "3_left.jpeg"
    aside = lost.rename(tree / "lost.jpeg")
    folder = str(tmp_path / "out")
    unit = shards.write_shard(folder, 0, manifest.table, data, str(tree))
    assert [row["where"] for row in unit["skipped"]] == ["train/3_left.jpeg"]
    assert "cannot be read" in unit["skipped"][0]["reason"]
    aside.rename(lost)
    assert shards.write_shard(folder, 0, manifest.table, data, str(tree))["rows"] == 12


def test_one_class_left_is_refused(tree: Path, tmp_path: Path) -> None:
    lines = (tree / "trainLabels.csv").read_text().splitlines()[1:]
    graded = [f"{line.split(',')[0]},{int(line.startswith('5_right'))}" for line in lines]
    (tree / "trainLabels.csv").write_text("image,level\n" + "\n".join(graded) + "\n")
    spoil(tree)
    with pytest.raises(InputError, match="of one class"):
        make(tree, str(tmp_path / "out"))


def test_a_unit_is_made_again_only_when_it_must_be(tree: Path, tmp_path: Path) -> None:
    folder, manifest, units = make(tree, str(tmp_path / "out"))
    data = Data(source="eyepacs", root=str(tree), size=SIZE, max_bad=0.5)
    shard = Path(folder) / units[1]["name"]
    chunk, whole = manifest.table.slice(5, 5), shard.read_bytes()
    changed = shard.stat().st_mtime_ns
    assert shards.write_shard(folder, 1, chunk, data, str(tree)) == units[1]
    assert shard.stat().st_mtime_ns == changed
    for damage in (whole[:-10], whole[:700] + bytes([whole[700] ^ 1]) + whole[701:]):
        shard.write_bytes(damage)
        assert shards.write_shard(folder, 1, chunk, data, str(tree)) == units[1]
        assert shard.read_bytes() == whole
    other = shards.write_shard(folder, 1, manifest.table.slice(0, 5), data, str(tree))
    assert other["sha256"] == units[0]["sha256"]


@pytest.mark.parametrize("name", ["unit-00001.arrow", "manifest.parquet", "skipped.parquet"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damage_is_named_with_its_cure(tree: Path, tmp_path: Path, name: str, damage: str) -> None:
    folder, _, _ = make(tree, str(tmp_path / "out"))
    shards.open_set(folder)
    path = Path(folder) / name
    content = path.read_bytes()
    flipped = content[:99] + bytes([content[99] ^ 4]) + content[100:]
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(flipped if damage == "flip" else content[:-1])
    with pytest.raises(InputError, match=rf"{name} is damaged: it.*delete .*set\.json.*run again"):
        shards.open_set(folder)
    os.unlink(f"{folder}/set.json")
    assert len(shards.open_set(make(tree, str(tmp_path / "out"))[0])) == 12


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_a_broken_description_is_refused(tree: Path, tmp_path: Path, text: str) -> None:
    folder, _, _ = make(tree, str(tmp_path / "out"))
    (Path(folder) / "set.json").write_text(text)
    with pytest.raises(InputError, match=r"set\.json is damaged|format 99"):
        shards.open_set(folder)


def test_an_unfinished_set_is_refused(tmp_path: Path) -> None:
    assert not shards.is_complete(str(tmp_path))
    with pytest.raises(InputError, match=r"no finished prepared set.*prepare\.py"):
        shards.open_set(str(tmp_path))


def test_the_folder_names_what_decides_the_pixels(tree: Path) -> None:
    def folder(**changes) -> str:
        data = Data(**({"source": "eyepacs", "root": str(tree), "size": SIZE} | changes))
        return shards.set_folder("/s", data, build(data, str(tree), 0))

    same = folder()
    assert re.fullmatch(r"/s/prepared/eyepacs-graham-48-[0-9a-f]{12}", same)
    assert folder(augment="none", fractions=(0.5, 0.25, 0.25), max_bad=0.3) == same
    assert len({same, folder(size=64), folder(preprocess="resize")}) == 3
    (tree / "train" / "9_left.jpeg").write_bytes(b"x")
    assert folder() == same, "a photograph without a label changes nothing"
    (tree / "train" / "1_left.jpeg").write_bytes(b"x")
    assert folder() != same


def test_a_remote_set_is_copied_once(tree: Path, tmp_path: Path) -> None:
    folder, _, _ = make(tree, f"file://{tmp_path}/store")
    assert shards.is_complete(folder) and (tmp_path / "store" / "prepared").is_dir()
    cache = tmp_path / "cache"
    opened = shards.open_set(folder, str(cache))
    assert opened.folder.startswith(str(cache))
    images = [bytes(view) for view in opened.encoded(np.arange(12))]
    shutil.rmtree(tmp_path / "store" / "prepared" / Path(folder).name / "none", True)
    changed = {p: p.stat().st_mtime_ns for p in cache.rglob("*.arrow")}
    again = shards.open_set(folder, str(cache))
    assert [bytes(view) for view in again.encoded(np.arange(12))] == images
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.arrow")} == changed
    shard = next(iter(changed))
    shard.write_bytes(shard.read_bytes()[::-1])
    with pytest.raises(InputError, match=rf"delete {cache}.* copy of {folder}"):
        shards.open_set(folder, str(cache))


def test_nothing_of_the_patient_is_carried_along(tree: Path, tmp_path: Path) -> None:
    marker, path = b"MRS-SECRET-1950", tree / "train" / "1_left.jpeg"
    exif = Image.Exif()
    exif[0x010E] = marker.decode()
    Image.open(path).save(path, exif=exif, comment=marker)
    assert path.read_bytes().count(marker) == 2
    folder, _, _ = make(tree, str(tmp_path / "out"))
    written = [p.read_bytes() for p in Path(folder).iterdir()]
    assert len(written) >= 9 and not any(marker in content for content in written)


def test_the_real_odd_files_are_all_decided(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "odd" / "made"
    if not folder.is_dir():
        pytest.skip(f"no odd files in {real_data}")
    paths = sorted(p.name for p in folder.iterdir())
    columns = {"image_id": paths, "path": paths, "num_bytes": [1] * len(paths)}
    unit = shards.write_shard(
        str(tmp_path), 0, pa.table(columns), Data(source="folder", size=SIZE), str(folder)
    )
    skipped = {row["where"] for row in unit["skipped"]}
    bad = {"black.jpg", "empty.jpg", "html.jpg", "tiny_1x1.jpg", "truncated_header.jpg"}
    assert bad <= skipped and all(row["reason"] for row in unit["skipped"])
    assert unit["rows"] + len(skipped) == len(paths) and unit["rows"] >= 10


def test_an_empty_set_of_rows_can_be_asked_for(tree: Path, tmp_path: Path) -> None:
    opened: PreparedSet = shards.open_set(make(tree, str(tmp_path / "out"))[0])
    assert opened.encoded(np.zeros(0, np.int64)) == []
