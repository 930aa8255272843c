"""APTOS 2019 Blindness Detection (Aravind Eye Hospital, Kaggle)."""

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.contract import GRADES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import read_table
from fundusray.data.reading.folders import list_folder, need_folder, need_photographs
from fundusray.data.reading.rows import (
    LEVELS,
    NEED_LEVEL,
    TableRows,
    converted_column,
    find_photographs,
    joined_parts,
    one_of,
    table_rows,
)
from fundusray.errors import InputError

LAYOUT = "source 'aptos' expects train.csv (id_code,diagnosis) and train_images/<id_code>.png"


@SOURCES.register("aptos", title="APTOS 2019", marks=("train.csv", "train_images"))
def aptos(data: Data, root: str, seed: int) -> SourceContent:
    """The APTOS 2019 layout: train.csv and train_images/<id_code>.png.

    Where test.csv and test_images/ are both there, they are the test side, without labels (grade
    -1) unless the table has a column diagnosis, and the others the train side. Patients and eyes
    were not published. A row without an image is set
    aside.

    Raises:
        InputError: no table, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    if not files.exists(files.join(root, "train.csv")):
        raise InputError(f"{files.join(root, 'train.csv')} is not there; {LAYOUT}")
    place = files.join(root, "test_images")
    has_test = files.exists(files.join(root, "test.csv")) and files.is_dir(place)
    parts = [_part(root, "train", "train" if has_test else "")]
    if has_test:
        parts.append(_part(root, "test", "test"))
    return joined_parts(parts, {"grade": GRADES})


def _part(root: str, side: str, split: str) -> TableRows:
    need = ("id_code", "diagnosis") if side == "train" else ("id_code",)
    table = read_table(root, f"{side}.csv", need, ("id_code", "diagnosis")[len(need) :])
    rows = table_rows(table, "id_code")
    if "diagnosis" in table.columns:
        rows.columns["grade"] = converted_column(rows, "diagnosis", one_of(LEVELS), NEED_LEVEL)
    else:
        rows.columns["grade"] = [-1] * len(rows.ids)
    folder = f"{side}_images"
    folders = [list_folder(root, folder), list_folder(root)]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, "id_code", folder + "/{}.png")
    if split:
        rows.columns["split"] = [split] * len(rows.ids)
    return rows
