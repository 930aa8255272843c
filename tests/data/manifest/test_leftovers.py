"""Every image file of a folder is a row, a problem, or named as not taken with its reason."""

import os
from collections import Counter
from pathlib import Path

import pytest

from fundusray.config import Data
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.manifest.leftovers import by_reason, walk_folder
from fundusray.errors import InputError
from tests.data.trees import LAYOUTS, chase, classes, idrid, write


def read(root: Path, source: str = "folder", **settings) -> Manifest:
    return build_manifest(Data(source=source, **settings), str(root), 0, labelled=source != "chase")


def untaken(manifest: Manifest) -> dict[str, str]:
    """Place -> reason of what does not count."""
    rows = manifest.skipped.to_pylist()
    return {row["where"]: row["reason"] for row in rows if not row["counted"]}


def test_loose_images_beside_class_folders(tmp_path: Path) -> None:
    root = classes(tmp_path, train__a=["1.jpg"], train__b=["2.jpg"], test=["3.jpg", "4.tif"])
    write(root / "top.png")
    write(root / "notes.txt")
    write(root / ".hidden.jpg")
    write(root / ".cache" / "5.jpg")
    manifest = read(root, max_bad=0.0)
    assert manifest.table.num_rows == 2
    reason = "in no class folder"
    assert untaken(manifest) == dict.fromkeys(["test/3.jpg", "test/4.tif", "top.png"], reason)
    assert by_reason(manifest.skipped.to_pylist()) == [
        "3 photographs not taken, in no class folder: top.png, test/3.jpg, test/4.tif"
    ]


def test_what_a_class_folder_holds_counts(tmp_path: Path) -> None:
    root = classes(tmp_path, a=["1.jpg", "2.jpg"], b=["3.jpg"], a__deep=["4.jpg"])
    write(root / "b" / "5.HEIC")
    write(root / "b" / "6.dcm")
    with pytest.raises(InputError, match=r"3 of 6 rows have no usable image \(50\.0%"):
        read(root)
    manifest = read(root, max_bad=0.5)
    assert untaken(manifest) == {} and manifest.table.num_rows == 3
    assert {row["where"]: row["reason"] for row in manifest.skipped.to_pylist()} == {
        "a/deep/4.jpg": "deeper than its class folder; move it there",
        "b/5.HEIC": "a HEIC file, which is not read; save it as PNG or JPEG",
        "b/6.dcm": "a DICOM file, which is not read; export its picture as PNG",
    }


@pytest.mark.parametrize("source", LAYOUTS)
def test_a_table_of_a_part_of_the_photographs(source: str, tmp_path: Path) -> None:
    layout = LAYOUTS[source]
    layout.plant(tmp_path, ["1_left", "1_right", "2_left"])
    folder = (tmp_path / layout.photo).parent
    write(folder / "deeper" / "9.webp")
    write(folder / "8.gif")
    layout.fill(tmp_path, layout.lines([("1_left", "0"), ("1_right", "4")]))
    data = Data(source=source, max_bad=0.0, **dict(layout.settings))
    manifest = build_manifest(data, str(tmp_path), 0)
    place = folder.relative_to(tmp_path).as_posix()
    before = "" if place == "." else f"{place}/"
    assert untaken(manifest) == {
        layout.photo.format(image="2_left"): "not in the table",
        f"{before}deeper/9.webp": "not in the table",
        f"{before}8.gif": "a GIF file, which is not read; save it as PNG or JPEG",
    }


def test_dicom_without_an_extension(tmp_path: Path) -> None:
    root = classes(tmp_path, a=["1.jpg"], b=["2.jpg"])
    for name in ("IM0001", "1.2.840.10008", "notes", ".hidden"):
        write(root / "a" / name, bytes(128) + (b"DICM" if name != "notes" else b"text"))
    reason = "a DICOM file, which is not read; export its picture as PNG"
    rows = read(root, max_bad=0.5).skipped.to_pylist()
    told = {row["where"]: (row["reason"], row["counted"]) for row in rows}
    assert told == dict.fromkeys(["a/1.2.840.10008", "a/IM0001"], (reason, True))


def test_masks_are_no_leftovers(tmp_path: Path) -> None:
    root = idrid(tmp_path / "idrid")
    assert read(root, "idrid").skipped.num_rows == 0
    root = chase(tmp_path / "chase")
    (root / "Image_01L.jpg").unlink()
    manifest = read(root, "chase")
    assert untaken(manifest) == {}, "masks without their photograph are spoken of once"
    assert manifest.skipped.num_rows == 2


def test_links_in_the_folder_are_followed_to_what_they_mean(tmp_path: Path) -> None:
    root = classes(tmp_path, kept__a=["1.jpg", "9.jpg"], b=["2.jpg"])
    (root / "a").symlink_to("kept/a")
    (root / "kept").rename(root / ".kept")
    (root / "a").unlink()
    (root / "a").symlink_to(".kept/a")
    assert read(root).skipped.num_rows == 0 and read(root).table.num_rows == 3
    (root / "loop").symlink_to(".")
    (root / ".kept").rename(root / "real")
    (root / "a").unlink()
    (root / "loop").unlink()
    (root / "t.csv").write_text("file,dx\nin/1.jpg,0\nb/2.jpg,1\n")
    (root / "in").symlink_to("real/a")
    columns = {"image": "file", "grade": "dx"}
    manifest = read(root, "csv", table="t.csv", columns=columns)
    assert untaken(manifest) == {"real/a/9.jpg": "not in the table"}


def test_names_of_keyed_sets_are_not_told(tmp_path: Path) -> None:
    root = classes(tmp_path / "set", a=["1.jpg"], b=["2.jpg"])
    write(root / "mustermann.jpg")
    (tmp_path / "key").write_bytes(os.urandom(32))
    manifest = read(root, id_key=str(tmp_path / "key"))
    (row,) = manifest.skipped.to_pylist()
    assert row["reason"] == "in no class folder" and not row["counted"]
    assert "mustermann" not in str(row)


def test_names_cannot_write_lines_of_their_own(tmp_path: Path) -> None:
    root = classes(tmp_path, a=["1.jpg"], b=["2.jpg"])
    write(root / "x\n\x1b[2J\u202e.jpg")
    with open(os.fsencode(root) + b"/y\xff.jpg", "wb"):
        pass
    (line,) = by_reason(read(root).skipped.to_pylist())
    assert line.isprintable() and "x\\n\\x1b[2J\\u202e.jpg" in line and "y\\udcff.jpg" in line


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    (faulty,) = walk_folder(str(tmp_path), "none")
    assert faulty == ("none/", [], "No such file or directory")


def test_cases_of_photographs_that_vanished(cases: Path) -> None:
    manifest = read(cases / "f_mixed_tif", max_bad=0.0)
    assert manifest.table.num_rows == 72 and manifest.skipped.num_rows == 0
    suffixes = Counter(Path(path).suffix for path in manifest.table["path"].to_pylist())
    assert suffixes == {".jpg": 36, ".tif": 36}
    manifest = read(cases / "f_unlabelled_test", max_bad=0.0)
    assert manifest.table.num_rows == 58
    assert Counter(untaken(manifest).values()) == {"in no class folder": 14}
