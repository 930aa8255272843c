import os
import time
import unicodedata

import pytest

from fundusray.config import Data
from fundusray.data import SOURCES
from fundusray.data.sources import check_rows, read_csv
from fundusray.errors import InputError

EYEPACS = Data(source="eyepacs")
FOLDER = Data(source="folder")


def labels(root, content):
    """Reads a tree in the EyePACS layout after its table was replaced."""
    content = content if isinstance(content, bytes) else content.encode()
    (root / "trainLabels.csv").write_bytes(content)
    return SOURCES["eyepacs"](EYEPACS, str(root), 0)


def refusal(root, content):
    with pytest.raises(InputError) as caught:
        labels(root, content)
    return str(caught.value)


def told(found):
    return [f"{p.where}: {p.reason}" for p in found.problems]


def class_tree(root, **names):
    """Class folders with small files of the given names."""
    for name, members in names.items():
        (root / name).mkdir(parents=True)
        for member in members:
            (root / name / member).write_bytes(b"12345")
    return str(root)


def test_eyepacs_layout(eyepacs_tree):
    root = eyepacs_tree(6)
    found = SOURCES["eyepacs"](EYEPACS, str(root), 0)
    assert found.columns["image_id"][:3] == ["1_left", "1_right", "2_left"]
    assert found.columns["path"][:2] == ["train/1_left.jpeg", "train/1_right.jpeg"]
    assert found.columns["patient_id"][:3] == ["1", "1", "2"]
    assert found.columns["eye"][:3] == ["left", "right", "left"]
    assert found.columns["grade"] == [0, 0, 1, 2, 3, 4] * 2
    sizes = [(root / path).stat().st_size for path in found.columns["path"]]
    assert found.columns["num_bytes"] == sizes
    assert found.problems == [] and len(found.classes) == 5
    assert SOURCES["eyepacs"](EYEPACS, root.as_uri(), 0) == found


def test_other_extensions_and_images_beside_the_table(eyepacs_tree):
    root = eyepacs_tree(2)
    (root / "train" / "1_left.jpeg").rename(root / "train" / "1_left.JPG")
    (root / "train" / "1_right.jpeg").rename(root / "1_right.png")
    found = labels(root, "image,level\n1_left,0\n1_right.jpeg,1\n2_left,2\n")
    assert found.columns["path"] == ["train/1_left.JPG", "1_right.png", "train/2_left.jpeg"]
    assert found.columns["image_id"] == ["1_left", "1_right", "2_left"]
    assert found.problems == []


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffimage,level\n1_left,0\n1_right,4\n",
        "image,level\r\n1_left,0\r\n1_right,4\r\n",
        "image,level\r1_left,0\r1_right,4",
        'image ," level "\n"1_left","0"\n 1_right , 4 \n',
        'note,level,image,,\n"one, two",0,1_left,,\n"x ""y""\nz",4,1_right,,\n\n,,,,\n',
        "image,level\n1_left,0,,,,\n1_right,4,extra\n",
    ],
)
def test_tables_as_programs_write_them(eyepacs_tree, content):
    found = labels(eyepacs_tree(2), content)
    assert found.problems == []
    assert found.columns["image_id"] == ["1_left", "1_right"]
    assert found.columns["grade"] == [0, 4]


@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_composed_and_decomposed_names_meet(eyepacs_tree, in_table, on_disk):
    root = eyepacs_tree(1)
    name = unicodedata.normalize(on_disk, "Zoë_left")
    (root / "train" / "1_left.jpeg").rename(root / "train" / f"{name}.jpeg")
    found = labels(root, "image,level\n" + unicodedata.normalize(in_table, "Zoë_left,3\n"))
    assert found.columns["path"] == [f"train/{name}.jpeg"]
    assert found.columns["patient_id"] == ["Zoë"]
    both = "image,level\n" + "".join(
        unicodedata.normalize(n, "Zoë_left,3\n") for n in ("NFC", "NFD")
    )
    assert "again, first in line 2" in told(labels(root, both))[0]


def test_every_fault_is_named_with_its_line_in_one_pass(eyepacs_tree):
    rows = [
        "image,level",
        "1_left,7",
        "1_right,-1",
        '"2_left",x',
        "2_right,",
        "3_left,1.5",
        "3_right,0",
        "",
        "3_right,1",
        "4_left",
        ",2",
        "5_left,nan",
    ]
    found = labels(eyepacs_tree(6), "\n".join(rows))
    expected = ", expected 0, 1, 2, 3 or 4"
    assert told(found) == [
        f"trainLabels.csv:2: level '7' of image '1_left'{expected}",
        f"trainLabels.csv:3: level '-1' of image '1_right'{expected}",
        f"trainLabels.csv:4: level 'x' of image '2_left'{expected}",
        f"trainLabels.csv:5: level '' of image '2_right'{expected}",
        f"trainLabels.csv:6: level '1.5' of image '3_left'{expected}",
        "trainLabels.csv:9: image '3_right' again, first in line 7",
        f"trainLabels.csv:10: level '' of image '4_left'{expected}",
        "trainLabels.csv:11: image is empty, expected a name such as 10_left",
        f"trainLabels.csv:12: level 'nan' of image '5_left'{expected}",
    ]
    assert all(problem.refused for problem in found.problems)
    assert found.columns["image_id"] == ["3_right"]


def test_lines_are_the_files_lines_after_a_quoted_line_break(eyepacs_tree):
    content = 'image,level,note\n1_left,0,"two\nlines"\n\n1_right,9,\n'
    assert told(labels(eyepacs_tree(1), content))[0].startswith("trainLabels.csv:5: level '9'")


@pytest.mark.parametrize(
    "image",
    [
        "../1_left",
        "../../etc/passwd",
        "/etc/passwd",
        "train/1_left",
        "train\\1_left",
        "C:1_left",
        "..",
        ".",
        "a\0b",
        '"a\nb_left"',
        "\x1b[31m_left",
    ],
)
def test_ids_that_are_paths_are_refused(eyepacs_tree, image):
    found = labels(eyepacs_tree(1), f"image,level\n{image},0\n")
    assert len(found.problems) == 1 and found.problems[0].refused
    assert "expected a plain name such as 10_left, not a path" in found.problems[0].reason
    assert found.problems[0].reason.isprintable()
    assert found.columns["image_id"] == []


@pytest.mark.parametrize(
    ("image", "patient", "eye"),
    [
        ("12_left", "12", "left"),
        ("a_b_right", "a_b", "right"),
        ("000c1434d8d7", "000c1434d8d7", ""),
        ("12_LEFT", "12_LEFT", ""),
        ("_left", "_left", ""),
        ("x.y", "x.y", ""),
    ],
)
def test_patient_and_eye(eyepacs_tree, image, patient, eye):
    root = eyepacs_tree(1)
    (root / "train" / "1_left.jpeg").rename(root / "train" / f"{image}.jpeg")
    columns = labels(root, f"image,level\n{image},0\n").columns
    assert (columns["patient_id"], columns["eye"]) == ([patient], [eye])


def test_missing_images_are_set_aside_with_their_line(eyepacs_tree):
    root = eyepacs_tree(2)
    (root / "train" / "1_right.jpeg").unlink()
    (root / "train" / "2_left.jpeg").rename(root / "train" / "2_Left.jpeg")
    found = SOURCES["eyepacs"](EYEPACS, str(root), 0)
    assert [p.where for p in found.problems] == ["trainLabels.csv:3", "trainLabels.csv:4"]
    assert not any(p.refused for p in found.problems)
    assert "no image file of '1_right'" in found.problems[0].reason
    assert "'train/2_Left.jpeg', which differs in case" in found.problems[1].reason
    assert found.columns["image_id"] == ["1_left", "2_right"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "trainLabels.csv is empty"),
        (b"\n \n", "trainLabels.csv is empty"),
        (b"image,level\n", "a header and no rows"),
        (b"image,level\n\n,,\n", "a header and no rows"),
        (b"image\n1_left\n", "expected the columns image,level once each, got 'image'"),
        (b"image;level\n1_left;0\n", "got 'image;level'"),
        (b"image,level,level\n1_left,0,0\n", "got 'image,level,level'"),
        ("image,level\n1_left,0\n".encode("utf-16"), "trainLabels.csv:1: UTF-16"),
        ("image,level\n1_left,0\n".encode("utf-16-le"), "trainLabels.csv:1: UTF-16"),
        (b"image,level\n1_left,0\nZo\xeb_left,1\n", "trainLabels.csv:3: byte 0xeb is not UTF-8"),
        (b'image,level\n1_left,0\n"x' + b"x" * 200_000, "trainLabels.csv:3: not CSV"),
    ],
)
def test_tables_that_cannot_be_read(eyepacs_tree, content, words):
    assert words in refusal(eyepacs_tree(1), content)


def test_wrong_folders_name_the_layout(tmp_path, eyepacs_tree):
    for name in ("eyepacs", "folder"):
        for root in ("", str(tmp_path / "nowhere")):
            with pytest.raises(InputError, match=f"no such folder; source '{name}' expects"):
                SOURCES[name](Data(source=name), root, 0)
    with pytest.raises(
        InputError, match=r"trainLabels\.csv is not there; source 'eyepacs' expects"
    ):
        SOURCES["eyepacs"](EYEPACS, str(tmp_path), 0)
    (tmp_path / "trainLabels.csv").write_text("image,level\n1_left,0\n")
    with pytest.raises(InputError, match="no images found; source 'eyepacs' expects"):
        SOURCES["eyepacs"](EYEPACS, str(tmp_path), 0)


def test_links_stay_inside_the_root(eyepacs_tree, tmp_path):
    root = eyepacs_tree(2)
    secret = tmp_path / "secret.jpeg"
    secret.write_bytes(b"secret")
    train = root / "train"
    (train / "1_left.jpeg").unlink()
    (train / "1_left.jpeg").symlink_to(secret)
    (train / "1_right.jpeg").unlink()
    (train / "1_right.jpeg").symlink_to("2_left.jpeg")
    (train / "2_right.jpeg").unlink()
    (train / "2_right.jpeg").symlink_to("2_right.jpeg")
    for place in (str(root), root.as_uri()):
        found = SOURCES["eyepacs"](EYEPACS, place, 0)
        assert found.columns["image_id"] == ["1_right", "2_left"]
        assert [p.refused for p in found.problems] == [True, False]
        assert "'train/1_left.jpeg' is a link out of the data root" in found.problems[0].reason
        assert "no image file of '2_right'" in found.problems[1].reason
    train.rename(tmp_path / "elsewhere")
    train.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="train is a link out of the data root"):
        SOURCES["eyepacs"](EYEPACS, str(root), 0)


def test_a_root_that_is_itself_a_link_is_fine(eyepacs_tree, tmp_path):
    root = eyepacs_tree(1)
    (root / "train" / "1_right.jpeg").unlink()
    (root / "train" / "1_right.jpeg").symlink_to("1_left.jpeg")
    (tmp_path / "link").symlink_to(root)
    found = SOURCES["eyepacs"](EYEPACS, str(tmp_path / "link"), 0)
    assert found.problems == [] and len(found.columns["image_id"]) == 2


def test_a_million_rows_are_checked_in_seconds():
    ids = [f"{i // 2}_{('left', 'right')[i % 2]}" for i in range(1_000_000)]
    content = (
        "image,level\n" + "".join(f"{name},{i % 5}\n" for i, name in enumerate(ids))
    ).encode()
    images = {name: (f"train/{name}.jpeg", 1) for name in ids[:-1]}
    start = time.perf_counter()
    found = check_rows(read_csv("trainLabels.csv", content, ("image", "level")), images, set())
    seconds = time.perf_counter() - start
    assert len(found.columns["grade"]) == 999_999 and len(found.problems) == 1
    assert found.problems[0].where == "trainLabels.csv:1000001"
    assert seconds < 5, f"{seconds:.1f} s"


def test_class_folders_in_natural_order(tmp_path):
    names = {"grade10": ["7_left.jpg"], "grade2": ["7_right.PNG", "8.jpeg"], "grade1": ["a.jpg"]}
    root = class_tree(tmp_path / "set", **names)
    (tmp_path / "set" / ".cache").mkdir()
    (tmp_path / "set" / "readme.txt").write_text("x")
    (tmp_path / "set" / "grade1" / "notes.txt").write_text("x")
    found = SOURCES["folder"](FOLDER, root, 0)
    assert found.classes == ("grade1", "grade2", "grade10")
    assert found.columns == {
        "image_id": ["a", "7_right", "8", "7_left"],
        "path": ["grade1/a.jpg", "grade2/7_right.PNG", "grade2/8.jpeg", "grade10/7_left.jpg"],
        "patient_id": ["a", "7", "8", "7"],
        "eye": ["", "right", "", "left"],
        "grade": [0, 1, 1, 2],
        "num_bytes": [5, 5, 5, 5],
    }
    assert found.problems == []


def test_numbered_files_of_several_classes_are_different_patients(tmp_path):
    root = class_tree(tmp_path, ill=["1.jpg", "2.jpg"], well=["1.jpg"])
    columns = SOURCES["folder"](FOLDER, root, 0).columns
    assert columns["image_id"] == columns["patient_id"] == ["ill-1", "2", "well-1"]


def test_files_of_class_folders_that_cannot_be_meant(tmp_path):
    root = class_tree(tmp_path / "set", a=["1_left.jpg", "2.jpg", "2.png"], b=["1_left.jpg"])
    (tmp_path / "set" / "a" / "out.jpg").symlink_to(os.path.abspath(__file__))
    (tmp_path / "set" / "a" / "lost.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "set" / "b" / "x\ny.jpg").write_bytes(b"1")
    found = SOURCES["folder"](FOLDER, root, 0)
    reasons = " | ".join(told(found))
    assert [p.refused for p in found.problems].count(False) == 1
    assert "a/: '2' is there with another extension" in reasons
    assert "image '1_left' is in 2 class folders" in reasons
    assert "'out.jpg' is a link out of the data root" in reasons
    assert "a/lost.jpg: a link that leads nowhere" in reasons
    assert r"image 'x\ny', expected a plain name" in reasons
    assert found.columns["image_id"] == ["2"]
    (tmp_path / "set" / "c").symlink_to(tmp_path)
    assert (
        "'c': class folder: a link out of the root" in told(SOURCES["folder"](FOLDER, root, 0))[0]
    )


def test_trees_without_classes_are_refused(tmp_path):
    with pytest.raises(InputError, match="0 class folders, at least 2 needed"):
        SOURCES["folder"](FOLDER, str(tmp_path), 0)
    root = class_tree(tmp_path, one=["a.jpg"])
    with pytest.raises(InputError, match="1 class folders, at least 2 needed"):
        SOURCES["folder"](FOLDER, root, 0)
    class_tree(tmp_path, two=[])
    with pytest.raises(InputError, match="two: no images in this class folder"):
        SOURCES["folder"](FOLDER, root, 0)
    (tmp_path / "two" / "inner").mkdir()
    with pytest.raises(InputError, match=r"it holds folders: give data\.root=.*/two"):
        SOURCES["folder"](FOLDER, root, 0)


def test_names_that_are_not_utf8_are_refused(tmp_path):
    root = class_tree(tmp_path, a=["1.jpg"], b=["2.jpg"])
    with open(os.fsencode(root) + b"/a/x\xff.jpg", "wb"):
        pass
    with pytest.raises(InputError, match="name is not UTF-8"):
        SOURCES["folder"](FOLDER, root, 0)


def test_published_sets(real_data):
    found = SOURCES["eyepacs"](EYEPACS, str(real_data / "eyepacs"), 0)
    assert [found.columns["grade"].count(g) for g in range(5)] == [14, 3, 2, 1, 4]
    found = SOURCES["eyepacs"](EYEPACS, str(real_data / "odir_graded_256"), 0)
    assert [found.columns["grade"].count(g) for g in range(5)] == [1934, 334, 543, 102, 20]
    assert len(set(found.columns["patient_id"])) == 1759
    assert found.problems == []
