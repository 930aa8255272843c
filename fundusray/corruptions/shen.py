"""Degradations of Shen et al., one by one: colour, halo, hole, spots, defocus.

Shen, Fu, Shen and Shao, *Modeling and enhancing low-quality retinal fundus images* (IEEE TMI 2021,
cofe-Net), with the ranges of their published simulation at 512 pixels. They draw once from a whole
range; the four levels are ours: quarters of the range, of the deviation from the photograph or of
the strength, so that level 4 reaches what they publish. Where their Gaussians are cut by kernels
narrower than a sigma, what remains is nearly a box, and it is that width which counts here.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fundusray.corruptions.blurring import blurred_within, disc_window, soft_disc
from fundusray.corruptions.fundus_area import laid_over, seen_area
from fundusray.corruptions.registry import (
    CORRUPTIONS,
    Intervals,
    Parameters,
    uniform_draw,
    whole_within,
    within,
)
from fundusray.corruptions.similarity import LUMA

SOURCE = "Shen et al. 2021 (cofe-Net), their published ranges; levels ours"
QUARTERS = tuple(((level - 1) / 4, level / 4) for level in range(1, 5))
TINTS = ((251, 249, 246), (141, 238, 238), (177, 195, 147))
"""Of halos, of 255: whitish, cyan, olive."""
PUBLISHED_SIDE = 512
FACTORS = {"brightness": (0.7, 1.2), "contrast": (0.6, 1.4), "saturation": (0.6, 1.4)}
DARKEST = 0.26
"""What a hole takes off, of white; and DARKER times the photograph's mean."""
DARKER = 0.055


def as_bytes(pixels: Tensor) -> Tensor:
    """Values of [0, 255] rounded to 8 bits."""
    return pixels.add(0.5).clamp(0, 255.5).byte()


def _factors_draw(intervals: Intervals, numbers: Iterator[float], side: int) -> dict[str, Any]:
    """Of each factor how far it goes, up or down, of what is published."""
    drawn = {}
    for name, (low, high) in FACTORS.items():
        share = within(intervals["deviation"], next(numbers))
        drawn[name] = 1 + share * ((high if next(numbers) < 0.5 else low) - 1)
    return drawn


@CORRUPTIONS.register(
    "shen_colour",
    title="brightness, contrast and saturation (cofe-Net)",
    source=SOURCE,
    levels=tuple({"deviation": quarter} for quarter in QUARTERS),
    draw=_factors_draw,
)
def shen_colour(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Brightness times a factor, then contrast about the mean grey, then saturation about grey."""
    luma = torch.tensor(LUMA, device=image.device)[:, None, None]
    result, seen = [], seen_area(image)
    for pixels, each in zip(image.float(), parameters, strict=True):
        pixels = (pixels * each["brightness"]).clamp_(0, 255)
        mean = (pixels * luma).sum(0).mean()
        pixels = (mean + (pixels - mean) * each["contrast"]).clamp_(0, 255)
        grey = (pixels * luma).sum(0)
        result.append(as_bytes(grey + (pixels - grey) * each["saturation"]))
    return laid_over(image, torch.stack(result), seen)


def _halo_draw(intervals: Intervals, numbers: Iterator[float], side: int) -> dict[str, Any]:
    drawn = uniform_draw(intervals, numbers, side)
    tint = TINTS[whole_within((0, len(TINTS) - 1), next(numbers))]
    # Their ring is blurred over the gap between its inner edge and the farthest side.
    farthest = max(drawn["x"], 1 - drawn["x"], drawn["y"], 1 - drawn["y"])
    gap = 2 * farthest - drawn["diameter"]
    return drawn | {"tint": list(tint), "edge": gap}


@CORRUPTIONS.register(
    "halo",
    title="halo ring (cofe-Net)",
    source=SOURCE,
    levels=tuple(
        {
            "strength": quarter,
            "x": (3 / 8, 5 / 8),
            "y": (3 / 8, 5 / 8),
            "diameter": (0.75, 1.0),
        }
        for quarter in QUARTERS
    ),
    draw=_halo_draw,
)
def halo(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Tinted light, as bright as the photograph's mean, outside a disc near the middle."""
    result, seen = [], seen_area(image)
    for pixels, each in zip(image.float(), parameters, strict=True):
        centre, radius = (each["x"], each["y"]), each["diameter"] / 2
        ring = 1 - soft_disc(image.shape[-1], centre, radius, each["edge"]).to(image.device)
        tint = torch.tensor(each["tint"], device=image.device)[:, None, None] / 255
        result.append(as_bytes(pixels + ring * tint * (each["strength"] * pixels.mean())))
    return laid_over(image, torch.stack(result), seen)


@CORRUPTIONS.register(
    "hole",
    title="dark hole (cofe-Net)",
    source=SOURCE + "; a dark photograph is darkened, too",
    levels=tuple(
        {
            "strength": quarter,
            "x": (1 / 4, 3 / 4),
            "y": (3 / 8, 5 / 8),
            "diameter": (0.4, 0.7),
            "softness": (0.55, 0.75),
        }
        for quarter in QUARTERS
    ),
)
def hole(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """A disc near the middle that is darker, its border as soft as `softness` diameters."""
    result, seen = [], seen_area(image)
    for place, (pixels, each) in enumerate(zip(image.float(), parameters, strict=True)):
        centre, diameter = (each["x"], each["y"]), each["diameter"]
        edge = each["softness"] * diameter
        disc = soft_disc(image.shape[-1], centre, diameter / 2, edge).to(image.device)
        mean = pixels.sum() / (3 * seen[place].sum())
        depth = each["strength"] * (255 * DARKEST + DARKER * mean)
        result.append(as_bytes(pixels - disc * depth))
    return laid_over(image, torch.stack(result), seen)


def _spots_draw(intervals: Intervals, numbers: Iterator[float], side: int) -> dict[str, Any]:
    """Always as many numbers, so that what comes after does not depend on how many spots."""
    num = whole_within(intervals["number"], next(numbers))
    spots = []
    for _ in range(10):
        size = next(numbers)
        radius = within(intervals["radius"], size)
        free = (radius, 1 - radius)
        x, y = within(free, next(numbers)), within(free, next(numbers))
        softness = within((1 / 5, 1 / 4), next(numbers))
        spots.append({"x": x, "y": y, "radius": radius, "softness": softness})
    return {"spots": spots[:num]}


@CORRUPTIONS.register(
    "spots",
    title="bright spots (cofe-Net)",
    source=SOURCE,
    levels=tuple(
        {"number": number, "radius": (0.01 + 0.04 * low, 0.01 + 0.04 * high)}
        for number, (low, high) in zip(((5, 6), (6, 7), (8, 9), (9, 10)), QUARTERS, strict=True)
    ),
    draw=_spots_draw,
)
def spots(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Out-of-focus dust: soft bright discs, the larger the brighter."""
    side, seen = image.shape[-1], seen_area(image)
    result = image.float()
    for pixels, each in zip(result, parameters, strict=True):
        for spot in each["spots"]:
            # Their formulas have radii in 25ths of a pixel at 512: 1 is a radius of .05 sides.
            size = spot["radius"] * PUBLISHED_SIDE / 25
            light = (14 / 25 + 1 - size) * (1 - math.exp(-(0.5 + size) * 0.3 * size))
            edge = 2 * (5 + 20 * size) * spot["softness"] / PUBLISHED_SIDE
            disc = side, (spot["x"], spot["y"]), spot["radius"], edge
            window = disc_window(*disc)
            pixels[:, *window] += soft_disc(*disc, window).to(image.device) * (255 * light)
    return laid_over(image, as_bytes(result), seen)


@CORRUPTIONS.register(
    "defocus",
    title="defocus (cofe-Net)",
    source=SOURCE,
    levels=tuple(
        {"sigma": (2 * low / PUBLISHED_SIDE, 2 * high / PUBLISHED_SIDE)} for low, high in QUARTERS
    ),
)
def defocus(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """A Gaussian blur of `sigma` sides within the fundus.

    They state 5 to 15 pixels, of which their kernels of 1 to 7 pixels leave 0 to 2.
    """
    seen, side = seen_area(image), image.shape[-1]
    result = [
        as_bytes(blurred_within(pixels, area, each["sigma"] * side))
        for pixels, area, each in zip(image.float(), seen, parameters, strict=True)
    ]
    return laid_over(image, torch.stack(result), seen)
