"""The corruptions of MedMNIST-C for fundus photographs (RetinaMNIST-C), and its two errors.

Di Salvo, Doerrich and Ledig, *MedMNIST-C* (2024), arXiv 2406.17536: of their `retinamnist` settings
all eight kinds in five severities. There is no brightness up and no contrast up among them. Their
images are 224 pixels wide; lengths in pixels are taken as shares of that. Unlike ours these know no
fundus: they change the black surround, too.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fundusray.corruptions.fundus_area import through_table
from fundusray.corruptions.registry import (
    CORRUPTIONS,
    MIXTURES,
    Corrupt,
    Draw,
    Intervals,
    Parameters,
    uniform_draw,
    within,
)
from fundusray.corruptions.sensor import (
    from_pillow,
    jpeg_copy,
    jpeg_draw,
    pillow_images,
    pixel_bell,
)
from fundusray.corruptions.similarity import LUMA
from fundusray.errors import InputError

SOURCE = "Di Salvo et al. 2024 (MedMNIST-C), settings of retinamnist"
SIDE = 224
"""Of their images, pixels."""
SEVERITIES = 5
ALEXNET_CLEAN = 0.5582064849927977
ALEXNET = {
    "medmnistc_pixelate": 0.6017003263074344,
    "medmnistc_jpeg": 0.6795223564688244,
    "medmnistc_gaussian_noise": 0.7040832524914012,
    "medmnistc_speckle_noise": 0.6135258841167651,
    "medmnistc_defocus": 0.6882905018079196,
    "medmnistc_motion": 0.7075760943057883,
    "medmnistc_brightness_down": 0.5844791133844842,
    "medmnistc_contrast_down": 0.6092882382338243,
}
"""Balanced error of their AlexNet, the mean over five severities, and of clean images above: what
they divide by (medmnistc 0.1.0, its baselines of retinamnist)."""


def _levels(name: str, *values: float) -> tuple[Intervals, ...]:
    return tuple({name: (value, value)} for value in values)


def _kind(
    name: str, title: str, levels: tuple[Intervals, ...], draw: Draw = uniform_draw, **facts: bool
) -> Callable[[Corrupt], Corrupt]:
    return CORRUPTIONS.register(
        f"medmnistc_{name}",
        title=f"{title} (MedMNIST-C)",
        source=SOURCE,
        levels=levels,
        draw=draw,
        **facts,
    )


@_kind("pixelate", "pixelated", _levels("scale", 0.8, 0.6, 0.5, 0.4, 0.35))
def pixelate(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Made smaller by `scale` and large again, both by boxes."""
    side, changed = image.shape[-1], []
    for each, drawn in zip(pillow_images(image), parameters, strict=True):
        small = max(1, int(min(side, SIDE) * drawn["scale"]))
        shrunk = each.resize((small, small), Image.Resampling.BOX)
        changed.append(shrunk.resize((side, side), Image.Resampling.BOX))
    return from_pillow(changed, image)


@_kind("jpeg", "JPEG", _levels("quality", 30, 25, 20, 10, 5), jpeg_draw)
def jpeg(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Saved as JPEG and read again."""
    pairs = zip(pillow_images(image), parameters, strict=True)
    return from_pillow([jpeg_copy(each, drawn["quality"]) for each, drawn in pairs], image)


@_kind(
    "gaussian_noise",
    "Gaussian noise",
    _levels("deviation", 0.04, 0.08, 0.12, 0.16, 0.20),
    per_pixel=True,
)
def gaussian_noise(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Normal noise of a deviation, of [0, 1]; rounded down, as theirs."""
    result = torch.empty_like(image)
    for place, each in enumerate(parameters):
        bell = pixel_bell(each["seed"], each["row"], image.shape[-1], image.device)
        noisy = bell.mul_(255 * each["deviation"]).add_(image[place])
        result[place] = noisy.clamp_(0, 255).byte()
    return result


@_kind(
    "speckle_noise",
    "speckle noise",
    _levels("deviation", 0.10, 0.15, 0.20, 0.25, 0.30),
    per_pixel=True,
)
def speckle_noise(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Every value times 1 + a normal number of a deviation; rounded down, as theirs."""
    result = torch.empty_like(image)
    for place, each in enumerate(parameters):
        bell = pixel_bell(each["seed"], each["row"], image.shape[-1], image.device)
        noisy = bell.mul_(each["deviation"]).add_(1).mul_(image[place])
        result[place] = noisy.clamp_(0, 255).byte()
    return result


DISCS = ((4, 0.1), (5, 0.2), (6, 0.3), (7, 0.4), (8, 0.5))
"""Radius and sigma of what softens the disc's border, pixels of 224; a sixth is never used."""


def disc_kernel(radius: float, sigma: float) -> Tensor:
    """A disc of `radius` pixels under 3 x 3 weights of a Gaussian, sum 1, float32 [K, K]."""
    reach = math.ceil(radius) + 1
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    disc = (place[:, None] ** 2 + place[None, :] ** 2 <= radius**2).double()
    taps = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0]).double() / sigma) ** 2)
    weights = torch.outer(taps, taps) / taps.sum() ** 2
    soft = F.conv2d(disc[None, None], weights[None, None], padding=1)[0, 0]
    return (soft / disc.sum()).float()


@_kind(
    "defocus",
    "defocus",
    tuple({"radius": (radius,) * 2, "sigma": (sigma,) * 2} for radius, sigma in DISCS),
)
def defocus(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """The mean over a disc; the border mirrored, rounded down, as theirs."""
    side, result = image.shape[-1], torch.empty_like(image)
    for place, each in enumerate(parameters):
        kernel = disc_kernel(each["radius"] * side / SIDE, each["sigma"]).to(image.device)
        reach = min(kernel.shape[0] // 2, side - 1)
        padded = F.pad(image[place : place + 1].float(), (reach,) * 4, mode="reflect")
        size = padded.shape[2:]
        spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=size)
        ends = slice(2 * reach, 2 * reach + side)
        blurred = torch.fft.irfft2(spectrum, s=size)[0, :, ends, ends]
        # A thousandth keeps what is whole from being rounded down to the value below.
        result[place] = blurred.add_(1e-3).clamp_(0, 255).byte()
    return result


def _motion_draw(intervals: Intervals, numbers: Iterator[float], side: int) -> dict[str, Any]:
    return uniform_draw(intervals, numbers, side) | {"angle": within((-45, 45), next(numbers))}


MOVES = ((8, 5), (15, 5), (15, 8), (15, 12), (20, 15))
"""Radius and sigma, pixels of 224."""


@_kind(
    "motion",
    "motion",
    tuple({"radius": (radius,) * 2, "sigma": (sigma,) * 2} for radius, sigma in MOVES),
    _motion_draw,
)
def motion(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Half a Gaussian along a line, as ImageMagick's: 2 radius + 1 weights on one side; beyond the
    border its own pixels go on."""
    side, result = image.shape[-1], torch.empty_like(image)
    for place, each in enumerate(parameters):
        num = 2 * max(1, round(each["radius"] * side / SIDE)) + 1
        weights = torch.arange(num, dtype=torch.float64) * SIDE / (side * each["sigma"])
        weights = torch.exp(-0.5 * weights**2)
        angle = math.radians(each["angle"])
        padded = F.pad(image[place : place + 1].float(), (num,) * 4, mode="replicate")[0]
        total = torch.zeros(image.shape[1:], device=image.device)
        for step, weight in enumerate((weights / weights.sum()).tolist()):
            top = num + math.ceil(step * math.sin(angle) - 0.5)
            left = num + math.ceil(step * math.cos(angle) - 0.5)
            total.add_(padded[:, top : top + side, left : left + side], alpha=weight)
        result[place] = total.add_(0.5).clamp_(0, 255).byte()
    return result


def _blended(level: float, factor: float) -> Tensor:
    """A table towards `level` by a factor of up to 1, rounded down as Pillow's blend is."""
    value = torch.arange(256, dtype=torch.float32)
    return (level + factor * (value - level)).byte()


@_kind("brightness_down", "darker", _levels("factor", 0.9, 0.8, 0.7, 0.6, 0.5))
def brightness_down(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Every value times a factor."""
    tables = [_blended(0, each["factor"]).to(image.device) for each in parameters]
    changed = [through_table(part, own) for part, own in zip(image, tables, strict=True)]
    return torch.empty_like(image).copy_(torch.stack(changed))


@_kind("contrast_down", "low contrast", _levels("factor", 0.9, 0.8, 0.7, 0.6, 0.4))
def contrast_down(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Every value's distance from the mean grey of the whole image times a factor."""
    changed = []
    for part, each in zip(image, parameters, strict=True):
        grey = part.permute(1, 2, 0).double() @ torch.tensor(LUMA, device=part.device).double()
        mean = int(grey.add(0.5).floor().mean().item() + 0.5)
        changed.append(through_table(part, _blended(mean, each["factor"]).to(image.device)))
    return torch.empty_like(image).copy_(torch.stack(changed))


MIXTURES.register(
    "medmnistc", title="one of MedMNIST-C's eight for fundus photographs", source=SOURCE
)(tuple(ALEXNET))


def balanced_error(errors: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """BE of each kind, and of all of them under "mean": 1 is as bad as their AlexNet.

    Args:
        errors: kind -> 1 - balanced accuracy at each of the five severities.

    Raises:
        InputError: kinds or severities are lacking.
    """
    _require_whole(errors)
    ratios = {kind: fmean(errors[kind]) / base for kind, base in ALEXNET.items()}
    return ratios | {"mean": fmean(ratios.values())}


def relative_error(errors: Mapping[str, Sequence[float]], clean: float) -> dict[str, float]:
    """rBE of each kind, and of all of them under "mean": the error that corruption adds to `clean`,
    1 - balanced accuracy of the images as they are, beside what it adds to AlexNet's.

    Raises:
        InputError: kinds or severities are lacking.
    """
    _require_whole(errors)
    ratios = {
        kind: (fmean(errors[kind]) - clean) / (base - ALEXNET_CLEAN)
        for kind, base in ALEXNET.items()
    }
    return ratios | {"mean": fmean(ratios.values())}


def _require_whole(errors: Mapping[str, Sequence[float]]) -> None:
    if set(errors) != set(ALEXNET) or any(len(each) != SEVERITIES for each in errors.values()):
        given = ", ".join(f"{kind} ({len(each)})" for kind, each in errors.items())
        raise InputError(
            f"an error of MedMNIST-C is over {SEVERITIES} severities of each of "
            f"{', '.join(ALEXNET)}; got {given or 'none'}"
        )
