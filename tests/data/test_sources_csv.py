"""Any table, its columns named by the settings."""

from pathlib import Path
from typing import Any

import pytest

from fundusray.config import Data
from fundusray.data import SOURCES, SourceContent
from fundusray.data.manifest.contract import EDEMA, GRADES
from fundusray.data.manifest.patients import with_patients
from fundusray.errors import InputError
from tests.data.trees import write

FROM_ZERO = "expected numbers that begin at 0, or data.classes=<their names>"


def read(root: Path, table: str, **columns: str) -> SourceContent:
    """Writes the table and reads it; `target` among the columns sets data.target."""
    target = columns.pop("target", "grade")
    write(root / "t.csv", table.encode())
    data = Data(source="csv", table="t.csv", columns=columns, target=target)
    return SOURCES["csv"](data, str(root), 0)


def told(found: SourceContent) -> list[str]:
    return [f"{p.where}: {p.reason}" for p in found.problems]


def photographs(root: Path, *names: str) -> None:
    for name in names:
        write(root / name)


def grades(root: Path, *cells: str) -> SourceContent:
    """A table of photographs 0.jpg, 1.jpg, ... with these labels."""
    photographs(root, *(f"{i}.jpg" for i in range(len(cells))))
    lines = [f"{i},{cell}" for i, cell in enumerate(cells)]
    return read(root, "\n".join(["image,dx", *lines, ""]), image="image", grade="dx")


def test_all_columns(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    table = (
        "Datei , Größe,who,side,gender,years,text,part,dx\n"
        "a.jpg,1,P 1,OD,F,61.0,normal  fundus ,Training,mild\n"
        "b,2,P 1,left,male,,“x，y”,valid,none\n"
        "c.jpg,3,P2,,,7,,TEST,mild\n"
    )
    found = read(
        tmp_path,
        table,
        image="Datei",
        patient="who",
        eye="side",
        sex="gender",
        age="years",
        keywords="text",
        split="part",
        grade="dx",
    )
    assert found.problems == []
    assert {k: v for k, v in found.columns.items() if k not in ("num_bytes", "path")} == {
        "image_id": ["a", "b", "c"],
        "patient_id": ["P 1", "P 1", "P2"],
        "eye": ["right", "left", ""],
        "sex": ["female", "male", ""],
        "age": [61, -1, 7],
        "keywords": ["normal fundus", "“x，y”", ""],
        "split": ["train", "val", "test"],
        "grade": [1, 0, 1],
    }
    assert found.labels == {"grade": ("none", "mild"), "sex": ("female", "male")}


def test_a_patient_may_be_unknown(tmp_path: Path) -> None:
    photographs(tmp_path, "1_left.jpg", "1_right.jpg", "c.jpg")
    table = "file,who,dx\n1_left,a,0\n1_right,,1\nc,NaN,0\n"
    found = read(tmp_path, table, image="file", patient="who", grade="dx")
    assert found.problems == [] and found.columns["patient_id"] == ["a", "", ""]
    # The table knows of patients, so names are not asked.
    assert with_patients(found, "", secret=False) is found


def test_cells_that_cannot_be(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg")
    table = 'image,who,side,sex,age,text,part,dx\na,p\x01,up,x,1/2,"a\x1bb",holdout,0\nb,,,,,,,1\n'
    columns = {"patient": "who", "eye": "side", "text": "text", "keywords": "text", "split": "part"}
    columns.pop("text")
    found = read(tmp_path, table, image="image", sex="sex", age="age", grade="dx", **columns)
    reasons = [reason.split(", expected")[0] for reason in told(found) if ":2:" in reason]
    assert sorted(reasons) == [
        "t.csv:2: age '1/2' of image 'a'",
        "t.csv:2: part 'holdout' of image 'a'",
        "t.csv:2: sex 'x' of image 'a'",
        "t.csv:2: side 'up' of image 'a'",
        r"t.csv:2: text 'a\x1bb' of image 'a'",
        r"t.csv:2: who 'p\x01' of image 'a'",
    ]


@pytest.mark.parametrize(
    ("cells", "places", "names"),
    [
        ("0 1 0", [0, 1, 0], ("0", "1")),
        ("0 1 2 3", [0, 1, 2, 3], GRADES),
        ("0 1 2 3 4", [0, 1, 2, 3, 4], GRADES),
        ("0 4", [0, 4], GRADES),
        ("0.0 4.0 2", [0, 4, 2], GRADES),
        ("0 1 2 3 4 5 6", [0, 1, 2, 3, 4, 5, 6], ("0", "1", "2", "3", "4", "5", "6")),
        ("0 1 -1 nan 2.0", [0, 1, -1, -1, 2], GRADES),
        ("ill well nan", [0, 1, -1], ("ill", "well")),
        ("DR10 DR2 DR1", [2, 1, 0], ("DR1", "DR2", "DR10")),
        ("ill well ill", [0, 1, 0], ("ill", "well")),
        ("none mild nu\u0308ll n\u00fcll", [1, 0, 2, 2], ("mild", "none", "n\u00fcll")),
    ],
)
def test_classes(tmp_path: Path, cells: str, places: list[int], names: tuple[str, ...]) -> None:
    found = grades(tmp_path, *cells.split())
    assert found.problems == []
    assert found.columns["grade"] == places and found.labels == {"grade": names}


def test_empty_labels_among_names(tmp_path: Path) -> None:
    found = grades(tmp_path, "ill", "None", "", "NA", "-1", "#N/A", "ill", "nan")
    assert found.problems == [] and found.labels == {"grade": ("None", "ill")}
    assert found.columns["grade"] == [1, 0, -1, -1, -1, -1, 1, -1]
    found = grades(tmp_path, "0", "None", "1.0", "", "<NA>")
    assert found.problems == [] and found.columns["grade"] == [0, -1, 1, -1, -1]
    found = grades(tmp_path, "", "nan")
    assert found.problems == [] and found.columns["grade"] == [-1, -1]


@pytest.mark.parametrize(
    ("cells", "faults"),
    [
        ("0 1 9", ["dx '9' of image '2', expected 0 to 1, as no row has 2"]),
        ("0 1 x", ["dx 'x' of image '2', expected 0 to 1"]),
        ("1 2", [f"dx '{i + 1}' of image '{i}', {FROM_ZERO}" for i in (0, 1)]),
        ("ill well 1", ["dx '1' of image '2', expected one of ill, well"]),
        ("ill well -2", ["dx '-2' of image '2', expected one of ill, well"]),
        ("ill well ill Ill", ["dx 'Ill' of image '3', expected one of ill, well"]),
    ],
)
def test_labels_that_do_not_fit_the_others(tmp_path: Path, cells: str, faults: list[str]) -> None:
    found = grades(tmp_path, *cells.split())
    assert [problem.reason for problem in found.problems] == faults
    assert all(problem.refused for problem in found.problems)


def test_a_column_that_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'dx' has 101 different values.*is it the label"):
        grades(tmp_path, *(f"p{i}" for i in range(101)))


def test_edema_and_sex_as_labels(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg", "b.jpg")
    table = "image,risk,sex\na,0,f\nb,2,m\n"
    found = read(tmp_path, table, target="edema", image="image", edema="risk", sex="sex")
    assert found.columns["edema"] == [0, 2]
    assert found.labels == {"edema": EDEMA, "sex": ("female", "male")}


def test_paths_in_folders(tmp_path: Path) -> None:
    names = ["x/1_left.jpg", "y/z/1_left.png", "x/7.JPG", "top.jpg", "y/8.jpg", "x/8.jpg"]
    photographs(tmp_path, *names)
    cells = ["x/1_left.jpg", "./y/z/1_left", "x/7.jpg", "top.jpg", "y/8", "x/8.jpg"]
    lines = [f"{cell},{i % 2}" for i, cell in enumerate(cells)]
    found = read(tmp_path, "\n".join(["file,dx", *lines]), image="file", grade="dx")
    assert found.problems == [] and found.columns["path"] == names
    ids = ["x-1_left", "y-z-1_left", "7", "top", "y-8", "x-8"]
    assert found.columns["image_id"] == ids
    # The same patient's eye in two folders is the same patient; a number may be anyone's.
    named = with_patients(found, "", secret=False).columns
    assert named["patient_id"] == ["1", "1", "", "", "", ""]
    assert named["eye"] == ["left", "left", "", "", "", ""]


def test_paths_that_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    photographs(root, "x/1.jpg")
    photographs(tmp_path, "2.jpg", "out/2.jpg")
    (root / "out").symlink_to(tmp_path / "out")
    (root / "circle").symlink_to("circle")
    (root / "again").symlink_to(".")
    cells = ["x/1.jpg", "../2.jpg", "x/../../2.jpg", "out/2.jpg", "/etc/2.jpg", "x//1.jpg"]
    cells += ["C:/2.jpg", "x/a\0/2.jpg", "circle/2.jpg", "none/2.jpg", "again/x/1.png", "x/1.jpg"]
    lines = [f"{cell},{i % 2}" for i, cell in enumerate(cells)]
    found = read(root, "\n".join(["file,dx", *lines]), image="file", grade="dx")
    faults = {int(p.where[6:]) - 2: p for p in found.problems}
    assert sorted(faults) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11] and len(found.problems) == 10
    # A link that stays inside is a path like any other.
    assert found.columns["path"] == ["x/1.jpg", "again/x/1.jpg"]
    assert [i for i in faults if not faults[i].refused] == [8, 9]
    for i in (1, 2, 4, 5, 6, 7):
        assert "expected a path inside the root such as" in faults[i].reason
    assert "'out' is a link out of the data root" in faults[3].reason
    assert "(none/2.jpg)" in faults[9].reason
    assert all(problem.reason.isprintable() for problem in found.problems)


def test_other_kinds_of_files_are_found_by_their_whole_name(tmp_path: Path) -> None:
    photographs(tmp_path, "a.tif", "b.jpg", "b.png")
    table = "file,dx\na.tif,0\nb.png,1\n"
    found = read(tmp_path, table, image="file", grade="dx")
    assert found.problems == [] and found.columns["path"] == ["a.tif", "b.png"]


def test_settings_that_are_missing_or_wrong_list_the_header(tmp_path: Path) -> None:
    photographs(tmp_path, "a.jpg")
    table = "file,dx,sex\na.jpg,0,f\n"
    has = r"t\.csv has the columns 'file', 'dx', 'sex'"
    for columns, words in (
        ({}, rf"data\.columns\.image is not set; {has}"),
        ({"image": " "}, rf"data\.columns\.image is not set; {has}"),
        ({"image": "file"}, rf"data\.columns\.grade is not set; {has}"),
        ({"image": "file", "target": "sex"}, rf"data\.columns\.sex is not set; {has}"),
        ({"image": "name", "grade": "dx"}, rf"data\.columns\.image=name: no such column; {has}"),
        ({"imgae": "file"}, r"did you mean 'image'\? \(have: age, "),
    ):
        with pytest.raises(InputError, match=words):
            read(tmp_path, table, **columns)
    for settings, words in (
        ({}, rf"data\.table is not set; {tmp_path} holds t\.csv"),
        ({"table": "u.csv"}, r"u\.csv is not there"),
        ({"table": "../t.csv"}, r"data\.table=\.\./t\.csv: expected a path inside"),
        ({"table": "/etc/passwd"}, "expected a path inside"),
    ):
        given: dict[str, Any] = {"source": "csv", "columns": {"image": "file"}} | settings
        with pytest.raises(InputError, match=words):
            SOURCES["csv"](Data(**given), str(tmp_path), 0)
