"""Occlusion: what the class's output loses where a window of the image is covered."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from fundusray.errors import InputError
from fundusray.keywords import AtLeast, OneOf, Within
from fundusray.saliency.registry import (
    HALF_GREY,
    MAPS,
    OUTPUTS,
    Attribution,
    MapProblem,
    chunked,
    class_output,
    laid_out,
)

PART = 8
"""Of an image's side a window is, unless given; and half a window the step from one to the next."""


def window_corners(size: int, window: int, stride: int) -> list[tuple[int, int]]:
    """(top, left) of every window; the last of a line reaches over the border where the stride
    does not fit, so that every pixel is covered."""
    count = math.ceil((size - window) / stride) + 1
    starts = [stride * number for number in range(count)]
    return [(top, left) for top in starts for left in starts]


def _resolved(size: int, window: int, stride: int) -> tuple[int, int]:
    """Window and stride in pixels; 0 stands for the usual ones.

    Raises:
        InputError: a window larger than the image, or steps that leave pixels out.
    """
    window = window or max(1, size // PART)
    stride = stride or max(1, window // 2)
    if window > size:
        raise InputError(f"window={window}: occlusion's window is larger than the image ({size})")
    if stride > window:
        raise InputError(
            f"stride={stride}: pixels between windows of {window} would never be covered; at most "
            "the window"
        )
    return window, stride


def _passes(args: Mapping[str, Any], size: int) -> int:
    window, stride = _resolved(size, int(args["window"]), int(args["stride"]))
    return 1 + len(window_corners(size, window, stride))


@MAPS.register(
    "occlusion",
    title="Occlusion",
    source="Zeiler and Fergus 2014, section 4.2",
    passes=_passes,
)
def occlusion(
    problem: MapProblem,
    *,
    window: Annotated[int, AtLeast(0)] = 0,
    stride: Annotated[int, AtLeast(0)] = 0,
    fill: Annotated[float, Within(0, 1)] = HALF_GREY,
    output: Annotated[str, OneOf(*OUTPUTS)] = "logit",
) -> Attribution:
    """The drop of the class's output, of each pixel in the mean over the windows that cover it.

    Args:
        window, stride: pixels; 0: an eighth of the side, and half a window.
        fill: what stands in a window.
    """
    size = problem.size()
    window, stride = _resolved(size, window, stride)
    corners = window_corners(size, window, stride)
    drops = occlusion_drops(problem, corners, window, fill, output)
    values = torch.zeros(len(problem.image), size, size, device=problem.image.device)
    cover = torch.zeros(size, size, device=problem.image.device)
    for number, (top, left) in enumerate(corners):
        inside = (slice(top, top + window), slice(left, left + window))
        values[:, *inside] += drops[:, number, None, None]
        cover[inside] += 1
    return Attribution((values / cover)[:, None])


def occlusion_drops(
    problem: MapProblem, corners: list[tuple[int, int]], window: int, fill: float, output: str
) -> Tensor:
    """F(image) - F(image with a window covered) of each image and window, [B, W]."""
    whole = torch.cat(
        [
            class_output(problem.model(laid_out(problem.image[some])), problem.target[some], output)
            for some in chunked(len(problem.image), problem.chunk)
        ]
    )
    pairs = [(place, corner) for place in range(len(problem.image)) for corner in corners]
    parts = []
    for some in chunked(len(pairs), problem.chunk):
        places = torch.tensor([place for place, _ in pairs[some]], device=problem.image.device)
        covered = problem.image[places]
        for number, (_, (top, left)) in enumerate(pairs[some]):
            covered[number, :, top : top + window, left : left + window] = fill
        parts.append(class_output(problem.model(laid_out(covered)), problem.target[places], output))
    return whole[:, None] - torch.cat(parts).view(len(problem.image), len(corners))
