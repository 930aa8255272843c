"""Where a prepared image shows the fundus, and smoothing that looks at nothing else."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

BACKGROUND = 10 / 255
"""How far from the fill a pixel may be that shows nothing, noise of a JPEG included."""
STRIP = (3 / 8, 5 / 8)
"""Of the side: the middle strip, where a circle that is cut off straight shows how far it goes."""
LEAST_RING = 0.3
"""Share of a ring that has to show something for the circle to reach so far."""


@dataclass(frozen=True)
class FundusArea:
    """The part of a square that shows the fundus."""

    mask: Tensor
    """bool [S, S]."""
    radius: float
    """Of the circle around the square's middle, pixels; cuts above and below do not count."""
    evened: bool
    """Whether the preparation evened the light out, as Graham's does: outside it is grey then, and
    black where the photograph is as the camera took it."""


def fundus_area(image: Tensor, fill: float) -> FundusArea:
    """Where an image [3, S, S] in [0, 1] shows the fundus: a circle around its middle, as far out
    as anything but the fill is seen, less what is cut off straight.

    Args:
        fill: the value outside, as the prepared set says it.
    """
    side = image.shape[-1]
    shows = (image - fill).abs().amax(dim=0) > BACKGROUND
    line = torch.arange(side) - (side - 1) / 2
    far = (line[:, None] ** 2 + line[None, :] ** 2).sqrt()
    ring = far.round().long().flatten()
    lit = torch.bincount(ring, shows.flatten().float()) / torch.bincount(ring)
    reached = (lit >= LEAST_RING).nonzero().flatten()
    radius = float(reached.max()) + 0.5 if len(reached) else side / 2
    mask = far <= radius
    low, high = round(STRIP[0] * side), max(round(STRIP[1] * side), round(STRIP[0] * side) + 1)
    for axis, strip in ((0, shows[:, low:high]), (1, shows[low:high])):
        seen = (strip.float().mean(dim=1 - axis) > LEAST_RING).nonzero().flatten()
        if len(seen):
            first, last = int(seen.min()), int(seen.max()) + 1
            mask.narrow(axis, 0, first).zero_()
            mask.narrow(axis, last, side - last).zero_()
    return FundusArea(mask, radius, fill > BACKGROUND)


def smoothed(layer: Tensor, sigma: float | tuple[float, float]) -> Tensor:
    """A layer [S, S] under a Gaussian of that standard deviation, or of one down and one across,
    pixels; 0 beyond its border."""
    down, across = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    return _gaussian(layer.shape[0], down) @ layer @ _gaussian(layer.shape[1], across).T


@lru_cache(64)
def _gaussian(size: int, sigma: float) -> Tensor:
    """[size, size]: what each place takes of each, cut at three standard deviations. A product of
    matrices is many times faster than a convolution with hundreds of taps."""
    reach = max(1, math.ceil(3 * sigma))
    line = torch.arange(-reach, reach + 1, dtype=torch.float32)
    total = torch.exp(-(line**2) / (2 * sigma**2)).sum()
    place = torch.arange(size, dtype=torch.float32)
    far = place[:, None] - place[None, :]
    return torch.where(far.abs() <= reach, torch.exp(-(far**2) / (2 * sigma**2)) / total, 0.0)


def smoothed_within(layer: Tensor, mask: Tensor, sigma: float | tuple[float, float]) -> Tensor:
    """The same of what a mask [S, S] marks alone, by its own weight; where nothing marked is near,
    the mean of all."""
    marked = mask.to(layer.dtype)
    weight = smoothed(marked, sigma)
    mean = (layer * marked).sum() / marked.sum().clamp_min(1)
    near = smoothed(layer * marked, sigma) / weight.clamp_min(1e-6)
    return torch.where(weight > 1e-3, near, mean)
