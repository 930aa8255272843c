"""Tables as people have them: where their photographs lie, several of them, without a header."""

import importlib.util
from pathlib import Path

import pytest

from fundusray.config import Data
from fundusray.data import SOURCES, SourceContent
from fundusray.data.reading.csv_files import parse_table, read_header
from fundusray.data.reading.delimiters import delimiter_of
from fundusray.errors import InputError
from tests.data.trees import write

IMAGE = {"image": "file", "grade": "dx"}
XLSX = importlib.util.find_spec("openpyxl") is not None


def read(root: Path, columns: dict[str, str] | None = None, **settings: str) -> SourceContent:
    data = Data(source="csv", columns=columns or IMAGE, **({"table": "t.csv"} | settings))
    return SOURCES["csv"](data, str(root), 0)


def told(found: SourceContent) -> list[str]:
    return [f"{p.where}: {p.reason}" for p in found.problems]


def table(root: Path, *lines: str, name: str = "t.csv") -> None:
    write(root / name, "\n".join(lines).encode())


def test_photographs_in_a_folder_that_is_given(tmp_path: Path) -> None:
    for name in ("images/a.jpg", "images/deep/b.JPG", "other/a.jpg"):
        write(tmp_path / name)
    table(tmp_path, "file,dx", "a,0", "b.jpg,1")
    for images in ("images/", "images", "./images"[2:]):
        found = read(tmp_path, images=images)
        assert found.problems == []
        assert found.columns["path"] == ["images/a.jpg", "images/deep/b.JPG"]
        assert found.columns["image_id"] == ["a", "b"]
    for images, words in (
        ("nowhere", "no such folder in .*, which holds images, other"),
        ("../x", "expected a folder inside"),
        ("/etc", "data.images=etc: no such folder"),
    ):
        with pytest.raises(InputError, match=words):
            read(tmp_path, images=images)


def test_photographs_anywhere_below_where_their_names_tell(tmp_path: Path) -> None:
    for name in ("x/a.jpg", "y/z/b.JPG", "y/c.png", "y/c.jpg", "x/d.jpg", "y/d.jpg"):
        write(tmp_path / name)
    table(tmp_path, "file,dx", "a.jpg,0", "b.jpg,1", "c.png,1", "d,0", "e,0", "q/d.jpg,1")
    found = read(tmp_path)
    assert found.columns["path"] == ["x/a.jpg", "y/z/b.JPG", "y/c.png"]
    both = "'x/d.jpg' and 'y/d.jpg' could both be meant; give the path, or data.images"
    assert told(found) == [
        f"t.csv:5: {both}",
        "t.csv:6: no image file of 'e' (e.jpg)",
        f"t.csv:7: {both}",
    ]
    assert [problem.refused for problem in found.problems][:2] == [True, False]
    # The folders that a cell has choose among files of one name.
    table(tmp_path, "file,dx", "a,0", "\\release\\y\\d.jpg,1", "y\\c.png,0")
    found = read(tmp_path)
    assert found.problems == [] and found.columns["path"] == ["x/a.jpg", "y/d.jpg", "y/c.png"]


def test_two_of_the_given_folders_that_have_a_name(tmp_path: Path) -> None:
    for name in ("x/a.jpg", "y/a.png", "y/b.jpg"):
        write(tmp_path / name)
    table(tmp_path, "file,dx", "a,0", "b,1")
    found = read(tmp_path, images="x,y")
    assert told(found) == [
        "t.csv:2: 'x/a.jpg' and 'y/a.png' could both be meant; give the path, or data.images"
    ]
    assert found.problems[0].refused and found.columns["path"] == ["y/b.jpg"]


def test_a_link_out_of_the_root_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "x" / "b.jpg")
    write(tmp_path / "secret.jpg")
    (root / "x" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    table(root, "file,dx", "a,0", "b,1")
    found = read(root)
    assert [problem.refused for problem in found.problems] == [True]
    assert "'x/a.jpg' is a link out of the data root" in told(found)[0]


def test_a_list_without_a_header(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write(tmp_path / name)
    table(tmp_path, "a.jpg 0", "b.jpg   1", "", "c.jpg\t0", name="t.txt")
    columns = {"image": "0", "grade": "1"}
    found = read(tmp_path, columns, table="t.txt")
    assert found.problems == [] and found.columns["grade"] == [0, 1, 0]
    table(tmp_path, "a.jpg,0", "b.jpg,1", "c.jpg,x")
    found = read(tmp_path, columns)
    assert told(found) == ["t.csv:3: 1 'x' of image 'c', expected 0 to 1"]
    with pytest.raises(InputError, match="expected the columns 0,7 once each"):
        read(tmp_path, {"image": "0", "grade": "7"})
    # A table whose columns are called 0 and 1, as some programs write them, has a header.
    table(tmp_path, "0,1", "a.jpg,0", "b.jpg,1")
    assert read(tmp_path, columns).columns["image_id"] == ["a", "b"]


def test_several_tables_are_one_and_tell_the_split(tmp_path: Path) -> None:
    for side in ("Training", "Test"):
        for name in ("1", "2"):
            write(tmp_path / side / f"{name}.png")
    table(tmp_path, "file,dx", "1,0", "2,3", name="X_Training_Labels.csv")
    table(tmp_path, "file;dx", "1;1", "2;2", name="X_Testing_Labels.csv")
    settings = {"table": "X_Training_Labels.csv,X_Testing_Labels.csv", "images": "Training,Test"}
    found = read(tmp_path, **settings)
    assert found.problems == []
    assert found.columns["image_id"] == ["Training-1", "Training-2", "Test-1", "Test-2"]
    assert found.columns["path"] == [f"{s}/{n}.png" for s in ("Training", "Test") for n in "12"]
    assert found.columns["split"] == ["train", "train", "test", "test"]
    # The classes are those of all tables together.
    assert found.columns["grade"] == [0, 3, 1, 2]
    found = read(
        tmp_path, **(settings | {"table": settings["table"].replace("X_Test", "val:X_Test")})
    )
    assert found.columns["split"] == ["train", "train", "val", "val"]
    table(tmp_path, "file,dx", "1,1", "9,2", "2,x", name="X_Testing_Labels.csv")
    assert told(read(tmp_path, **settings)) == [
        "X_Testing_Labels.csv:3: no image file of '9' (Test/9.jpg)",
        "X_Testing_Labels.csv:4: dx 'x' of image 'Test-2', expected 0 to 4",
    ]
    with pytest.raises(InputError, match=r"Training_Labels\.csv has the columns 'file', 'dx'"):
        read(tmp_path, IMAGE | {"sex": "sex"}, **settings)


def test_names_of_tables_that_tell_nothing(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        write(tmp_path / name)
    for first, second in (("train_1.csv", "train_2.csv"), ("one.csv", "two.csv")):
        table(tmp_path, "file,dx", "a,0", name=first)
        table(tmp_path, "file,dx", "b,1", name=second)
        assert "split" not in read(tmp_path, table=f"{first}, {second}").columns
    table(tmp_path, "file,dx", "a,0", "b,1", name="one, two.csv")
    assert len(read(tmp_path, table="one, two.csv").columns["path"]) == 2


def test_a_grade_for_each_eye(tmp_path: Path) -> None:
    for name in ("1_left", "1_right", "2l", "2r", "3"):
        write(tmp_path / f"{name}.jpg")
    columns = {"image": "file", "grade_left": "l", "grade_right": "r", "eye": "side"}
    lines = ["file,l,r,side", "1_left,0,2,left", "1_right,0,2,od", "2l,1,,", "2r,,3,", "3,,,"]
    table(tmp_path, *lines)
    found = read(tmp_path, columns)
    assert found.problems == []
    assert found.columns["grade"] == [0, 2, 1, 3, -1]
    assert found.columns["eye"] == ["left", "right", "left", "right", ""]
    table(tmp_path, *lines, "4,1,2,")
    write(tmp_path / "4.jpg")
    assert told(read(tmp_path, columns)) == [
        "t.csv:7: l and r of image '4', no eye; give data.columns.eye"
    ]


def test_an_image_for_each_eye(tmp_path: Path) -> None:
    for name in ("1a", "1b", "2a"):
        write(tmp_path / f"{name}.jpg")
    table(tmp_path, "who,L,R,gl,gr,sex", "1,1a.jpg,1b.jpg,0,,f", "2,2a.jpg,,1,3,m")
    columns = {"image_left": "L", "image_right": "R", "grade_left": "gl", "grade_right": "gr"}
    found = read(tmp_path, columns | {"patient": "who", "sex": "sex"})
    assert found.problems == []
    assert found.columns["image_id"] == ["1a", "1b", "2a"]
    assert found.columns["patient_id"] == ["1", "1", "2"]
    assert found.columns["eye"] == ["left", "right", "left"]
    assert found.columns["grade"] == [0, -1, 1]


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2\n2,5;3\n", ";"),
        ("a;size, mm;b\n1;2,5;3\n", ";"),
        ("a\tb\n1\t2,3\n", "\t"),
        ('a,b\n"x;y;z",1\n', ","),
        ("a|b\n1|2\n", "|"),
        ("image\n1_left\n", ","),
        ("Image name\nIDRiD_1\n", ","),
        ("Image name\neye 1\n", ","),
        ("", ","),
    ],
)
def test_what_stands_between_cells(text: str, delimiter: str) -> None:
    assert delimiter_of(text.encode()) == delimiter
    assert delimiter_of(b"\xef\xbb\xbf" + text.encode()) == delimiter


def test_lines_of_a_list_stay_right() -> None:
    parsed = parse_table("t.txt", b"a 0\n\nb 1\n", ("0", "1"), headed=False)
    assert parsed.columns == {"0": ["a", "b"], "1": ["0", "1"]}
    assert [parsed.where(row) for row in (0, 1)] == ["t.txt:1", "t.txt:3"]


def test_old_and_damaged_workbooks_are_told(tmp_path: Path) -> None:
    write(tmp_path / "t.xls", b"\xd0\xcf\x11\xe0")
    with pytest.raises(InputError, match=r"an old spreadsheet; save it as \.xlsx or as CSV"):
        read_header(str(tmp_path), "t.xls")
    write(tmp_path / "t.xlsx", b"PK\3\4")
    words = "no Excel workbook that can be read" if XLSX else r"pip install 'fundusray\[xlsx\]'"
    with pytest.raises(InputError, match=words):
        read_header(str(tmp_path), "t.xlsx")


@pytest.mark.skipif(not XLSX, reason="openpyxl is not installed")
def test_a_table_in_a_workbook(tmp_path: Path) -> None:
    import openpyxl

    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write(tmp_path / name)
    book = openpyxl.Workbook()
    rows = (("file", "dx", "note"), ("a.jpg", 0, "x, y\nz"), ("b.jpg", 1.0, None))
    for row in (*rows, (), ("c.jpg", 7)):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    found = read(tmp_path, table="t.xlsx")
    assert found.columns["grade"] == [0, 1]
    assert told(found) == ["t.xlsx:5: dx '7' of image 'c', expected 0 to 1, as no row has 2"]
