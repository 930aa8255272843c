"""Drawn photographs to pretrain on: prepared, with a grade and the masks of all that is on them."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fundusray import files
from fundusray.config import Data
from fundusray.data.drawn.source import DrawnPhotograph, draw_photograph
from fundusray.data.manifest.contract import GRADES
from fundusray.data.photographs.decode import encode_jpeg
from fundusray.data.prepared.geometry import Geometry, prepared_map
from fundusray.data.prepared.preprocess import PREPROCESS, preprocess_photograph
from fundusray.pipeline.augment.augmentation import Augmentation
from fundusray.pipeline.engines import plain
from fundusray.sealed import sealed_content, unsealed_content
from fundusray.tasks.grades_and_masks import KINDS

VERSION = 4
"""Goes up when drawing gives other pixels or files: what was drawn is then drawn anew."""
PART = 64
"""Photographs of one task."""


class DrawnLesions(NamedTuple):
    """Drawn photographs, prepared, and what is on them."""

    image: np.ndarray
    """uint8 [N, S, S, 3]."""
    masks: np.ndarray
    """uint16 [N, S, S], bit i is kind i of KINDS."""
    grade: np.ndarray
    """int64 [N]."""


def draw_grade(seed: int, index: int) -> int:
    """The grade of a drawn photograph: every one as often, for a network to learn all."""
    return int(np.random.default_rng([seed % 2**32, index, 7]).integers(len(GRADES)))


def draw_part(data: Data, seed: int, start: int, stop: int) -> DrawnLesions:
    """The photographs start to stop of a seed, each a function of (seed, its position) alone.

    They are drawn in many manners (`lifelike`), stored as JPEG as a camera would, and prepared.
    """
    side = max(192, 2 * data.size)
    images, masks, grades = [], [], []
    for index in range(start, stop):
        grade = draw_grade(seed, index)
        drawn = draw_photograph(seed, index, grade, side, lifelike=True)
        content = encode_jpeg(drawn.image, 70 + (index * 7) % 26)
        photograph = np.array(Image.open(io.BytesIO(content)))
        pixels, geometry, _ = preprocess_photograph(data, photograph)
        images.append(pixels)
        masks.append(_bits(drawn, geometry))
        grades.append(grade)
    return DrawnLesions(np.stack(images), np.stack(masks), np.array(grades, np.int64))


def _bits(drawn: DrawnPhotograph, geometry: Geometry) -> np.ndarray:
    """The masks where the prepared picture shows them, uint16 [S, S]: a pixel counts where a
    quarter of it is covered, so that a small lesion stays seen."""
    bits = np.zeros((geometry.size, geometry.size), np.uint16)
    for bit, mask in enumerate([*drawn.masks.values(), *drawn.landmarks.values()]):
        if mask.any():
            covered = prepared_map(geometry, mask) >= 0.25
            bits |= covered.astype(np.uint16) << np.uint16(bit)
    return bits


def part_places(folder: str, num_images: int) -> tuple[str, ...]:
    """Where the parts are that hold so many photographs."""
    number = -(-num_images // PART)
    return tuple(files.join(folder, f"part-{index:05d}.npz") for index in range(number))


def to_bytes(sketches: DrawnLesions) -> bytes:
    """The content of a part's file."""
    sink = io.BytesIO()
    np.savez_compressed(sink, **sketches._asdict())
    return sealed_content(sink.getvalue())


def read_parts(locations: Sequence[str]) -> DrawnLesions:
    """The photographs of some parts, in order; 5 bytes a pixel in memory.

    Raises:
        DamagedError: a part is not what was written; names it and the cure.
    """
    parts = []
    for location in locations:
        with np.load(io.BytesIO(unsealed_content(files.read_bytes(location), location))) as content:
            parts.append(DrawnLesions(*(content[name] for name in DrawnLesions._fields)))
    return DrawnLesions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def drawn_batch(
    sketches: DrawnLesions, rows: np.ndarray, augmentation: Augmentation, data: Data, **keys: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(images [B, 3, S, S] in [0, 1], masks [B, M, S, S] in [0, 1], grades [B]) of some rows.

    They are augmented as a function of (seed, epoch, row), the masks moved as their image is.
    """
    rows = np.asarray(rows, np.int64)
    draws = augmentation.draw(data.size, rows=rows, repeat=np.zeros_like(rows), **keys)
    level = plain.fill_level(PREPROCESS.find(data.preprocess).fill)
    image = plain.as_float(torch.from_numpy(sketches.image[rows]).permute(0, 3, 1, 2))
    image = plain.augment_images(image, draws, level)
    ones, nothing = np.ones_like(draws.brightness), np.zeros_like(draws.coloured)
    moves = draws._replace(
        brightness=ones, contrast=ones, coloured=nothing, std=np.zeros_like(draws.std)
    )
    bits = sketches.masks[rows][:, None] >> np.arange(len(KINDS), dtype=np.uint16)[:, None, None]
    layers = torch.from_numpy((bits & 1).astype(np.float32))
    # Masks go the way of images, three at a time.
    missing = -len(KINDS) % 3
    layers = F.pad(layers, (0, 0, 0, 0, 0, missing))
    moved = [plain.augment_images(three, moves, 0) for three in layers.split(3, dim=1)]
    masks = torch.cat(moved, dim=1)[:, : len(KINDS)]
    return image, masks, torch.from_numpy(sketches.grade[rows])
