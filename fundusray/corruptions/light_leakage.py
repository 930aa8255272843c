"""Light leakage: light that falls in beside the eye and lies as a crescent at the border.

Light is added to the fundus (what the photograph does not show stays black), most at one point of
the border, less along it and inwards. In coordinates of the fundus' radius, with u towards that
point and r the distance from a centre that lies `offset` beyond the middle on the other side:

    light = gain exp((r^2 - (1 + offset)^2) / (2 s^2)),    s^2 = offset / spread

At the border this is exp(-spread (1 - cos phi)), phi seen from the middle (a von Mises bell), and
on the way inwards it falls by e within `width` radii; its lines of equal light are arcs that are
flatter than the border, hence a crescent. As the exponent is a sum of a function of x and one of
y, the light is a product of two vectors. It is rounded to 8 bits and added, saturating as a sensor
does.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from fundusray.corruptions.fundus_area import seen_area, smooth_area
from fundusray.corruptions.registry import (
    CORRUPTIONS,
    Intervals,
    Parameters,
    uniform_draw,
    whole_within,
    within,
)

BAND = 64
"""Rows that are worked on at once, so that they stay in a core's cache."""
TINTS = ((1.0, 0.97, 0.90), (1.0, 0.86, 0.62), (0.86, 0.93, 1.0))
"""White flash, skin or lid lit through, and daylight: red, green and blue beside the brightest."""


Number = TypeVar("Number", float, Tensor)


def crescent_of(width: Number, spread: Number) -> tuple[Number, Number]:
    """How far beyond the middle the centre lies, and s^2; of a width below 1 / `spread`."""
    offset = width * spread / (1 - width * spread)
    return offset, offset / spread


def leak_draw(intervals: Intervals, numbers: Iterator[float], side: int) -> dict[str, Any]:
    """Uniform in each interval; the colour between two of TINTS."""
    drawn = uniform_draw(intervals, numbers, side)
    first = whole_within((0, len(TINTS) - 1), next(numbers))
    second, share = (first + 1) % len(TINTS), next(numbers)
    pairs = zip(TINTS[first], TINTS[second], strict=True)
    return drawn | {"colour": [round(within(pair, share), 3) for pair in pairs]}


def smooth_leakage(image: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Images float [B, 3, S, S] in [0, 1] with the light added; `gain`, `width`, `spread` and
    `angle` [B], `colour` [B, 3]."""
    side = image.shape[-1]
    place = (torch.arange(side, device=image.device, dtype=image.dtype) + 0.5) * 2 / side - 1
    names = ("gain", "width", "spread", "angle")
    gain, width, spread, angle = (parameters[name][:, None, None] for name in names)
    offset, variance = crescent_of(width, spread)
    x = place[None, None, :] + offset * torch.deg2rad(angle).cos()
    y = place[None, :, None] + offset * torch.deg2rad(angle).sin()
    light = gain * torch.exp((x**2 + y**2 - (1 + offset) ** 2) / (2 * variance))
    light = (light[:, None] * parameters["colour"][:, :, None, None]).clamp_max(1.0)
    return (image + light * smooth_area(image)).clamp_max(1.0)


@CORRUPTIONS.register(
    "light_leakage",
    title="light leakage",
    source="one of the four of Wu (2020), section 4; model and levels ours",
    levels=(
        {"gain": (0.31, 0.41), "width": (0.103, 0.127), "spread": (1.5, 2.5), "angle": (0, 360)},
        {"gain": (0.52, 0.61), "width": (0.155, 0.177), "spread": (1.5, 2.5), "angle": (0, 360)},
        {"gain": (0.76, 0.84), "width": (0.215, 0.236), "spread": (1.5, 2.5), "angle": (0, 360)},
        {"gain": (1.00, 1.10), "width": (0.275, 0.300), "spread": (1.5, 2.5), "angle": (0, 360)},
    ),
    draw=leak_draw,
    smooth=smooth_leakage,
)
def light_leakage(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Light of `gain` (1: white) at the border, `angle` degrees from the right towards the bottom,
    `width` radii wide, the more `spread` the shorter along the border."""
    seen = seen_area(image).byte().neg_()
    result = image.clone()
    for place, each in enumerate(parameters):
        down, across = (part.to(image.device) for part in leak_factors(each, image.shape[-1]))
        most = down.amax(0)
        first, last = _lit(most * across.max())
        columns = slice(*_lit(across * most.max()))
        for top in range(first, last, BAND):
            rows = slice(top, min(top + BAND, last))
            light = torch.mul(down[:, rows], across[..., columns]).add_(0.5)
            # By way of whole numbers: so the conversion is several times as fast.
            light = light.short().clamp_max_(255).byte()
            lit = result[place, :, rows, columns]
            # Saturates: what is added is at most what is left to white, which outside is nothing.
            room = torch.bitwise_not(lit).bitwise_and_(seen[place, :, rows, columns])
            lit.add_(torch.minimum(light, room, out=light))
    return result


def _lit(most: Tensor) -> tuple[int, int]:
    """The first and, after the last, the end of the lines that any light falls on, by the most that
    falls on each, in levels; below half a level is none."""
    places = (most.flatten() >= 0.499).nonzero()[:, 0].tolist()
    return (places[0], places[-1] + 1) if places else (0, 0)


def leak_factors(parameters: Parameters, side: int) -> tuple[Tensor, Tensor]:
    """Vectors [3, S, 1] and [1, 1, S], on the CPU, whose product is the light in levels of 255."""
    offset, variance = crescent_of(parameters["width"], parameters["spread"])
    angle = math.radians(parameters["angle"])
    place = (torch.arange(side, dtype=torch.float64) + 0.5) * 2 / side - 1
    colour = torch.tensor(parameters["colour"], dtype=torch.float64)
    # Half of the constant goes to each factor, so that neither is beyond what float32 holds.
    half = (1 + offset) ** 2 / 2
    across = ((place + offset * math.cos(angle)) ** 2 - half) / (2 * variance)
    down = ((place + offset * math.sin(angle)) ** 2 - half) / (2 * variance)
    lit = colour[:, None, None] * (255 * parameters["gain"])
    return (lit * down.exp()[None, :, None]).float(), across.exp()[None, None, :].float()
