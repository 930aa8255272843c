"""Prepared sets: what went in comes out, damage is found, bad photographs are set aside."""

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from fundusray import files
from fundusray.config import Data
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.photographs.decode import decode_photograph, encode_jpeg
from fundusray.data.prepared import prepared_set
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.errors import BadInputsError, InputError

SIZE = 48


Made = tuple[str, Manifest, list[dict[str, Any]]]


def make(tree: Path, storage: str, chunk: int = 5, **changes: Any) -> Made:
    """Prepares a tree of photographs; folder, manifest and units."""
    settings = {"source": "eyepacs", "root": str(tree), "size": SIZE, "max_bad": 0.5}
    data = Data(**(settings | changes))
    manifest = build_manifest(data, data.root, 0)
    folder = prepared_set.set_folder(storage, data, manifest)
    units = [
        prepared_set.write_shard(
            folder, i, manifest.table.slice(start, chunk), data, manifest.roots
        )
        for i, start in enumerate(range(0, manifest.table.num_rows, chunk))
    ]
    prepared_set.assemble_set(folder, data, manifest, units)
    return folder, manifest, units


@pytest.fixture
def tree(eyepacs_tree: Callable[..., Path]) -> Path:
    return eyepacs_tree()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in a worker; small photographs are only slowed down by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tree/ with twelve eyes, and in jpeg/ and raw/ the prepared sets of them."""
    root = tmp_path_factory.mktemp("original")
    (root / "tree" / "train").mkdir(parents=True)
    lines = ["image,level"]
    for index in range(12):
        lines.append(f"{index // 2}_{('left', 'right')[index % 2]},{index % 5}")
        content = encode_jpeg(draw_photograph(2, index, index % 5, 128).image)
        (root / "tree" / "train" / f"{lines[-1][:-2]}.jpeg").write_bytes(content)
    (root / "tree" / "trainLabels.csv").write_text("\n".join(lines))
    for encoding in ("jpeg", "raw"):
        make(root / "tree", str(root / encoding), encoding=encoding)
    return root


def copied(original: Path, encoding: str, tmp_path: Path) -> str:
    """The folder of a prepared set that may be broken."""
    shutil.copytree(original / encoding, tmp_path / "out")
    return str(next((tmp_path / "out" / "prepared").iterdir()))


def spoil(root: Path) -> None:
    """Cuts one photograph's end off and makes another one garbage."""
    cut, garbage = root / "train" / "2_left.jpeg", root / "train" / "5_right.jpeg"
    cut.write_bytes(cut.read_bytes()[:-400])
    garbage.write_bytes(b"no picture" * 100)


def test_every_row_is_its_photograph_and_knows_it(tree: Path, tmp_path: Path) -> None:
    folder, manifest, _ = make(tree, str(tmp_path / "out"))
    opened = prepared_set.open_set(folder)
    assert len(opened) == 12 and opened.size == SIZE and opened.fill == 128 / 255
    assert opened.image_ids() == manifest.table["image_id"].to_pylist()
    assert opened.targets().tolist() == manifest.table["target"].to_pylist()
    assert opened.targets().dtype == np.int64
    assert opened.patients() == manifest.table["patient_id"].to_pylist()
    assert opened.classes == manifest.classes
    for row in (11, 0, 5, 5, 4):
        path = tree / manifest.table["path"][row].as_py()
        pixels = decode_photograph(path.read_bytes(), PREPROCESS["graham"].min_side(SIZE)).pixels
        expected = encode_jpeg(PREPROCESS["graham"].function(pixels, SIZE).pixels)
        (encoded,) = opened.encoded(np.array([row]))
        assert bytes(encoded) == expected
        assert Image.open(io.BytesIO(encoded)).size == (SIZE, SIZE)
    row = opened.table.slice(3, 1).to_pylist()[0]
    content = (tree / row["path"]).read_bytes()
    assert (row["width"], row["height"], row["repaired"]) == (128, 96, False)
    assert row["sha256"] == files.sha256(content) and row["num_bytes"] == len(content)
    assert b"proliferative" in opened.table.schema.metadata[b"classes"]
    # Whose they are was read from their names, and is known to whoever opens the set.
    assert opened.info["patients_known"] == {"eyepacs": 12}
    assert opened.table.schema.metadata[b"patients_known"] == b'{"eyepacs": 12}'
    (note,) = opened.info["notes"]
    assert "'1_left' -> patient 1, left eye (12 of 12 names)" in note


def test_encoded_is_a_view_of_the_mapped_file(tree: Path, tmp_path: Path) -> None:
    opened = prepared_set.open_set(make(tree, str(tmp_path / "out"))[0])
    before = pa.total_allocated_bytes()
    views = opened.encoded(np.array([7, 2, 7]))
    assert pa.total_allocated_bytes() == before
    assert all(v.dtype == np.uint8 and v.ndim == 1 and not v.flags.writeable for v in views)
    assert np.shares_memory(views[0], views[2]) and not np.shares_memory(views[0], views[1])
    assert opened.encoded(np.zeros(0, np.int64)) == []


def test_bad_photographs_are_set_aside_and_named(tree: Path, tmp_path: Path) -> None:
    spoil(tree)
    folder, _, _ = make(tree, str(tmp_path / "out"), max_bad=0.1)
    opened = prepared_set.open_set(folder)
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
    assert len(written) == 9
    folder, _, _ = make(tree, str(tmp_path / "out"), max_bad=enough)
    assert len(prepared_set.open_set(folder)) == 11
    assert all(p.stat().st_mtime_ns == changed for p, changed in written.items())


def test_rows_missing_from_the_table_count_as_bad(tree: Path, tmp_path: Path) -> None:
    (tree / "train" / "1_left.jpeg").unlink()
    spoil(tree)
    folder, _, _ = make(tree, str(tmp_path / "out"), max_bad=0.2)
    skipped = files.read_table(f"{folder}/skipped.parquet").to_pylist()
    assert [row["image_id"] for row in skipped] == ["1_left", "5_right"]
    with pytest.raises(BadInputsError, match="2 of 12"):
        make(tree, str(tmp_path / "out"), max_bad=0.1)


def test_one_class_left_is_refused(tree: Path, tmp_path: Path) -> None:
    lines = (tree / "trainLabels.csv").read_text().splitlines()[1:]
    graded = [f"{line.split(',')[0]},{int(line.startswith('5_right'))}" for line in lines]
    (tree / "trainLabels.csv").write_text("image,level\n" + "\n".join(graded) + "\n")
    spoil(tree)
    with pytest.raises(InputError, match="of one class"):
        make(tree, str(tmp_path / "out"))


@pytest.mark.parametrize("piece", [prepared_set.PIECE, 15_000, 1])
def test_raw_pixels_come_in_the_order_asked_for(
    tree: Path, tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_set, "PIECE", piece)
    spoil(tree)
    folder, _, units = make(tree, str(tmp_path / "out"), encoding="raw")
    opened = prepared_set.open_set(folder)
    assert opened.encoding == "raw" and [unit["rows"] for unit in units] == [5, 4, 2]
    content = b"".join(Path(folder, unit["name"]).read_bytes() for unit in units)
    every = np.frombuffer(content, np.uint8).reshape(-1, SIZE, SIZE, 3)
    assert len(every) == len(opened) == 11
    rng = np.random.default_rng(0)
    out = np.empty((7, SIZE, SIZE, 3), np.uint8)
    for rows in ([4, 5, 0, 10, 9, 5, 5], *rng.integers(0, 11, (5, 7))):
        pixels = opened.pixels(np.array(rows))
        assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
        assert np.array_equal(pixels, every[rows])
        out.fill(7)
        assert opened.pixels(np.array(rows), out) is out and np.array_equal(out, every[rows])
    assert opened.pixels(np.zeros(0, np.int64)).shape == (0, SIZE, SIZE, 3)
    with pytest.raises(AssertionError, match="C-contiguous"):
        opened.pixels(np.arange(7), out[:, :, ::-1])
    with pytest.raises(IndexError):
        opened.pixels(np.array([11]))


def test_an_encoding_does_not_change_what_else_is_known(tree: Path, tmp_path: Path) -> None:
    spoil(tree)
    sets = [
        prepared_set.open_set(make(tree, str(tmp_path / "out"), encoding=encoding)[0])
        for encoding in ("jpeg", "raw")
    ]
    assert sets[0].table.equals(sets[1].table, check_metadata=True)
    theirs = {"encoding", "quality", "shards"}
    jpeg, raw = ({k: v for k, v in one.info.items() if k not in theirs} for one in sets)
    assert jpeg == raw
    rows = np.arange(11)
    for content, pixels in zip(sets[0].encoded(rows), sets[1].pixels(rows), strict=True):
        assert bytes(content) == encode_jpeg(pixels)


def test_asking_for_the_other_encoding_is_refused(original: Path) -> None:
    places = [next((original / encoding / "prepared").iterdir()) for encoding in ("jpeg", "raw")]
    jpeg, raw = (prepared_set.open_set(str(place)) for place in places)
    with pytest.raises(InputError, match=r"encoding=jpeg, this needs raw; .*data\.encoding=raw"):
        jpeg.pixels(np.arange(2))
    with pytest.raises(InputError, match=r"encoding=raw, this needs jpeg"):
        raw.encoded(np.arange(2))


def test_a_unit_that_lost_all_its_photographs_leaves_no_gap(tree: Path, tmp_path: Path) -> None:
    for name in ("1_left", "1_right"):
        (tree / "train" / f"{name}.jpeg").write_bytes(b"no picture" * 100)
    for encoding in ("jpeg", "raw"):
        folder, manifest, _ = make(tree, str(tmp_path / "out"), 2, encoding=encoding)
        opened = prepared_set.open_set(folder)
        assert opened.image_ids() == manifest.table["image_id"].to_pylist()[2:]
        images = opened.encoded if encoding == "jpeg" else opened.pixels
        assert len(images(np.arange(10))) == 10


@pytest.mark.parametrize(
    "name", ["unit-00001.arrow", "unit-00001.u8", "manifest.parquet", "twins.parquet"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damage_is_named_with_its_cure(
    original: Path, tmp_path: Path, name: str, damage: str
) -> None:
    encoding = "raw" if name.endswith("u8") else "jpeg"
    folder = copied(original, encoding, tmp_path)
    prepared_set.open_set(folder)
    path = Path(folder) / name
    content = path.read_bytes()
    flipped = content[:99] + bytes([content[99] ^ 4]) + content[100:]
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(flipped if damage == "flip" else content[:-1])
    with pytest.raises(InputError, match=rf"{name} is damaged: it.*delete .*set\.json.*run again"):
        prepared_set.open_set(folder)
    os.unlink(f"{folder}/set.json")
    assert make(original / "tree", str(tmp_path / "out"), encoding=encoding)[0] == folder
    mended = prepared_set.open_set(folder)
    assert len(mended) == 12 and mended.info["num_twins"] == mended.info["num_conflicts"] == 0
    assert set(mended.table["twin"].to_pylist()) == {""}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1}'])
def test_a_broken_description_is_refused(original: Path, tmp_path: Path, text: str) -> None:
    folder = copied(original, "jpeg", tmp_path)
    (Path(folder) / "set.json").write_text(text)
    with pytest.raises(InputError, match=r"set\.json is damaged|format 1, .* reads 2"):
        prepared_set.open_set(folder)


def test_an_unfinished_set_is_refused(tmp_path: Path) -> None:
    assert not prepared_set.is_complete(str(tmp_path))
    with pytest.raises(InputError, match=r"no finished prepared set.*prepare\.py"):
        prepared_set.open_set(str(tmp_path))


def test_the_folder_names_what_decides_the_pixels(tree: Path) -> None:
    def folder(**changes) -> str:
        data = Data(**({"source": "eyepacs", "root": str(tree), "size": SIZE} | changes))
        return prepared_set.set_folder("/s", data, build_manifest(data, data.root, 0))

    same = folder()
    assert re.fullmatch(r"/s/prepared/eyepacs-graham-48-[0-9a-f]{12}", same)
    assert folder(augment="none", fractions=(0.5, 0.25, 0.25), max_bad=0.3) == same
    raw = folder(encoding="raw")
    assert re.fullmatch(r"/s/prepared/eyepacs-graham-48-raw-[0-9a-f]{12}", raw)
    others = [folder(size=64), folder(preprocess="resize"), folder(preprocess_args={"clip": 0.9})]
    assert len({same, raw, *others}) == 5
    both = folder(source="eyepacs,eyepacs", root=f"{tree},{tree}")
    assert both.startswith("/s/prepared/eyepacs+eyepacs-2-graham-48-")
    (tree / "train" / "9_left.jpeg").write_bytes(b"x")
    assert folder() == same, "a photograph without a label changes nothing"
    (tree / "train" / "1_left.jpeg").write_bytes(b"x")
    assert folder() != same


def test_a_remote_set_is_copied_once(tree: Path, tmp_path: Path) -> None:
    folder, _, _ = make(tree, f"file://{tmp_path}/store")
    assert prepared_set.is_complete(folder) and (tmp_path / "store" / "prepared").is_dir()
    cache = tmp_path / "cache"
    opened = prepared_set.open_set(folder, str(cache))
    assert opened.folder.startswith(str(cache))
    images = [bytes(view) for view in opened.encoded(np.arange(12))]
    shutil.rmtree(tmp_path / "store" / "prepared" / Path(folder).name / "none", True)
    changed = {p: p.stat().st_mtime_ns for p in cache.rglob("*.arrow")}
    again = prepared_set.open_set(folder, str(cache))
    assert [bytes(view) for view in again.encoded(np.arange(12))] == images
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.arrow")} == changed
    shard = next(iter(changed))
    shard.write_bytes(shard.read_bytes()[::-1])
    with pytest.raises(InputError, match=rf"delete {cache}.* copy of {folder}"):
        prepared_set.open_set(folder, str(cache))


def test_near_duplicates_are_found_and_told(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    (root / "train").mkdir(parents=True)
    eyes = [draw_photograph(0, index, index % 5, 256).image for index in range(4)]
    half = np.asarray(Image.fromarray(eyes[0]).reduce(2))
    # The last three are the first again (the same file, then smaller) and the third, graded anew.
    shown = [*map(encode_jpeg, eyes[:3]), b"no picture" * 100, encode_jpeg(eyes[3])]
    shown += [encode_jpeg(eyes[0]), encode_jpeg(half), encode_jpeg(eyes[2], 80)]
    grades = [0, 1, 2, 4, 3, 0, 0, 3]
    names = [f"{index}_left" for index in range(8)]
    for name, content in zip(names, shown, strict=True):
        (root / "train" / f"{name}.jpeg").write_bytes(content)
    lines = [f"{name},{grade}\n" for name, grade in zip(names, grades, strict=True)]
    (root / "trainLabels.csv").write_text("image,level\n" + "".join(lines))
    folder, _, _ = make(root, str(tmp_path / "out"), chunk=3, preprocess="center_crop")
    opened = prepared_set.open_set(folder)
    twin = dict(zip(opened.image_ids(), opened.table["twin"].to_pylist(), strict=True))
    again = {"0_left": "0_left", "5_left": "0_left", "6_left": "0_left"}
    again |= {"2_left": "2_left", "7_left": "2_left"}
    assert twin == {name: again.get(name, "") for name in names if name != "3_left"}
    rows = files.read_table(f"{folder}/twins.parquet").to_pylist()
    assert {again[row[end]] for row in rows for end in ("first", "second")} == {"0_left", "2_left"}
    assert all(0 < row["similarity"] <= 1 and row["how"] for row in rows)
    (conflict,) = (row for row in rows if row["conflict"])
    assert [conflict[name] for name in ("first", "second")] == ["2_left", "7_left"]
    assert [conflict[name] for name in ("first_target", "second_target")] == [2, 3]
    assert opened.info["num_twins"] == len(rows) and opened.info["num_conflicts"] == 1


def test_several_data_sets_are_one_set(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tree, other)
    for index, path in enumerate(sorted((other / "train").iterdir())):
        path.write_bytes(encode_jpeg(draw_photograph(1, index, index % 5, 128).image))
    changes = {"source": "eyepacs,eyepacs", "root": f"{tree},{other}", "preprocess": "resize"}
    folder, manifest, _ = make(tree, str(tmp_path / "out"), encoding="raw", **changes)
    assert manifest.roots == {"eyepacs": str(tree), "eyepacs-2": str(other)}
    opened = prepared_set.open_set(folder)
    assert len(opened) == 24 and len(set(opened.patients())) == 12
    for first, root in ((0, tree), (12, other)):
        alone, _, _ = make(root, str(tmp_path / root.name), encoding="raw", preprocess="resize")
        expected = prepared_set.open_set(alone).pixels(np.arange(12))
        assert np.array_equal(opened.pixels(np.arange(first, first + 12)), expected)


def test_ungradable_photographs_are_set_apart_and_can_be_prepared_alone(
    tree: Path, tmp_path: Path
) -> None:
    """Grade 4, two of twelve: more than max_bad allows, which is not asked."""
    grade = {"ungradable": ("proliferative",), "max_bad": 0}
    folder, _, _ = make(tree, str(tmp_path / "out"), **grade)
    info = prepared_set.open_set(folder).info
    assert (info["num_skipped"], info["num_ungradable"], info["num_unlabelled"]) == (0, 2, 2)
    assert info["ordered"] and info["classes"] == ["none", "mild", "moderate", "severe"]
    skipped = files.read_table(f"{folder}/skipped.parquet").to_pylist()
    assert [row["reason"] for row in skipped] == ["ungradable ('proliferative')"] * 2
    alone, _, _ = make(tree, str(tmp_path / "out"), **grade, judge="ungradable")
    opened = prepared_set.open_set(alone)
    assert alone != folder and opened.targets().tolist() == [-1, -1]
    assert opened.image_ids() == [row["image_id"] for row in skipped]
    assert opened.info["num_skipped"] == 0 and opened.info["counts"] == [0, 0, 0, 0]


def test_a_set_knows_whether_its_classes_have_an_order(tree: Path, tmp_path: Path) -> None:
    named = {"map": {"none": "x", "mild": "y", "moderate": "z", "severe": "z"}}
    named["map"]["proliferative"] = "z"
    without, _, _ = make(tree, str(tmp_path / "out"), **named)
    given, _, _ = make(tree, str(tmp_path / "out"), **named, classes=("x", "y", "z"))
    assert without != given
    assert not prepared_set.open_set(without).ordered and prepared_set.open_set(given).ordered
