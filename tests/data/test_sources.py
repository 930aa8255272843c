"""The EyePACS layout, and class folders."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fundusray.config import Data
from fundusray.data import SOURCES, SourceContent
from fundusray.data.manifest.patients import with_patients
from fundusray.errors import InputError
from tests.data.trees import classes, photograph, write

EYEPACS = Data(source="eyepacs")
FOLDER = Data(source="folder")
Tree = Callable[..., Path]


def labels(root: Path, content: str) -> SourceContent:
    """Reads a tree in the EyePACS layout after its table was replaced."""
    (root / "trainLabels.csv").write_text(content)
    return SOURCES["eyepacs"](EYEPACS, str(root), 0)


def folder(root: Path) -> SourceContent:
    return SOURCES["folder"](FOLDER, str(root), 0)


def told(found: SourceContent) -> list[str]:
    return [f"{p.where}: {p.reason}" for p in found.problems]


def test_eyepacs_layout(eyepacs_tree: Tree) -> None:
    root = eyepacs_tree(6)
    found = SOURCES["eyepacs"](EYEPACS, str(root), 0)
    assert found.columns["image_id"][:3] == ["1_left", "1_right", "2_left"]
    assert found.columns["path"][:2] == ["train/1_left.jpeg", "train/1_right.jpeg"]
    named = with_patients(found, "", secret=False).columns
    assert named["patient_id"][:3] == ["1", "1", "2"]
    assert named["eye"][:3] == ["left", "right", "left"]
    assert found.columns["grade"] == [0, 0, 1, 2, 3, 4] * 2
    sizes = [(root / path).stat().st_size for path in found.columns["path"]]
    assert found.columns["num_bytes"] == sizes
    assert found.problems == [] and len(found.labels["grade"]) == 5
    assert "split" not in found.columns and "sex" not in found.columns
    assert SOURCES["eyepacs"](EYEPACS, root.as_uri(), 0) == found


def test_images_beside_the_table_and_in_train(eyepacs_tree: Tree) -> None:
    root = eyepacs_tree(2)
    (root / "train" / "1_right.jpeg").rename(root / "1_right.png")
    (root / "2_left.jpeg").write_bytes(b"the one in train comes first")
    found = labels(root, "image,level\n1_left,0\n1_right.jpeg,1\n2_left,2\n")
    assert found.columns["path"] == ["train/1_left.jpeg", "1_right.png", "train/2_left.jpeg"]
    assert found.columns["image_id"] == ["1_left", "1_right", "2_left"]
    assert found.problems == []


def test_the_test_side_is_read_where_table_and_folder_are_there(eyepacs_tree: Tree) -> None:
    root = eyepacs_tree(2)
    solution = root / "retinopathy_solution.csv"
    solution.write_text("image,level,Usage\n7_left,3,Private\n7_right,0,Public\n")
    assert "split" not in SOURCES["eyepacs"](EYEPACS, str(root), 0).columns
    for name in ("7_left", "7_right"):
        write(root / "test" / f"{name}.jpeg")
    found = SOURCES["eyepacs"](EYEPACS, str(root), 0)
    assert found.columns["split"] == ["train"] * 4 + ["test", "val"]
    assert found.columns["path"][4:] == ["test/7_left.jpeg", "test/7_right.jpeg"]
    assert found.columns["grade"][4:] == [3, 0] and found.problems == []
    solution.write_text("image,level,Usage\n7_left,9,Private\n1_left,0,Public\n8_left,0,Public\n")
    reasons = told(SOURCES["eyepacs"](EYEPACS, str(root), 0))
    assert reasons == [
        "retinopathy_solution.csv:2: level '9' of image '7_left', expected 0, 1, 2, 3 or 4",
        "retinopathy_solution.csv:3: no image file of '1_left' (test/1_left.jpeg)",
        "retinopathy_solution.csv:3: image '1_left' again, first in trainLabels.csv:2",
        "retinopathy_solution.csv:4: no image file of '8_left' (test/8_left.jpeg)",
    ]


def test_without_a_usage_all_that_is_in_test_is_the_test_side(eyepacs_tree: Tree) -> None:
    root = eyepacs_tree(2)
    for name in ("7_left", "7_right"):
        write(root / "test" / f"{name}.jpeg")
    solution = root / "retinopathy_solution.csv"
    solution.write_text("image,level\n7_left,3\n7_right,0\n")
    found = SOURCES["eyepacs"](EYEPACS, str(root), 0)
    assert found.columns["split"] == ["train"] * 4 + ["test"] * 2
    solution.write_text("image,level,Usage\n7_left,3,public\n7_right,0,Secret\n")
    assert told(SOURCES["eyepacs"](EYEPACS, str(root), 0)) == [
        "retinopathy_solution.csv:3: Usage 'Secret' of image '7_right', expected Public or Private"
    ]


def test_sex_and_age_where_they_are_known(eyepacs_tree: Tree) -> None:
    root = eyepacs_tree(2)
    people = root / "sex_age.csv"
    people.write_text(
        "image,sex,age\n1_left,Male,57\n1_right,female,57.0\n2_left,,\n9_left,Male,3\n"
    )
    found = SOURCES["eyepacs"](EYEPACS, str(root), 0)
    assert found.columns["sex"] == ["male", "female", "", ""]
    assert found.columns["age"] == [57, 57, -1, -1]
    assert found.problems == [] and found.labels["sex"] == ("female", "male")
    people.write_text("image,sex,age\n1_left,M,57\n1_right,Male,old\n1_right,Male,131\n")
    assert told(SOURCES["eyepacs"](EYEPACS, str(root), 0)) == [
        "sex_age.csv:2: sex 'M' of image '1_left', expected Female, Male or nothing",
        "sex_age.csv:3: age 'old' of image '1_right', "
        "expected a number of years from 0 to 130, or nothing",
        "sex_age.csv:4: age '131' of image '1_right', "
        "expected a number of years from 0 to 130, or nothing",
        "sex_age.csv:4: image '1_right' again, first in sex_age.csv:3",
    ]


def test_every_fault_is_named_with_its_line_in_one_pass(eyepacs_tree: Tree) -> None:
    rows = ["image,level", "1_left,7", '"2_left",x', "2_right,", "3_right,0", "", "3_right,1"]
    rows += ["4_left", ",2", "5_left,nan"]
    found = labels(eyepacs_tree(6), "\n".join(rows))
    expected = ", expected 0, 1, 2, 3 or 4"
    assert told(found) == [
        f"trainLabels.csv:2: level '7' of image '1_left'{expected}",
        f"trainLabels.csv:3: level 'x' of image '2_left'{expected}",
        "trainLabels.csv:7: image '3_right' again, first in trainLabels.csv:5",
        "trainLabels.csv:9: image is empty, expected a name such as 10_left",
    ]
    assert all(problem.refused for problem in found.problems)
    assert found.columns["image_id"] == ["2_right", "3_right", "4_left", "5_left"]
    assert found.columns["grade"] == [-1, 0, -1, -1]


def test_a_cell_of_any_length_makes_a_short_reason(eyepacs_tree: Tree) -> None:
    found = labels(eyepacs_tree(1), f"image,level\n1_left,{'9' * 5000}\n")
    assert len(found.problems[0].reason) < 200


@pytest.mark.parametrize(
    ("image", "patient", "eye"),
    [
        ("12_left", "12", "left"),
        ("a_b_right", "a_b", "right"),
        ("000c1434d8d7", "", ""),
        ("12_LEFT", "12", "left"),
        ("_left", "", ""),
        ("x.y", "", ""),
    ],
)
def test_patient_and_eye(eyepacs_tree: Tree, image: str, patient: str, eye: str) -> None:
    root = eyepacs_tree(1)
    (root / "train" / "1_left.jpeg").rename(root / "train" / f"{image}.jpeg")
    found = labels(root, f"image,level\n{image},0\n")
    columns = with_patients(found, "", secret=False).columns
    assert (columns["patient_id"], columns["eye"]) == ([patient], [eye])


def test_class_folders_in_natural_order(tmp_path: Path) -> None:
    names = {"grade10": ["7_left.jpg"], "grade2": ["7_right.PNG", "8.jpeg"], "grade1": ["a.jpg"]}
    root = classes(tmp_path / "set", **names)
    (root / ".cache").mkdir()
    (root / "readme.txt").write_text("x")
    (root / "grade1" / "notes.txt").write_text("x")
    (root / "grade1" / "._a.jpg").write_text("x")
    found = folder(root)
    assert found.labels == {"grade": ("grade1", "grade2", "grade10")}
    assert found.columns == {
        "image_id": ["a", "7_right", "8", "7_left"],
        "path": ["grade1/a.jpg", "grade2/7_right.PNG", "grade2/8.jpeg", "grade10/7_left.jpg"],
        "grade": [0, 1, 1, 2],
        "num_bytes": [len(photograph())] * 4,
    }
    assert found.problems == []


def test_numbered_files_of_several_classes_are_different_patients(tmp_path: Path) -> None:
    found = folder(classes(tmp_path, ill=["1.jpg", "2.jpg"], well=["1.jpg"]))
    assert found.columns["image_id"] == ["ill-1", "2", "well-1"]
    assert with_patients(found, "", secret=False).columns["patient_id"] == [""] * 3


def test_files_of_class_folders_that_cannot_be_meant(tmp_path: Path) -> None:
    root = classes(tmp_path / "set", a=["1_left.jpg", "2.jpg", "3.jpg", "3.png"], b=["1_left.jpg"])
    (root / "a" / "out.jpg").symlink_to(os.path.abspath(__file__))
    (root / "a" / "lost.jpg").symlink_to("nowhere.jpg")
    (root / "a" / "circle.jpg").symlink_to("circle.jpg")
    (root / "b" / "x\ny.jpg").write_bytes(b"1")
    with open(os.fsencode(root) + b"/b/x\xff.jpg", "wb"):
        pass
    found = folder(root)
    assert told(found) == [
        "a/: image '1_left' is in 2 class folders; keep one",
        "a/: '3' is there with another extension; keep one",
        "a/: 'out.jpg' is a link out of the data root; copy the file there",
        "b/: image '1_left' is in 2 class folders; keep one",
        r"b/: image 'x\ny', expected a plain name such as 10_left, not a path",
        "a/: 'circle.jpg' is a link that leads nowhere",
        "a/: 'lost.jpg' is a link that leads nowhere",
        r"b/: the file name b'x\xff.jpg' is not UTF-8; rename it, as nothing else can name it",
    ]
    assert [p.refused for p in found.problems].count(False) == 2
    assert found.columns["image_id"] == ["2"]
    (root / "c").symlink_to(tmp_path)
    with pytest.raises(InputError, match="set/c is a link out of the data root"):
        folder(root)


def test_ids_that_only_meet_when_folders_are_put_before_them(tmp_path: Path) -> None:
    root = classes(tmp_path, a=["b-1.jpg", "1.jpg"], b=["a-1.jpg", "1.jpg"])
    reasons = told(folder(root))
    assert reasons == [f"b/: image '{name}' again, first in a/" for name in ("b-1", "a-1")]


def test_trees_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 class folders, at least 2 needed"):
        folder(tmp_path)
    classes(tmp_path, one=["a.jpg"])
    with pytest.raises(InputError, match="1 class folders, at least 2 needed"):
        folder(tmp_path)
    classes(tmp_path, two=[])
    with pytest.raises(InputError, match="two: no images in this class folder"):
        folder(tmp_path)
    (tmp_path / "two" / "inner").mkdir()
    with pytest.raises(InputError, match=r"it holds folders: give data\.root=.*/two"):
        folder(tmp_path)
    (tmp_path / "two\n").mkdir()
    write(tmp_path / "two" / "b.jpg")
    write(tmp_path / "two\n" / "c.jpg")
    reasons = told(folder(tmp_path))
    assert len(reasons) == 1 and r"'two\n': class folder: image 'two\n', expected" in reasons[0]


def test_folders_for_the_sides_of_a_split(tmp_path: Path) -> None:
    root = classes(
        tmp_path,
        train__well=["1.jpg", "5_left.jpg"],
        train__ill=["2.jpg"],
        test__well=["1.jpg"],
        test__ill=[],
        val__ill=["5_right.jpg"],
    )
    found = folder(root)
    assert found.labels == {"grade": ("ill", "well")} and found.problems == []
    named = with_patients(found, "", secret=False)
    columns = {name: named.columns[name] for name in ("image_id", "split", "grade", "patient_id")}
    assert list(zip(*columns.values(), strict=True)) == [
        ("test-well-1", "test", 1, ""),
        ("2", "train", 0, ""),
        ("train-well-1", "train", 1, ""),
        ("5_left", "train", 1, "5"),
        ("5_right", "val", 0, "5"),
    ]
    assert found.columns["path"][0] == "test/well/1.jpg"


def test_other_classes_than_those_of_train_are_named(tmp_path: Path) -> None:
    root = classes(tmp_path, train__a=["1.jpg"], train__b=["2.jpg"], val__c=["3.jpg"])
    with pytest.raises(InputError, match=r"val: class folders 'c' that train has not \('a', 'b'\)"):
        folder(root)


def test_sides_without_train_or_with_two_of_a_kind(tmp_path: Path) -> None:
    classes(tmp_path, val__a=["1.jpg"], test__a=["2.jpg"])
    with pytest.raises(InputError, match="folders test, val, expected train and one each"):
        folder(tmp_path)
    classes(tmp_path, train__a=["3.jpg"], valid__a=["4.jpg"])
    with pytest.raises(InputError, match="folders test, train, val, valid, expected train"):
        folder(tmp_path)


def test_photographs_right_in_the_side_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 class folders, at least 2 needed"):
        folder(classes(tmp_path, train=["1.jpg"], test=["2.jpg"]))
