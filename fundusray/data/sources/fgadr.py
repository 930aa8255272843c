"""FGADR (Zhou et al. 2021), the part with masks: grades and six kinds of lesions."""

from collections.abc import Iterator

from fundusray import files
from fundusray.config import Data
from fundusray.data.labels.grades import read_grades
from fundusray.data.manifest.contract import GRADES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import read_table
from fundusray.data.reading.folders import (
    FolderListing,
    is_photograph,
    list_folder,
    need_folder,
    need_photographs,
    plain_id,
)
from fundusray.data.reading.rows import attach_masks, find_photographs, joined_parts, table_rows
from fundusray.errors import InputError

TABLE = "DR_Seg_Grading_Label.csv"
PLACES = ("", "Seg-set/", "FGADR-Seg-set_Release/Seg-set/", "FGADR-Seg-set/Seg-set/")
IMAGES = "Original_Images"
STRUCTURES = {
    "Microaneurysms_Masks": "microaneurysms",
    "Hemohedge_Masks": "haemorrhages",
    "HardExudate_Masks": "hard_exudates",
    "SoftExudate_Masks": "soft_exudates",
    "IRMA_Masks": "irma",
    "Neovascularization_Masks": "neovascularization",
}
LAYOUT = (
    "source 'fgadr' expects Seg-set/DR_Seg_Grading_Label.csv (lines of name and grade) and "
    "Seg-set/Original_Images/<name>.png"
)


@SOURCES.register("fgadr", title="FGADR", marks=("DR_Seg_Grading_Label.csv", "Seg-set"))
def fgadr(data: Data, root: str, seed: int) -> SourceContent:
    """FGADR's Seg-set: a list of names and grades without a header, photographs, masks.

    Patients and eyes were not published.

    Raises:
        InputError: no list, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    held = [place for place in PLACES if files.exists(files.join(root, place + TABLE))]
    if not held:
        raise InputError(f"{files.join(root, TABLE)} is not there; {LAYOUT}")
    place = held[0]
    table = read_table(root, place + TABLE, ("0", "1"), headed=False)
    columns = {"name": table.columns["0"], "grade": table.columns["1"]}
    rows = table_rows(table._replace(columns=columns), "name")
    rows.columns["grade"] = read_grades(rows, "grade")
    attach_masks(rows, _masks(root, place))
    folders = [list_folder(root, place + IMAGES)]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, "name", f"{place}{IMAGES}/{{}}.png")
    return joined_parts([rows], {"grade": GRADES})


def _masks(root: str, place: str) -> Iterator[tuple[FolderListing, str, str, str]]:
    """(folder, file name, id of its photograph, structure) of every mask."""
    for name, structure in STRUCTURES.items():
        folder = list_folder(root, place + name)
        for mask in sorted(filter(is_photograph, folder.files)):
            yield folder, mask, plain_id(mask), structure
