"""DeepDRiD (Liu et al. 2022), the regular photographs: two of each eye of each patient."""

import re

from fundusray import files
from fundusray.config import Data
from fundusray.data.labels.grades import read_grades
from fundusray.data.manifest.contract import GRADES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import CsvTable, read_table
from fundusray.data.reading.folders import need_folder
from fundusray.data.reading.nested_folders import image_rows
from fundusray.data.reading.rows import TableRows, joined_parts
from fundusray.errors import InputError

REGULAR = "regular_fundus_images/"
PLACES = ("", REGULAR, f"DeepDRiD-master/{REGULAR}", f"DeepDRiD/{REGULAR}")
SIDES = {
    "train": ("regular-fundus-training/", ("regular-fundus-training.csv",)),
    "val": ("regular-fundus-validation/", ("regular-fundus-validation.csv",)),
    "test": (
        "Online-Challenge1&2-Evaluation/",
        ("Challenge1_labels.csv", "Challenge1_labels.xlsx"),
    ),
}
"""Side -> its folder, and what its table is called."""
EYE_COLUMNS = {"l": "left_eye_DR_Level", "r": "right_eye_DR_Level"}
LEVELS = "DR_Levels"
"""The grade's column of the test side, which has one for both eyes."""
NAME = re.compile(r"([0-9]+)_([lr])[0-9]*")
EYES = {"l": "left", "r": "right"}
CODE = ("5",)
"""Of photographs of too low a quality to be graded."""
LAYOUT = (
    "source 'deepdrid' expects regular-fundus-training/regular-fundus-training.csv (image_id,"
    "left_eye_DR_Level,right_eye_DR_Level,...) and Images/<patient>/<image_id>.jpg beside it, the "
    "like of regular-fundus-validation, or the folder of both"
)


@SOURCES.register(
    "deepdrid",
    title="DeepDRiD",
    marks=("regular_fundus_images", "regular-fundus-training"),
)
def deepdrid(data: Data, root: str, seed: int) -> SourceContent:
    """DeepDRiD's regular_fundus_images: train, val and, where its labels are there, test.

    A name such as 12_l2 is of patient 12, left eye; its grade is in the column of its eye. Grade 5
    is ungradable and no grade. The ultra-widefield part is not read.

    Raises:
        InputError: no table, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    parts = []
    for place in PLACES:
        for side, (folder, names) in SIDES.items():
            held = [n for n in names if files.exists(files.join(root, place + folder + n))]
            if held:
                parts.append(_part(root, place + folder, held[0], side))
    if not parts:
        raise InputError(f"{root}: none of its tables is there; {LAYOUT}")
    return joined_parts(parts, {"grade": GRADES})


def _part(root: str, folder: str, name: str, side: str) -> TableRows:
    columns = (LEVELS,) if side == "test" else tuple(EYE_COLUMNS.values())
    table = read_table(root, folder + name, ("image_id", *columns))
    named = [NAME.fullmatch(cell) for cell in table.columns["image_id"]]
    if side != "test":
        table = _with_grade(table, named)
    rows = image_rows(table, root, "image_id", [[f"{folder}Images/"]], [len(table.lines)])
    for row, match in enumerate(named):
        if match is None:
            rows.refuse(row, f"image {rows.ids[row]!r}, expected a name such as 12_l1")
    rows.columns["patient_id"] = [match[1] if match else "" for match in named]
    rows.columns["eye"] = [EYES[match[2]] if match else "" for match in named]
    rows.columns["grade"] = read_grades(rows, list(table.columns)[-1], CODE)
    rows.columns["split"] = [side] * len(rows.ids)
    return rows


def _with_grade(table: CsvTable, named: list[re.Match[str] | None]) -> CsvTable:
    """The table with a last column that has the grade of each row's own eye."""
    cells = [
        table.columns[EYE_COLUMNS[match[2]]][row] if match else ""
        for row, match in enumerate(named)
    ]
    return table._replace(columns=table.columns | {"/".join(EYE_COLUMNS.values()): cells})
