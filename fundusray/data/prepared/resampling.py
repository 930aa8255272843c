"""Photographs resampled to the pixels of a prepared image."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fundusray.data.photographs.find_fundus import Box, Fundus


class Grid(NamedTuple):
    """Where the pixels of the result lie in the photograph, and which of them it covers."""

    start: tuple[float, float]
    """x and y of the result's upper left corner, pixels of the photograph."""
    step: float
    """Pixels of the photograph per pixel of the result."""
    seen: Box
    """What of the result the photograph covers: whole pixels of the result only, so that its grid
    lies the same however much of the circle is cut off."""


def square_grid(image: np.ndarray, fundus: Fundus, size: int) -> Grid:
    """The square around the circle at `size` pixels."""
    step = 2 * fundus.radius / size
    start = (fundus.x - fundus.radius, fundus.y - fundus.radius)
    low = [max(0, math.ceil(-begin / step - 1e-6)) for begin in start]
    sides = zip(image.shape[1::-1], start, strict=True)
    high = [min(size, math.floor((side - begin) / step + 1e-6)) for side, begin in sides]
    return Grid(start, step, Box(*low, *high))


def bring_to_size(image: np.ndarray, grid: Grid) -> np.ndarray:
    """What is seen of the circle's square, uint8 [h, w, 3].

    Bilinear and antialiased: a filter with negative lobes would ring at vessels, and Graham
    multiplies that by 4.
    """
    (x, y), step, seen = grid
    height, width = image.shape[:2]
    box = (
        max(0.0, x + seen.left * step),
        max(0.0, y + seen.top * step),
        min(float(width), x + seen.right * step),
        min(float(height), y + seen.bottom * step),
    )
    sides = (seen.right - seen.left, seen.bottom - seen.top)
    return np.asarray(Image.fromarray(image).resize(sides, Image.Resampling.BILINEAR, box=box))


def in_square(part: np.ndarray, seen: Box, size: int, fill: int) -> np.ndarray:
    """The part where it belongs, `fill` around it, uint8 [size, size, 3]."""
    square = np.full((size, size, 3), fill, np.uint8)
    square[seen.top : seen.bottom, seen.left : seen.right] = part
    return square


class Taps(NamedTuple):
    """Every pixel of the result along one axis as a weighted mean of k pixels of the photograph."""

    index: np.ndarray
    """int64 [N, k]."""
    weight: np.ndarray
    """[N, k], sum 1."""


def area_taps(low: float, high: float, num: int) -> Taps:
    """[low, high] in `num` equal parts, each the mean of what it covers (OpenCV's INTER_AREA)."""
    ends = np.linspace(low, high, num + 1)
    begin, end = ends[:-1, None], ends[1:, None]
    index = np.floor(begin) + np.arange(math.ceil((high - low) / num) + 1)
    weight = np.clip(np.minimum(end, index + 1) - np.maximum(begin, index), 0, None)
    return _taps(index, weight, math.ceil(high))


def gaussian_taps(centres: np.ndarray, sigma: float, side: int) -> Taps:
    """A Gaussian blur of `side` pixels read at the centres [N]; none weighs beyond the border."""
    reach = math.ceil(4 * sigma)
    index = np.floor(centres)[:, None] + np.arange(-reach, reach + 2)
    weight = np.exp(-0.5 * ((index - centres[:, None]) / sigma) ** 2)
    return _taps(index, weight, side)


def _taps(index: np.ndarray, weight: np.ndarray, side: int) -> Taps:
    weight = np.where((index >= 0) & (index < side), weight, 0)
    weight = weight / weight.sum(axis=1, keepdims=True)
    return Taps(index.clip(0, side - 1).astype(np.int64), weight.astype(np.float32))


def weighted_means(image: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """The weighted means of uint8 [H, W, 3] along both axes, float32 [N rows, N columns, 3]."""
    top, left = rows.index.min(), columns.index.min()
    part = image[top : rows.index.max() + 1, left : columns.index.max() + 1]
    result = torch.from_numpy(np.ascontiguousarray(part)).float()
    for (index, weight), first in ((rows, top), (columns, left)):
        # The bag of an embedding is a weighted sum of a matrix's rows. Each turn the axes change
        # places, so the second one weighs the columns and puts them back.
        bags = F.embedding_bag(
            torch.from_numpy(index - first),
            result.flatten(1),
            mode="sum",
            per_sample_weights=torch.from_numpy(weight),
        )
        result = bags.view(len(index), -1, 3).transpose(0, 1).contiguous()
    return result.numpy()
