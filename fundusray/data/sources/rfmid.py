"""RFMiD, Retinal Fundus Multi-disease Image Dataset (Pachade et al. 2021)."""

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.contract import DISEASE, SOURCES, SourceContent
from fundusray.data.reading.csv_files import read_table
from fundusray.data.reading.folders import list_folder, need_folder, need_photographs
from fundusray.data.reading.rows import (
    BLANK,
    TableRows,
    converted_column,
    find_photographs,
    joined_parts,
    one_of,
    table_rows,
)
from fundusray.errors import InputError

CHALLENGE = "A. RFMiD_All_Classes_Dataset/"
SIDES = {
    "train": ("Training_Set/", "Training", "RFMiD_Training_Labels.csv", "a. Training Set"),
    "val": ("Evaluation_Set/", "Validation", "RFMiD_Validation_Labels.csv", "b. Validation Set"),
    "test": ("Test_Set/", "Test", "RFMiD_Testing_Labels.csv", "c. Testing Set"),
}
"""Side -> its folder, that of its photographs, its table, and what IEEE DataPort calls it."""
RISKS = {"0": 0, "1": 1} | BLANK
LAYOUT = (
    "source 'rfmid' expects Training_Set/RFMiD_Training_Labels.csv (ID,Disease_Risk,DR,...) and "
    "Training_Set/Training/<ID>.png, and the like in Evaluation_Set and Test_Set"
)


@SOURCES.register(
    "rfmid",
    title="RFMiD",
    marks=("Evaluation_Set", "A. RFMiD_All_Classes_Dataset"),
    labels=("disease",),
)
def rfmid(data: Data, root: str, seed: int) -> SourceContent:
    """RFMiD's three sets, each with its table; the label is `disease`: Disease_Risk, 0 or 1.

    Ids begin with the side, as each set numbers its photographs from 1. Its single diseases are
    columns of the table: source csv learns one of them. Patients and eyes were not published.

    Raises:
        InputError: no table, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    parts = [rows for side in SIDES if (rows := _part(root, side))]
    if not parts:
        raise InputError(f"{root}: none of its tables is there; {LAYOUT}")
    return joined_parts(parts, {"disease": DISEASE})


def _part(root: str, side: str) -> TableRows | None:
    """The photographs of a side; None where its table is not there."""
    folder, inner, name, published = SIDES[side]
    places = [(place + name, place + inner) for place in (folder, folder * 2)]
    letter = published[:3]
    images = f"{CHALLENGE}1. Original Images/{published}"
    places.append((f"{CHALLENGE}2. Groundtruths/{letter}{name}", images))
    held = [place for place in places if files.exists(files.join(root, place[0]))]
    if not held:
        return None
    table, images = held[0]
    rows = table_rows(read_table(root, table, ("ID", "Disease_Risk")), "ID")
    rows.ids = [f"{side}-{image}" for image in rows.names]
    rows.columns["disease"] = converted_column(
        rows, "Disease_Risk", one_of(RISKS), "0, 1 or nothing"
    )
    rows.columns["split"] = [side] * len(rows.ids)
    folders = [list_folder(root, images)]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, "ID", images + "/{}.png")
    return rows
