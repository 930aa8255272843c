"""IDRiD, the Indian Diabetic Retinopathy Image Dataset (Porwal et al. 2018), parts A and B."""

import re
from collections.abc import Iterator

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.contract import EDEMA, GRADES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import read_table
from fundusray.data.reading.folders import FolderListing, list_folder, need_folder
from fundusray.data.reading.rows import (
    BLANK,
    LEVELS,
    NEED_LEVEL,
    TableRows,
    attach_masks,
    converted_column,
    find_photographs,
    joined_parts,
    listed_rows,
    one_of,
    table_rows,
)
from fundusray.errors import InputError

IMAGES = "1. Original Images"
MASKS = "2. All Segmentation Groundtruths"
TABLES = "2. Groundtruths"
SIDES = {"train": "a. Training Set", "test": "b. Testing Set"}
GRADING = {
    "train": "a. IDRiD_Disease Grading_Training Labels.csv",
    "test": "b. IDRiD_Disease Grading_Testing Labels.csv",
}
STRUCTURES = {
    "1. Microaneurysms": ("MA", "microaneurysms"),
    "2. Haemorrhages": ("HE", "haemorrhages"),
    "3. Hard Exudates": ("EX", "hard_exudates"),
    "4. Soft Exudates": ("SE", "soft_exudates"),
    "5. Optic Disc": ("OD", "optic_disc"),
}
COLUMNS = ("Image name", "Retinopathy grade", "Risk of macular edema")
PARTS = ("A. Segmentation", "B. Disease Grading")
LAYOUT = (
    "source 'idrid' expects 'B. Disease Grading' or 'A. Segmentation' as published "
    f"('{IMAGES}', '{TABLES}' or '{MASKS}'), or the folder that holds them"
)
RISKS = {"0": 0, "1": 1, "2": 2} | BLANK


@SOURCES.register(
    "idrid",
    title="IDRiD",
    marks=("B. Disease Grading", "A. Segmentation"),
    labels=("grade", "edema"),
)
def idrid(data: Data, root: str, seed: int) -> SourceContent:
    """IDRiD as published: part B with grade and edema, part A with masks, or both.

    The root is part A, part B, or the folder that holds one or both. Photographs of part A have no
    grade (-1); structures that were not seen have no mask. Both parts number their photographs on
    their own (IDRiD_01 is not IDRiD_001), and so do the sides of part B: ids of its test side are
    `test-IDRiD_001`. Patients were not published.

    Raises:
        InputError: neither part is there, or a table that cannot be read.
    """
    root = need_folder(root, LAYOUT)
    parts: list[TableRows] = []
    for place in _places(root):
        for side, folder in SIDES.items():
            rows = _segmentation(root, place, folder) or _grading(root, place, side)
            if rows:
                rows.columns["split"] = [side] * len(rows.ids)
                parts.append(rows)
    if not parts:
        raise InputError(f"{root}: no images found; {LAYOUT}")
    return joined_parts(parts, {"grade": GRADES, "edema": EDEMA})


def _places(root: str) -> list[str]:
    """What comes before names of a part, for each part; archives often unpack to X/X."""
    prefixes = ["", *(f"{part}/" for part in PARTS), *(f"{part}/{part}/" for part in PARTS)]
    return [prefix for prefix in prefixes if files.is_dir(files.join(root, prefix + IMAGES))]


def _segmentation(root: str, place: str, side: str) -> TableRows | None:
    """The photographs of a side of part A; None where there are no masks."""
    groundtruths = f"{place}{MASKS}/{side}"
    if not files.is_dir(files.join(root, groundtruths)):
        return None
    rows = listed_rows(list_folder(root, f"{place}{IMAGES}/{side}"))
    folders = [list_folder(root, f"{groundtruths}/{name}") for name in STRUCTURES]
    attach_masks(rows, _masks(folders))
    rows.columns |= {"grade": [-1] * len(rows.ids), "edema": [-1] * len(rows.ids)}
    return rows


def _masks(folders: list[FolderListing]) -> Iterator[tuple[FolderListing, str, str, str]]:
    """(folder, file name, id of its photograph, structure) of every mask."""
    for folder, (short, structure) in zip(folders, STRUCTURES.values(), strict=True):
        for name in sorted(folder.files):
            if named := re.fullmatch(rf"(.+)_{short}\.tiff?", name, re.IGNORECASE):
                yield folder, name, named[1], structure


def _grading(root: str, place: str, side: str) -> TableRows | None:
    """The photographs of a side of part B; None where there is no such side."""
    name = f"{place}{TABLES}/{GRADING[side]}"
    folder = f"{place}{IMAGES}/{SIDES[side]}"
    if not files.exists(files.join(root, name)):
        if files.is_dir(files.join(root, folder)):
            raise InputError(f"{files.join(root, name)} is not there; {LAYOUT}")
        return None
    rows = table_rows(read_table(root, name, COLUMNS), "Image name")
    if side == "test":
        rows.ids = [f"test-{name}" for name in rows.names]
    rows.columns["masks"] = [[] for _ in rows.ids]
    rows.columns["grade"] = converted_column(rows, "Retinopathy grade", one_of(LEVELS), NEED_LEVEL)
    rows.columns["edema"] = converted_column(
        rows, "Risk of macular edema", one_of(RISKS), "0, 1 or 2"
    )
    find_photographs(rows, [list_folder(root, folder)], "Image name", folder + "/{}.jpg")
    return rows
