"""Units of a prepared set: the pixels they hold, when they are made again, where they come from."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fundusray.config import Data
from fundusray.data.duplicates.fingerprint import fingerprint
from fundusray.data.manifest.build import build_manifest
from fundusray.data.photographs.decode import decode_photograph
from fundusray.data.prepared.preprocess import PREPROCESS, preprocess_photograph
from fundusray.data.prepared.write import read_prints, write_shard
from fundusray.errors import InputError

SIZE = 48
ENCODINGS = ("jpeg", "raw")


@pytest.fixture
def tree(eyepacs_tree: Callable[..., Path]) -> Path:
    """Twelve photographs, the third of which is garbage."""
    root = eyepacs_tree()
    (root / "train" / "2_left.jpeg").write_bytes(b"no picture" * 100)
    return root


def given(root: Path, **changes: Any) -> tuple[Data, pa.Table, dict[str, str]]:
    """Settings, the manifest's rows and the roots of a tree."""
    settings = {"source": "eyepacs", "root": str(root), "size": SIZE, "max_bad": 0.5}
    data = Data(**(settings | changes))
    manifest = build_manifest(data, data.root, 0)
    return data, manifest.table, manifest.roots


@pytest.mark.parametrize("name", sorted(PREPROCESS))
def test_a_raw_unit_holds_just_what_preprocessing_gave(
    tree: Path, tmp_path: Path, name: str
) -> None:
    args = {"clip": 0.8} if name == "graham" else {}
    data, table, roots = given(tree, preprocess=name, preprocess_args=args, encoding="raw")
    unit = write_shard(str(tmp_path), 3, table, data, roots)
    assert unit["name"] == "unit-00003.u8" and unit["kept"] == [0, 1, *range(3, 12)]
    held = np.fromfile(tmp_path / unit["name"], np.uint8).reshape(-1, SIZE, SIZE, 3)
    assert len(held) == unit["rows"] == 11 and held.nbytes == unit["bytes"]
    for pixels, row in zip(held, unit["kept"], strict=True):
        content = (tree / table["path"][row].as_py()).read_bytes()
        decoded = decode_photograph(content, PREPROCESS[name].min_side(SIZE)).pixels
        assert np.array_equal(pixels, preprocess_photograph(data, decoded).pixels)
    if args:
        plain = PREPROCESS[name].function(decoded, SIZE).pixels
        assert not np.array_equal(held[-1], plain), "the arguments change the pixels"


def test_a_unit_knows_what_its_photographs_look_like(tree: Path, tmp_path: Path) -> None:
    data, table, roots = given(tree)
    unit = write_shard(str(tmp_path), 0, table, data, roots)
    prints = read_prints(str(tmp_path), unit)
    for seen, row in zip(prints, unit["kept"], strict=True):
        content = (tree / table["path"][row].as_py()).read_bytes()
        decoded = decode_photograph(content, PREPROCESS["graham"].min_side(SIZE)).pixels
        assert np.array_equal(seen, fingerprint(decoded))


def test_both_encodings_know_the_same_of_the_photographs(tree: Path, tmp_path: Path) -> None:
    units = []
    for encoding in ENCODINGS:
        data, table, roots = given(tree, encoding=encoding)
        units.append(write_shard(str(tmp_path), 0, table, data, roots))
    theirs = {"name", "chunk", "bytes", "sha256"}
    jpeg, raw = ({k: v for k, v in unit.items() if k not in theirs} for unit in units)
    assert jpeg == raw and jpeg["columns"]["width"] == [128] * 11
    assert all(units[0][key] != units[1][key] for key in theirs)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_unit_is_made_again_only_when_it_must_be(
    tree: Path, tmp_path: Path, encoding: str
) -> None:
    data, table, roots = given(tree, encoding=encoding, preprocess="center_crop")
    table = table.slice(0, 4)
    folder = str(tmp_path / "out")
    unit = write_shard(folder, 1, table, data, roots)
    names = [unit["name"], "unit-00001.json", "unit-00001.prints"]
    assert sorted(p.name for p in Path(folder).iterdir()) == sorted(names)
    whole = {name: Path(folder, name).read_bytes() for name in names}
    times = {name: Path(folder, name).stat().st_mtime_ns for name in names}
    assert write_shard(folder, 1, table, data, roots) == unit
    assert {name: Path(folder, name).stat().st_mtime_ns for name in names} == times
    for name in names:
        content = whole[name]
        flipped = content[:700] + bytes([content[700] ^ 1]) + content[701:]
        for damage in (content[:-10], flipped, b"", None):
            Path(folder, name).unlink()
            if damage is not None:
                Path(folder, name).write_bytes(damage)
            remade = write_shard(folder, 1, table, data, roots)
            assert remade == unit
            assert {name: Path(folder, name).read_bytes() for name in names} == whole
    Path(folder, names[2]).write_bytes(bytes(len(whole[names[2]])))
    with pytest.raises(InputError, match=r"unit-00001\.prints is damaged; run again"):
        read_prints(folder, unit)
    Path(folder, names[2]).write_bytes(whole[names[2]])
    other = write_shard(folder, 1, table.slice(0, 3), data, roots)
    assert other["rows"] == 2 and other["sha256"] != unit["sha256"]


@pytest.mark.parametrize(
    "change", [{"size": 32}, {"preprocess": "resize"}, {"preprocess_args": {"clip": 0.5}}]
)
def test_a_unit_of_other_settings_is_not_taken(
    tree: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    data, table, roots = given(tree)
    unit = write_shard(str(tmp_path), 0, table, data, roots)
    other, _, _ = given(tree, **change)
    assert write_shard(str(tmp_path), 0, table, other, roots)["sha256"] != unit["sha256"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_file_that_cannot_be_read_is_tried_again(
    tree: Path, tmp_path: Path, encoding: str
) -> None:
    data, table, roots = given(tree, encoding=encoding)
    lost = tree / "train" / "3_left.jpeg"
    aside = lost.rename(tree / "lost.jpeg")
    folder = str(tmp_path / "out")
    unit = write_shard(folder, 0, table, data, roots)
    assert [row["where"] for row in unit["skipped"]] == [
        "train/2_left.jpeg", "train/3_left.jpeg",
    ]  # fmt: skip
    assert "cannot be read" in unit["skipped"][1]["reason"]
    aside.rename(lost)
    assert write_shard(folder, 0, table, data, roots)["rows"] == 11


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_unit_without_a_usable_photograph_is_empty(
    tree: Path, tmp_path: Path, encoding: str
) -> None:
    data, table, roots = given(tree, encoding=encoding)
    unit = write_shard(str(tmp_path), 0, table.slice(2, 1), data, roots)
    assert unit["rows"] == 0 and len(unit["skipped"]) == 1
    assert write_shard(str(tmp_path), 0, table.slice(2, 1), data, roots) == unit


def test_rows_come_from_the_root_of_their_data_set(tree: Path, tmp_path: Path) -> None:
    data, table, _ = given(tree, encoding="raw", preprocess="center_crop")
    (tmp_path / "two" / "train").mkdir(parents=True)
    (tree / "train" / "2_right.jpeg").rename(tmp_path / "two" / "train" / "1_left.jpeg")
    (row,) = table.slice(0, 1).to_pylist()
    both = [row, row | {"dataset": "other", "image_id": "other-1_left"}]
    roots = {"eyepacs": str(tree), "other": str(tmp_path / "two")}
    chunk = pa.Table.from_pylist(both, table.schema)
    unit = write_shard(str(tmp_path / "out"), 0, chunk, data, roots)
    held = np.fromfile(tmp_path / "out" / unit["name"], np.uint8).reshape(-1, SIZE, SIZE, 3)
    min_side = PREPROCESS["center_crop"].min_side(SIZE)
    for pixels, root in zip(held, roots.values(), strict=True):
        decoded = decode_photograph(
            Path(root, "train", "1_left.jpeg").read_bytes(), min_side
        ).pixels
        assert np.array_equal(pixels, preprocess_photograph(data, decoded).pixels)
    assert not np.array_equal(held[0], held[1])


def test_a_raw_unit_is_held_in_memory_once(tree: Path, tmp_path: Path) -> None:
    data, table, roots = given(tree, encoding="raw", size=512, preprocess="center_crop")
    write_shard(str(tmp_path / "warm"), 0, table.slice(0, 3), data, roots)
    tracemalloc.start()
    unit = write_shard(str(tmp_path / "out"), 0, table, data, roots)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert unit["bytes"] == 11 * 512 * 512 * 3
    assert unit["bytes"] < most < 1.6 * unit["bytes"]


def test_the_real_odd_files_are_all_decided(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "odd" / "made"
    if not folder.is_dir():
        pytest.skip(f"no odd files in {real_data}")
    paths = sorted(p.name for p in folder.iterdir())
    columns = {"image_id": paths, "dataset": ["folder"] * len(paths), "path": paths}
    table = pa.table(columns | {"num_bytes": [1] * len(paths)})
    data = Data(source="folder", size=SIZE)
    unit = write_shard(str(tmp_path), 0, table, data, {"folder": str(folder)})
    skipped = {row["where"] for row in unit["skipped"]}
    bad = {"black.jpg", "empty.jpg", "html.jpg", "tiny_1x1.jpg", "truncated_header.jpg"}
    assert bad <= skipped and all(row["reason"] for row in unit["skipped"])
    assert unit["rows"] + len(skipped) == len(paths) and unit["rows"] >= 10
