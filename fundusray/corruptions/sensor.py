"""What a sensor and a file do to a photograph: noise, JPEG, contrast, a cast of colour."""

import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fundusray.corruptions.fundus_area import laid_over, seen_area, through_table
from fundusray.corruptions.registry import (
    CORRUPTIONS,
    Intervals,
    Parameters,
    uniform_draw,
    whole_within,
)
from fundusray.hashed_numbers import hashed_bits

PIXEL = 7
"""The use of a row's numbers that pixels are hashed by."""
BELL_BITS = 16
"""Of a pixel's number: a normal number is one of 65536, which lie equally likely."""
OURS = "ours"


@lru_cache(1)
def _bell() -> Tensor:
    """Normal numbers at the middles of equally likely steps, float32, made in float64 so that they
    are the same on any device."""
    steps = (torch.arange(2**BELL_BITS, dtype=torch.float64) + 0.5) * 2.0 ** (1 - BELL_BITS) - 1
    return (torch.erfinv(steps) * 2**0.5).float()


def pixel_bell(seed: int, row: int, side: int, device: torch.device) -> Tensor:
    """A normal number of each pixel and channel, float32 [3, S, S]: hashes of (seed, row, pixel)
    looked up in a table, hence the same to the bit on any device."""
    bits = hashed_bits(seed, torch.tensor([row], device=device), PIXEL, side * side)
    last = (1 << BELL_BITS) - 1
    channels = [(bits >> (channel * BELL_BITS)).bitwise_and_(last) for channel in range(3)]
    return _bell().to(device)[torch.cat(channels)].view(3, side, side)


@CORRUPTIONS.register(
    "noise",
    title="sensor noise",
    source=OURS + ": read noise, and shot noise whose variance grows with the light",
    levels=(
        {"read": (0.005, 0.01), "shot": (0.010, 0.015)},
        {"read": (0.015, 0.02), "shot": (0.025, 0.035)},
        {"read": (0.025, 0.03), "shot": (0.050, 0.065)},
        {"read": (0.04, 0.05), "shot": (0.09, 0.12)},
    ),
    per_pixel=True,
)
def noise(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Normal noise of standard deviation sqrt(read^2 + shot^2 x) at value x, all of [0, 1]; in the
    fundus and, as a sensor's, around it."""
    value = torch.arange(256, dtype=torch.float64) / 255
    result = torch.empty_like(image)
    for place, each in enumerate(parameters):
        deviation = (each["read"] ** 2 + each["shot"] ** 2 * value).sqrt() * 255
        deviation = deviation.float().to(image.device)[image[place].int()]
        bell = pixel_bell(each["seed"], each["row"], image.shape[-1], image.device)
        noisy = deviation.mul_(bell).add_(image[place]).add_(0.5)
        result[place] = noisy.clamp_(0, 255).byte()
    return result


def pillow_images(image: Tensor) -> list[Image.Image]:
    """Images uint8 [B, 3, S, S] as Pillow's."""
    return [Image.fromarray(each) for each in image.permute(0, 2, 3, 1).cpu().numpy()]


def from_pillow(images: Sequence[Image.Image], like: Tensor) -> Tensor:
    """Pillow's images as a tensor on the device and in the memory format of another."""
    pixels = torch.from_numpy(np.stack([np.asarray(each) for each in images]))
    return torch.empty_like(like).copy_(pixels.permute(0, 3, 1, 2))


def jpeg_copy(image: Image.Image, quality: int) -> Image.Image:
    """The image saved as JPEG and read again."""
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return Image.open(sink).convert("RGB")


def jpeg_draw(intervals: Intervals, numbers: Iterator[float], side: int) -> dict[str, Any]:
    """A whole quality."""
    return {"quality": whole_within(intervals["quality"], next(numbers))}


@CORRUPTIONS.register(
    "jpeg",
    title="JPEG at a low quality",
    source=OURS + "; Pillow's encoder",
    levels=(
        {"quality": (40, 50)},
        {"quality": (22, 28)},
        {"quality": (11, 14)},
        {"quality": (5, 7)},
    ),
    draw=jpeg_draw,
)
def jpeg(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Saved as JPEG and read again."""
    pairs = zip(pillow_images(image), parameters, strict=True)
    return from_pillow([jpeg_copy(each, drawn["quality"]) for each, drawn in pairs], image)


def _tabled(image: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """Each channel of each image through a table of its own, uint8 [3, 256], within the fundus."""
    changed = torch.empty_like(image)
    for place, table in enumerate(tables):
        for channel, own in enumerate(table.to(image.device)):
            changed[place, channel] = through_table(image[place, channel], own)
    return laid_over(image, changed, seen_area(image))


def as_table(values: Tensor) -> Tensor:
    """Values of 0..255, float [..., 256], as a table."""
    return values.add(0.5).clamp(0, 255.5).byte()


@CORRUPTIONS.register(
    "contrast",
    title="low contrast",
    source=OURS + ": haze in the eye's media",
    levels=(
        {"factor": (0.75, 0.85)},
        {"factor": (0.55, 0.65)},
        {"factor": (0.38, 0.45)},
        {"factor": (0.22, 0.28)},
    ),
)
def contrast(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Every channel's distance from its mean over the fundus times `factor`."""
    seen, value = seen_area(image), torch.arange(256, dtype=torch.float64)
    # Sums of whole numbers, exact in any order and on any device.
    total = (image.long() * seen).sum((2, 3)).double() / seen.sum((2, 3))
    tables = []
    for mean, each in zip(total.cpu(), parameters, strict=True):
        tables.append(as_table(mean[:, None] + (value - mean[:, None]) * each["factor"]))
    return _tabled(image, tables)


def _cast_draw(intervals: Intervals, numbers: Iterator[float], side: int) -> dict[str, Any]:
    """Towards warmer or colder light, and towards green or magenta, by the strength in all."""
    drawn = uniform_draw(intervals, numbers, side)
    return drawn | {"hue": 360 * next(numbers)}


@CORRUPTIONS.register(
    "colour_cast",
    title="cast of colour",
    source=OURS + ": a wrong white balance",
    levels=(
        {"strength": (0.06, 0.10)},
        {"strength": (0.14, 0.18)},
        {"strength": (0.24, 0.30)},
        {"strength": (0.38, 0.45)},
    ),
    draw=_cast_draw,
)
def colour_cast(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Each channel times 1 + strength cos(hue - its own hue), of 0, 120 and 240 degrees."""
    value, own = torch.arange(256, dtype=torch.float64), torch.tensor([0.0, 120.0, 240.0])
    tables = []
    for each in parameters:
        angle = torch.deg2rad(own.double() - each["hue"])
        tables.append(as_table((1 + each["strength"] * angle.cos())[:, None] * value))
    return _tabled(image, tables)
