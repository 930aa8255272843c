"""What is known of patients goes from a source through the manifest, and claims only so much."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fundusray.config import Data
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.manifest.patients import (
    CAVEAT,
    REPEATED,
    patient_counts,
    separation_sentence,
    unknown_patients_caveat,
)
from fundusray.data.split import assign_sides
from fundusray.data.split.assign_sides import linked_groups
from fundusray.data.split.leaks import find_leaks
from fundusray.errors import InputError
from tests.data.trees import classes, write

CLEAN = "no patient or near-duplicate is on two sides"


def csv_set(root: Path, names: list[str], **changes) -> Manifest:
    """The manifest of a table of some photographs, graded 0 and 1 in turn."""
    for name in names:
        write(root / f"{name}.jpg")
    lines = [f"{name},{row % 2}" for row, name in enumerate(names)]
    (root / "t.csv").write_text("\n".join(["file,dx", *lines, ""]))
    columns = {"image": "file", "grade": "dx"} | changes.pop("columns", {})
    data = Data(source="csv", table="t.csv", columns=columns, **changes)
    return build_manifest(data, str(root), 0)


def odos(num: int = 10) -> list[str]:
    return [f"p{row // 2}_{('OS', 'OD')[row % 2]}" for row in range(num)]


def known_of(table: pa.Table) -> dict[str, int]:
    return json.loads(table.schema.metadata[b"patients_known"])


def test_both_eyes_of_a_patient_stay_on_one_side(tmp_path: Path) -> None:
    manifest = csv_set(tmp_path, odos(72))
    table = manifest.table.set_column(
        manifest.table.schema.get_field_index("twin"), "twin", pa.array([""] * 72)
    )
    assert table["patient_id"].to_pylist() == [f"p{row // 2}" for row in range(72)]
    assert table["eye"].to_pylist() == ["left", "right"] * 36
    sides = assign_sides.stratified_split(table, "patient", (0.7, 0.1, 0.2), 0)
    assert all(sides[row] == sides[row + 1] for row in range(0, 72, 2))
    assert manifest.notes == (
        "patients read from names: 'p0_OS' -> patient p0, left eye (72 of 72 names)",
    )
    assert known_of(manifest.table) == {"csv": 72} and unknown_patients_caveat(table) == ""
    assert (
        separation_sentence(table, "patient", find_leaks(table, sides))
        == f"split by patient: {CLEAN}"
    )


def test_the_case_is_read_as_the_drawn_one(cases: Path) -> None:
    data = Data(source="csv", table="labels.csv", columns={"image": "file", "grade": "dx"})
    table = build_manifest(data, str(cases / "odos"), 0).table
    assert (
        patient_counts(table) == {"csv": (72, 72)}
        and len(set(table["patient_id"].to_pylist())) == 36
    )


def test_without_patients_none_is_claimed(tmp_path: Path) -> None:
    manifest = csv_set(tmp_path, [f"{row:012x}" for row in range(10)])
    table = manifest.table
    assert manifest.notes == () and set(table["patient_id"].to_pylist()) == {""}
    assert known_of(table) == {"csv": 0}
    assert unknown_patients_caveat(table) == f"patients unknown: {CAVEAT}"
    assert CAVEAT == (
        "images are counted as independent; intervals are too narrow if eyes of one person are "
        "among them"
    )
    sides = np.array(["train", "val"] * 5)
    said = separation_sentence(table, "patient", find_leaks(table, sides))
    assert CLEAN not in said and "no near-duplicate is on two sides" in said
    assert said.startswith("split by image, near-duplicates together: ")
    assert "patients are unknown and may be (data.patient_pattern=" in said
    # Each is on its own, under its own name.
    of_row, names = linked_groups(table)
    assert sorted(names[group] for group in of_row) == sorted(table["image_id"].to_pylist())


def test_a_joined_set_says_of_which_part(tmp_path: Path) -> None:
    both = classes(tmp_path / "a", x=["1_left.jpg", "7f.jpg"], y=["1_right.jpg", "2_left.jpg"])
    none = classes(tmp_path / "b", x=["3f.jpg"], y=["4f.jpg"])
    manifest = build_manifest(Data(source="folder,folder"), f"{both},{none}", 0)
    assert patient_counts(manifest.table) == {"folder": (3, 4), "folder-2": (0, 2)}
    assert known_of(manifest.table) == {"folder": 3, "folder-2": 0}
    whose = "1 of 4 images of folder, folder-2"
    assert unknown_patients_caveat(manifest.table) == f"patients unknown ({whose}): {CAVEAT}"
    leaks = find_leaks(manifest.table, np.array(["train"] * 6))
    said = separation_sentence(manifest.table, "given", leaks)
    assert said.startswith("the publisher's own split: no near-duplicate and no known patient is")
    assert f"patients of {whose} are unknown and may be" in said
    (note,) = manifest.notes
    assert note.startswith("folder: patients read from names: '1_left' -> patient 1, left eye")


def test_equal_names_of_a_patient_and_of_an_image_without_one_are_two() -> None:
    columns = {"image_id": ["a", "b", "c"], "patient_id": ["b", "", "b"], "twin": [""] * 3}
    of_row, names = linked_groups(pa.table(columns))
    assert of_row[0] == of_row[2] != of_row[1] and names == ["b", "b"]


def test_a_leak_leaves_no_claim(tmp_path: Path) -> None:
    table = csv_set(tmp_path, odos()).table
    leaks = find_leaks(table, np.array(["train", "test"] * 5))
    drawn = "split by image, at random within each grade (stratified; a paper's plain random"
    assert len(leaks.patients) == 5 and separation_sentence(table, "image", leaks).startswith(drawn)


def test_a_pattern_groups_what_names_hide(tmp_path: Path) -> None:
    names = [f"{row // 2}x{row}" for row in range(10)]
    plain = csv_set(tmp_path, names)
    manifest = csv_set(tmp_path, names, patient_pattern="^(?P<patient>[0-9]+)x")
    assert manifest.table["patient_id"].to_pylist() == [str(row // 2) for row in range(10)]
    assert "'0x0' -> patient 0 (10 of 10 names)" in manifest.notes[0]
    # Another grouping is another set.
    assert manifest.hash != plain.hash


def test_a_pattern_where_patients_are_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="knows the patients already"):
        csv_set(tmp_path, odos(), columns={"patient": "dx"}, patient_pattern="(?P<patient>p)")


def test_a_column_of_patients_that_repeats_the_images_tells_none(tmp_path: Path) -> None:
    names = [f"{row:06x}" for row in range(6)]
    manifest = csv_set(tmp_path, names, columns={"patient": "file"})
    assert known_of(manifest.table) == {"csv": 0} and manifest.notes == (REPEATED,)


def test_keyed_ids_keep_who_is_whose_and_name_nobody(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    manifest = csv_set(tmp_path, odos(), id_key=str(key))
    patients = manifest.table["patient_id"].to_pylist()
    assert len(set(patients)) == 5 and all(len(name) == 16 for name in patients)
    assert manifest.notes == ("patients read from names (10 of 10 names)",)
    unknown = csv_set(tmp_path / "b", [f"{row:012x}" for row in range(4)], id_key=str(key))
    assert set(unknown.table["patient_id"].to_pylist()) == {""}
