"""HopSkipJump: from labels on the boundary to its normal, along it, and back to the boundary."""

import math
from collections.abc import Generator, Mapping
from functools import partial
from itertools import count
from typing import Annotated, Any

import torch
from torch import Tensor

from fundusray.attacks.label_walks import (
    DIRECTIONS,
    Walk,
    far_start,
    moved,
    nearest_images,
    to_boundary,
)
from fundusray.attacks.registry import ATTACKS, AttackProblem
from fundusray.hashed_numbers import coarse_normal_numbers
from fundusray.keywords import AtLeast

NOISE = 0.01
"""Length of the noise around an image on the boundary, over its distance. The paper's is 1 / d for
d numbers, which from 64 pixels a side on is less than float32 tells from nothing; the Adversarial
Robustness Toolbox takes this one."""
MOST = 10_000
"""Noisy images of one normal at most (the authors' own limit)."""
PIECE = 32
"""Of them, how many are in memory together."""
SHORTEST = 2.0**-20
"""A step over the distance, below which it is given up."""


def _queries(args: Mapping[str, Any], num_classes: int) -> int:
    return int(args["queries"])


@ATTACKS.register(
    "hop_skip_jump",
    title="HopSkipJump",
    source="Chen, Jordan and Wainwright 2020, algorithm 2",
    norms=("l2", "linf"),
    gradient=False,
    nearest=True,
    passes=_queries,
)
def hop_skip_jump(
    problem: AttackProblem,
    *,
    queries: Annotated[int, AtLeast(1)] = 5000,
    first: Annotated[int, AtLeast(2)] = 100,
    batch: Annotated[int, AtLeast(1)] = 32,
) -> Tensor:
    """The nearest image of another class found with so many queries.

    Args:
        first: noisy images that the first normal is taken from; the t-th takes sqrt(t) times as
            many.
        batch: images that the network is asked about at a time.
    """
    return nearest_images(problem, partial(_walk, first=first), queries, batch)


def _walk(problem: AttackProblem, place: int, first: int) -> Walk:
    image, norm = problem.image[place].contiguous(), problem.norm
    offset = yield from far_start(problem, place)
    if offset is None:
        return
    # Off the boundary by no more than the noise has along the normal.
    halvings = math.ceil(math.log2(math.sqrt(image.numel()) / NOISE))
    offset = yield from to_boundary(image, offset, norm, halvings)
    used = 0
    for step in count(1):
        num = min(int(first * math.sqrt(step)), MOST)
        normal = yield from _normal(problem, place, offset, used, num)
        used += num
        offset = yield from _jump(image, offset, normal, norm, step)
        offset = yield from to_boundary(image, offset, norm, halvings)


def _normal(
    problem: AttackProblem, place: int, offset: Tensor, used: int, num: int
) -> Generator[Tensor, list[bool], Tensor]:
    """The direction [3, S, S] in which noise reaches its end more often than not.

    The mean of (phi - mean phi) u over noise u, with phi = 1 where the image with it has reached
    its end, else -1 (Chen et al. 2020, equation 16).
    """
    image, row = problem.image[place].contiguous(), problem.row[place : place + 1]
    radius = NOISE * offset.norm()
    total, signed, signs = torch.zeros_like(image), torch.zeros_like(image), 0
    for begin in range(0, num, PIECE):
        size = min(PIECE, num - begin)
        use = DIRECTIONS + used + begin + torch.arange(size, device=row.device)
        noise = coarse_normal_numbers(problem.seed, row.expand(size), use, image.numel())
        noise *= radius / noise.norm(dim=1, keepdim=True)
        boundary = image + offset
        noisy = (boundary + noise.view(size, *image.shape).to(image)).clamp_(0.0, 1.0)
        answers = yield noisy
        # What is cut off at black and white is no noise.
        noise = noisy - boundary
        phi = torch.tensor([1.0 if reached else -1.0 for reached in answers]).to(image)
        total += noise.sum(dim=0)
        signed += torch.tensordot(phi, noise, dims=1)
        signs += 2 * sum(answers) - size
    if abs(signs) == num:
        return signed
    return signed - signs / num * total


def _jump(
    image: Tensor, offset: Tensor, normal: Tensor, norm: str, step: int
) -> Generator[Tensor, list[bool], Tensor]:
    """The offset after a step along the normal that stays beyond the boundary.

    Its length is the distance over sqrt(step), halved until that is so (section 4.2).
    """
    if norm == "linf":
        direction, distance = normal.sign(), offset.abs().amax()
    else:
        direction, distance = normal / normal.norm().clamp_min(1e-30), offset.norm()
    share = step**-0.5
    while share > SHORTEST:
        candidate = moved(image, offset + share * distance * direction)
        (reached,) = yield candidate
        if reached:
            return candidate[0] - image
        share /= 2
    return offset
