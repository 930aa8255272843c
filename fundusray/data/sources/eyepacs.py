"""Kaggle EyePACS 2015 (Diabetic Retinopathy Detection), and sets laid out like it."""

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.contract import GRADES, SEXES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import read_table
from fundusray.data.reading.folders import list_folder, need_folder, need_photographs
from fundusray.data.reading.rows import (
    LEVELS,
    NEED_AGE,
    NEED_LEVEL,
    TableRows,
    converted_column,
    find_photographs,
    joined_parts,
    one_of,
    read_age,
    table_rows,
)
from fundusray.errors import InputError

TRAIN = "trainLabels.csv"
TEST = "retinopathy_solution.csv"
PEOPLE = "sex_age.csv"
LAYOUT = (
    "source 'eyepacs' expects trainLabels.csv (image,level) and train/<patient>_<left|right>.jpeg"
)
SIDES = {"public": "val", "private": "test"}
"""Usage of a test photograph -> its side: the public leaderboard's photographs were there to choose
by, the private one's to be judged on (10,906 and 42,670, beside 35,126 for training)."""
SEX_CODES = {"female": "female", "male": "male", "": ""}


@SOURCES.register("eyepacs", title="EyePACS", marks=("trainLabels.csv",), labels=("grade", "sex"))
def eyepacs(data: Data, root: str, seed: int) -> SourceContent:
    """The Kaggle EyePACS layout: trainLabels.csv and train/<patient>_<left|right>.jpeg.

    Images may also lie beside the table and be .jpg or .png. Where retinopathy_solution.csv and
    test/ are both there, the publisher's own split is known: train/ is its train side, photographs
    of Usage Public its validation and of Private its test side, all of test/ that where the table
    has no Usage. Where there is sex_age.csv (image,sex,age), sex can be learned. A row without an
    image is set aside.

    Raises:
        InputError: no table, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    if not files.exists(files.join(root, TRAIN)):
        raise InputError(f"{files.join(root, TRAIN)} is not there; {LAYOUT}")
    has_test = files.exists(files.join(root, TEST)) and files.is_dir(files.join(root, "test"))
    parts = [_part(root, TRAIN, "train", "train" if has_test else "")]
    if has_test:
        parts.append(_part(root, TEST, "test", "test"))
    found = joined_parts(parts, {"grade": GRADES})
    return _with_people(root, found) if files.exists(files.join(root, PEOPLE)) else found


def _part(root: str, table: str, folder: str, split: str) -> TableRows:
    rows = table_rows(read_table(root, table, ("image", "level"), ("Usage",)), "image")
    rows.columns["grade"] = converted_column(rows, "level", one_of(LEVELS), NEED_LEVEL)
    folders = [list_folder(root, folder), list_folder(root)]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, "image", folder + "/{}.jpeg")
    if split == "test" and "Usage" in rows.cells:
        rows.columns["split"] = converted_column(rows, "Usage", one_of(SIDES), "Public or Private")
    elif split:
        rows.columns["split"] = [split] * len(rows.ids)
    return rows


def _with_people(root: str, found: SourceContent) -> SourceContent:
    """The rows with sex and age of sex_age.csv; an image it does not name has neither."""
    rows = table_rows(read_table(root, PEOPLE, ("image", "sex", "age")), "image")
    rows.columns["sex"] = converted_column(
        rows, "sex", one_of(SEX_CODES), "Female, Male or nothing"
    )
    rows.columns["age"] = converted_column(rows, "age", read_age, NEED_AGE)
    people = joined_parts([rows], {})
    cells = (people.columns[name] for name in ("image_id", "sex", "age"))
    known = {image_id: (sex, age) for image_id, sex, age in zip(*cells, strict=True)}
    pairs = [known.get(image_id, ("", -1)) for image_id in found.columns["image_id"]]
    columns = found.columns | {"sex": [sex for sex, _ in pairs], "age": [age for _, age in pairs]}
    labels = found.labels | {"sex": SEXES}
    return found._replace(columns=columns, problems=found.problems + people.problems, labels=labels)
