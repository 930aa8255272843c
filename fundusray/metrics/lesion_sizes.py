"""Lesions one by one: the connected components of a mask, how large each is at the photograph, and
which of them a map finds.

A component's diameter is the longer side of its bounding box, in pixels of the photograph. A map
finds it where its mean (signed) value there is above a quantile of its values on the fundus: where
more than this share of the pixels are weaker, of those that are as strong one half.

How many a map finds that knows nothing of lesions: boxes as large as each component's stand evenly
over the fundus, and the share of them whose mean is above the same quantile is counted. A map of
few wide spots and one of fine grain thus have each their own chance.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fundusray.errors import InputError

BOXES = 32
"""Along each side, of the boxes that stand evenly over the fundus."""
ROUNDING = 1e-9
"""Of a map's largest value: a mean this close to a pixel's value is as strong."""


@dataclass(frozen=True, kw_only=True)
class LesionSizes:
    """What counts as small and large, and as found.

    Raises:
        InputError: edges that do not rise, a scale that is not above 0, a quantile outside [0, 1).
    """

    edges: tuple[float, ...] = (10.0, 50.0)
    """Diameters between two classes, pixels of the photograph; who is on an edge is above it."""
    photograph_pixels: float = 1.0
    """Pixels of the photograph along a pixel of the map."""
    quantile: float = 0.9
    """Of the map's values on the fundus."""

    def __post_init__(self) -> None:
        if list(self.edges) != sorted(set(self.edges)) or not self.edges:
            raise InputError(f"edges of lesion sizes have to rise, e.g. (10, 50); got {self.edges}")
        if not self.photograph_pixels > 0 or not 0 <= self.quantile < 1:
            raise InputError(
                "lesion sizes take photograph_pixels above 0 and a quantile in [0, 1); got "
                f"{self.photograph_pixels} and {self.quantile}"
            )

    def names(self) -> list[str]:
        """Of the classes, the smallest first: below_10, 10_to_50, above_50."""
        edges = [f"{edge:g}" for edge in self.edges]
        between = [f"{low}_to_{high}" for low, high in itertools.pairwise(edges)]
        return [f"below_{edges[0]}", *between, f"above_{edges[-1]}"]


class Components(NamedTuple):
    """The N connected parts of a mask; pixels that touch at a corner are connected."""

    number: np.ndarray
    """int64 [H, W]: 1 to N, 0 where the mask is not."""
    area: np.ndarray
    """int64 [N], pixels."""
    height: np.ndarray
    """int64 [N], of the bounding box."""
    width: np.ndarray
    """int64 [N]."""


def lesion_components(mask: np.ndarray) -> Components:
    """The components of a bool mask [H, W], in the order of their first pixels."""
    stride = mask.shape[1] + 2
    flat = np.pad(mask, ((0, 0), (1, 1))).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = changes[::2], changes[1::2]
    names, which = np.unique(_first_runs(starts, ends, stride), return_inverse=True)
    row, num = starts // stride, len(names)
    edges = {"top": row, "left": starts - row * stride}
    least = {name: np.full(num, flat.size) for name in edges}
    most = {name: np.zeros(num, np.int64) for name in edges}
    for name, values in edges.items():
        np.minimum.at(least[name], which, values)
        last = values if name == "top" else ends - 1 - row * stride
        np.maximum.at(most[name], which, last)
    number = np.zeros(mask.shape, np.int64)
    number[mask] = np.repeat(which + 1, ends - starts)
    return Components(
        number,
        np.bincount(which, ends - starts, num).astype(np.int64),
        most["top"] - least["top"] + 1,
        most["left"] - least["left"] + 1,
    )


def _first_runs(starts: np.ndarray, ends: np.ndarray, stride: int) -> np.ndarray:
    """Of each unbroken run of a row [N] the first run that it is connected with.

    Runs are in order, their places those of a picture with an empty column on either side.
    """
    below = np.searchsorted(ends, starts + stride, side="left")
    num = np.maximum(np.searchsorted(starts, ends + stride, side="right") - below, 0)
    upper = np.repeat(np.arange(len(starts)), num)
    lower = np.arange(len(upper)) + np.repeat(below - (np.cumsum(num) - num), num)
    first = np.arange(len(starts))
    while (first[upper] != first[lower]).any():
        least = np.minimum(first[upper], first[lower])
        np.minimum.at(first, first[upper], least)
        np.minimum.at(first, first[lower], least)
        while (first[first] != first).any():
            first = first[first]
    return first


def recall_by_size(
    values: np.ndarray, masks: Sequence[np.ndarray], fundus: np.ndarray, sizes: LesionSizes
) -> dict[str, tuple[float, float]]:
    """The share of lesions that a map finds, and what it would find by chance, by the name of each
    size of which there is one.

    Args:
        values: [S, S], signed.
        masks: bool [S, S] each; the components of each count for themselves.
        fundus: bool [S, S]; masks lie inside it.
    """
    strength = _Strength.of(values, fundus, sizes.quantile)
    boxes = _Boxes.of(values, fundus, strength)
    classes: dict[int, list[tuple[float, float]]] = {}
    for mask in masks:
        parts = lesion_components(mask)
        total = np.bincount(parts.number[mask], values[mask], len(parts.area) + 1)[1:]
        diameter = np.maximum(parts.height, parts.width) * sizes.photograph_pixels
        size = np.searchsorted(sizes.edges, diameter, side="right")
        for k, mean in enumerate(total / parts.area):
            chance = boxes.share_above(int(parts.height[k]), int(parts.width[k]))
            classes.setdefault(int(size[k]), []).append((strength.share_above(mean), chance))
    names = sizes.names()
    return {names[k]: tuple(np.mean(classes[k], axis=0).tolist()) for k in sorted(classes)}


@dataclass(frozen=True)
class _Strength:
    """What is above a quantile of a map."""

    ordered: np.ndarray
    """[N] values on the fundus, the smallest first."""
    quantile: float
    rounding: float

    @staticmethod
    def of(values: np.ndarray, fundus: np.ndarray, quantile: float) -> "_Strength":
        ordered = np.sort(values[fundus].astype(np.float64))
        return _Strength(ordered, quantile, ROUNDING * np.abs(ordered[[0, -1]]).max())

    def share_above(self, means: np.ndarray | float) -> float:
        """The share of means that are above the quantile."""
        weaker = np.searchsorted(self.ordered, means - self.rounding, side="left")
        alike = np.searchsorted(self.ordered, means + self.rounding, side="right")
        return float(np.mean((weaker + alike) / 2 > self.quantile * len(self.ordered)))


@dataclass(frozen=True)
class _Boxes:
    """Sums over boxes, from what lies above and to the left of each pixel."""

    total: np.ndarray
    """[S + 1, S + 1] of values on the fundus."""
    count: np.ndarray
    """[S + 1, S + 1] of pixels of the fundus."""
    strength: _Strength
    shares: dict[tuple[int, int], float]
    """What was counted before."""

    @staticmethod
    def of(values: np.ndarray, fundus: np.ndarray, strength: _Strength) -> "_Boxes":
        sums = [
            np.pad(layer.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
            for layer in (values * fundus, fundus)
        ]
        return _Boxes(sums[0], sums[1], strength, {})

    def share_above(self, height: int, width: int) -> float:
        """Of the boxes of this size with half or more of them on the fundus, those whose mean there
        is above the quantile; of the whole fundus where no box is so."""
        if (height, width) not in self.shares:
            side = self.total.shape
            tops, lefts = (
                np.unique(np.linspace(0, all_ - 1 - own, BOXES).astype(int))
                for all_, own in ((side[0], height), (side[1], width))
            )
            total, count = (
                layer[np.ix_(tops + height, lefts + width)]
                - layer[np.ix_(tops, lefts + width)]
                - layer[np.ix_(tops + height, lefts)]
                + layer[np.ix_(tops, lefts)]
                for layer in (self.total, self.count)
            )
            inside = count >= height * width / 2
            if not inside.any():
                total, count, inside = (
                    self.total[-1:, -1:],
                    self.count[-1:, -1:],
                    np.array([[True]]),
                )
            share = self.strength.share_above(total[inside] / count[inside])
            self.shares[height, width] = share
        return self.shares[height, width]
