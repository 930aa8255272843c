"""The layouts of Messidor-2, mBRSET, DDR, DeepDRiD, RFMiD, PAPILA and FGADR, in drawn trees."""

import importlib.util
from pathlib import Path

import pytest

from fundusray.config import Data
from fundusray.data import SOURCES, SourceContent
from fundusray.data.labels.class_names import is_ordered
from fundusray.data.manifest.build import build_manifest
from fundusray.data.manifest.recognise import source_of
from fundusray.errors import InputError
from tests.data.test_sources_published import ODIR_ROWS
from tests.data.trees import ODIR_HEADER, mask, odir, write

XLSX = importlib.util.find_spec("openpyxl") is not None
NEEDS = pytest.mark.skipif(not XLSX, reason="openpyxl is not installed")
NEW = ("messidor2", "mbrset", "ddr", "deepdrid", "rfmid", "papila", "fgadr")
MBRSET = "patient,age,sex,file,laterality,final_quality,final_icdr,final_edema"


def read(source: str, root: Path) -> SourceContent:
    found = SOURCES[source](Data(source=source), str(root), 0)
    assert all((root / path).is_file() for path in found.columns["path"])
    return found


def told(found: SourceContent) -> list[str]:
    return [f"{p.where}: {p.reason}" for p in found.problems]


def table(place: Path, *lines: str) -> None:
    write(place, "\n".join([*lines, ""]).encode())


def photographs(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / name)


def workbook(place: Path, rows: list[list]) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    place.parent.mkdir(parents=True, exist_ok=True)
    book.save(place)


@pytest.mark.parametrize("source", NEW)
def test_a_folder_without_its_table_says_what_is_expected(source: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"is there; source '{source}' expects|is not there; "):
        read(source, tmp_path)


def test_messidor2(tmp_path: Path) -> None:
    photographs(tmp_path / "IMAGES", "20050000_40000_0100_PP.png", "IM000001.JPG", "IM3.JPG")
    head = "adjudicated_dme,adjudicated_gradable"
    rows = [
        "20050000_40000_0100_PP.png,0,0,1",
        "IM000001.jpg,4,1,1",
        "IM3.jpg,,,0",
        "IM4.jpg,1,0,1",
    ]
    table(tmp_path / "messidor_data.csv", f"image_id,adjudicated_dr_grade,{head}", *rows)
    found = read("messidor2", tmp_path)
    assert found.columns["image_id"] == ["20050000_40000_0100_PP", "IM000001", "IM3"]
    assert found.columns["grade"] == [0, 4, -1] and set(found.labels) == {"grade"}
    assert "patient_id" not in found.columns
    assert told(found) == [
        "messidor_data.csv:5: no image file of 'IM4' (IMAGES/IM4.png)",
        "messidor_data.csv:4: ungradable (adjudicated_gradable '0')",
    ]
    assert [problem.counted for problem in found.problems] == [True, False]
    assert [problem.ungradable for problem in found.problems] == [False, True]
    (tmp_path / "IMAGES").rename(tmp_path / "elsewhere")
    photographs(tmp_path / "messidor-2" / "preprocess", "20050000_40000_0100_PP.png", "IM3.jpg")
    table(tmp_path / "messidor_data.csv", f"id_code,diagnosis,{head}", *rows[:1], "IM3.jpg,9,0,1")
    found = read("messidor2", tmp_path)
    assert found.columns["path"] == ["messidor-2/preprocess/20050000_40000_0100_PP.png"]
    assert "diagnosis '9' of image 'IM3', expected 0, 1, 2, 3 or 4" in told(found)[0]


def test_mbrset(tmp_path: Path) -> None:
    photographs(tmp_path / "images", "1.1.jpg", "1.3.jpg", "2.1.jpg")
    rows = ["1,55,0,1.1.jpg,right,yes,0.0,no", "1,55,0,1.3.jpg,left,yes,,no"]
    rows += ["2,>90,1,2.1.jpg,right,yes,4.0,yes"]
    table(tmp_path / "labels_mbrset.csv", MBRSET, *rows)
    found = read("mbrset", tmp_path)
    assert found.problems == []
    columns = {name: found.columns[name] for name in ("image_id", "patient_id", "eye", "grade")}
    assert list(zip(*columns.values(), strict=True)) == [
        ("1.1", "1", "right", 0),
        ("1.3", "1", "left", -1),
        ("2.1", "2", "right", 4),
    ]
    assert found.columns["sex"] == ["female", "female", "male"]
    assert found.columns["age"] == [55, 55, 90]
    table(tmp_path / "labels_mbrset.csv", MBRSET, "1,55,2,1.1.jpg,up,yes,5,no")
    assert [reason.split(" of image")[0] for reason in told(read("mbrset", tmp_path))] == [
        "labels_mbrset.csv:2: laterality 'up'",
        "labels_mbrset.csv:2: final_icdr '5'",
        "labels_mbrset.csv:2: sex '2'",
    ]


@pytest.mark.parametrize("place", ["", "DR_grading", "DDR-dataset/DR_grading"])
def test_ddr(tmp_path: Path, place: str) -> None:
    root = tmp_path / place
    for side, names in (("train", ("a", "b")), ("valid", ("c",)), ("test", ("d", "e"))):
        photographs(root / side, *(f"{name}.jpg" for name in names))
    table(root / "train.txt", "a.jpg 0", "b.jpg 5")
    table(root / "valid.txt", "c.jpg 1")
    table(root / "test.txt", "d.jpg 4", "e.jpg x")
    found = read("ddr", tmp_path)
    assert found.columns["image_id"] == ["a", "b", "c", "d"]
    assert found.columns["grade"] == [0, -1, 1, 4]
    assert found.columns["split"] == ["train", "train", "val", "test"]
    before = f"{place}/" if place else ""
    assert told(found) == [
        f"{before}test.txt:2: grade 'x' of image 'e', expected 0, 1, 2, 3 or 4",
        f"{before}train.txt:2: ungradable (grade '5')",
    ]
    assert source_of(str(tmp_path if "DDR" not in place else tmp_path / "DDR-dataset")) == "ddr"


@pytest.mark.parametrize("place", ["", "regular_fundus_images"])
def test_deepdrid(tmp_path: Path, place: str) -> None:
    head = "patient_id,image_id,image_path,left_eye_DR_Level,right_eye_DR_Level,patient_DR_Level"
    root = tmp_path / place
    train, test = root / "regular-fundus-training", root / "Online-Challenge1&2-Evaluation"
    photographs(train / "Images" / "1", "1_l1.jpg", "1_l2.jpg", "1_r1.jpg")
    path = r"\regular-fundus-training\1\{0}.jpg"
    rows = [f"1,1_l1,{path},2,,2", f"1,1_r1,{path},,0,2", f"1,1_l2,{path},5,,2"]
    table(train / "regular-fundus-training.csv", head, *rows)
    photographs(test / "Images" / "9", "9_r2.jpg")
    table(test / "Challenge1_labels.csv", "image_id,DR_Levels", "9_r2,3")
    found = read("deepdrid", tmp_path)
    assert found.columns["image_id"] == ["1_l1", "1_r1", "1_l2", "9_r2"]
    assert found.columns["patient_id"] == ["1", "1", "1", "9"]
    assert found.columns["eye"] == ["left", "right", "left", "right"]
    assert found.columns["grade"] == [2, 0, -1, 3]
    assert found.columns["split"] == ["train", "train", "train", "test"]
    aside = ["ungradable (left_eye_DR_Level/right_eye_DR_Level '5')"]
    assert [problem.reason for problem in found.problems] == aside
    alone = build_manifest(Data(source="deepdrid", judge="ungradable"), str(tmp_path), 0)
    assert alone.table["image_id"].to_pylist() == ["1_l2"] and alone.skipped.num_rows == 0
    table(train / "regular-fundus-training.csv", head, *rows, "1,left,x,1,,2", "1,1_r3,x,,7,2")
    photographs(train / "Images", "left.jpg", "1_r3.jpg")
    reasons = [problem.reason for problem in read("deepdrid", tmp_path).problems]
    assert reasons == [
        "image 'left', expected a name such as 12_l1",
        "left_eye_DR_Level/right_eye_DR_Level '7' of image '1_r3', expected 0, 1, 2, 3 or 4",
        *aside,
    ]


def test_rfmid(tmp_path: Path) -> None:
    for folder, inner, name in (
        ("Training_Set", "Training", "Training"),
        ("Evaluation_Set", "Validation", "Validation"),
        ("Test_Set", "Test", "Testing"),
    ):
        photographs(tmp_path / folder / inner, "1.png", "2.png")
        place = tmp_path / folder / f"RFMiD_{name}_Labels.csv"
        table(place, "ID,Disease_Risk,DR", "1,0,0", f"2,{'1' if inner != 'Test' else ''},1")
    found = read("rfmid", tmp_path)
    assert found.problems == [] and found.labels == {"disease": ("absent", "present")}
    assert found.columns["image_id"] == [f"{s}-{n}" for s in ("train", "val", "test") for n in "12"]
    assert found.columns["disease"] == [0, 1, 0, 1, 0, -1]
    assert found.columns["split"] == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    manifest = build_manifest(Data(source="rfmid", target="disease"), str(tmp_path), 0)
    assert manifest.table["target"].to_pylist() == [0, 1, 0, 1, 0] and manifest.unlabelled == 1
    with pytest.raises(InputError, match=r"none of 6 images has this label; there are disease"):
        build_manifest(Data(source="rfmid"), str(tmp_path), 0)


def test_rfmid_as_the_publisher_packs_it(tmp_path: Path) -> None:
    base = tmp_path / "A. RFMiD_All_Classes_Dataset"
    photographs(base / "1. Original Images" / "a. Training Set", "1.png", "2.png")
    place = base / "2. Groundtruths" / "a. RFMiD_Training_Labels.csv"
    table(place, "ID,Disease_Risk,DR", "1,0,0", "2,7,1")
    found = read("rfmid", tmp_path)
    assert source_of(str(tmp_path)) == "rfmid"
    assert found.columns["image_id"] == ["train-1"]
    assert "Disease_Risk '7' of image 'train-2', expected 0, 1 or nothing" in told(found)[0]


PAPILA = [
    ["", "Age", "Gender", "Diagnosis", "Refractive_Defect", ""],
    ["", "Age", "Gender", "Diagnosis", "dioptre_1", "dioptre_2"],
    ["ID", "", "", "", "", ""],
]


def check_papila(root: Path) -> None:
    found = read("papila", root)
    assert found.columns["image_id"] == ["RET002OD", "RET004OD", "RET002OS"]
    assert found.columns["patient_id"] == ["002", "004", "002"]
    assert found.columns["eye"] == ["right", "right", "left"]
    # The publisher's 1 is glaucoma and its 2 the suspicion: ours are in order.
    assert found.columns["disease"] == [1, 2, 0]
    assert found.labels["disease"] == ("healthy", "suspect", "glaucoma")
    assert is_ordered(found.labels["disease"])
    assert found.columns["sex"] == ["male", "female", "male"]
    assert found.columns["age"] == [47, 58, 47]
    assert len(found.problems) == 1 and ":5: no image file of 'RET004OS'" in told(found)[0]


def papila_rows(other: int) -> list[list]:
    return [*PAPILA, ["#002", 47, 0, other], ["#004", 58.0, 1, 1]]


def test_papila_as_csv(tmp_path: Path) -> None:
    photographs(tmp_path / "FundusImages", "RET002OD.jpg", "RET004OD.jpg", "RET002OS.jpg")
    for eye, other in (("od", 2), ("os", 0)):
        lines = [",".join(map(str, row)) for row in papila_rows(other)]
        table(tmp_path / "ClinicalData" / f"patient_data_{eye}.csv", *lines)
    check_papila(tmp_path)
    table(tmp_path / "ClinicalData" / "patient_data_od.csv", "a,b", "1,2")
    with pytest.raises(InputError, match="no rows of patients under Age,Gender,Diagnosis"):
        read("papila", tmp_path)


@NEEDS
def test_papila_as_published(tmp_path: Path) -> None:
    photographs(tmp_path / "FundusImages", "RET002OD.jpg", "RET004OD.jpg", "RET002OS.jpg")
    for eye, other in (("od", 2), ("os", 0)):
        place = tmp_path / "ClinicalData" / f"patient_data_{eye}.xlsx"
        workbook(
            place, [[cell or None for cell in row[:1]] + row[1:] for row in papila_rows(other)]
        )
    check_papila(tmp_path)


@pytest.mark.parametrize("place", ["", "Seg-set"])
def test_fgadr(tmp_path: Path, place: str) -> None:
    root = tmp_path / place
    photographs(root / "Original_Images", "0001_1.png", "0001_2.png")
    write(root / "HardExudate_Masks" / "0001_1.png", mask("PNG", "1"))
    write(root / "Hemohedge_Masks" / "0009_1.png", mask("PNG", "1"))
    table(root / "DR_Seg_Grading_Label.csv", "0001_1.png,3", "0001_2.png,0")
    found = read("fgadr", tmp_path)
    assert found.columns["image_id"] == ["0001_1", "0001_2"] and found.columns["grade"] == [3, 0]
    before = f"{place}/" if place else ""
    assert found.columns["masks"] == [
        [("hard_exudates", f"{before}HardExudate_Masks/0001_1.png")],
        [],
    ]
    assert [problem.reason for problem in found.problems] == [
        "mask '0009_1.png' without its photograph 0009_1.jpg"
    ]


@NEEDS
@pytest.mark.parametrize("name", ["ODIR-5K_Training_Annotations(Updated)_V2.xlsx", "data.xlsx"])
def test_odir_as_a_workbook(tmp_path: Path, name: str) -> None:
    odir(tmp_path, ODIR_ROWS)
    published = read("odir", tmp_path)
    (tmp_path / "full_df.csv").unlink()
    workbook(tmp_path / name, [line.split(",") for line in (ODIR_HEADER, *ODIR_ROWS)])
    assert read("odir", tmp_path) == published


def test_odir_whose_workbook_cannot_be_read_says_so(tmp_path: Path) -> None:
    write(tmp_path / "data.xlsx", b"PK")
    words = "no Excel workbook that can be read" if XLSX else r"pip install 'fundusray\[xlsx\]'"
    with pytest.raises(InputError, match=rf"full_df\.csv is not there; .*data\.xlsx: .*{words}"):
        read("odir", tmp_path)
