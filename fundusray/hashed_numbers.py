"""Random numbers that are hashes of (seed, row, which use, which place).

There is no generator: an image's numbers depend neither on the batch nor on the worker it falls to,
and are the same on any device.
"""

import math

import torch
from torch import Tensor

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


def hashed_bits(seed: int, row: Tensor, use: int | Tensor, num: int) -> Tensor:
    """64 random bits each, int64 [B, num], for rows int64 [B]; seed in [0, 2^63), one use for all
    rows or one of each, int64 [B]."""
    state = _mix(torch.full_like(row, seed))
    state = _mix(state ^ row)
    state = _mix(state ^ use)
    places = torch.arange(1, num + 1, device=row.device) * GOLDEN
    return _mix(state[:, None] + places)


def uniform_numbers(seed: int, row: Tensor, use: int | Tensor, num: int) -> Tensor:
    """Numbers within (0, 1), float32 [B, num]; of what, see `hashed_bits`."""
    bits = _shifted(hashed_bits(seed, row, use, num), 64 - BITS)
    return bits.float().add_(0.5).mul_(2.0**-BITS)


def coarse_normal_numbers(seed: int, row: Tensor, use: int | Tensor, num: int) -> Tensor:
    """Numbers of the standard normal distribution in 65,536 steps, up to 4.3, float32 [B, num].

    Four of one hash: a fifth of the time of `normal_numbers`, where a direction is all that counts.
    """
    quarters = hashed_bits(seed, row, use, -(-num // 4)).view(torch.int16)[:, :num]
    return torch.erfinv(quarters.float().add_(0.5).mul_(2.0**-15)).mul_(math.sqrt(2))


def normal_numbers(seed: int, row: Tensor, use: int | Tensor, num: int) -> Tensor:
    """Numbers of the standard normal distribution, float32 [B, num]."""
    return torch.erfinv(uniform_numbers(seed, row, use, num).mul_(2).sub_(1)).mul_(math.sqrt(2))
