"""Random numbers for attacks: each a hash of (seed, row, which use, which pixel).

There is no generator: an image's numbers depend neither on the batch nor on the worker it falls to,
and are the same on any device.
"""

import math

import torch
from torch import Tensor

from fundusray.attacks.budget import Budget

START, LENGTH, SHARE = 1, 2, 3
"""Uses of a row's numbers, so that no two of them go together."""
BITS = 23
"""Of a number: with the half that keeps it off 0 and 1, all that float32 holds."""
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)


def _shifted(state: Tensor, places: int) -> Tensor:
    """To the right, filled with zeros; torch fills with the sign."""
    return (state >> places).bitwise_and_((1 << (64 - places)) - 1)


def _mix(state: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014) on int64, in place.

    Products wrap around 2^64, so the constants are taken as signed.
    """
    state ^= _shifted(state, 30)
    state *= 0xBF58476D1CE4E5B9 - (1 << 64)
    state ^= _shifted(state, 27)
    state *= 0x94D049BB133111EB - (1 << 64)
    state ^= _shifted(state, 31)
    return state


def uniform_numbers(seed: int, row: Tensor, use: int, num: int) -> Tensor:
    """Numbers within (0, 1), float32 [B, num], for rows int64 [B]; seed in [0, 2^63)."""
    state = _mix(torch.full_like(row, seed))
    state = _mix(state ^ row)
    state = _mix(state ^ use)
    places = torch.arange(1, num + 1, device=row.device) * GOLDEN
    bits = _shifted(_mix(state[:, None] + places), 64 - BITS)
    return bits.float().add_(0.5).mul_(2.0**-BITS)


def normal_numbers(seed: int, row: Tensor, use: int, num: int) -> Tensor:
    """Numbers of the standard normal distribution, float32 [B, num]."""
    return torch.erfinv(uniform_numbers(seed, row, use, num).mul_(2).sub_(1)).mul_(math.sqrt(2))


def random_offset(image: Tensor, row: Tensor, seed: int, budget: Budget) -> Tensor:
    """Where to start within a budget around images [B, 3, S, S]: what to add to them.

    linf: uniform in [-eps, eps] (Madry et al. 2018); l2: any direction, a length uniform in
    [0, eps] (Rice et al. 2020).
    """
    num = image.shape[1:].numel()
    if budget.norm == "linf":
        offset = uniform_numbers(seed, row, START, num).mul_(2).sub_(1).mul_(budget.eps)
        return offset.view(image.shape)
    direction = normal_numbers(seed, row, START, num)
    length = budget.eps * uniform_numbers(seed, row, LENGTH, 1)
    return (direction * (length / direction.norm(dim=1, keepdim=True))).view(image.shape)


def slight_offset(image: Tensor, row: Tensor, seed: int, std: float) -> Tensor:
    """Normal noise of this standard deviation for images [B, 3, S, S]."""
    return normal_numbers(seed, row, START, image.shape[1:].numel()).mul_(std).view(image.shape)


def drawn_rows(row: Tensor, seed: int, share: float) -> Tensor:
    """Which rows belong to a random share of all, bool [B]."""
    return uniform_numbers(seed, row, SHARE, 1)[:, 0] < share
