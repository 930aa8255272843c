"""The layouts of APTOS, ODIR, BRSET, IDRiD, CHASE_DB1 and RetinaMNIST, in drawn trees."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fundusray.config import Data
from fundusray.data import SOURCES, SourceContent
from fundusray.data.manifest.build import build_manifest
from fundusray.data.sources.odir import grade_of
from fundusray.errors import InputError
from tests.data.trees import (
    BRSET_HEADER,
    KAGGLE_HEADER,
    ODIR_HEADER,
    chase,
    idrid,
    mask,
    odir,
    retinamnist,
    write,
)

ODIR_ROWS = [
    "1,50,Female,1_left.jpg,1_right.jpg,normal fundus,cataract，normal fundus,0,0,1",
    "2,,Male,2_left.jpg,2_right.jpg,mild nonproliferative retinopathy,"
    "proliferative diabetic retinopathy，laser spot,0,1,0",
    "3,1,Male,3_left.jpg,3_right.jpg,moderate non proliferative retinopathy,"
    "severe nonproliferative retinopathy,0,1,0",
]


def read(source: str, root: Path, **settings: str) -> SourceContent:
    return SOURCES[source](Data(source=source, **settings), str(root), 0)


def told(found: SourceContent) -> list[str]:
    return [f"{p.where}: {p.reason}" for p in found.problems]


def test_aptos(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", b"id_code,diagnosis\r\n000c1434d8d7,2\r\n001639a390f0,4\r\n")
    for name in ("000c1434d8d7", "001639a390f0"):
        write(tmp_path / "train_images" / f"{name}.png")
    found = read("aptos", tmp_path)
    assert found.columns["grade"] == [2, 4] and "split" not in found.columns
    assert "patient_id" not in found.columns
    write(tmp_path / "test.csv", b"id_code\n0005cfc8afb6\n")
    write(tmp_path / "test_images" / "0005cfc8afb6.png")
    found = read("aptos", tmp_path)
    assert found.columns["grade"] == [2, 4, -1] and found.problems == []
    assert found.columns["split"] == ["train", "train", "test"]
    assert found.columns["path"][2] == "test_images/0005cfc8afb6.png"
    write(tmp_path / "test.csv", b"id_code,diagnosis\n0005cfc8afb6,3\n000c1434d8d7,5\n")
    found = read("aptos", tmp_path)
    assert found.columns["grade"] == [2, 4, 3]
    assert told(found) == [
        "test.csv:3: diagnosis '5' of image '000c1434d8d7', expected 0, 1, 2, 3 or 4",
        "test.csv:3: image '000c1434d8d7' again, first in train.csv:2",
    ]


def test_odir_as_published(tmp_path: Path) -> None:
    found = read("odir", odir(tmp_path, ODIR_ROWS))
    assert found.problems == []
    assert found.columns["image_id"] == [f"{p}_{e}" for p in (1, 2, 3) for e in ("left", "right")]
    assert found.columns["patient_id"] == ["1", "1", "2", "2", "3", "3"]
    assert found.columns["eye"] == ["left", "right"] * 3
    assert found.columns["sex"] == ["female"] * 2 + ["male"] * 4
    assert found.columns["age"] == [50, 50, -1, -1, 1, 1]
    assert found.columns["grade"] == [0, -1, 1, 4, 2, 3]
    assert found.columns["keywords"][1] == "cataract，normal fundus"
    assert found.columns["path"][0] == "preprocessed_images/1_left.jpg"
    assert set(found.labels) == {"grade", "sex"}


@pytest.mark.parametrize(
    "folder", ["Training Images", "ODIR-5K/ODIR-5K/Training Images", "ODIR-5K_Training_Dataset", ""]
)
def test_odir_with_the_original_table_and_folders(tmp_path: Path, folder: str) -> None:
    odir(tmp_path, ODIR_ROWS)
    (tmp_path / "full_df.csv").rename(tmp_path / "annotations.csv")
    write(tmp_path / "dr_grades.csv", b"image,level\n1_left,0\n")
    place = tmp_path / folder
    place.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        (tmp_path / "preprocessed_images").rename(place)
    else:
        for photo in (tmp_path / "preprocessed_images").iterdir():
            photo.rename(tmp_path / photo.name)
        (tmp_path / "preprocessed_images").rmdir()
    found = read("odir", tmp_path)
    assert found.problems == [] and len(found.columns["path"]) == 6
    assert found.columns["path"][0] == (f"{folder}/1_left.jpg" if folder else "1_left.jpg")
    write(tmp_path / "again.csv", (tmp_path / "annotations.csv").read_bytes())
    with pytest.raises(InputError, match=r"tables again\.csv, annotations\.csv all fit; keep one"):
        read("odir", tmp_path)


def kaggle(row: str, eye: str) -> str:
    """A row of Kaggle's table: the patient's, with the photograph it stands for at its end."""
    patient = row.split(",", 1)[0]
    cells = row.rsplit(",", 3)[0]
    end = f"['N'],\"[1, 0, 0, 0, 0, 0, 0, 0]\",{patient}_{eye}.jpg"
    return f"{cells},0,1,0,0,0,0,0,0,../input/{patient}_{eye}.jpg,{end}"


def test_odir_rows_that_are_repeated_for_each_eye(tmp_path: Path) -> None:
    rows = [kaggle(ODIR_ROWS[0], "right"), kaggle(ODIR_ROWS[1], "right")]
    rows += [kaggle(ODIR_ROWS[0], "left"), kaggle(ODIR_ROWS[2], "left")]
    root = odir(tmp_path, rows, KAGGLE_HEADER)
    (root / "preprocessed_images" / "2_left.jpg").unlink()
    found = read("odir", root)
    # Eyes that no row stands for were left out by the publisher: they are not missing.
    assert found.problems == []
    assert found.columns["image_id"] == ["1_left", "1_right", "2_right", "3_left"]
    assert found.columns["grade"] == [0, -1, 4, 2]


def test_odir_rows_that_contradict_each_other(tmp_path: Path) -> None:
    other = ODIR_ROWS[0].replace("Female", "Male").replace(",50,", ",51,")
    rows = [ODIR_ROWS[0], ODIR_ROWS[1], ODIR_ROWS[0], other]
    found = read("odir", odir(tmp_path, rows))
    assert told(found) == [
        "full_df.csv:5: patient '1' again with Patient Age '51', but '50' in full_df.csv:2; "
        "correct one of them",
        "full_df.csv:5: patient '1' again with Patient Sex 'Male', but 'Female' in full_df.csv:2; "
        "correct one of them",
    ]
    assert all(problem.refused for problem in found.problems)


def test_odir_cells_that_cannot_be(tmp_path: Path) -> None:
    rows = [
        ODIR_ROWS[0].replace("Female", "F"),
        ODIR_ROWS[1].replace("Male", "1"),
        ODIR_ROWS[2].replace(",1,Male", ",-1,Male"),
        "4,200,Male,4_left.jpg,1_right.jpg,normal fundus,a\x07b,1,0,0",
        ",50,Male,4_left.jpg,4_right.jpg,normal fundus,normal fundus,1,0,0",
    ]
    reasons = told(read("odir", odir(tmp_path, rows)))
    assert [reason.split(", expected")[0] for reason in reasons] == [
        "full_df.csv:2: Patient Sex 'F' of patient '1'",
        "full_df.csv:3: Patient Sex '1' of patient '2'",
        "full_df.csv:4: Patient Age '-1' of patient '3'",
        "full_df.csv:5: Patient Age '200' of patient '4'",
        "full_df.csv:6: ID '' of patient ''",
    ]
    reasons = told(read("odir", odir(tmp_path, [rows[3].replace("200", "20"), ODIR_ROWS[0]])))
    assert reasons == [
        "full_df.csv:2: keywords 'a\\x07b' of image '1_right', "
        "expected text without control characters",
        "full_df.csv:3: image '1_right' again, first in full_df.csv:2",
    ]
    wrong = kaggle(ODIR_ROWS[0], "left").replace(",1_left.jpg", ",9_left.jpg")
    wrong = wrong.replace("9_left", "1_left", 1)
    reasons = told(read("odir", odir(tmp_path, [wrong], KAGGLE_HEADER)))
    assert reasons == ["full_df.csv:2: filename '9_left.jpg', expected 1_left.jpg or 1_right.jpg"]


def test_odir_without_a_table(tmp_path: Path) -> None:
    write(tmp_path / "data.xlsx", b"PK")
    with pytest.raises(InputError, match=r"full_df\.csv is not there; source 'odir' expects"):
        read("odir", tmp_path)
    odir(tmp_path, ODIR_ROWS, ODIR_HEADER.replace("Patient Sex", "Sex"))
    with pytest.raises(InputError, match="once each, got 'ID,Patient Age,Sex"):
        read("odir", tmp_path)


@pytest.mark.parametrize(
    ("keywords", "grade"),
    [
        ("normal fundus", 0),
        ("Normal fundus", 0),
        ("normal fundus，lens dust", -1),
        ("mild nonproliferative retinopathy", 1),
        ("mild nonproliferative retinopathy，macular epiretinal membrane", -1),
        ("moderate non proliferative retinopathy", 2),
        ("suspected moderate non proliferative retinopathy", -1),
        ("severe nonproliferative retinopathy", 3),
        ("severe proliferative diabetic retinopathy", 4),
        ("laser spot，proliferative diabetic retinopathy", 4),
        ("proliferative diabetic retinopathy，mild nonproliferative retinopathy", -1),
        ("nonproliferative diabetic retinopathy", -1),
        ("diabetic retinopathy", -1),
        ("cataract", -1),
        ("", -1),
    ],
)
def test_grades_from_keywords(keywords: str, grade: int) -> None:
    assert grade_of(keywords) == grade


def test_brset(tmp_path: Path) -> None:
    rows = [
        BRSET_HEADER,
        "img00001,1,Canon CR,48.0,diabetes1,1,1,yes,0,0,1",
        "img00002,1,Canon CR,48.0,diabetes1,1,2,yes,4,4,2",
        "img00003,2,NIKON NF5050,,,2,1,no,2,2,1",
    ]
    write(tmp_path / "labels_brset.csv", "\n".join(rows).encode())
    for number in (1, 2, 3):
        write(tmp_path / "fundus_photos" / f"img{number:05d}.jpg")
    found = read("brset", tmp_path)
    assert found.problems == []
    assert found.columns == {
        "image_id": ["img00001", "img00002", "img00003"],
        "patient_id": ["1", "1", "2"],
        "eye": ["right", "left", "right"],
        "grade": [0, 4, 2],
        "sex": ["male", "male", "female"],
        "age": [48, 48, -1],
        "path": [f"fundus_photos/img{number:05d}.jpg" for number in (1, 2, 3)],
        "num_bytes": found.columns["num_bytes"],
    }
    (tmp_path / "labels_brset.csv").rename(tmp_path / "labels.csv")
    assert read("brset", tmp_path) == found
    rows = [rows[0], "img00001,,Canon CR,x,,3,0,yes,0,5,1", rows[2]]
    write(tmp_path / "labels.csv", "\n".join(rows).encode())
    assert [reason.split(" of image")[0] for reason in told(read("brset", tmp_path))] == [
        "labels.csv:2: patient_id ''",
        "labels.csv:2: exam_eye '0'",
        "labels.csv:2: DR_ICDR '5'",
        "labels.csv:2: patient_sex '3'",
        "labels.csv:2: patient_age 'x'",
    ]


def test_idrid(tmp_path: Path) -> None:
    found = read("idrid", idrid(tmp_path))
    assert found.problems == []
    ids = ["IDRiD_01", "IDRiD_55", "IDRiD_001", "IDRiD_002", "test-IDRiD_001", "test-IDRiD_002"]
    assert found.columns["image_id"] == ids and "patient_id" not in found.columns
    assert found.columns["split"] == ["train", "test", "train", "train", "test", "test"]
    assert found.columns["grade"] == [-1, -1, 4, 0, 4, 0]
    assert found.columns["edema"] == [-1, -1, 2, 0, 2, 0]
    structures = [[name for name, _ in masks] for masks in found.columns["masks"]]
    known = ["microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates", "optic_disc"]
    assert structures == [[n for n in known if n != "soft_exudates"], known, [], [], [], []]
    paths = [path for masks in found.columns["masks"] for _, path in masks]
    assert all((tmp_path / path).is_file() for path in [*paths, *found.columns["path"]])
    assert set(found.labels) == {"grade", "edema"}


def test_idrid_parts_on_their_own(tmp_path: Path) -> None:
    idrid(tmp_path)
    whole = read("idrid", tmp_path).columns["image_id"]
    for part, ids in (("A. Segmentation", whole[:2]), ("B. Disease Grading", whole[2:])):
        found = read("idrid", tmp_path / part)
        assert found.columns["image_id"] == ids
        assert all((tmp_path / part / path).is_file() for path in found.columns["path"])
    # As some archives unpack.
    inner = tmp_path / "A. Segmentation"
    inner.rename(tmp_path / "inner")
    inner.mkdir()
    (tmp_path / "inner").rename(inner / "A. Segmentation")
    assert read("idrid", tmp_path).columns["image_id"] == whole[2:] + whole[:2]


def test_idrid_faults(tmp_path: Path) -> None:
    idrid(tmp_path)
    masks = tmp_path / "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set"
    write(masks / "1. Microaneurysms" / "IDRiD_07_MA.tif", mask())
    (masks / "2. Haemorrhages" / "IDRiD_01_HE.tif").unlink()
    (masks / "2. Haemorrhages" / "IDRiD_01_HE.tif").symlink_to("/etc/hostname")
    tables = tmp_path / "B. Disease Grading" / "2. Groundtruths"
    table = tables / "b. IDRiD_Disease Grading_Testing Labels.csv"
    header = table.read_text().splitlines()[0]
    table.write_text(f"{header}\nIDRiD_001,4,3,,,\nIDRiD_009,0,0,,,\n")
    found = read("idrid", tmp_path)
    name = str(table.relative_to(tmp_path))
    assert told(found)[:2] == [
        f"{name}:2: Risk of macular edema '3' of image 'test-IDRiD_001', expected 0, 1 or 2",
        f"{name}:3: no image file of 'test-IDRiD_009' "
        "(B. Disease Grading/1. Original Images/b. Testing Set/IDRiD_009.jpg)",
    ]
    assert "mask 'IDRiD_07_MA.tif' without its photograph IDRiD_07.jpg" in told(found)[2]
    assert "IDRiD_01_HE.tif' is a link out of the data root" in told(found)[3]
    assert [problem.refused for problem in found.problems] == [True, False, False, True]
    table.unlink()
    with pytest.raises(InputError, match=r"Testing Labels\.csv is not there; source 'idrid'"):
        read("idrid", tmp_path)
    with pytest.raises(InputError, match="no images found; source 'idrid' expects"):
        read("idrid", tmp_path / "A. Segmentation" / "1. Original Images")


def test_chase(tmp_path: Path) -> None:
    root = chase(tmp_path)
    (root / "Image_02R_2ndHO.png").unlink()
    found = read("chase", root)
    assert found.problems == [] and found.labels == {}
    assert found.columns["image_id"] == ["Image_01L", "Image_01R", "Image_02L", "Image_02R"]
    assert found.columns["patient_id"] == ["01", "01", "02", "02"]
    assert found.columns["eye"] == ["left", "right"] * 2
    assert found.columns["masks"][0] == [
        ("vessels_1", "Image_01L_1stHO.png"),
        ("vessels_2", "Image_01L_2ndHO.png"),
        ("vessels", "Image_01L_1stHO.png"),
    ]
    assert dict(found.columns["masks"][3]) == dict.fromkeys(
        ("vessels_1", "vessels"), "Image_02R_1stHO.png"
    )
    (root / "Image_02L_1stHO.png").unlink()
    manifest = build_manifest(Data(source="chase", target="vessels"), str(root), 0)
    assert manifest.classes == ("background", "vessels") and manifest.unlabelled == 1
    assert "Image_02L" not in manifest.table["image_id"].to_pylist()
    write(root / "Image_02L_1stHO.png", mask("PNG", "1"))
    (root / "Image_01L.jpg").unlink()
    write(root / "other.jpg")
    assert told(read("chase", root)) == [
        "./: image 'other', expected a name such as Image_01L",
        "./: mask 'Image_01L_1stHO.png' without its photograph Image_01L.jpg",
        "./: mask 'Image_01L_2ndHO.png' without its photograph Image_01L.jpg",
    ]
    with pytest.raises(InputError, match="no images found; source 'chase' expects"):
        (tmp_path / "empty").mkdir()
        read("chase", tmp_path / "empty")


@pytest.mark.parametrize(("name", "side"), [("retinamnist", 28), ("retinamnist_64", 64)])
def test_retinamnist(tmp_path: Path, name: str, side: int) -> None:
    place = retinamnist(tmp_path / f"{name}.npz", side)
    found = read("retinamnist", place)
    assert found == read("retinamnist", tmp_path)
    assert found.columns["image_id"][:2] == ["train-0", "train-1"]
    assert found.columns["path"][-1] == f"{name}.npz#test/5"
    assert Counter(found.columns["split"]) == {"train": 10, "val": 4, "test": 6}
    assert found.columns["grade"] == [i % 5 for num in (10, 4, 6) for i in range(num)]
    assert set(found.columns["num_bytes"]) == {side * side * 3}
    assert found.problems == []


def test_retinamnist_places_and_labels_that_cannot_be(tmp_path: Path) -> None:
    place = retinamnist(tmp_path / "retinamnist.npz", val_labels=np.array([[0], [7], [1], [255]]))
    assert told(read("retinamnist", place)) == [
        "retinamnist.npz#val/1: label '7' of image 'val-1', expected 0, 1, 2, 3 or 4",
        "retinamnist.npz#val/3: label '255' of image 'val-3', expected 0, 1, 2, 3 or 4",
    ]
    retinamnist(tmp_path / "retinamnist_64.npz")
    with pytest.raises(InputError, match=r"got retinamnist\.npz, retinamnist_64\.npz; give"):
        read("retinamnist", tmp_path)
    for root, words in (
        (tmp_path / "none.npz", "no such file"),
        (tmp_path / "none", "no such folder"),
        (Path("/"), "one .npz archive is needed, got none"),
    ):
        with pytest.raises(InputError, match=words):
            read("retinamnist", root)
    place = place.rename(tmp_path / "retina\nmnist.npz")
    with pytest.raises(InputError, match="rename the archive"):
        read("retinamnist", place)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "set.npz").symlink_to(tmp_path / "retinamnist_64.npz")
    with pytest.raises(InputError, match=r"'set\.npz' is a link out of the data root"):
        read("retinamnist", tmp_path / "linked")
