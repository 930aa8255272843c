"""Which source reads a folder: told by the tables and folders its publisher ships."""

import os

from fundusray import files
from fundusray.errors import InputError

MARKS: dict[str, tuple[str, ...]] = {
    "eyepacs": ("trainLabels.csv",),
    "aptos": ("train.csv", "train_images"),
    "odir": ("full_df.csv", "ODIR-5K_Training_Annotations(Updated)_V2.xlsx"),
    "brset": ("labels_brset.csv",),
    "idrid": ("B. Disease Grading", "A. Segmentation"),
    "retinamnist": ("retinamnist.npz",),
    "messidor2": ("messidor_data.csv",),
    "mbrset": ("labels_mbrset.csv",),
    "ddr": ("DR_grading", "valid.txt"),
    "deepdrid": ("regular_fundus_images", "regular-fundus-training"),
    "rfmid": ("Evaluation_Set", "A. RFMiD_All_Classes_Dataset"),
    "papila": ("ClinicalData", "FundusImages"),
    "fgadr": ("DR_Seg_Grading_Label.csv", "Seg-set"),
}
"""Source -> names of which its root has at least one."""

WITH_KEYWORDS = ("odir",)
"""Those of them that give each eye's diagnostic keywords."""

ENVIRONMENT = "FUNDUSRAY_DATA"
"""A folder of data sets, so that they can be called by their name."""


def find_root(name: str) -> str:
    """The folder of photographs that is meant: a path or URI, or a name in FUNDUSRAY_DATA.

    Raises:
        InputError: there is no such folder; where it was looked for.
    """
    places = [files.absolute(name)]
    if os.environ.get(ENVIRONMENT):
        places.append(files.join(files.absolute(os.environ[ENVIRONMENT]), name))
    for place in places:
        if files.is_dir(place):
            return place
    raise InputError(
        f"data={name}: no folder {' or '.join(places)}; give a path, or set {ENVIRONMENT} to the "
        "folder that holds your data sets"
    )


def source_of(root: str) -> str:
    """The source that reads a folder.

    Raises:
        InputError: none is known by what lies in it, or several are.
    """
    names = {name for name, _, _ in files.list_dir(root)}
    found = [source for source, marks in MARKS.items() if names & set(marks)]
    if len(found) != 1:
        what = f"could be {' or '.join(found)}" if found else "is of no layout known by its tables"
        raise InputError(
            f"data={root} {what}; give data.source=<name> data.root={root} (sources known by their "
            f"tables: {', '.join(MARKS)})"
        )
    return found[0]
