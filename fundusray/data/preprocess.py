"""Photographs to squares of one size: find the fundus, bring it to size, even out its light.

Only what a decoded photograph shows is used; how it is rotated, how much of its circle is cut off
and how dark it is do not matter.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from fundusray.data.blur import gaussian_blur
from fundusray.data.images import BadImage
from fundusray.registry import Registry

GAIN = 4.0
SIGMA_DIVISOR = 30.0
CLIP = 0.95
GREY = 128
LOOK = 512
"""Longer side of the reduced copy in which the fundus is looked for, pixels."""


class Preprocess(NamedTuple):
    """One way of preparing a photograph."""

    function: Callable[[np.ndarray, int], np.ndarray]
    """(uint8 [H, W, 3], size) -> uint8 [size, size, 3]; raises BadImage."""
    fill: float
    """Value outside the fundus, in [0, 1]: what augmentation moves in from beyond the border."""
    min_side: Callable[[int], int]
    """size -> the smallest side that a scaled decode must leave."""
    version: int
    """Goes up when the function gives other pixels: older prepared sets are then made anew."""


class Fundus(NamedTuple):
    """The circle of the fundus, in pixels of the photograph from its upper left corner."""

    x: float
    y: float
    radius: float


PREPROCESS: Registry[Preprocess] = Registry("preprocessing")


def find_fundus(image: np.ndarray) -> Fundus:
    """The circle of a photograph uint8 [H, W, 3].

    Graham takes as diameter the pixels of the middle row that are brighter than a tenth of its
    mean. Here all rows and columns are looked at: the diameter is the larger of the lit area's
    height and width, so a circle cut off on two sides keeps its diameter. The centre lies in the
    middle of a whole axis, and on the widest chords of a cut one. A circle fitted to the edge then
    gives fractions of a pixel, so that a photograph and its scaled decode agree.

    Raises:
        BadImage: nothing that could be a fundus.
    """
    height, width = image.shape[:2]
    scale = max(height, width, LOOK) / LOOK
    reduced = (max(1, round(width / scale)), max(1, round(height / scale)))
    small = Image.fromarray(image).resize(reduced, Image.Resampling.BOX)
    lit = _lit(np.asarray(small, np.float32).mean(axis=2))
    across, down = lit.sum(axis=1), lit.sum(axis=0)  # lit pixels in each row, in each column
    rows, columns = _span(across), _span(down)
    tall, wide = rows[1] - rows[0], columns[1] - columns[0]
    diameter = max(tall, wide)
    if min(tall, wide) < 0.35 * diameter or diameter < 0.15 * max(reduced):
        seen = f"{wide * scale:.0f}x{tall * scale:.0f} of {width}x{height} pixels"
        raise BadImage(f"no fundus: the lit area, {seen}, is no disc")
    y = sum(rows) / 2 if tall > 0.98 * diameter else _widest(across)
    x = sum(columns) / 2 if wide > 0.98 * diameter else _widest(down)
    x, y, radius = _fit(_edge(lit), np.array([x, y, diameter / 2])).tolist()
    scales = width / reduced[0], height / reduced[1]
    return Fundus(x * scales[0], y * scales[1], radius * sum(scales) / 2)


def _lit(grey: np.ndarray) -> np.ndarray:
    """Which pixels [H, W] belong to the fundus: a tenth of the mean above the surround."""
    darkest, brightest = np.percentile(grey, (1, 99))
    if brightest - darkest < 4:
        raise BadImage(f"blank: all pixels lie within {brightest - darkest:.1f} of 255 grey levels")
    # The surround of a real photograph is not quite black. Where even the darkest corner is bright,
    # the circle reaches beyond the picture and there is no surround.
    edge = max(2, min(grey.shape) // 20)
    ends = (slice(None, edge), slice(-edge, None))
    surround = min(float(np.median(grey[rows, columns])) for rows in ends for columns in ends)
    mean = float(grey.mean())
    if surround > mean / 2:
        surround = 0.0
    return grey > surround + max((mean - surround) / 10, 1.0)


def _span(counts: np.ndarray) -> tuple[int, int]:
    """First and one past the last row that holds more than dust, a twentieth of the widest."""
    rows = np.flatnonzero(counts > counts.max() / 20)
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)


def _widest(counts: np.ndarray) -> float:
    """Middle of the rows that are as wide as the widest, within one percent."""
    return float(np.flatnonzero(counts >= 0.99 * counts.max()).mean()) + 0.5


def _edge(lit: np.ndarray) -> np.ndarray:
    """Where the lit area begins and ends in every row and column, float64 [N, 2] as x, y.

    Ends at the border of the picture are left out: there it is the picture that ends.
    """
    points = []
    for area, order in ((lit, (0, 1)), (lit.T, (1, 0))):
        lines, length = np.flatnonzero(area.any(axis=1)), area.shape[1]
        first = area[lines].argmax(axis=1)
        last = length - area[lines, ::-1].argmax(axis=1)
        for along, inner in ((first, first > 0), (last, last < length)):
            ends = np.stack([along[inner], lines[inner] + 0.5], axis=1)
            points.append(ends[:, order])
    return np.concatenate(points).astype(np.float64)


def _fit(points: np.ndarray, circle: np.ndarray) -> np.ndarray:
    """The circle (x, y, radius) through the edge points near a first estimate; least squares.

    x^2 + y^2 = 2 a x + 2 b y + c is linear in the centre (a, b) and c. Straight cuts, notches and
    specks are far from the circle and left out; without enough of an edge the estimate stays.
    """
    for tolerance in (0.04, 0.02, 0.01):
        distance = np.hypot(*(points - circle[:2]).T)
        near = points[np.abs(distance - circle[2]) < tolerance * circle[2]]
        if len(near) < circle[2] / 2:
            break
        system = np.column_stack([2 * near, np.ones(len(near))])
        a, b, c = np.linalg.lstsq(system, (near**2).sum(axis=1), rcond=None)[0]
        fitted = np.array([a, b, math.sqrt(max(c + a * a + b * b, 0.0))])
        if np.abs(fitted - circle).max() > 0.1 * circle[2]:
            break
        circle = fitted
    return circle


def _bring_to_size(image: np.ndarray, size: int) -> tuple[np.ndarray, int, int]:
    """(what is seen of the circle's square, its top, its left) in a square of `size`.

    Bilinear and antialiased: a filter with negative lobes would ring at vessels, and Graham
    multiplies that by 4.
    """
    fundus = find_fundus(image)
    step = 2 * fundus.radius / size  # pixels of the photograph per pixel of the result
    centre, sides = (fundus.x, fundus.y), (image.shape[1], image.shape[0])
    spans, box = [], [0.0] * 4
    for axis in (0, 1):
        start = centre[axis] - fundus.radius
        # Only whole pixels of the result, so that its grid lies the same however much is cut off.
        low = max(0, math.ceil(-start / step - 1e-6))
        high = min(size, math.floor((sides[axis] - start) / step + 1e-6))
        spans.append((low, high))
        box[axis] = max(0.0, start + low * step)
        box[axis + 2] = min(float(sides[axis]), start + high * step)
    (left, right), (top, bottom) = spans
    seen = Image.fromarray(image).resize(
        (right - left, bottom - top), Image.Resampling.BILINEAR, box=tuple(box)
    )
    return np.asarray(seen), top, left


def graham(
    image: np.ndarray,
    size: int,
    *,
    gain: float = GAIN,
    divisor: float = SIGMA_DIVISOR,
    clip: float = CLIP,
) -> np.ndarray:
    """B. Graham's colour normalisation (Kaggle 2015; Wu, section 3.1), uint8 [size, size, 3].

    The fundus is scaled to a diameter of `size`, then 4 a - 4 blur(a) + 128 with sigma = radius/30,
    and what lies outside 95 % of the radius is exactly 128. Where a circle is cut off, the blur
    ends (mirrored) at the edge of the photograph, so that no false edge is seen, and what is
    missing is 128.

    Raises:
        BadImage: no fundus.
    """
    seen, top, left = _bring_to_size(image, size)
    result = np.full((size, size, 3), GREY, np.uint8)
    height, width = seen.shape[:2]
    result[top : top + height, left : left + width] = even_light(seen, size / 2 / divisor, gain)
    result[_outside(size, clip)] = GREY
    return result


def even_light(image: np.ndarray, sigma: float, gain: float = GAIN) -> np.ndarray:
    """gain * image - gain * blur(image) + 128, rounded and clipped, uint8 [H, W, 3]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()
    evened = (pixels - gaussian_blur(pixels, sigma)).mul_(gain).add_(GREY)
    evened = evened.round_().clamp_(0, 255).byte()
    return evened.permute(1, 2, 0).contiguous().numpy()


def _outside(size: int, share: float) -> np.ndarray:
    """Which pixels [size, size] lie outside a centred circle of `share` of the half side."""
    square = (np.arange(size) - (size - 1) / 2) ** 2
    return square[:, None] + square[None, :] > (share * size / 2) ** 2


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """The square around the fundus, black where the photograph ends, uint8 [size, size, 3].

    Raises:
        BadImage: no fundus.
    """
    seen, top, left = _bring_to_size(image, size)
    result = np.zeros((size, size, 3), np.uint8)
    result[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
    return result


def roomy(size: int) -> int:
    """Smallest side of a scaled decode: a quarter more than the result's.

    A fundus fills most of the smaller side, seldom all of it; it must not have to be enlarged.
    """
    return math.ceil(1.25 * size)


PREPROCESS["graham"] = Preprocess(graham, GREY / 255, roomy, 1)
PREPROCESS["resize"] = Preprocess(resize, 0.0, roomy, 1)
