import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from fundusray import files
from fundusray.data import SOURCES
from fundusray.data.photographs.read import read_photo
from fundusray.data.reading.folders import (
    bad_path,
    is_inside,
    list_folder,
    match_photographs,
    plain_id,
)
from fundusray.errors import InputError
from tests.data.trees import LAYOUTS, classes, write


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is reached as store://set."""
    local = files._filesystem
    remote = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())

    def filesystem(location: str) -> tuple[pafs.FileSystem, str]:
        is_ours = location.startswith("store://")
        return (remote, location[len("store://") :]) if is_ours else local(location)

    monkeypatch.setattr(files, "_filesystem", filesystem)
    return tmp_path / "set"


def test_an_object_store_is_read_like_a_disk(
    store: Path, eyepacs_tree: Callable[..., Path]
) -> None:
    eyepacs_tree(2).rename(store)
    found = LAYOUTS["eyepacs"].read("store://set")
    assert found == LAYOUTS["eyepacs"].read(store) and len(found.columns["path"]) == 4
    path = found.columns["path"][0]
    assert read_photo("store://set", path) == (store / path).read_bytes()
    with pytest.raises(InputError, match="leads out of store://set"):
        read_photo("store://set", "../x.jpg")


def test_what_a_folder_holds(tmp_path: Path) -> None:
    classes(tmp_path, a=["1.jpg", "2.PNG", ".3.jpg"], a__deep=[])
    write(tmp_path / "a" / "notes.txt", b"12")
    write(tmp_path / "a" / ".tmp-x.jpg", b"half written")
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    for link, target in (("in.jpg", "1.jpg"), ("out.jpg", "/etc/hostname"), ("lost", "nowhere")):
        (tmp_path / "a" / link).symlink_to(target)
    folder = list_folder(str(tmp_path), "a")
    assert set(folder.files) == {"1.jpg", "2.PNG", ".3.jpg", "notes.txt", "in.jpg", "out.jpg"}
    assert folder.files["notes.txt"] == 2
    assert (folder.prefix, folder.folders, folder.outside) == ("a/", ["deep"], {"out.jpg"})
    assert folder.broken == ["lost"] and folder.has_photographs()
    for name in ("none", "a/1.jpg", "x" * 300):
        assert list_folder(str(tmp_path), name).files == {}


def test_which_file_an_id_means(tmp_path: Path) -> None:
    names = ["a.jpeg", "b.JPG", "c.png", "c.jpg", "d.tif", "Zoe\u0308.png"]
    classes(tmp_path, mixed=names, alike=["a.jpg", "b.jpg"])
    cells = ["a", "b.png", "c", "c.png", "d", "d.tif", "Zo\u00eb", "e"]
    found = match_photographs(
        list_folder(str(tmp_path), "mixed"), list(map(plain_id, cells)), cells
    )
    assert found.names == [
        *("a.jpeg", "b.JPG", "c.jpg", "c.png"),
        *("d.tif", "d.tif", "Zoe\u0308.png", None),
    ]
    assert [size is None for size in found.sizes] == [name is None for name in found.names]
    assert found.twins == set()
    assert match_photographs(list_folder(str(tmp_path), "mixed"), ["c"], ["c"]).twins == {"c"}
    cells = ["b", "a.jpg", "A", "c"]
    found = match_photographs(
        list_folder(str(tmp_path), "alike"), list(map(plain_id, cells)), cells
    )
    assert found.names == ["b.jpg", "a.jpg", None, None]


def test_what_lies_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "root2").mkdir()
    (root / "up").symlink_to("..")
    (root / "here").symlink_to(".")
    inside = {"": True, "x": True, "here/x": True, "up": False, "up/root": True, "../root2": False}
    for place in (str(root), root.as_uri()):
        assert {path: is_inside(place, path) for path in inside} == inside


@pytest.mark.parametrize("path", ["a.jpg", "a/b c/d#1%20.jpg", "été/œil.png", "a..b"])
def test_paths_inside_are_no_fault(path: str) -> None:
    assert bool(bad_path(path)) == (".." in path)


def test_every_source_is_registered() -> None:
    names = {"aptos", "brset", "chase", "csv", "eyepacs", "folder", "idrid", "odir", "retinamnist"}
    names |= {"messidor2", "mbrset", "ddr", "deepdrid", "rfmid", "papila", "fgadr"}
    assert names <= set(SOURCES)
