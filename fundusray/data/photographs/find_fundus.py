"""Where the circle of the fundus lies in a photograph.

Only what a decoded photograph shows is used; how it is rotated, how much of its circle is cut off
and how dark it is do not matter.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from fundusray.data.photographs.decode import BadImage

LOOK = 512
"""Longer side of the reduced copy in which the fundus is looked for, pixels."""
BLACK = 8
"""Of 255: nothing in a line that is this dark was seen by a camera; JPEG leaves such levels."""


class Box(NamedTuple):
    """A rectangle of a photograph, pixels; right and bottom are one past its last."""

    left: int
    top: int
    right: int
    bottom: int


class Fundus(NamedTuple):
    """The circle of the fundus, in pixels of the photograph from its upper left corner."""

    x: float
    y: float
    radius: float


def find_fundus(image: np.ndarray) -> Fundus:
    """The circle of a photograph uint8 [H, W, 3].

    Graham takes as diameter the pixels of the middle row that are brighter than a tenth of its
    mean. Here all rows and columns are looked at: the diameter is the larger of the lit area's
    height and width, so a circle cut off on two sides keeps its diameter. The centre lies in the
    middle of a whole axis, and on the widest chords of a cut one. Circles fitted to the edge of the
    lit area, and then to where light falls most steeply, give fractions of a pixel, so that a
    photograph and its scaled decode agree.

    Raises:
        BadImage: nothing that could be a fundus.
    """
    height, width = image.shape[:2]
    scale = max(height, width, LOOK) / LOOK
    reduced = (max(1, round(width / scale)), max(1, round(height / scale)))
    small = Image.fromarray(image).resize(reduced, Image.Resampling.BOX)
    grey = np.asarray(small, np.float32) @ np.full(3, 1 / 3, np.float32)
    lit = _lit(grey)
    across, down = lit.sum(axis=1), lit.sum(axis=0)  # lit pixels in each row, in each column
    rows, columns = _span(across), _span(down)
    tall, wide = rows[1] - rows[0], columns[1] - columns[0]
    diameter = max(tall, wide)
    if min(tall, wide) < 0.35 * diameter or diameter < 0.15 * max(reduced):
        seen = f"{wide * scale:.0f}x{tall * scale:.0f} of {width}x{height} pixels"
        raise BadImage(f"no fundus: the lit area, {seen}, is no disc")
    y = sum(rows) / 2 if tall > 0.98 * diameter else _widest(across)
    x = sum(columns) / 2 if wide > 0.98 * diameter else _widest(down)
    circle = _fit(_edge(lit), np.array([x, y, diameter / 2]), (0.04, 0.02, 0.01))
    x, y, radius = _fit(_steepest(grey, circle), circle, (0.15, 0.08, 0.04, 0.015)).tolist()
    scales = width / reduced[0], height / reduced[1]
    return Fundus(x * scales[0], y * scales[1], radius * sum(scales) / 2)


def _lit(grey: np.ndarray) -> np.ndarray:
    """Which pixels [H, W] belong to the fundus: a tenth of the mean above the surround.

    Areas below a tenth of the largest are labels and dust.
    """
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
    lit = grey > surround + max((mean - surround) / 10, 1.0)
    runs = _runs(lit)
    area = _joined(*runs)
    sizes = np.bincount(area, weights=runs.ends - runs.starts)
    return _drawn(runs, sizes[area] >= sizes.max() / 10, lit.shape)


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


def _steepest(grey: np.ndarray, circle: np.ndarray) -> np.ndarray:
    """Where each ray from the centre has its steepest fall of light, float64 [N, 2] as x, y.

    A halo around the fundus, brighter than the surround, is taken for a part of it by any threshold
    that a dark fundus needs; but nothing falls as steeply as the edge itself. Steep is relative to
    the light there, so that a bright optic disc outdoes no dark edge.
    """
    x, y, radius = circle
    angles = np.linspace(0, 2 * np.pi, math.ceil(np.pi * radius), endpoint=False)
    reach = max(2, round(radius / 100))  # samples on either side of a fall, 1 pixel apart
    distances = np.arange(0.8 * radius - reach, 1.1 * radius + reach)
    columns = x + np.cos(angles)[:, None] * distances - 0.5
    rows = y + np.sin(angles)[:, None] * distances - 0.5
    inside = (columns > 0) & (columns < grey.shape[1] - 1) & (rows > 0) & (rows < len(grey) - 1)
    light = np.where(inside, _between(grey, rows, columns), np.nan)
    sums = np.cumsum(light, axis=1)
    means = (sums[:, reach:] - sums[:, :-reach]) / reach
    inner, outer = means[:, :-reach], means[:, reach:]
    # A quarter of the light farther in keeps a halo's own end from being steep, and two levels the
    # noise of a surround.
    least = 2 + np.nan_to_num(light[:, : 4 * reach].mean(axis=1, keepdims=True)) / 4
    fall = np.nan_to_num((inner - outer) / (inner + outer + least))
    best = fall.argmax(axis=1)
    found = fall.max(axis=1) > 0.1
    at = distances[best + reach] + 0.5
    points = np.stack([x + np.cos(angles) * at, y + np.sin(angles) * at], axis=1)
    return points[found]


def _between(grey: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Light [...] between the centres of pixels, bilinear."""
    top = rows.astype(np.int64).clip(0, len(grey) - 2)
    left = columns.astype(np.int64).clip(0, grey.shape[1] - 2)
    down, across = rows - top, columns - left
    upper = grey[top, left] * (1 - across) + grey[top, left + 1] * across
    lower = grey[top + 1, left] * (1 - across) + grey[top + 1, left + 1] * across
    return upper * (1 - down) + lower * down


def _fit(points: np.ndarray, circle: np.ndarray, tolerances: tuple[float, ...]) -> np.ndarray:
    """The circle (x, y, radius) through the edge points near a first estimate; least squares.

    x^2 + y^2 = 2 a x + 2 b y + c is linear in the centre (a, b) and c. Straight cuts, notches and
    specks are far from the circle and left out; without enough of an edge the estimate stays.
    """
    for tolerance in tolerances:
        distance = np.hypot(*(points - circle[:2]).T)
        near = points[np.abs(distance - circle[2]) < tolerance * circle[2]]
        if len(near) < circle[2] / 2:
            break
        system = np.column_stack([2 * near, np.ones(len(near))])
        a, b, c = np.linalg.lstsq(system, (near**2).sum(axis=1), rcond=None)[0]
        fitted = np.array([a, b, math.sqrt(max(c + a * a + b * b, 0.0))])
        if np.abs(fitted - circle).max() > 0.15 * circle[2]:
            break
        circle = fitted
    return circle


def without_missing(image: np.ndarray, fundus: Fundus) -> tuple[np.ndarray, Fundus]:
    """The photograph without black bars that cut into its circle, and the circle in what is left.

    They are rows that a truncated file lacks, or a picture that was padded to a square: an end like
    the border of any photograph. A line is black when no value of it is above BLACK, or, of a dark
    photograph, above a tenth of its bright tenth.
    """
    black = min(BLACK, float(np.percentile(image[::8, ::8], 90)) / 10)
    spans = []
    for axis, centre in ((0, fundus.y), (1, fundus.x)):
        lines, span = image.swapaxes(0, axis), [0, image.shape[axis]]
        for end, toward in enumerate((-1, 1)):
            inner = round(centre + 0.95 * toward * fundus.radius)
            if lines[min(max(inner, 0), len(lines) - 1)].max() <= black:
                lit = np.flatnonzero(lines.max(axis=(1, 2)) > black)
                span[end] = int(lit[0]) if toward < 0 else int(lit[-1]) + 1
        spans.append(span)
    (top, bottom), (left, right) = spans
    if min(bottom - top, right - left) < fundus.radius / 2:
        return image, fundus
    moved = fundus._replace(x=fundus.x - left, y=fundus.y - top)
    return image[top:bottom, left:right], moved


def count_diameter(image: np.ndarray) -> int:
    """How many pixels of the middle row of uint8 [H, W, 3] are not black.

    Not black is brighter than a tenth of the row's mean (B. Graham's code for Kaggle 2015, with
    which Li's first step is worded). It is the diameter of the fundus where the row passes through
    the middle of a whole circle.
    """
    row = image[len(image) // 2].sum(axis=1, dtype=np.int64)
    return int((row > row.mean() / 10).sum())


def lit_box(image: np.ndarray, value: int) -> Box | None:
    """The box around the largest connected area of uint8 [H, W, 3] that is lit; None: none is.

    Lit is a largest channel, which is V of HSV, of at least `value`; pixels that touch at a corner
    are connected, as on the outer contours of OpenCV. Holes do not count as area.
    """
    lit = np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2]) >= value
    runs = _runs(lit)
    if not len(runs.starts):
        return None
    area = _joined(*runs)
    largest = area == np.bincount(area, weights=runs.ends - runs.starts).argmax()
    rows, left = np.divmod(runs.starts[largest], runs.stride)
    right = runs.ends[largest] - rows * runs.stride
    return Box(int(left.min()) - 1, int(rows[0]), int(right.max()) - 1, int(rows[-1]) + 1)


class _Runs(NamedTuple):
    """Unbroken lit pixels of every row, in order; positions in the flattened picture."""

    starts: np.ndarray
    """int64 [N]."""
    ends: np.ndarray
    """int64 [N], one past the last."""
    stride: int
    """From row to row: the width and a dark column on either side, so that no run crosses rows."""


def _runs(lit: np.ndarray) -> _Runs:
    flat = np.pad(lit, ((0, 0), (1, 1))).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return _Runs(changes[::2], changes[1::2], lit.shape[1] + 2)


def _drawn(runs: _Runs, kept: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The picture bool [H, W] of the runs that are kept."""
    changes = np.zeros(shape[0] * runs.stride, np.int8)
    changes[runs.starts[kept]] = 1
    changes[runs.ends[kept]] = -1
    return changes.cumsum().reshape(shape[0], runs.stride)[:, 1:-1] > 0


def _joined(starts: np.ndarray, ends: np.ndarray, stride: int) -> np.ndarray:
    """Which connected area each run of pixels [N] belongs to: the number of its first run, [N].

    Runs of neighbouring rows that touch, if only at a corner, are pairs. The smaller label of a
    pair wins, and labels are followed to their end, until all pairs agree.
    """
    first = np.searchsorted(ends, starts + stride, side="left")
    last = np.searchsorted(starts, ends + stride, side="right")
    touching = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(starts)), touching)
    begin = np.cumsum(touching) - touching
    below = np.arange(len(above)) - np.repeat(begin - first, touching)
    label = np.arange(len(starts))
    while (label[above] != label[below]).any():
        smaller = np.minimum(label[above], label[below])
        np.minimum.at(label, label[above], smaller)
        np.minimum.at(label, label[below], smaller)
        while (label[label] != label).any():
            label = label[label]
    return label
