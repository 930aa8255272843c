"""Maps of plain gradients: saliency, SmoothGrad."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from fundusray.hashed_numbers import normal_numbers
from fundusray.keywords import AtLeast, OneOf
from fundusray.saliency.registry import (
    GRADIENT_PASSES,
    MAPS,
    OUTPUTS,
    Attribution,
    MapProblem,
    chunked,
    class_gradient,
)

NOISE = 1 << 20
"""Of a row's random numbers the use that smooths; the draws follow one another from there."""


def largest_channel(gradient: Tensor) -> Tensor:
    """Of each pixel the largest number of its channels by magnitude, with its sign, [B, 1, S, S];
    its magnitude is the map of Simonyan et al. (2014, section 3)."""
    place = gradient.abs().argmax(dim=1, keepdim=True)
    return gradient.gather(1, place)


@MAPS.register("saliency", title="Saliency", source="Simonyan et al. 2014, section 3")
def saliency(
    problem: MapProblem, *, output: Annotated[str, OneOf(*OUTPUTS)] = "logit"
) -> Attribution:
    """The gradient of the class's output by each pixel, of its channels the largest."""
    parts = [
        class_gradient(problem.model, problem.image[some], problem.target[some], output)[0]
        for some in chunked(len(problem.image), problem.chunk)
    ]
    return Attribution(largest_channel(torch.cat(parts)))


def _draws(args: Mapping[str, Any], size: int) -> int:
    return GRADIENT_PASSES * int(args["draws"])


@MAPS.register(
    "smooth_grad", title="SmoothGrad", source="Smilkov et al. 2017, section 3", passes=_draws
)
def smooth_grad(
    problem: MapProblem,
    *,
    draws: Annotated[int, AtLeast(1)] = 25,
    noise: Annotated[float, AtLeast(0)] = 0.15,
    output: Annotated[str, OneOf(*OUTPUTS)] = "logit",
) -> Attribution:
    """The mean gradient over noisy copies, of its channels the largest.

    Args:
        draws: noisy copies of each image.
        noise: standard deviation as a share of the image's largest minus its smallest number.
    """
    spread = problem.image.amax(dim=(1, 2, 3)) - problem.image.amin(dim=(1, 2, 3))
    total = torch.zeros_like(problem.image)
    shape = problem.image.shape[1:]
    places = torch.arange(len(problem.image), device=problem.image.device)
    pairs = [(draw, some) for draw in range(draws) for some in places.split(problem.chunk)]
    for draw, some in pairs:
        numbers = normal_numbers(0, problem.row[some], NOISE + draw, shape.numel())
        added = numbers.view(-1, *shape) * (noise * spread[some])[:, None, None, None]
        noisy = problem.image[some] + added
        total[some] += class_gradient(problem.model, noisy, problem.target[some], output)[0]
    return Attribution(largest_channel(total / draws))
