"""The published sets as they are: every count equals what is known of them."""

import csv
import io
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from fundusray.config import Data
from fundusray.data import SOURCES, SourceContent
from fundusray.data.manifest.build import build_manifest
from fundusray.data.manifest.patients import with_patients
from fundusray.data.photographs.read import read_mask, read_photo
from fundusray.data.reading.csv_files import read_table
from fundusray.data.reading.rows import LEVELS, NEED_LEVEL, converted_column, one_of, table_rows


def read(source: str, root: Path) -> SourceContent:
    """What the source finds, which must be without a fault."""
    found = SOURCES[source](Data(source=source), str(root), 0)
    assert found.problems == []
    assert {len(values) for values in found.columns.values()} == {len(found.columns["path"])}
    return found


def counts(found: SourceContent, column: str) -> dict:
    return dict(Counter(found.columns[column]))


def test_eyepacs(real_data: Path) -> None:
    found = read("eyepacs", real_data / "eyepacs")
    assert counts(found, "grade") == {0: 14, 1: 3, 2: 2, 3: 1, 4: 4}
    assert len(found.columns["path"]) == 24


def test_aptos(real_data: Path) -> None:
    found = read("aptos", real_data / "aptos2019")
    assert found.columns["grade"] == [2, 0, -1]
    assert found.columns["split"] == ["train", "train", "test"]


def test_whole_tables_whose_images_are_elsewhere(real_data: Path) -> None:
    for folder, name, image, label, expected in (
        ("eyepacs", "trainLabels_full.csv", "image", "level", [25810, 2443, 5292, 873, 708]),
        ("aptos2019", "train_full.csv", "id_code", "diagnosis", [1805, 370, 999, 193, 295]),
    ):
        rows = table_rows(read_table(str(real_data / folder), name, (image, label)), image)
        levels = converted_column(rows, label, one_of(LEVELS), NEED_LEVEL)
        assert [levels.count(level) for level in range(5)] == expected
        assert rows.faults == [] and len(set(rows.ids)) == sum(expected)


def test_odir(real_data: Path) -> None:
    root = real_data / "odir5k"
    found = read("odir", root)
    assert len(found.columns["path"]) == 402 and len(set(found.columns["patient_id"])) == 201
    assert counts(found, "sex") == {"female": 2 * 96, "male": 2 * 105}
    assert counts(found, "eye") == {"left": 201, "right": 201}
    with open(root / "dr_grades.csv") as content:
        known = {row["image"]: int(row["level"]) for row in csv.DictReader(content)}
    assert dict(Counter(known.values())) == {0: 110, 1: 76, 2: 95, 3: 60, 4: 20}
    pairs = zip(found.columns["image_id"], found.columns["grade"], strict=True)
    assert {image: grade for image, grade in pairs if grade >= 0} == known
    manifest = build_manifest(Data(source="odir", target="sex"), str(root), 0)
    assert manifest.table.num_rows == 402 and manifest.unlabelled == 0
    manifest = build_manifest(Data(source="odir"), str(root), 0)
    assert manifest.table.num_rows == 361 and manifest.unlabelled == 41


def test_odir_graded_256(real_data: Path) -> None:
    root = real_data / "odir_graded_256"
    found = read("eyepacs", root)
    assert counts(found, "grade") == {0: 1934, 1: 334, 2: 543, 3: 102, 4: 20}
    assert len(set(with_patients(found, "", secret=False).columns["patient_id"])) == 1759
    with open(root / "sex_age.csv") as content:
        people = {
            row["image"]: (row["sex"].lower(), int(row["age"])) for row in csv.DictReader(content)
        }
    names = ("image_id", "sex", "age")
    rows = zip(*(found.columns[name] for name in names), strict=True)
    assert {image: (sex, age) for image, sex, age in rows} == people
    manifest = build_manifest(Data(source="eyepacs", target="sex"), str(root), 0)
    assert manifest.classes == ("female", "male") and manifest.table.num_rows == 2933


def test_idrid(real_data: Path) -> None:
    root = real_data / "IDRiD"
    found = read("idrid", root)
    assert counts(found, "grade") == {-1: 6, 0: 14, 1: 12, 2: 14, 3: 13, 4: 13}
    assert counts(found, "edema") == {-1: 6, 0: 29, 1: 5, 2: 32}
    masks = [dict(pairs) for pairs in found.columns["masks"] if pairs]
    assert [len(one) for one in masks] == [4, 4, 5, 5, 5, 5]
    assert sum("soft_exudates" in one for one in masks) == 4
    for part, num in (("A. Segmentation", 6), ("B. Disease Grading", 66)):
        assert len(read("idrid", root / part).columns["path"]) == num
    assert build_manifest(Data(source="idrid", target="edema"), str(root), 0).table.num_rows == 66


def test_chase(real_data: Path) -> None:
    found = read("chase", real_data / "CHASEDB1")
    assert len(found.columns["path"]) == 14 and len(set(found.columns["patient_id"])) == 7
    assert [len(pairs) for pairs in found.columns["masks"]] == [3] * 14
    manifest = build_manifest(Data(source="chase"), str(real_data / "CHASEDB1"), 0, labelled=False)
    assert manifest.table.num_rows == 14


def test_several_sets_in_one(real_data: Path) -> None:
    roots = f"{real_data}/eyepacs,{real_data}/odir5k,{real_data}/IDRiD"
    manifest = build_manifest(Data(source="eyepacs,odir,idrid"), roots, 0)
    assert manifest.table.num_rows == 24 + 361 + 66 and manifest.unlabelled == 41 + 6


def test_masks_fit_their_photographs(real_data: Path) -> None:
    """Every mask is as large as its photograph, marks something, and lesions are small."""
    shares: dict[str, list[float]] = {}
    for source, folder in (("idrid", "IDRiD/A. Segmentation"), ("chase", "CHASEDB1")):
        root = str(real_data / folder)
        found = read(source, real_data / folder)
        for path, masks in zip(found.columns["path"], found.columns["masks"], strict=True):
            size = Image.open(io.BytesIO(read_photo(root, path))).size
            for structure, mask_path in masks:
                marked = read_mask(root, mask_path)
                assert marked.dtype == np.bool_ and marked.shape == size[::-1]
                shares.setdefault(structure, []).append(float(marked.mean()))
    assert len(shares) == 8 and sum(map(len, shares.values())) == 28 + 42
    assert all(min(values) > 0 for values in shares.values())
    medians = {name: float(np.median(values)) for name, values in shares.items()}
    order = ["microaneurysms", "optic_disc", "vessels_1"]
    assert all(medians[a] < medians[b] for a, b in pairwise(order))
    assert 0.01 < medians["optic_disc"] < 0.03 and 0.05 < medians["vessels_1"] < 0.12
    assert abs(medians["vessels_1"] - medians["vessels_2"]) < 0.02
    assert shares["vessels"] == shares["vessels_1"]


def test_real_masks_are_palettes_whose_colour_marks_the_same(real_data: Path) -> None:
    root = real_data / "idrid_small" / "A. Segmentation"
    found = read("idrid", root)
    assert sum(map(len, found.columns["masks"])) == 241 and len(found.columns["path"]) == 54
    for masks in found.columns["masks"][:4]:
        for _, path in masks:
            with Image.open(root / path) as image:
                assert image.mode == "P"
                red = np.asarray(image.convert("RGB"))[..., 0] > 0
            marked = read_mask(str(root), path)
            assert np.array_equal(marked, red) and marked.any()
