"""Messidor-2 (ADCIS) with the grades adjudicated by Krause et al. 2018 (Google Brain)."""

from fundusray import files
from fundusray.config import Data
from fundusray.data.labels.grades import read_grades
from fundusray.data.labels.read_labels import set_ungradable
from fundusray.data.manifest.contract import GRADES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import read_header, read_table
from fundusray.data.reading.folders import list_folder, need_folder, need_photographs
from fundusray.data.reading.rows import (
    converted_column,
    find_photographs,
    joined_parts,
    one_of,
    table_rows,
)
from fundusray.errors import InputError

TABLE = "messidor_data.csv"
GRADABLE = "adjudicated_gradable"
COLUMNS = (("image_id", "adjudicated_dr_grade"), ("id_code", "diagnosis"))
"""Names and grades, as published and as a copy on Kaggle calls them."""
FOLDERS = ("IMAGES", "images", "messidor-2/preprocess", "messidor-2/messidor-2/preprocess", "")
LAYOUT = (
    "source 'messidor2' expects messidor_data.csv (image_id,adjudicated_dr_grade,adjudicated_dme,"
    "adjudicated_gradable) and IMAGES/<image_id>"
)


@SOURCES.register("messidor2", title="Messidor-2", marks=("messidor_data.csv",))
def messidor2(data: Data, root: str, seed: int) -> SourceContent:
    """Messidor-2: messidor_data.csv and IMAGES/, whose names may differ in the extension's case.

    The grade is adjudicated_dr_grade; what is not gradable has none. The files come in pairs, one
    of each eye, but the table does not say which: patients are unknown.

    Raises:
        InputError: no table, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    if not files.exists(files.join(root, TABLE)):
        raise InputError(f"{files.join(root, TABLE)} is not there; {LAYOUT}")
    header = read_header(root, TABLE)
    names = next((pair for pair in COLUMNS if set(pair) <= set(header)), COLUMNS[0])
    image, grade = names
    rows = table_rows(read_table(root, TABLE, (image, grade, GRADABLE)), image)
    gradable = converted_column(rows, GRADABLE, one_of({"0": 0, "1": 1, "": 1}), "0, 1 or nothing")
    rows.columns["grade"] = read_grades(rows, grade)
    for row, value in enumerate(gradable):
        if value == 0:
            rows.columns["grade"][row] = -1
            set_ungradable(rows, row, f"{GRADABLE} '0'")
    folders = [list_folder(root, name) for name in FOLDERS]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, image, "IMAGES/{}.png")
    return joined_parts([rows], {"grade": GRADES})
