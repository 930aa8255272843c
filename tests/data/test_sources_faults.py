"""Every fault a table or a tree can have, for every source that reads a table."""

import os
import unicodedata
from pathlib import Path

import pytest

from fundusray.config import Data
from fundusray.data.manifest.build import build_manifest
from fundusray.data.manifest.contract import SourceContent
from fundusray.errors import InputError
from tests.data.trees import LAYOUTS, Layout, odir, photograph, write

IMAGES = ("1_left", "1_right", "2_left", "2_right")
GOOD = [("1_left", "0"), ("1_right", "4"), ("2_left", "1"), ("2_right", "0")]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Layout:
    """A layout whose photographs are there."""
    layout = LAYOUTS[request.param]
    layout.plant(tmp_path, IMAGES)
    return layout


def ids(found: SourceContent) -> list[str]:
    return found.columns["image_id"]


def told(found: SourceContent) -> list[str]:
    return [f"{p.where}: {p.reason}" for p in found.problems]


def test_a_good_table(layout: Layout, tmp_path: Path) -> None:
    found = layout.fill(tmp_path, layout.lines(GOOD))
    assert found.problems == []
    assert ids(found) == list(IMAGES)
    assert found.columns["grade"] == [0, 4, 1, 0]
    assert found.columns["path"] == [layout.photo.format(image=image) for image in IMAGES]
    assert found.columns["num_bytes"] == [len(photograph())] * 4
    assert {len(values) for values in found.columns.values()} == {4}
    assert len(found.labels["grade"]) == 5


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(
    layout: Layout, tmp_path: Path, end: str, start: str
) -> None:
    found = layout.fill(tmp_path, start + layout.lines(GOOD, end))
    assert found.problems == [] and ids(found) == list(IMAGES)


def test_spaces_blank_rows_quotes_and_more_columns(layout: Layout, tmp_path: Path) -> None:
    rows = layout.lines([(' "1_left" '.strip(), "0"), (" 1_right ", ' "4"'.strip())]).split("\n")
    header = rows[0].replace(",", " ,") + ',"more, still"'
    content = "\n".join([header, rows[1] + ",x", "", rows[2], "," * rows[0].count(","), ""])
    found = layout.fill(tmp_path, content)
    assert found.problems == [] and ids(found) == ["1_left", "1_right"]
    assert found.columns["grade"][0] == 0


@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_composed_and_decomposed_names_meet(
    layout: Layout, tmp_path: Path, in_table: str, on_disk: str
) -> None:
    name = layout.photo.format(image=unicodedata.normalize(on_disk, "Zoë_left"))
    write(tmp_path / name)
    table = layout.lines([(unicodedata.normalize(in_table, "Zoë_left"), "3"), *GOOD])
    found = layout.fill(tmp_path, table)
    assert found.problems == []
    assert found.columns["path"][0] == name and ids(found)[0] == "Zoë_left"
    both = [(unicodedata.normalize(form, "Zoë_left"), "4") for form in ("NFC", "NFD")]
    found = layout.fill(tmp_path, layout.lines([*GOOD, *both]))
    assert told(found) == [f"{layout.table}:7: image 'Zoë_left' again, first in {layout.table}:6"]


@pytest.mark.parametrize(
    "level", ["", " ", "nan", "NaN", "NA", "n/a", "None", "-1", "-1.0", "null"]
)
def test_an_empty_label_is_none_and_stops_nothing(
    layout: Layout, tmp_path: Path, level: str
) -> None:
    more = [("3_left", "2"), ("3_right", "3"), ("4_left", level)]
    layout.plant(tmp_path, [image for image, _ in more])
    found = layout.fill(tmp_path, layout.lines([*GOOD, *more]))
    assert found.problems == [] and found.columns["grade"] == [0, 4, 1, 0, 2, 3, -1]
    data = Data(source=layout.source, max_bad=0.0, **dict(layout.settings))
    manifest = build_manifest(data, str(tmp_path), 0)
    assert (manifest.table.num_rows, manifest.unlabelled) == (6, 1)


@pytest.mark.parametrize("level", ["7", "-2", "x", "1.5", "1e0", "4.01", "nan0", "--"])
def test_labels_that_are_none_name_line_got_and_expected(
    layout: Layout, tmp_path: Path, level: str
) -> None:
    more = [("3_left", "2"), ("3_right", "3"), ("4_left", level), ("4_right", level)]
    layout.plant(tmp_path, [image for image, _ in more])
    found = layout.fill(tmp_path, layout.lines([*GOOD, *more]))
    reason = f"{layout.column} {level.strip()!r} of image '4_left', expected 0"
    assert told(found)[0].startswith(f"{layout.table}:8: {reason}")
    assert [problem.where for problem in found.problems] == [f"{layout.table}:{n}" for n in (8, 9)]
    assert all(problem.refused for problem in found.problems)
    assert ids(found) == [*IMAGES, "3_left", "3_right"]


def test_whole_numbers_as_spreadsheets_write_them(layout: Layout, tmp_path: Path) -> None:
    found = layout.fill(tmp_path, layout.lines([(image, f"{g}.0") for image, g in GOOD]))
    assert found.problems == [] and found.columns["grade"] == [0, 4, 1, 0]


def test_all_faults_in_one_pass_in_order_of_lines(layout: Layout, tmp_path: Path) -> None:
    rows = [*GOOD, ("2_left", "1"), ("../1_left", "0"), ("", "1"), ("9_left", "0"), ("1_left", "0")]
    found = layout.fill(tmp_path, layout.lines(rows))
    lines = [int(problem.where.rpartition(":")[2]) for problem in found.problems]
    assert lines == [6, 7, 8, 9, 10]
    assert [problem.refused for problem in found.problems] == [True, True, True, False, True]
    reasons = [problem.reason for problem in found.problems]
    assert reasons[0] == f"image '2_left' again, first in {layout.table}:4"
    assert "image '../1_left', expected a" in reasons[1]
    assert "image is empty, expected a name" in reasons[2]
    assert reasons[3].startswith("no image file of '9_left' (")
    assert ids(found) == list(IMAGES)


@pytest.mark.parametrize(
    "image",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "/passwd",
        "a/../../b",
        "a//b",
        "a/",
        "C:1_left",
        "C:\\1_left",
        "..",
        ".",
        "a\0b",
        '"a\nb_left"',
        "\x1b[31m_left",
        "\u202egnp.jpg",
    ],
)
def test_names_that_lead_elsewhere_are_refused(layout: Layout, tmp_path: Path, image: str) -> None:
    found = layout.fill(tmp_path, layout.lines([*GOOD, (image, "0")]))
    assert len(found.problems) == 1 and found.problems[0].refused
    assert found.problems[0].where == f"{layout.table}:6"
    assert found.problems[0].reason.isprintable() and "expected a" in found.problems[0].reason
    assert ids(found) == list(IMAGES)


def test_a_backslash_separates_folders_in_a_table_of_ones_own_alone(
    layout: Layout, tmp_path: Path
) -> None:
    found = layout.fill(tmp_path, layout.lines([*GOOD, ("train\\3_left", "0")]))
    refused = layout.source != "csv"
    assert [problem.refused for problem in found.problems] == [refused]
    words = "expected a plain name" if refused else "no image file of '3_left' (train/3_left.jpg)"
    assert words in told(found)[0] and ids(found) == list(IMAGES)


def test_names_that_differ_in_case(layout: Layout, tmp_path: Path) -> None:
    place = tmp_path / layout.photo.format(image="2_left")
    place.rename(place.with_name(place.name.replace("left", "Left")))
    found = layout.fill(tmp_path, layout.lines(GOOD))
    assert [problem.refused for problem in found.problems] == [False]
    near = layout.photo.format(image="2_Left")
    assert told(found)[0].endswith(f"there is {near!r}, which differs in case")
    assert ids(found) == ["1_left", "1_right", "2_right"]


def test_extensions_of_either_case_and_kind(layout: Layout, tmp_path: Path) -> None:
    suffixes = (".JPG", ".png", ".Jpeg")
    for image, suffix in zip(IMAGES, suffixes, strict=False):
        place = tmp_path / layout.photo.format(image=image)
        place.rename(place.with_suffix(suffix))
    rows = [("1_left.jpg", "0"), ("1_right.png", "4"), ("2_left", "1"), ("2_right.jpeg", "0")]
    found = layout.fill(tmp_path, layout.lines(rows))
    assert found.problems == [] and ids(found) == list(IMAGES)
    assert [Path(path).suffix for path in found.columns["path"]][:3] == list(suffixes)


def test_two_files_of_one_name_are_refused_unless_one_is_named(
    layout: Layout, tmp_path: Path
) -> None:
    place = tmp_path / layout.photo.format(image="2_left")
    other = place.with_suffix(".PNG")
    write(other)
    found = layout.fill(tmp_path, layout.lines(GOOD))
    assert "is there with another extension; keep one" in told(found)[0]
    assert found.problems[0].refused and len(found.problems) == 1
    rows = [(other.name if image == "2_left" else image, grade) for image, grade in GOOD]
    found = layout.fill(tmp_path, layout.lines(rows))
    assert found.problems == [] and found.columns["path"][2].endswith("2_left.PNG")


def test_links_stay_inside_the_root(layout: Layout, tmp_path: Path) -> None:
    root = tmp_path / "root"
    layout.plant(root, IMAGES)
    secret = tmp_path / "secret.jpeg"
    secret.write_bytes(b"secret")
    places = {image: root / layout.photo.format(image=image) for image in IMAGES}
    for image, target in (
        ("1_left", secret),
        ("1_right", places["2_left"].name),
        ("2_right", places["2_right"].name),
    ):
        places[image].unlink()
        places[image].symlink_to(target)
    layout.fill(root, layout.lines(GOOD))
    for place in (str(root), root.as_uri()):
        found = layout.read(place)
        assert ids(found) == ["1_right", "2_left"]
        assert [problem.refused for problem in found.problems] == [True, False]
        assert "1_left" in told(found)[0] and "is a link out of the data root" in told(found)[0]
        assert "no image file of '2_right'" in told(found)[1]


def test_a_table_that_links_out_of_the_root_is_not_read(layout: Layout, tmp_path: Path) -> None:
    root = tmp_path / "root"
    layout.plant(root, IMAGES)
    layout.fill(root, layout.lines(GOOD))
    (root / layout.table).rename(tmp_path / "secret.csv")
    (root / layout.table).symlink_to(tmp_path / "secret.csv")
    with pytest.raises(InputError, match=r"link out of the data root|expected a path inside"):
        layout.read(root)


def test_a_folder_that_links_out_of_the_root_is_not_listed(layout: Layout, tmp_path: Path) -> None:
    if "/" not in layout.photo:
        pytest.skip("photographs lie in the root itself")
    root = tmp_path / "root"
    layout.plant(root, IMAGES)
    layout.fill(root, layout.lines(GOOD))
    folder = (root / layout.photo).parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link out of the data root"):
        layout.read(root)


def test_a_root_that_is_itself_a_link_is_fine(layout: Layout, tmp_path: Path) -> None:
    layout.fill(tmp_path, layout.lines(GOOD))
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    assert layout.read(link) == layout.read(tmp_path)


def test_names_that_are_not_utf8_are_named(layout: Layout, tmp_path: Path) -> None:
    folder = (tmp_path / layout.photo).parent
    with open(os.fsencode(folder) + b"/x\xff_left.jpg", "wb"):
        pass
    with open(os.fsencode(folder) + b"/notes\xff.txt", "wb"):
        pass
    os.symlink("nowhere", os.fsencode(folder) + b"/y\xfe.png")
    found = layout.fill(tmp_path, layout.lines(GOOD))
    assert ids(found) == list(IMAGES)
    assert [problem.refused for problem in found.problems] == [True, True]
    assert r"the file name b'x\xff_left.jpg' is not UTF-8; rename it" in told(found)[0]
    assert r"b'y\xfe.png'" in told(found)[1]


def test_pipes_and_hidden_files_are_no_photographs(layout: Layout, tmp_path: Path) -> None:
    place = tmp_path / layout.photo.format(image="2_left")
    place.unlink()
    os.mkfifo(place)
    write(place.with_name("._1_left.png"))
    found = layout.fill(tmp_path, layout.lines(GOOD))
    assert [problem.reason[:27] for problem in found.problems] == ["no image file of '2_left' ("]


def test_a_table_of_one_row(layout: Layout, tmp_path: Path) -> None:
    found = layout.fill(tmp_path, layout.lines(GOOD[:1]).rstrip("\n"))
    assert found.problems == [] and ids(found) == ["1_left"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: b"", "is empty"),
        (lambda text: b"\n \n", "is empty"),
        (lambda text: text.split("\n")[0].encode(), "a header and no rows"),
        (lambda text: text.split("\n")[0].encode() + b"\n\n,,\n", "a header and no rows"),
        (lambda text: text.encode("utf-16"), ":1: UTF-16"),
        (lambda text: text.encode("utf-16-le"), ":1: UTF-16"),
        (lambda text: text.replace("2_left", "Zo\xeb").encode("latin-1"), "4: byte 0xeb is not"),
        (lambda text: text.encode() + b'"x' + b"x" * 200_000, ":6: not CSV"),
        (lambda text: text.split("\n", 1)[1].encode(), "once each, got|no such column"),
    ],
)
def test_tables_that_cannot_be_read(layout: Layout, tmp_path: Path, change, words: str) -> None:
    with pytest.raises(InputError, match=words):
        layout.fill(tmp_path, change(layout.lines(GOOD)))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_delimiters_are_found_by_themselves(layout: Layout, tmp_path: Path, delimiter: str) -> None:
    text = layout.lines(GOOD).replace(",", delimiter)
    found = layout.fill(tmp_path, text)
    assert found.problems == [] and ids(found) == list(IMAGES)
    assert found.columns["grade"] == [0, 4, 1, 0]


def test_a_column_that_is_there_twice(layout: Layout, tmp_path: Path) -> None:
    first, rest = layout.lines(GOOD).split("\n", 1)
    with pytest.raises(InputError, match="once each, got"):
        layout.fill(tmp_path, f"{first},{layout.column}\n{rest}")


def test_roots_that_are_none(layout: Layout, tmp_path: Path) -> None:
    for root in ("", str(tmp_path / "nowhere")):
        with pytest.raises(InputError, match=f"no such folder; source '{layout.source}' expects"):
            layout.read(root)
    for name in ("set.zip", "set.tar", "set.tgz", "set.tar.gz", "set.rar", "set.7z"):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(InputError, match="is an archive: unpack it first"):
            layout.read(tmp_path / name)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(InputError, match="is a file, not a folder"):
        layout.read(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is not there|no images found"):
        layout.read(tmp_path / "empty")


def test_odir_tables_too(tmp_path: Path) -> None:
    """ODIR's rows are patients, so its tables are other ones; what reads them is the same."""
    row = "{0},50,Female,{0}_left.jpg,{0}_right.jpg,normal fundus,normal fundus,1,0,0"
    rows = [row.format(1), row.format("../2"), row.format("\x1b[31m"), row.format(9), row.format(3)]
    root = odir(tmp_path, rows)
    found = LAYOUTS["eyepacs"]._replace(source="odir").read(root)
    assert ids(found) == ["1_left", "1_right", "3_left", "3_right"]
    lines = [problem.where for problem in found.problems]
    assert lines == [f"full_df.csv:{line}" for line in (4, 3, 3, 5, 5)]
    assert [problem.refused for problem in found.problems] == [True] * 3 + [False] * 2
    assert all(problem.reason.isprintable() for problem in found.problems)
