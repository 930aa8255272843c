"""What is in a set's files is found out by reading them once, and never taken from an old look."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.photographs import digests
from fundusray.data.photographs.digests import FRESH, NAME, SCHEMA
from fundusray.data.prepared import prepared_set


@pytest.fixture
def tree(eyepacs_tree: Callable[..., Path]) -> Path:
    return eyepacs_tree(num_patients=3)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if some time had gone by since the photographs were written."""
    ahead = int(2 * FRESH * 1e9)
    clock = time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: clock() + ahead)


def manifest_of(tree: Path) -> Manifest:
    return build_manifest(Data(source="eyepacs", root=str(tree)), str(tree), 0)


def look(tree: Path, *known: pa.Table) -> pa.Table:
    manifest = manifest_of(tree)
    return digests.content_table(manifest.table, manifest.roots, known)


def patch(path: Path) -> None:
    """Other content in place: the same size, time and inode."""
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(-30, os.SEEK_END)
        stream.write(b"x" * 20)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size, before.st_mtime_ns, before.st_ino,
    )  # fmt: skip


def test_the_digests_are_those_of_the_files(tree: Path) -> None:
    found, manifest = look(tree), manifest_of(tree)
    paths = manifest.table["path"].to_pylist()
    assert found["sha256"].to_pylist() == [
        files.sha256((tree / path).read_bytes()) for path in paths
    ]
    assert set(found["masks"].to_pylist()) == {""} and found.schema.equals(SCHEMA)


def test_a_file_patched_in_place_with_its_time_set_back_is_another(tree: Path, later) -> None:
    before = look(tree)
    assert all(before["stamp"].to_pylist())
    patch(tree / "train" / "2_left.jpeg")
    after = look(tree, before)
    differ = np.flatnonzero(
        np.array(before["sha256"].to_pylist()) != np.array(after["sha256"].to_pylist())
    )
    assert [manifest_of(tree).table["image_id"][i].as_py() for i in differ] == ["2_left"]
    assert digests.content_summary(before) != digests.content_summary(after)


def test_what_was_only_touched_is_the_same_set(tree: Path, later) -> None:
    before = look(tree)
    for path in (tree / "train").iterdir():
        path.touch()
    after = look(tree, before)
    assert digests.content_summary(after) == digests.content_summary(before)
    assert not set(after["stamp"].to_pylist()) & set(before["stamp"].to_pylist())


def test_only_what_is_new_is_read(tree: Path, later) -> None:
    """An answer that is wrong on purpose stays for files that were left alone, and only there."""
    before = look(tree)
    wrong = digests.as_table(before["stamp"].to_pylist(), ["wrong"] * 6, [""] * 6)
    (tree / "train" / "1_left.jpeg").touch()
    found = look(tree, wrong)["sha256"].to_pylist()
    assert found.count("wrong") == 5 and found[0] == before["sha256"][0].as_py()


def test_times_of_a_file_that_was_just_written_prove_nothing(tree: Path) -> None:
    before = look(tree)
    assert set(before["stamp"].to_pylist()) == {""}
    wrong = digests.as_table([""] * 6, ["wrong"] * 6, [""] * 6)
    assert look(tree, wrong)["sha256"].to_pylist() == before["sha256"].to_pylist()


def test_masks_count(tree: Path) -> None:
    manifest = manifest_of(tree)
    (tree / "mask.png").write_bytes(b"one")
    masks = pa.array([[("disc", "mask.png")]] + [[]] * 5, pa.map_(pa.string(), pa.string()))
    place = manifest.table.schema.get_field_index("masks")
    table = manifest.table.set_column(place, manifest.table.schema.field("masks"), masks)
    before = digests.content_table(table, manifest.roots, [])
    (tree / "mask.png").write_bytes(b"two")
    after = digests.content_table(table, manifest.roots, [])
    assert before["sha256"].equals(after["sha256"])
    assert digests.content_summary(before) != digests.content_summary(after)


def test_pictures_of_an_archive_are_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (4, 28, 28, 3), np.uint8), np.arange(4)[:, None]
    place = tmp_path / "retinamnist.npz"
    settings = Data(source="retinamnist", root=str(place), target="grade")

    def found() -> tuple[str, str]:
        np.savez(place, train_images=images, train_labels=labels.astype(np.uint8))
        manifest = build_manifest(settings, str(place), 0)
        held = digests.content_table(manifest.table, manifest.roots, [])
        return manifest.hash, digests.content_summary(held)

    before = found()
    images[2] = images[2][::-1]
    after = found()
    assert before[0] == after[0], "its table is the same"
    assert before[1] != after[1]


def test_a_set_knows_what_it_was_made_of(tree: Path, tmp_path: Path) -> None:
    data = Data(source="eyepacs", root=str(tree), size=48)
    manifest = manifest_of(tree)
    folder = prepared_set.set_folder(str(tmp_path), data, manifest)
    unit = prepared_set.write_shard(folder, 0, manifest.table, data, manifest.roots)
    prepared_set.assemble_set(folder, data, manifest, [unit])
    first = prepared_set.open_set(folder).info
    assert first["contents"] == digests.content_summary(look(tree))
    # Patched in place, the unit is made again, and the set is another.
    patch(tree / "train" / "3_right.jpeg")
    again = prepared_set.write_shard(folder, 0, manifest.table, data, manifest.roots)
    assert again["contents"] != unit["contents"]
    assert sum(a != b for a, b in zip(again["contents"], unit["contents"], strict=True)) == 1
    prepared_set.assemble_set(folder, data, manifest, [again])
    assert prepared_set.open_set(folder).info["manifest"] != first["manifest"]
    with pytest.raises(Exception, match="changed while they were prepared"):
        prepared_set.assemble_set(folder, data, manifest, [again], expected=first["contents"])


def test_a_damaged_look_is_no_look(tree: Path, tmp_path: Path, capsys) -> None:
    files.write_table(str(tmp_path / NAME), look(tree))
    assert digests.read_contents(str(tmp_path), 6) is not None
    assert digests.read_contents(str(tmp_path), 7) is None
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    assert digests.read_contents(str(tmp_path), 6) is None
    assert "read again" in capsys.readouterr().err
