"""mBRSET, Brazilian photographs of a handheld camera (Wu et al. 2024, PhysioNet)."""

from fundusray import files
from fundusray.config import Data
from fundusray.data.labels.grades import read_grades
from fundusray.data.manifest.contract import GRADES, SEXES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import read_table
from fundusray.data.reading.folders import list_folder, need_folder, need_photographs
from fundusray.data.reading.rows import (
    NEED_AGE,
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

TABLE = "labels_mbrset.csv"
PLACES = ("", "images/")
"""Where the table may lie."""
LAYOUT = (
    "source 'mbrset' expects labels_mbrset.csv (patient,age,sex,file,laterality,final_icdr,...) "
    "and images/<file>"
)
NEED = ("patient", "age", "sex", "file", "laterality", "final_icdr")
SEX_CODES = {"0": "female", "1": "male", "": ""}
"""As analyses of the set read it; nobody's word but the publisher's is good for it."""
EYE_CODES = {"left": "left", "right": "right", "": ""}


@SOURCES.register("mbrset", title="mBRSET", marks=("labels_mbrset.csv",), labels=("grade", "sex"))
def mbrset(data: Data, root: str, seed: int) -> SourceContent:
    """The mBRSET layout: labels_mbrset.csv and images/<patient>.<1 to 4>.jpg, two of each eye.

    The grade is final_icdr, the international scale; where it is empty there is none. Sex is 0
    female, 1 male. A row without an image is set aside.

    Raises:
        InputError: no table, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    names = [place + TABLE for place in PLACES if files.exists(files.join(root, place + TABLE))]
    if not names:
        raise InputError(f"{files.join(root, TABLE)} is not there; {LAYOUT}")
    rows = table_rows(read_table(root, names[0], NEED), "file")
    rows.columns |= {
        "patient_id": converted_column(rows, "patient", read_name, NEED_NAME),
        "eye": converted_column(rows, "laterality", one_of(EYE_CODES), "left, right or nothing"),
        "grade": read_grades(rows, "final_icdr"),
        "sex": converted_column(rows, "sex", one_of(SEX_CODES), "0 (female), 1 (male) or nothing"),
        "age": converted_column(rows, "age", read_age, NEED_AGE),
    }
    folders = [list_folder(root, "images"), list_folder(root)]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, "file", "images/{}.jpg")
    return joined_parts([rows], {"grade": GRADES, "sex": SEXES})
