"""DDR, diabetic retinopathy from 147 Chinese hospitals (Li et al. 2019): the part for grading."""

from fundusray import files
from fundusray.config import Data
from fundusray.data.labels.grades import read_grades
from fundusray.data.manifest.contract import GRADES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import read_table
from fundusray.data.reading.folders import list_folder, need_folder, need_photographs
from fundusray.data.reading.rows import TableRows, find_photographs, joined_parts, table_rows
from fundusray.errors import InputError

PLACES = ("", "DR_grading/", "DDR-dataset/DR_grading/")
SIDES = {"train": "train", "valid": "val", "test": "test"}
"""What a list and its folder are called -> the side."""
CODE = ("5",)
"""Of photographs of too low a quality to be graded."""
LAYOUT = (
    "source 'ddr' expects train.txt, valid.txt and test.txt (lines of name and grade) and the "
    "folders train, valid and test, as in DR_grading"
)


@SOURCES.register("ddr", title="DDR", marks=("DR_grading", "valid.txt"))
def ddr(data: Data, root: str, seed: int) -> SourceContent:
    """DDR's DR_grading: a list of names and grades without a header for each side, and its folder.

    Grade 5 is ungradable and no grade. Patients and eyes were not published.

    Raises:
        InputError: no list, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    for place in PLACES:
        held = [side for side in SIDES if files.exists(files.join(root, f"{place}{side}.txt"))]
        if held:
            return joined_parts([_part(root, place, side) for side in held], {"grade": GRADES})
    raise InputError(f"{files.join(root, 'train.txt')} is not there; {LAYOUT}")


def _part(root: str, place: str, side: str) -> TableRows:
    table = read_table(root, f"{place}{side}.txt", ("0", "1"), headed=False)
    columns = {"name": table.columns["0"], "grade": table.columns["1"]}
    rows = table_rows(table._replace(columns=columns), "name")
    rows.columns["grade"] = read_grades(rows, "grade", CODE)
    rows.columns["split"] = [SIDES[side]] * len(rows.ids)
    folders = [list_folder(root, place + side)]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, "name", f"{place}{side}/{{}}.jpg")
    return rows
