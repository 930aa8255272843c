"""Folders are told apart by the tables they hold."""

from pathlib import Path

import pytest

from fundusray.data.manifest.contract import (
    DISEASE,
    EDEMA,
    GRADES,
    LABELS,
    SOURCES,
    empty,
    scale_of,
)
from fundusray.data.manifest.recognise import find_root, marks, source_of
from fundusray.errors import InputError

MARKS = marks()


def test_no_two_sources_are_known_by_the_same_name() -> None:
    whole = [mark for own in MARKS.values() for mark in own]
    assert len(MARKS) > 10 and len(whole) == len(set(whole))
    assert [name for name in SOURCES if SOURCES.facts(name).keywords] == ["odir"]


@pytest.mark.parametrize("source", sorted(MARKS))
def test_a_source_is_known_by_any_of_its_marks(source: str, tmp_path: Path) -> None:
    for place, mark in enumerate(MARKS[source]):
        root = tmp_path / str(place)
        root.mkdir()
        (root / mark).mkdir()
        (root / "README.md").write_text("about")
        assert source_of(str(root)) == source


def test_none_and_several_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layout known"):
        source_of(str(tmp_path))
    (tmp_path / "train.csv").write_text("")
    (tmp_path / "trainLabels.csv").write_text("")
    with pytest.raises(InputError, match="could be aptos or eyepacs"):
        source_of(str(tmp_path))


def test_a_name_is_found_in_the_folder_of_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sets" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUNDUSRAY_DATA", raising=False)
    with pytest.raises(InputError, match="set FUNDUSRAY_DATA"):
        find_root("mine")
    assert find_root("sets/mine") == str(tmp_path / "sets" / "mine")
    monkeypatch.setenv("FUNDUSRAY_DATA", str(tmp_path / "sets"))
    assert find_root("mine") == str(tmp_path / "sets" / "mine")


def test_labels_are_read_by_the_order_of_their_own_classes_where_that_means_something() -> None:
    assert list(LABELS) == ["grade", "edema", "disease", "sex"]
    assert scale_of("edema") == EDEMA and scale_of("disease") == DISEASE
    # Neither sex is the worse one, so that names are read as stages of retinopathy are.
    assert scale_of("sex") == scale_of("no label of ours") == GRADES
    assert [empty(name) for name in ("grade", "sex", "age", "keywords")] == [-1, "", -1, ""]
