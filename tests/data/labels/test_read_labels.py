"""Labels as they are written: in order, in classes given by hand, without a grade, ungradable."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fundusray.config import Data, Recipe, override
from fundusray.data.labels.class_names import no_label
from fundusray.data.labels.read_labels import relabelled_rows
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.manifest.contract import GRADES, SEXES, SourceContent
from fundusray.data.manifest.joining import join_sources
from fundusray.data.reading.rows import BLANK
from fundusray.errors import InputError
from fundusray.runs.check import check
from tests.data.trees import classes, write


def table(root: Path, *cells: str, **changes: Any) -> Manifest:
    """The manifest of photographs 0.jpg, 1.jpg, ... with these labels; `changes` are of Data."""
    for index in range(len(cells)):
        write(root / f"{index}.jpg")
    lines = ["file,dx", *(f"{index},{cell}" for index, cell in enumerate(cells)), ""]
    write(root / "labels.csv", "\n".join(lines).encode())
    columns = {"image": "file", "grade": "dx"}
    data = Data(**({"source": "csv", "table": "labels.csv", "columns": columns} | changes))
    return build_manifest(data, str(root), 0)


def targets(manifest: Manifest) -> list[int]:
    return manifest.table["target"].to_pylist()


def test_named_grades_are_in_their_order(tmp_path: Path) -> None:
    found = table(tmp_path, "Severe", "No DR", "mild", "Moderate", "Mild")
    assert found.classes == GRADES and found.ordered and targets(found) == [3, 0, 1, 2, 1]
    assert found.table.schema.metadata[b"ordered"] == b"true"


def test_an_order_that_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    found = table(tmp_path, "AMD", "DR", "cataract", "DR")
    assert found.classes == ("AMD", "cataract", "DR") and not found.ordered
    assert found.table.schema.metadata[b"ordered"] == b"false"
    said = table(tmp_path, "AMD", "DR", "cataract", "DR", classes=("cataract", "AMD", "DR"))
    assert said.classes == ("cataract", "AMD", "DR") and said.ordered
    assert targets(said) == [1, 2, 0, 2] and said.hash != found.hash


def test_classes_by_hand_name_numbers_and_refuse_the_rest(tmp_path: Path) -> None:
    given = ("clear", "thin", "thick")
    assert targets(table(tmp_path, "0", "2", "1", classes=given)) == [0, 2, 1]
    with pytest.raises(InputError, match=r"dx '3' of image '2', expected one of clear, thin, thi"):
        table(tmp_path, "0", "2", "3", classes=given)
    with pytest.raises(InputError, match=r"data\.map\.<label>=<class> says which one"):
        table(tmp_path, "clear", "thin", "opaque", classes=given)


def test_a_label_can_be_said_to_be_a_class(tmp_path: Path) -> None:
    mapped = table(tmp_path, "R0", "R1", "R2", map={"R0": "none", "r1": "mild", "R2": "severe"})
    assert mapped.classes == ("none", "mild", "severe") and targets(mapped) == [0, 1, 2]
    binary = table(
        tmp_path, "0", "1", "2", "3", "4", classes=("no", "yes"), map={str(n): "yes" for n in "234"}
    )
    # 0 and 1 are the first and second class by their number.
    assert targets(binary) == [0, 1, 1, 1, 1]


def test_five_is_no_grade_until_it_is_said_what_it_is(tmp_path: Path) -> None:
    cells = ("0", "1", "2", "3", "4", "5", "5")
    with pytest.raises(InputError, match=r"2 faults.*\n.*dx '5' .*data\.ungradable=5 sets such"):
        table(tmp_path, *cells)
    found = table(tmp_path, *cells, ungradable=("5",))
    assert found.classes == GRADES and targets(found) == [0, 1, 2, 3, 4]
    assert found.skipped.num_rows == 0 and found.unlabelled == 2
    says = {"reason": "ungradable (dx '5')", "counted": False, "ungradable": True}
    assert found.ungradable.to_pylist() == [
        {"image_id": i, "where": f"labels.csv:{line}"} | says for i, line in (("5", 7), ("6", 8))
    ]
    six = table(tmp_path, *cells, classes=tuple("012345"))
    assert six.classes == tuple("012345") and targets(six) == [0, 1, 2, 3, 4, 5, 5]


def test_ungradable_photographs_are_not_counted_as_bad(tmp_path: Path) -> None:
    """A third of the rows; data.max_bad allows a hundredth."""
    found = table(tmp_path, "mild", "no dr", "poor quality", "severe", "Ungradable", "mild")
    assert found.classes == ("no dr", "mild", "severe") or found.classes == GRADES
    assert targets(found) == [1, 0, 3, 1] and found.ungradable.num_rows == 2
    whole = build_manifest(
        Data(source="csv", table="labels.csv", columns={"image": "file", "grade": "dx"}, max_bad=0),
        str(tmp_path),
        0,
        labelled=False,
    )
    assert targets(whole) == [1, 0, -1, 3, -1, 1] and whole.ungradable.num_rows == 2


def test_ungradable_photographs_alone_for_a_network_to_answer(tmp_path: Path) -> None:
    found = table(tmp_path, "0", "2", "5", "5", ungradable=("5",), judge="ungradable")
    assert found.table["image_id"].to_pylist() == ["2", "3"] and targets(found) == [-1, -1]
    assert found.unlabelled == found.ungradable.num_rows == found.skipped.num_rows == 0
    with pytest.raises(InputError, match=r"no label says ungradable; data\.ungradable=<label>"):
        table(tmp_path, "0", "2", "1", "3", judge="ungradable")
    with pytest.raises(InputError, match=r"data\.judge=ungradable: what has no grade is not"):
        check(override(Recipe(), {"data.judge": "ungradable"}))


def test_rows_without_a_grade_are_unlabelled(tmp_path: Path) -> None:
    found = table(tmp_path, "0", "", "1", "NaN", "-1", "2")
    assert targets(found) == [0, 1, 2] and found.unlabelled == 3
    assert found.ungradable.num_rows == found.skipped.num_rows == 0


def test_class_folders_in_their_order(tmp_path: Path) -> None:
    root = classes(
        tmp_path, Mild=["a.jpg"], No_DR=["b.jpg"], Severe=["c.jpg"], ungradable=["d.jpg", "e.jpg"]
    )
    found = build_manifest(Data(source="folder"), str(root), 0)
    assert found.classes == GRADES and found.ordered
    assert dict(zip(found.table["image_id"].to_pylist(), targets(found), strict=True)) == {
        "a": 1,
        "b": 0,
        "c": 3,
    }
    assert found.ungradable["image_id"].to_pylist() == ["d", "e"]
    with pytest.raises(InputError, match=r"class folders 'Severe', expected one of no, yes"):
        build_manifest(Data(source="folder", classes=("no", "yes"), map={"No_DR": "no", "mild":
        "yes"}), str(root), 0)  # fmt: skip


def test_a_side_may_have_a_grade_that_train_lacks(tmp_path: Path) -> None:
    root = classes(
        tmp_path, train__anodr=["1.jpg"], train__bmilddr=["2.jpg"], test__dseveredr=["3.jpg"]
    )
    found = build_manifest(Data(source="folder"), str(root), 0)
    held = dict(zip(found.table["image_id"].to_pylist(), targets(found), strict=True))
    assert found.classes == GRADES and held == {"1": 0, "2": 1, "3": 3}


def fixed(**changes: Any) -> SourceContent:
    """What a source with classes of its own hands over: eyes of the five grades, one without."""
    ids = list("abcdef")
    columns = {"image_id": ids, "grade": [0, 1, 2, 3, 4, -1], "sex": ["male", "female"] * 3}
    data = Data(source="eyepacs", **changes)
    return relabelled_rows(SourceContent(columns, [], {"grade": GRADES, "sex": SEXES}), data)


def test_classes_of_a_public_set_can_be_joined_to_others() -> None:
    referable = fixed(
        classes=("not referable", "referable"),
        map={
            "none": "not referable", "mild": "not referable", "moderate": "referable",
            "severe": "referable", "proliferative": "referable",
        },
    )  # fmt: skip
    assert referable.labels["grade"] == ("not referable", "referable")
    assert referable.columns["grade"] == [0, 0, 1, 1, 1, -1]
    apart = fixed(ungradable=("proliferative",))
    assert apart.columns["grade"] == [0, 1, 2, 3, -1, -1]
    assert [(p.image_id, p.ungradable) for p in apart.problems] == [("e", True)]
    assert fixed() == fixed(target="edema") and fixed().columns["grade"] == [0, 1, 2, 3, 4, -1]
    with pytest.raises(InputError, match="'severe', 'proliferative', expected one of a, b, c"):
        fixed(classes=("a", "b", "c"), map={"none": "a", "mild": "b", "moderate": "c"})
    swapped = fixed(target="sex", classes=("male", "female"))
    assert swapped.labels["sex"] == ("male", "female")
    assert swapped.columns["sex"] == ["male", "female"] * 3


def test_sets_with_fewer_grades_join_the_larger() -> None:
    few = SourceContent(
        {"image_id": ["1", "2"], "grade": [1, -1]}, [], {"grade": ("normal", "severe")}
    )
    for parts in ({"a": fixed(), "b": few}, {"b": few, "a": fixed()}):
        joined = join_sources(parts)
        assert joined.labels["grade"] == GRADES
        found = dict(zip(joined.columns["image_id"], joined.columns["grade"], strict=True))
        assert (found["b-1"], found["b-2"], found["a-e"]) == (3, -1, 4)
        assert few.columns["grade"] == [1, -1]
    binary = few._replace(labels={"grade": ("0", "1")})
    with pytest.raises(InputError, match=r"neither are among the other's.*data\.map\.<label>"):
        join_sources({"a": fixed(), "b": binary})


def test_none_among_numbers_is_no_grade_and_among_names_the_healthy_one(tmp_path: Path) -> None:
    names = ("No DR", "Mild", "Moderate", "Severe", "Proliferative")
    for settings in ({}, {"classes": names}, {"map": {str(n): names[n] for n in range(5)}}):
        found = table(tmp_path, "0", "1", "4", "None", "2.0", "", **settings)
        assert targets(found) == [0, 1, 4, 2] and found.unlabelled == 2, settings
    found = table(tmp_path, "None", "mild", "moderate", "pdr", "nan", "#N/A")
    assert targets(found) == [0, 1, 2, 4] and found.unlabelled == 2


def test_a_disease_is_absent_or_present_and_a_third_number_is_a_class(tmp_path: Path) -> None:
    columns = {"image": "file", "disease": "dx"}
    found = table(tmp_path, "0", "1", "1.0", "nan", columns=columns, target="disease")
    assert found.classes == ("absent", "present") and found.ordered
    assert targets(found) == [0, 1, 1] and found.unlabelled == 1
    found = table(tmp_path, "0", "1", "2", columns=columns, target="disease")
    assert found.classes == ("0", "1", "2") and not found.ordered


def test_every_spelling_of_nothing_is_no_label_in_any_table() -> None:
    assert all(no_label(cell) for cell in BLANK if cell != "none")
    assert not any(no_label(cell) for cell in ("--", "?", "1", "-2", "none", "nan0"))


def test_settings_that_cannot_be_meant() -> None:
    assert override(Recipe(), {"data.classes": "No DR, Mild"}).data.classes == ("No DR", " Mild")
    assert override(Recipe(), {"data.map.R1": "mild"}).data.map == {"R1": "mild"}
    with pytest.raises(InputError, match=r"with a dot cannot be given; of data\.map write 5_odd"):
        override(Recipe(), {"data.map.5.odd": "mild"})
    for classes_given in ("one", "a,A", "a,b\x1b"):
        with pytest.raises(InputError, match=r"data\.classes: two or more different, printable"):
            override(Recipe(), {"data.classes": classes_given})


CASES = {
    "names": ({}, GRADES, [30, 12, 18, 6, 6], 0),
    "gap4": ({}, GRADES, [30, 12, 18, 6, 0], 0),
    "zero_four": ({}, GRADES, [30, 0, 0, 0, 6], 0),
    "ungradable": ({"ungradable": ("5",)}, GRADES, [28, 12, 17, 6, 5], 4),
}


@pytest.mark.parametrize("name", CASES)
def test_tables_as_people_have_them(cases: Path, name: str) -> None:
    settings, names, counts, ungradable = CASES[name]
    columns = {"image": "file", "grade": "dx"}
    data = Data(source="csv", table="labels.csv", columns=columns, **settings)
    found = build_manifest(data, str(cases / name), 0)
    assert found.ordered and found.ungradable.num_rows == ungradable
    assert found.classes == names
    assert np.bincount(targets(found), minlength=5).tolist() == counts


def test_folders_as_people_have_them(cases: Path) -> None:
    found = build_manifest(
        Data(source="folder"), str(cases / "gaussian" / "gaussian_filtered_images"), 0
    )
    assert found.classes == GRADES and found.ordered
    rows = pa.table({"path": found.table["path"], "target": found.table["target"]}).to_pylist()
    assert {row["path"].split("/")[0]: row["target"] for row in rows} == {
        "No_DR": 0,
        "Mild": 1,
        "Moderate": 2,
        "Severe": 3,
        "Proliferate_DR": 4,
    }
