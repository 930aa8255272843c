import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from fundusray.config import Data
from fundusray.data.manifest.build import (
    SCHEMA,
    SKIPPED,
    _with_keywords,
    build_manifest,
    class_counts,
)
from fundusray.data.manifest.contract import SourceContent
from fundusray.errors import InputError

EYEPACS = Data(source="eyepacs", max_bad=0.0)


def refusal(data, root):
    with pytest.raises(InputError) as caught:
        build_manifest(data, str(root), 0)
    return str(caught.value)


def add_rows(root, rows):
    with open(root / "trainLabels.csv", "a") as stream:
        stream.write("".join(row + "\n" for row in rows))


def test_a_manifest_has_every_column_and_its_classes(eyepacs_tree):
    root = eyepacs_tree(6)
    manifest = build_manifest(EYEPACS, str(root), 0)
    table = manifest.table
    assert table.schema.equals(SCHEMA) and table.num_rows == 12
    assert tuple(json.loads(table.schema.metadata[b"classes"])) == manifest.classes
    assert len(manifest.classes) == 5 and manifest.roots == {"eyepacs": str(root)}
    assert all(column.null_count == 0 for column in table.columns)
    first = table.slice(0, 1).to_pylist()[0]
    assert first["path"] == "train/1_left.jpeg" and first["split"] == ""
    assert (first["width"], first["repaired"], first["sha256"]) == (0, False, "")
    assert class_counts(table, 5).tolist() == [4, 2, 2, 2, 2]
    assert manifest.skipped.num_rows == 0
    assert manifest.skipped.column_names == SKIPPED.names


def test_the_hash_follows_content_and_not_place(eyepacs_tree, tmp_path):
    root = eyepacs_tree(6)
    first = build_manifest(EYEPACS, str(root), 0).hash
    assert build_manifest(EYEPACS, str(root), 1).hash == first
    shutil.copytree(root, tmp_path / "copy")
    assert build_manifest(EYEPACS, str(tmp_path / "copy"), 0).hash == first
    text = (root / "trainLabels.csv").read_text()
    (root / "trainLabels.csv").write_text(text.replace("1_left,0", "1_left,1"))
    graded = build_manifest(EYEPACS, str(root), 0).hash
    (root / "trainLabels.csv").write_text(text)
    with open(root / "train" / "2_left.jpeg", "ab") as stream:
        stream.write(b"\0")
    assert len({first, graded, build_manifest(EYEPACS, str(root), 0).hash}) == 3


def test_all_faults_come_in_one_error_twenty_in_full(eyepacs_tree):
    root = eyepacs_tree(6)
    add_rows(root, [f"x{i}_left,9" for i in range(25)])
    text = refusal(EYEPACS, root)
    assert "25 faults" in text and "and 5 more" in text
    assert text.count("expected 0, 1, 2, 3 or 4") == 20
    assert "trainLabels.csv:14: level '9' of image 'x0_left', expected 0, 1, 2, 3 or 4" in text
    assert "trainLabels.csv:33:" in text and "trainLabels.csv:34:" not in text


def test_missing_images_are_set_aside_up_to_max_bad(eyepacs_tree):
    root = eyepacs_tree(6)
    add_rows(root, ["91_left,0", "92_left,1"])
    text = refusal(EYEPACS, root)
    assert "2 of 14 rows have no usable image (14.3%; data.max_bad allows 0.0%)" in text
    assert "trainLabels.csv:14: no image file of '91_left'" in text
    # The value that the error offers is one that works, and a smaller one does not.
    offered = float(text.rpartition("data.max_bad=")[2].split()[0])
    manifest = build_manifest(Data(source="eyepacs", max_bad=offered), str(root), 0)
    assert manifest.table.num_rows == 12
    assert manifest.skipped["image_id"].to_pylist() == ["91_left", "92_left"]
    assert manifest.skipped["where"].to_pylist() == ["trainLabels.csv:14", "trainLabels.csv:15"]
    assert "14.3%" in refusal(Data(source="eyepacs", max_bad=0.14), root)


def test_one_class_and_no_rows_are_refused(eyepacs_tree):
    root = eyepacs_tree(2)
    (root / "trainLabels.csv").write_text("image,level\n1_left,3\n1_right,3\n")
    assert "all 2 images are of class 'severe'; two are needed" in refusal(EYEPACS, root)
    (root / "trainLabels.csv").write_text("image,level\n8_left,0\n9_right,3\n")
    assert "found no images" in refusal(Data(source="eyepacs", max_bad=1.0), root)
    assert "no source named 'eyepac'; did you mean 'eyepacs'" in refusal(
        Data(source="eyepac"), root
    )


def test_counts_by_hand():
    table = pa.table({"target": pa.array([0, 2, 2, 0, 0], pa.int32())})
    assert class_counts(table, 4).tolist() == [3, 0, 2, 0]
    assert class_counts(table, 4).dtype == np.int64
    with pytest.raises(InputError, match="targets go from 0 to 2, expected 0 to 1"):
        class_counts(table, 2)


def test_folder_source(tmp_path):
    for name, stem in (("ill", "1_left"), ("well", "2_left")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{stem}.jpg").write_bytes(b"123")
    manifest = build_manifest(Data(source="folder"), str(tmp_path), 0)
    assert manifest.classes == ("ill", "well")
    assert manifest.table["patient_id"].to_pylist() == ["1", "2"]


def test_synthetic_source(tmp_path):
    data, root = Data(source="synthetic", num_images=20), str(tmp_path)
    manifest = build_manifest(data, root, 3)
    assert manifest.table.num_rows == 20 and manifest.skipped.num_rows == 0
    assert build_manifest(data, root, 3).hash == manifest.hash
    assert build_manifest(data, root, 4).hash != manifest.hash


def test_photographs_without_the_label_are_left_out_of_training_alone(eyepacs_tree):
    root = eyepacs_tree(6)
    rows = [f"{p}_{e},{('Male', 'Female')[p % 2]},40" for p in range(1, 6) for e in ("left",)]
    (root / "sex_age.csv").write_text("image,sex,age\n" + "\n".join(rows) + "\n")
    by_sex = build_manifest(Data(source="eyepacs", target="sex"), str(root), 0)
    assert by_sex.classes == ("female", "male")
    assert by_sex.table.num_rows == 5 and by_sex.unlabelled == 7
    assert by_sex.table["target"].to_pylist() == [0, 1, 0, 1, 0]
    every = build_manifest(Data(source="eyepacs", target="sex"), str(root), 0, labelled=False)
    assert every.table.num_rows == 12 and every.unlabelled == 0
    assert every.table["target"].to_pylist().count(-1) == 7
    assert every.hash != by_sex.hash
    text = refusal(Data(source="eyepacs", target="edema"), root)
    assert "data.target=edema: none of 12 images has this label; there are grade, sex" in text
    text = refusal(Data(source="eyepacs", keywords="normal"), root)
    assert "the source has no keywords" in text


def test_keywords_choose_eyes(tmp_path):
    (tmp_path / "labels.csv").write_text(
        "file,dx,said\na,0,Normal fundus\nb,1,cataract\nc,1,normal FUNDUS，drusen\nd,0,\n"
    )
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"123")
    columns = {"image": "file", "grade": "dx", "keywords": "said"}
    data = Data(source="csv", table="labels.csv", columns=columns, keywords="normal fundus")
    assert build_manifest(data, str(tmp_path), 0).table["image_id"].to_pylist() == ["a", "c"]


def test_keywords_choose_eyes_of_the_source_that_has_them():
    columns = {
        "image_id": ["a", "b", "c"],
        "dataset": ["odir", "odir", "brset"],
        "keywords": ["Normal fundus", "cataract", ""],
    }
    kept = _with_keywords(SourceContent(columns, [], {}), "normal fundus")
    assert kept.columns["image_id"] == ["a", "c"]
