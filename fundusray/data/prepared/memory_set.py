"""A prepared set in memory, of photographs that a caller holds: no manifest, no file."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.config import Data
from fundusray.data.prepared.geometry import Geometry
from fundusray.data.prepared.masks import compressed_planes, num_planes
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import PREPROCESS, PreparedImage
from fundusray.data.prepared.stored import Stored
from fundusray.data.prepared.write import CROP, SEEN


class HeldImage(NamedTuple):
    """A photograph as the set keeps it."""

    name: str
    prepared: PreparedImage
    geometry: Geometry
    """Of the prepared image in the whole photograph."""
    classes: np.ndarray
    """uint8 [S, S]: the class of each prepared pixel."""


def memory_set(data: Data, images: Sequence[HeldImage], classes: Sequence[str]) -> PreparedSet:
    """A raw set of these images with a mask for each class but the first one.

    Every image is its own patient's, as nothing is known of them.
    """
    num, kinds = len(images), tuple(classes[1:])
    pixels = [np.ascontiguousarray(one.prepared.pixels).reshape(-1) for one in images]
    masks = [compressed_planes(class_planes(one.classes, len(kinds))) for one in images]
    digest = files.sha256(b"".join(part.tobytes() for part in pixels) + b"".join(masks))
    info = {
        "classes": list(classes), "ordered": False, "encoding": "raw", "size": data.size,
        "fill": PREPROCESS.find(data.preprocess).fill, "preprocess": data.preprocess,
        "manifest": digest, "masks": {"kinds": list(kinds)},
    }  # fmt: skip
    columns = {
        "image_id": [one.name for one in images],
        "patient_id": [""] * num,
        "dataset": [""] * num,
        "twin": [""] * num,
        "target": pa.array([0] * num, pa.int32()),
        "masks": pa.array([[(kind, "") for kind in kinds]] * num, pa.list_(pa.list_(pa.string()))),
        "height": [one.geometry.photograph[0] for one in images],
        "width": [one.geometry.photograph[1] for one in images],
    }
    crops = [(g.left, g.top, g.width, g.height) for g in (one.geometry for one in images)]
    columns |= dict(zip(CROP, map(list, zip(*crops, strict=True)), strict=True))
    seen = [one.prepared.seen for one in images]
    columns |= dict(zip(SEEN, map(list, zip(*seen, strict=True)), strict=True))
    packed = [np.frombuffer(content, np.uint8) for content in masks]
    return PreparedSet("", info, pa.table(columns), _stored(pixels), _stored(packed))


def class_planes(classes: np.ndarray, num_kinds: int) -> np.ndarray:
    """A class map [S, S] as the bit planes of its classes but the first, uint8 [S, S, P]."""
    planes = np.zeros((*classes.shape, num_planes(num_kinds)), np.uint8)
    for kind in range(num_kinds):
        plane, bit = divmod(kind, 8)
        planes[..., plane] |= (classes == kind + 1).astype(np.uint8) << bit
    return planes


def _stored(parts: list[np.ndarray]) -> Stored:
    places = [[number, 0, len(part)] for number, part in enumerate(parts)]
    return Stored(parts, np.array(places, np.int64))
