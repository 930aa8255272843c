"""Preparing on the cluster: end to end, reuse, going on after a kill."""

import io
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fundusray import files
from fundusray.cluster import prepare as preparing
from fundusray.cluster.prepare import data_root, prepare_set
from fundusray.config import Data, Recipe, override
from fundusray.data.manifest.build import Manifest
from fundusray.data.photographs.digests import NAME
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import BadInputsError, InputError
from fundusray.lock import locked
from tests.conftest import draw_fundus


@pytest.fixture
def recipe(eyepacs_tree: Callable[..., Path]) -> Recipe:
    """Twenty photographs, one of them cut off and one garbage."""
    root = eyepacs_tree(num_patients=10)
    cut, garbage = root / "train" / "2_left.jpeg", root / "train" / "5_right.jpeg"
    cut.write_bytes(cut.read_bytes()[:-400])
    garbage.write_bytes(b"no picture" * 100)
    changes = {"data.source": "eyepacs", "data.root": str(root), "data.size": 32}
    return override(Recipe(), changes | {"data.max_bad": 0.1})


def times(folder: str) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in Path(folder).iterdir()}


@pytest.mark.ray
def test_from_photographs_to_a_set(
    cluster: None, recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    root = Path(recipe.data.root)
    for name in ("99_left.webp", "11_left.jpeg"):
        shutil.copy(root / "train" / "1_left.jpeg", root / "train" / name)
    with open(root / "trainLabels.csv", "a") as table:
        table.write("11_left,\n")
    folder = prepare_set(recipe, str(tmp_path))
    opened = open_set(folder)
    assert len(opened) == 19 and opened.info["num_skipped"] == 1
    assert (opened.info["num_untaken"], opened.info["num_unlabelled"]) == (1, 1)
    assert len(opened.info["shards"]) == 3
    said = capfd.readouterr()
    assert "19 images kept (1 of them repaired), 1 skipped" in said.out and folder in said.out
    named = "patients read from names: '1_left' -> patient 1, left eye (21 of 21 names)"
    assert said.out.startswith(named) and "patients unknown" not in said.out
    assert "1 skipped, 1 without a label of grade left out; " in said.out
    line = "  1 photograph not taken, not in the table: train/99_left.webp\n"
    assert said.out.endswith(line) and said.out.count(line) == 1
    assert "preparing: 20/20" in said.err and "1 skipped" in said.err
    assert not [name for name in times(folder) if name.startswith(files.TEMPORARY)]
    assert "lock" not in times(folder)


@pytest.mark.ray
def test_a_second_call_makes_nothing(
    cluster: None, recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder = prepare_set(recipe, str(tmp_path))
    before = times(folder)
    capfd.readouterr()
    assert prepare_set(recipe, str(tmp_path)) == folder
    # Times of files that were just written prove nothing; it keeps what it learned of them since.
    assert times(folder) | {NAME: 0} == before | {NAME: 0}
    assert "there already" in capfd.readouterr().out


@pytest.mark.ray
def test_after_a_kill_only_what_is_missing_is_made(
    cluster: None, recipe: Recipe, tmp_path: Path
) -> None:
    folder = prepare_set(recipe, str(tmp_path))
    content = {p.name: p.read_bytes() for p in Path(folder).iterdir()}
    before = times(folder)
    os.unlink(f"{folder}/set.json")
    os.unlink(f"{folder}/unit-00001.json")
    Path(folder, f"{files.TEMPORARY}abc-unit-00001.arrow").write_bytes(b"half")
    assert prepare_set(recipe, str(tmp_path)) == folder
    again = {p.name: p.read_bytes() for p in Path(folder).iterdir()}
    # What is in the photographs is noted with when they were looked at.
    looks = [files.read_table(f"{folder}/{NAME}"), pq.read_table(io.BytesIO(content[NAME]))]
    assert looks[0].drop("stamp").equals(looks[1].drop("stamp"))
    assert again | {NAME: b""} == content | {NAME: b""}
    changed = {name for name, when in times(folder).items() if when != before[name]}
    tables = {"manifest.parquet", "skipped.parquet", "twins.parquet", NAME, "set.json"}
    assert changed == {"unit-00001.json", "unit-00001.arrow", "unit-00001.prints"} | tables


@pytest.mark.ray
def test_a_photograph_changed_in_place_is_another_set_and_damage_is_made_again(
    cluster: None, recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder = prepare_set(recipe, str(tmp_path))
    before = open_set(folder)
    photograph = Path(recipe.data.root, "train", "1_left.jpeg")
    original = photograph.read_bytes()
    photograph.write_bytes(original[:-30] + b"x" * 20 + original[-10:])
    other = prepare_set(recipe, str(tmp_path))
    assert other.startswith(f"{folder}-")
    after = open_set(other)
    rows = np.flatnonzero(
        np.array(before.table["sha256"].to_pylist()) != np.array(after.table["sha256"].to_pylist())
    )
    assert [before.image_ids()[row] for row in rows] == ["1_left"]
    assert after.info["manifest"] != before.info["manifest"]
    photograph.write_bytes(original)
    assert prepare_set(recipe, str(tmp_path)) == folder, "as it was, it is the set that is there"
    unit = Path(folder, "unit-00001.arrow")
    whole = unit.read_bytes()
    for victim in ("unit-00001.arrow", "twins.parquet", "set.json"):
        capfd.readouterr()
        content = Path(folder, victim).read_bytes()
        Path(folder, victim).write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
        assert prepare_set(recipe, str(tmp_path)) == folder
        assert f"{folder}/{victim}" in (said := capfd.readouterr().err) and "made again" in said
        assert Path(folder, victim).read_bytes() == content
    assert unit.read_bytes() == whole and open_set(folder).table.equals(before.table)


@pytest.mark.ray
def test_raw_units_of_two_data_sets_are_made_once(
    cluster: None, recipe: Recipe, tmp_path: Path
) -> None:
    root = f"{recipe.data.root},{recipe.data.root}"
    changes = {"data.source": "eyepacs,eyepacs", "data.root": root, "data.encoding": "raw"}
    both = override(recipe, changes)
    folder = prepare_set(both, str(tmp_path))
    before = times(folder)
    opened = open_set(folder)
    assert len(opened) == 38 and len(opened.info["shards"]) == 5
    rows = np.arange(19)
    assert np.array_equal(opened.pixels(rows), opened.pixels(rows + 19))
    os.unlink(f"{folder}/set.json")
    damaged = Path(folder, "unit-00002.u8")
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + b"?")
    assert prepare_set(both, str(tmp_path)) == folder
    assert damaged.read_bytes() == content
    changed = {name for name, when in times(folder).items() if when != before[name]}
    made = {"unit-00002.json", "unit-00002.u8", "unit-00002.prints"}
    assert {name for name in changed if name.startswith("unit-")} == made


@pytest.mark.ray
def test_too_many_bad_photographs_are_told_as_such(
    cluster: None, recipe: Recipe, tmp_path: Path
) -> None:
    strict = override(recipe, {"data.max_bad": 0.01})
    with pytest.raises(BadInputsError, match=r"(?s)1 of 20.*5_right\.jpeg: not a JPEG"):
        prepare_set(strict, str(tmp_path))
    assert len(open_set(prepare_set(recipe, str(tmp_path)))) == 19


@pytest.mark.ray
def test_a_worker_s_own_error_arrives_as_it_was(
    cluster: None, recipe: Recipe, tmp_path: Path
) -> None:
    wrong = override(recipe, {"data.preprocess": "grahm"})
    with pytest.raises(InputError, match="did you mean 'graham'"):
        prepare_set(wrong, str(tmp_path))


def test_a_unit_is_named_by_its_photographs(recipe: Recipe) -> None:
    """So is the error of one that kills its workers."""
    chunk = pa.table({"image_id": ["a", "b", "c"], "path": ["x/a.png", "x/b.png", "x/c.png"]})
    unit = preparing._unit(7, chunk.slice(1), recipe.data)
    assert (unit.key, unit.rows, unit.name) == ("7", 2, "x/b.png to x/c.png")
    keyed = preparing._unit(7, chunk, override(recipe, {"data.id_key": "/key"}).data)
    assert keyed.name == "a to c"


@pytest.mark.ray
def test_the_later_of_two_waits_for_the_first(
    cluster: None, recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder = prepare_set(recipe, str(tmp_path))
    os.unlink(f"{folder}/set.json")
    with locked(folder):
        later = threading.Thread(target=prepare_set, args=(recipe, str(tmp_path)))
        later.start()
        time.sleep(1.0)
        assert not Path(folder, "set.json").exists()
    later.join(30)
    assert len(open_set(folder)) == 19
    assert "waiting:" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("data", "least", "most"),
    [
        (Data(size=2048), 8, 128),
        (Data(size=512, encoding="raw"), 8, 128),
        (Data(size=1024, encoding="raw"), 8, 42),
        (Data(size=8192, encoding="raw"), 1, 1),
    ],
)
def test_the_cut_covers_every_row_once(data: Data, least: int, most: int) -> None:
    for rows in (1, 8, 9, 100, 4096, 20_000):
        table = pa.table({"row": list(range(rows))})
        chunks = preparing.unit_chunks(Manifest(table, table, (), {}, "", 0), data)
        assert pa.concat_tables(chunks).equals(table)
        lengths = {chunk.num_rows for chunk in chunks[:-1]}
        assert len(lengths) <= 1 and all(least <= length <= most for length in lengths)
        assert len(chunks) == -(-rows // max(lengths, default=rows))


def test_where_the_photographs_are(recipe: Recipe) -> None:
    assert data_root(recipe, "/store") == recipe.data.root
    drawn = override(Recipe(seed=7), {"data.num_images": 60})
    assert data_root(drawn, "/store") == "/store/synthetic/60-7"
    # Another training of the same photographs draws none anew.
    again = override(drawn, {"seed": 8, "data.split_seed": 7})
    assert data_root(again, "/store") == "/store/synthetic/60-7"


@pytest.mark.parametrize(
    ("source", "root", "expected"),
    [
        ("eyepacs,folder", "/a,/b", "/a,/b"),
        ("synthetic", "", "/store/synthetic/400-0"),
        ("eyepacs, synthetic", "/a", "/a,/store/synthetic/400-0"),
        ("eyepacs,synthetic,folder", "/a,/b", "/a,/store/synthetic/400-0,/b"),
    ],
)
def test_drawn_photographs_stand_among_given_ones(source: str, root: str, expected: str) -> None:
    several = override(Recipe(), {"data.source": source, "data.root": root})
    assert data_root(several, "/store") == expected


@pytest.mark.parametrize(("source", "root"), [("a,synthetic", ""), ("a,synthetic,b", "/a,/b,/c")])
def test_a_root_too_few_or_many_is_told(source: str, root: str) -> None:
    several = override(Recipe(), {"data.source": source, "data.root": root})
    with pytest.raises(InputError, match=r"needs [12] roots in data\.root .* got [03]"):
        data_root(several, "/store")


@pytest.mark.ray
def test_masks_are_kept_where_a_recipe_asks_for_them(cluster: None, tmp_path: Path) -> None:
    """In FGADR's layout; one mask is of another size than its photograph."""
    root = tmp_path / "fgadr"
    for folder in ("Original_Images", "Microaneurysms_Masks", "HardExudate_Masks"):
        (root / folder).mkdir(parents=True)
    for index in range(10):
        Image.fromarray(draw_fundus(seed=index)).save(root / f"Original_Images/{index}.png")
        for folder in ("Microaneurysms_Masks", "HardExudate_Masks")[: 1 + index % 2]:
            mask = np.zeros((96, 128 - (index == 3)), np.uint8)
            mask[40:60, 50:70] = 255
            Image.fromarray(mask).save(root / folder / f"{index}.png")
    table = "".join(f"{index}.png,{index % 2}\n" for index in range(10))
    (root / "DR_Seg_Grading_Label.csv").write_text(table)
    changes = {"data.source": "fgadr", "data.root": str(root), "data.size": 32}
    recipe = override(Recipe(), changes | {"data.masks": "all", "data.max_bad": 0.2})
    opened = open_set(prepare_set(recipe, str(tmp_path / "out")))
    assert opened.mask_kinds == ("hard_exudates", "microaneurysms")
    assert opened.image_ids() == [str(index) for index in range(10) if index != 3]
    rows = np.arange(9)
    assert opened.annotated(rows)[:, 1].all() and opened.annotated(rows)[:, 0].sum() == 4
    assert np.array_equal(opened.masks(rows).any(axis=(2, 3)), opened.annotated(rows))
    bare = override(recipe, {"data.masks": ""})
    assert open_set(prepare_set(bare, str(tmp_path / "out"))).mask_kinds == ()
    with pytest.raises(InputError, match=r"data\.masks named 'exudates'.*mean 'hard_exudates'"):
        prepare_set(override(recipe, {"data.masks": "exudates"}), str(tmp_path / "out"))
