"""Small drawn trees, each in the layout in which its publisher ships the set, quirks included."""

import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fundusray.config import Data
from fundusray.data import SOURCES, SourceContent
from tests.conftest import draw_fundus, jpeg

ODIR_HEADER = (
    "ID,Patient Age,Patient Sex,Left-Fundus,Right-Fundus,Left-Diagnostic Keywords,"
    "Right-Diagnostic Keywords,Normal ,Diabetes,Other diseases/abnormalities"
)
KAGGLE_HEADER = (
    "ID,Patient Age,Patient Sex,Left-Fundus,Right-Fundus,Left-Diagnostic Keywords,"
    "Right-Diagnostic Keywords,N,D,G,C,A,H,M,O,filepath,labels,target,filename"
)
BRSET_HEADER = (
    "image_id,patient_id,camera,patient_age,comorbidities,patient_sex,exam_eye,diabetes,"
    "DR_SDRG,DR_ICDR,focus"
)
GROUNDTRUTHS = {
    "MA": "1. Microaneurysms",
    "HE": "2. Haemorrhages",
    "EX": "3. Hard Exudates",
    "SE": "4. Soft Exudates",
    "OD": "5. Optic Disc",
}
GRADING = "a. IDRiD_Disease Grading_Training Labels.csv"


class Layout(NamedTuple):
    """A source that reads one row per photograph, and how to write such a tree."""

    source: str
    table: str
    header: str
    row: str
    """With {image} and {grade}."""
    photo: str
    """With {image}."""
    column: str
    """What the grade's column is called."""
    settings: tuple[tuple[str, str | dict[str, str]], ...] = ()

    def read(self, root: Path | str) -> SourceContent:
        """What the source finds."""
        data = Data(source=self.source, **dict(self.settings))
        return SOURCES[self.source](data, str(root), 0)

    def plant(self, root: Path, images: Iterable[str]) -> None:
        """Writes the photographs."""
        for image in images:
            write(root / self.photo.format(image=image))

    def lines(self, rows: Iterable[tuple[str, str]], end: str = "\n") -> str:
        """The table of (image, grade)."""
        body = [self.row.format(image=image, grade=grade) for image, grade in rows]
        return end.join([self.header, *body, ""])

    def fill(self, root: Path, content: str | bytes) -> SourceContent:
        """Writes the table and reads the tree."""
        place = root / self.table
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.read(root)


LAYOUTS = {
    "eyepacs": Layout(
        "eyepacs",
        "trainLabels.csv",
        "image,level",
        "{image},{grade}",
        "train/{image}.jpeg",
        "level",
    ),
    "aptos": Layout(
        "aptos",
        "train.csv",
        "id_code,diagnosis",
        "{image},{grade}",
        "train_images/{image}.png",
        "diagnosis",
    ),
    "brset": Layout(
        "brset",
        "labels_brset.csv",
        BRSET_HEADER,
        "{image},7,Canon CR,48.0,,1,2,yes,0,{grade},1",
        "fundus_photos/{image}.jpg",
        "DR_ICDR",
    ),
    "idrid": Layout(
        "idrid",
        f"2. Groundtruths/{GRADING}",
        "Image name,Retinopathy grade,Risk of macular edema ,,,",
        "{image},{grade},1,,,",
        "1. Original Images/a. Training Set/{image}.jpg",
        "Retinopathy grade",
    ),
    "csv": Layout(
        "csv",
        "labels/all.csv",
        "file,note,dx",
        '{image},"one, two",{grade}',
        "{image}.jpg",
        "dx",
        settings=(("table", "labels/all.csv"), ("columns", {"image": "file", "grade": "dx"})),
    ),
}
"""Every source that reads a table with one row per photograph."""


@cache
def photograph() -> bytes:
    """A small JPEG of a drawn fundus."""
    return jpeg(draw_fundus(48, 64))


def write(place: Path, content: bytes | None = None) -> None:
    """Writes a file and the folders above it; a photograph when no content is given."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(photograph() if content is None else content)


def mask(kind: str = "TIFF", mode: str = "P") -> bytes:
    """A mask 64 x 48 with a marked square of 10 x 20 pixels, in one of Pillow's modes."""
    marked = np.zeros((48, 64), np.uint8)
    marked[5:15, 10:30] = 1
    if mode == "P":
        image = Image.fromarray(marked)
        image.putpalette([0, 0, 0, 255, 0, 0])
    else:
        image = Image.fromarray(marked * 255).convert(mode)
    sink = io.BytesIO()
    image.save(sink, kind)
    return sink.getvalue()


def odir(root: Path, rows: Iterable[str], header: str = ODIR_HEADER) -> Path:
    """ODIR-5K with the given rows of its table; photographs of patients 1 to 4."""
    text = "\n".join([header, *rows, ""])
    write(root / "full_df.csv", text.encode())
    for patient in range(1, 5):
        for eye in ("left", "right"):
            write(root / "preprocessed_images" / f"{patient}_{eye}.jpg")
    return root


def idrid(root: Path) -> Path:
    """IDRiD: parts A and B with both sides; no soft exudates in the first photograph."""
    part_b = root / "B. Disease Grading"
    header = "Image name,Retinopathy grade,Risk of macular edema ,,,"
    for side, name in (("a", "Training"), ("b", "Testing")):
        folder = part_b / "1. Original Images" / f"{side}. {name} Set"
        for number in (1, 2):
            write(folder / f"IDRiD_{number:03d}.jpg")
        table = part_b / "2. Groundtruths" / f"{side}. IDRiD_Disease Grading_{name} Labels.csv"
        write(table, f"{header}\r\nIDRiD_001,4,2,,,\r\nIDRiD_002,0,0,,,\r\n".encode())
    part_a = root / "A. Segmentation"
    for side, name, number in (("a", "Training", 1), ("b", "Testing", 55)):
        end = f"{side}. {name} Set"
        write(part_a / "1. Original Images" / end / f"IDRiD_{number:02d}.jpg")
        for short, folder in GROUNDTRUTHS.items():
            if (short, number) == ("SE", 1):
                continue
            place = part_a / "2. All Segmentation Groundtruths" / end / folder
            write(place / f"IDRiD_{number:02d}_{short}.tif", mask())
    return root


def chase(root: Path) -> Path:
    """CHASE_DB1: both eyes of two children, two masks each."""
    for name in ("01L", "01R", "02L", "02R"):
        write(root / f"Image_{name}.jpg")
        for observer in ("1st", "2nd"):
            write(root / f"Image_{name}_{observer}HO.png", mask("PNG", "1"))
    return root


def retinamnist(place: Path, side: int = 28, **changes: np.ndarray) -> Path:
    """RetinaMNIST with 10, 4 and 6 photographs; `changes` are arrays to put in by name."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for part, num in (("train", 10), ("val", 4), ("test", 6)):
        shape = (num, side, side, 3)
        arrays[f"{part}_images"] = rng.integers(0, 256, shape, np.uint8)
        arrays[f"{part}_labels"] = (np.arange(num, dtype=np.uint8) % 5)[:, None]
    place.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(place, **(arrays | changes))
    return place


def classes(root: Path, **names: Iterable[str]) -> Path:
    """Class folders with photographs of the given names; `__` in a folder's name stands for /."""
    for name, members in names.items():
        (root / name.replace("__", "/")).mkdir(parents=True)
        for member in members:
            write(root / name.replace("__", "/") / member)
    return root
