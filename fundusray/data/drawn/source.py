"""Drawn photographs of the retina: the same bytes from the same seed, with known lesions.

They stand in for a data set where there is none: two-eyed patients, five imbalanced grades whose
lesions a network can learn, cameras that differ between patients.
"""

import io
import math
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from fundusray import files
from fundusray.config import Data
from fundusray.data.drawn.anatomy import (
    TEXTBOOK,
    Canvas,
    draw_eye,
    draw_manner,
    draw_vessels,
    grow_vessels,
)
from fundusray.data.drawn.lesions import LESIONS, draw_harmless, draw_lesions
from fundusray.data.drawn.painting import (
    disc_coverage,
    draw_camera,
    draw_field,
    expose_photograph,
    paint_retina,
)
from fundusray.data.manifest.contract import GRADES, SEXES, SOURCES, SourceContent
from fundusray.data.photographs.decode import encode_jpeg
from fundusray.errors import DamagedError, InputError

SIDE = 512
"""Side of the photographs the source draws, pixels."""

LANDMARKS = ("disc", "vessel")
"""What every eye shows, be it ill or not."""

KINDS = {
    "microaneurysms": "masks/{}.png#bit=0",
    "haemorrhages": "masks/{}.png#bit=1,5",
    "hard_exudates": "masks/{}.png#bit=2",
    "soft_exudates": "masks/{}.png#bit=3",
    "neovascularization": "masks/{}.png#bit=4",
    "laser_scars": "masks/{}.png#bit=6",
    "optic_disc": "landmarks/{}.png#bit=0",
    "vessels": "landmarks/{}.png#bit=1",
}
"""Kind of mask -> its path: bits by their place in LESIONS and in LANDMARKS. What bled before the
retina is a haemorrhage, too."""

MISSING = "missing"
"""In place of the digest of a file that is not there."""

VESSEL = 0.25
"""Coverage from which a pixel counts as a vessel's; a thin artery is drawn at less than half."""

SHARES = (0.5, 0.13, 0.19, 0.1, 0.08)
"""Of the grades: imbalanced as in EyePACS, but a demo of 400 holds enough of each to learn from."""


class DrawnPhotograph(NamedTuple):
    """One photograph and what is on it."""

    image: np.ndarray
    """uint8 [S, S, 3]."""
    masks: dict[str, np.ndarray]
    """Kind of lesion -> bool [S, S]; every kind, empty where the grade does not show it."""
    eye: str
    """left or right."""
    patient: str
    landmarks: dict[str, np.ndarray]
    """LANDMARKS -> bool [S, S]: where the optic disc and the vessels are."""
    fovea: tuple[float, float] = (math.nan, math.nan)
    """Its centre (x, y), pixels from the upper left corner."""


def _generator(seed: int, patient: int, stream: int) -> np.random.Generator:
    """Streams 0 and 1: left and right anatomy; 2: camera; 3 and 4: left and right lesions; 5 and 6:
    grades; 7: sexes; 8 and 9: left and right manner; 10 and 11: what is harmless.

    Nothing depends on the order in which photographs are drawn.
    """
    return np.random.default_rng([seed % 2**32, patient, stream])


def draw_photograph(
    seed: int, index: int, grade: int, side: int = SIDE, lifelike: bool = False
) -> DrawnPhotograph:
    """The photograph at a position: eyes 2p and 2p+1 are patient p's left and right one.

    The anatomy does not depend on the grade, except that veins are beaded from grade 3 on. Masks
    are exact: a lesion's pixels are those it covers by half or more. `lifelike` photographs vary as
    real ones do (anatomy.Manner); the others are of the textbook, their lesions plain to see.
    """
    patient, is_right = divmod(index, 2)
    camera = draw_camera(_generator(seed, patient, 2))
    rng = _generator(seed, patient, is_right)
    manner = draw_manner(_generator(seed, patient, 8 + is_right)) if lifelike else TEXTBOOK
    inside = camera._replace(radius=manner.zoom * camera.radius)
    radius, lowest = inside.radius * side, camera.lowest / manner.zoom
    eye = draw_eye(rng, manner)
    vessels = Canvas(side, radius)
    draw_vessels(vessels, grow_vessels(rng, eye), beaded=grade >= 3)
    lesions = draw_lesions(
        _generator(seed, patient, 3 + is_right), eye, grade, side, radius, lowest, manner
    )
    harmless = draw_harmless(_generator(seed, patient, 10 + is_right), eye, side, radius, manner)
    blood = vessels.coverage()
    retina = paint_retina(rng, eye, inside, side, blood, lesions | harmless, manner)
    landmarks = {"disc": disc_coverage(eye, inside, side) >= 0.5, "vessel": blood >= VESSEL}
    x, y = (side / 2 + radius * eye.fovea).tolist()
    if not is_right:
        x = side - x
        retina = retina[:, :, ::-1]
        lesions = {kind: layer[:, ::-1] for kind, layer in lesions.items()}
        landmarks = {name: layer[:, ::-1] for name, layer in landmarks.items()}
    field = draw_field(camera, side)
    image = expose_photograph(rng, camera, retina, field)
    seen = field > 0.5
    nothing = np.zeros((side, side), bool)
    masks = {k: (lesions[k] >= 0.5) & seen if k in lesions else nothing for k in LESIONS}
    landmarks = {name: layer & seen for name, layer in landmarks.items()}
    return DrawnPhotograph(
        image, masks, ("left", "right")[is_right], f"{seed}-{patient + 1}", landmarks, (x, y)
    )


def draw_grades(seed: int, patient: int) -> tuple[int, int]:
    """Grades of a patient's left and right eye: equal in three of four patients, else neighbours.

    Multiples of the golden ratio fill [0, 1) evenly, so the shares hold for few patients too.
    """
    rng = _generator(seed, patient, 5)
    shift = _generator(seed, 0, 6).random()
    even = (shift + patient * (math.sqrt(5) - 1) / 2) % 1
    grade = int(np.searchsorted(np.cumsum(SHARES)[:-1], even, side="right"))
    other = grade
    if rng.random() < 0.25:
        other = min(4, max(0, grade + int(rng.choice([-1, 1]))))
    return (grade, other) if rng.random() < 0.5 else (other, grade)


def draw_sex(seed: int, patient: int) -> int:
    """0 or 1, which nothing in the photographs tells: whoever finds it in them has a leak."""
    return int(_generator(seed, patient, 7).integers(2))


@SOURCES.register("synthetic", title="drawn photographs", labels=("grade", "sex"))
def synthetic(data: Data, root: str, seed: int) -> SourceContent:
    """`data.num_images` drawn photographs, both eyes of half as many patients.

    They are drawn into `root` in the EyePACS layout (train/<patient>_<eye>.jpeg,
    trainLabels.csv), with their lesions in masks/<image>.png, bit i of a pixel being kind i of
    LESIONS, and disc and vessels likewise in landmarks/<image>.png. The kinds of masks are KINDS.
    New vessels and the scars of lasers are among them, but no class of data.target=lesions, where
    they are background.

    A patient's name holds the seed, so sets of several seeds may share a folder. A photograph that
    is there is not drawn again, so an interrupted run goes on where it stood; one that is not what
    was drawn is (drawn.json vouches for them), and one without its masks.

    Raises:
        InputError: `root` holds photographs that were not drawn.
        DiskError: the disk is full.
    """
    labels = files.join(root, "trainLabels.csv")
    if files.exists(labels) and not _is_ours(files.read_bytes(labels)):
        raise InputError(
            f"{labels} is not of drawn photographs; source synthetic would write over it: give an "
            "empty folder, or data.source=eyepacs to use what is there"
        )
    rows = []
    for patient in range(data.num_images // 2):
        for is_right, grade in enumerate(draw_grades(seed, patient)):
            rows.append((f"{seed}-{patient + 1}", ("left", "right")[is_right], grade))
    names = [f"{patient}_{eye}" for patient, eye, _ in rows]
    _draw_missing(root, seed, names, [grade for _, _, grade in rows])
    text = "".join(f"{name},{row[2]}\n" for name, row in zip(names, rows, strict=True))
    files.write_bytes(labels, f"image,level\n{text}".encode())
    sizes = {name: size for name, _, size in files.list_dir(files.join(root, "train"))}
    columns = {
        "image_id": names,
        "path": [f"train/{name}.jpeg" for name in names],
        "patient_id": [patient for patient, _, _ in rows],
        "eye": [eye for _, eye, _ in rows],
        "grade": [grade for _, _, grade in rows],
        "sex": [SEXES[draw_sex(seed, place // 2)] for place in range(len(rows))],
        "masks": [[(kind, path.format(name)) for kind, path in KINDS.items()] for name in names],
        "num_bytes": [sizes[f"{name}.jpeg"] for name in names],
    }
    return SourceContent(columns, [], {"grade": GRADES, "sex": SEXES})


def _draw_missing(root: str, seed: int, names: list[str], grades: list[int]) -> None:
    """Draws what is not there, or not what was drawn; then notes what all of them hold."""
    record = files.join(root, "drawn.json")
    try:
        known = files.read_json(record)
    except FileNotFoundError:
        known = {}
    except DamagedError as error:
        print(f"{error}: the photographs are taken as they are", file=sys.stderr, flush=True)
        known = {}
    there = {name for name, _, _ in files.list_dir(files.join(root, "train"))}

    def sound(i: int) -> list[str]:
        name = names[i]
        if f"{name}.jpeg" in there:
            held, was = _held(root, name), known.get(name, [])
            if MISSING not in held and (not was or held == was):
                return held
            # An earlier version drew no landmarks.
            if held[: len(was)] != was:
                place = files.join(root, "train", f"{name}.jpeg")
                print(f"{place} or a mask is not what was drawn: drawn again", file=sys.stderr)
        _write(root, seed, i, name, grades[i])
        return _held(root, name)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        now = dict(zip(names, pool.map(sound, range(len(names))), strict=True))
    if known | now != known:
        files.write_json(record, known | now)


def _held(root: str, name: str) -> list[str]:
    """The digests of a photograph and the two files of its masks; of what is not there MISSING."""
    parts = (f"train/{name}.jpeg", f"masks/{name}.png", f"landmarks/{name}.png")
    places = [files.join(root, *part.split("/")) for part in parts]
    return [files.sha256_file(place) if files.exists(place) else MISSING for place in places]


def _is_ours(labels: bytes) -> bool:
    """Whether every row of a label table names a drawn photograph, `<seed>-<number>_<eye>`."""
    drawn = rb"image,level\n(-?\d+-\d+_(left|right),[0-4]\n)*"
    return re.fullmatch(drawn, labels) is not None


def _write(root: str, seed: int, index: int, name: str, grade: int) -> None:
    """Draws one photograph and writes its masks, then itself: with it, all is there."""
    drawn = draw_photograph(seed, index, grade)
    for folder, masks in (("masks", drawn.masks), ("landmarks", drawn.landmarks)):
        bits = np.zeros(drawn.image.shape[:2], np.uint8)
        for bit, mask in enumerate(masks.values()):
            bits |= mask.astype(np.uint8) << bit
        sink = io.BytesIO()
        Image.fromarray(bits).save(sink, "PNG", compress_level=3)
        files.write_bytes(files.join(root, folder, f"{name}.png"), sink.getvalue())
    quality = draw_camera(_generator(seed, index // 2, 2)).quality
    content = encode_jpeg(drawn.image, quality)
    files.write_bytes(files.join(root, "train", f"{name}.jpeg"), content)
