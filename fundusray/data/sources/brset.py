"""BRSET, the Brazilian multilabel ophthalmological dataset (Nakayama et al. 2023, PhysioNet)."""

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.contract import GRADES, SEXES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import read_table
from fundusray.data.reading.folders import list_folder, need_folder, need_photographs
from fundusray.data.reading.rows import (
    LEVELS,
    NEED_AGE,
    NEED_LEVEL,
    NEED_NAME,
    converted_column,
    find_photographs,
    joined_parts,
    one_of,
    read_age,
    read_name,
    table_rows,
)
from fundusray.errors import InputError

TABLES = ("labels_brset.csv", "labels.csv")
"""As release 1.0.1 calls it, and 1.0.0."""
LAYOUT = (
    "source 'brset' expects labels_brset.csv (image_id,patient_id,patient_age,patient_sex,"
    "exam_eye,DR_ICDR,...) and fundus_photos/<image_id>.jpg"
)
NEED = ("image_id", "patient_id", "patient_age", "patient_sex", "exam_eye", "DR_ICDR")
SEX_CODES = {"1": "male", "2": "female", "": ""}
EYE_CODES = {"1": "right", "2": "left", "": ""}


@SOURCES.register("brset", title="BRSET", marks=("labels_brset.csv",), labels=("grade", "sex"))
def brset(data: Data, root: str, seed: int) -> SourceContent:
    """The BRSET layout: labels_brset.csv and fundus_photos/<image_id>.jpg.

    The grade is DR_ICDR, the international scale. Sex is 1 male, 2 female; the eye 1 right, 2
    left; an age is empty where it is not known. A row without an image is set aside.

    Raises:
        InputError: no table, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    names = [name for name in TABLES if files.exists(files.join(root, name))]
    if not names:
        raise InputError(f"{files.join(root, TABLES[0])} is not there; {LAYOUT}")
    rows = table_rows(read_table(root, names[0], NEED), "image_id")
    read_sex, read_eye = one_of(SEX_CODES), one_of(EYE_CODES)
    rows.columns |= {
        "patient_id": converted_column(rows, "patient_id", read_name, NEED_NAME),
        "eye": converted_column(rows, "exam_eye", read_eye, "1 (right), 2 (left) or nothing"),
        "grade": converted_column(rows, "DR_ICDR", one_of(LEVELS), NEED_LEVEL),
        "sex": converted_column(rows, "patient_sex", read_sex, "1 (male), 2 (female) or nothing"),
        "age": converted_column(rows, "patient_age", read_age, NEED_AGE),
    }
    folders = [list_folder(root, "fundus_photos")]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, "image_id", "fundus_photos/{}.jpg")
    return joined_parts([rows], {"grade": GRADES, "sex": SEXES})
