"""One photograph of any size, segmented by a network in the photograph's own pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fundusray.config import Data
from fundusray.data.photographs.decode import BadImage, DecodedPhotograph, decode_photograph
from fundusray.data.photographs.find_fundus import find_fundus
from fundusray.data.prepared.geometry import Geometry, photograph_mask
from fundusray.data.prepared.preprocess import PREPROCESS, PreparedImage
from fundusray.errors import InputError
from fundusray.models.tiles import BATCH, TilePlan, tiled_bands
from fundusray.registry import unknown_name

SCALES = ("network", "photograph")


@dataclass(frozen=True)
class SegmentPlan:
    """How photographs are segmented.

    Raises:
        InputError: an unknown scale.
    """

    tiles: TilePlan
    scale: str = "network"
    """network: prepared at the size that the network was trained with; photograph: at the size that
    the fundus has in the photograph itself."""
    batch: int = BATCH
    """Tiles that go through the network at a time; decides nothing but the speed."""

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise unknown_name("scale", self.scale, set(SCALES))
        if self.batch < 1:
            raise InputError(f"a batch of {self.batch} tiles; give 1 or more")

    @property
    def text(self) -> str:
        """All that decides a class map, for keys."""
        return f"side={self.tiles.side} overlap={self.tiles.overlap} scale={self.scale}"


class SegmentedPhotograph(NamedTuple):
    """What came of a photograph."""

    pixels: np.ndarray
    """uint8 [h, w, 3]: as it was decoded; at the network's scale it may be a smaller decode."""
    classes: np.ndarray
    """uint8 [H, W]: the class of each pixel of the whole photograph; outside the fundus 0."""
    areas: np.ndarray
    """int64 [C]: pixels of the fundus of each class; their sum is the fundus."""
    size: int
    """Side of the prepared square that the network saw, by tiles or at once."""
    note: str
    """What was mended in a damaged file."""


def segment_photograph(
    predict: Callable[[Tensor], Tensor], data: Data, content: bytes, plan: SegmentPlan
) -> SegmentedPhotograph:
    """The classes of a photograph's pixels.

    Each has the class that is likeliest where its centre falls in the prepared square. Beside the
    photograph and the class map, which take 4 bytes a pixel, and what preparing holds for a while,
    no more than two rows of tiles are in memory.

    Args:
        predict: images [B, 3, S, S] -> logits [B, C, S, S], the network in evaluation mode.
        data: of the network's recipe: its preprocessing and size.
        content: the photograph's file.

    Raises:
        BadImage: it does not decode, or shows no fundus.
    """
    decoded = decoded_photograph(data, content, plan.scale)
    prepared = prepared_at(data, decoded, plan.scale)
    size = len(prepared.pixels)
    square, num_classes = np.zeros((size, size), np.uint8), 0
    for first, band in tiled_bands(predict, prepared.pixels, plan.tiles, plan.batch):
        num_classes = len(band)
        square[first : first + band.shape[1]] = band.argmax(axis=0)
    classes = photograph_mask(geometry_in_photograph(decoded, prepared), square)
    begin, end = fundus_columns(decoded)
    for row, (left, right) in enumerate(zip(begin, end, strict=True)):
        classes[row, :left] = 0
        classes[row, right:] = 0
    areas = np.bincount(classes.ravel(), minlength=num_classes).astype(np.int64)
    # What was set to 0 outside the fundus is no part of it.
    areas[0] -= classes.size - int((end - begin).sum())
    return SegmentedPhotograph(decoded.pixels, classes, areas, size, decoded.note)


def decoded_photograph(data: Data, content: bytes, scale: str) -> DecodedPhotograph:
    """The photograph, as small as the scale allows.

    Raises:
        BadImage: it does not decode.
    """
    least = PREPROCESS.find(data.preprocess).min_side(data.size) if scale == "network" else 0
    return decode_photograph(content, least)


def prepared_at(data: Data, decoded: DecodedPhotograph, scale: str) -> PreparedImage:
    """The square that a network sees of a photograph, as in training or at the photograph's own
    size.

    Raises:
        BadImage: it shows no fundus.
    """
    prepare = PREPROCESS.find(data.preprocess).function
    prepared = prepare(decoded.pixels, data.size, **data.preprocess_args)
    if scale == "network":
        return prepared
    # How large the fundus is, only its preparation says.
    return prepare(decoded.pixels, native_size(prepared.geometry), **data.preprocess_args)


def geometry_in_photograph(decoded: DecodedPhotograph, prepared: PreparedImage) -> Geometry:
    """Where the prepared square lies in the whole photograph, whatever scale was decoded."""
    whole = (decoded.height, decoded.width)
    return prepared.geometry.scaled(decoded.scale, decoded.margin, whole)


def native_size(geometry: Geometry) -> int:
    """Side of the square in which a prepared image has the photograph's own pixels."""
    return max(16, round(max(geometry.width, geometry.height)))


def fundus_columns(decoded: DecodedPhotograph) -> tuple[np.ndarray, np.ndarray]:
    """Of each row [H] of the whole photograph, where its fundus begins and one past where it ends,
    int64; a pixel is in the circle where its centre is.

    Raises:
        BadImage: it shows no fundus, or one that lies outside of it.
    """
    fundus, height, width = find_fundus(decoded.pixels), decoded.height, decoded.width
    x = decoded.scale * fundus.x - decoded.margin[0]
    y = decoded.scale * fundus.y - decoded.margin[1]
    radius = decoded.scale * fundus.radius
    half = np.sqrt(np.clip(radius**2 - (np.arange(height) + 0.5 - y) ** 2, 0, None))
    begin = np.clip(np.ceil(x - half - 0.5), 0, width).astype(np.int64)
    end = np.clip(np.floor(x + half + 0.5), 0, width).astype(np.int64)
    end = np.where(half > 0, np.maximum(end, begin), begin)
    if not (end > begin).any():
        raise BadImage("no fundus: its circle lies outside the photograph")
    return begin, end
