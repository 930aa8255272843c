"""CHASE_DB1 (Kingston University, 2012): children's eyes with two hand-drawn vessel masks each."""

import re

from fundusray.config import Data
from fundusray.data.manifest.contract import SOURCES, SourceContent
from fundusray.data.reading.folders import list_folder, need_folder
from fundusray.data.reading.rows import attach_masks, joined_parts, listed_rows
from fundusray.errors import InputError

LAYOUT = "source 'chase' expects Image_01L.jpg with Image_01L_1stHO.png and Image_01L_2ndHO.png"
IMAGE = re.compile(r"Image_([0-9]+)([LR])")
MASK = re.compile(r"(Image_[0-9]+[LR])_(1st|2nd)HO\.png", re.IGNORECASE)
FIRST, LEARNED = "vessels_1", "vessels"
STRUCTURES = {"1st": FIRST, "2nd": "vessels_2"}
EYES = {"L": "left", "R": "right"}


@SOURCES.register("chase", title="CHASE_DB1", labels=())
def chase(data: Data, root: str, seed: int) -> SourceContent:
    """The CHASE_DB1 layout: photographs and the masks of two observers, beside each other.

    Masks are vessels_1 and vessels_2; one that is missing is left out. The first observer's is the
    one that is learned, as in the literature, and is there as `vessels`, too. A mask without its
    photograph is set aside.

    Raises:
        InputError: no photographs.
    """
    root = need_folder(root, LAYOUT)
    folder = list_folder(root)
    masks = [(name, m[1], STRUCTURES[m[2].lower()]) for name, m in _masks(sorted(folder.files))]
    drawn = {name for name, _, _ in masks}
    photographs = {name: size for name, size in folder.files.items() if name not in drawn}
    rows = listed_rows(folder._replace(files=photographs))
    if not rows.ids:
        raise InputError(f"{root}: no images found; {LAYOUT}")
    learned = [(name, image, LEARNED) for name, image, kind in masks if kind == FIRST]
    attach_masks(rows, [(folder, *mask) for mask in [*masks, *learned]])
    rows.columns |= {"patient_id": [""] * len(rows.ids), "eye": [""] * len(rows.ids)}
    for row, image_id in enumerate(rows.ids):
        if named := IMAGE.fullmatch(image_id):
            rows.columns["patient_id"][row] = named[1]
            rows.columns["eye"][row] = EYES[named[2]]
        else:
            rows.set_aside(row, f"image {image_id!r}, expected a name such as Image_01L")
    return joined_parts([rows], {})


def _masks(names: list[str]) -> list[tuple[str, re.Match[str]]]:
    return [(name, named) for name in names if (named := MASK.fullmatch(name))]
