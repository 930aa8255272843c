"""Random numbers for attacks: each a hash of (seed, row, which use, which pixel)."""

from torch import Tensor

from fundusray.attacks.budget import Radius
from fundusray.hashed_numbers import normal_numbers, uniform_numbers

START, LENGTH, SHARE = 1, 2, 3
"""Uses of a row's numbers, so that no two of them go together."""
TURN = 1 << 16
"""Between the uses of one try of an attack and the next one's."""


def random_offset(image: Tensor, row: Tensor, seed: int, budget: Radius, turn: int = 0) -> Tensor:
    """Where to start within a budget around images [B, 3, S, S]: what to add to them.

    linf: uniform in [-eps, eps] (Madry et al. 2018); l2: any direction, a length uniform in
    [0, eps] (Rice et al. 2020). Each `turn`, counted from 0, has a place of its own.
    """
    num, use = image.shape[1:].numel(), turn * TURN
    if budget.norm == "linf":
        offset = uniform_numbers(seed, row, START + use, num).mul_(2).sub_(1).mul_(budget.eps)
        return offset.view(image.shape)
    direction = normal_numbers(seed, row, START + use, num)
    length = budget.eps * uniform_numbers(seed, row, LENGTH + use, 1)
    return (direction * (length / direction.norm(dim=1, keepdim=True))).view(image.shape)


def border_offset(image: Tensor, row: Tensor, seed: int, norm: str, turn: int = 0) -> Tensor:
    """A place on the border of the unit budget for images [B, 3, S, S].

    linf: uniform, stretched until the largest number is 1; l2: any direction (Croce and Hein
    2020).
    """
    num, use = image.shape[1:].numel(), START + turn * TURN
    if norm == "linf":
        offset = uniform_numbers(seed, row, use, num).mul_(2).sub_(1)
        length = offset.abs().amax(dim=1, keepdim=True)
    else:
        offset = normal_numbers(seed, row, use, num)
        length = offset.norm(dim=1, keepdim=True)
    return (offset / length).view(image.shape)


def slight_offset(image: Tensor, row: Tensor, seed: int, std: float) -> Tensor:
    """Normal noise of this standard deviation for images [B, 3, S, S]."""
    return normal_numbers(seed, row, START, image.shape[1:].numel()).mul_(std).view(image.shape)


def drawn_rows(row: Tensor, seed: int, share: float) -> Tensor:
    """Which rows belong to a random share of all, bool [B]."""
    return uniform_numbers(seed, row, SHARE, 1)[:, 0] < share
