"""The worst case inside a level: what a search over a corruption's parameters needs.

drawn = receipts(corruption, seed, rows, side)               best of n: draw with n seeds
parameters = parameter_tensors(drawn)                        or by gradient, from any of them
loss(smooth_corruption(name)(image, parameters)).backward()
parameters = kept_in_level(name, level, parameters)
done = receipts_of(name, level, parameters)                  what `corrupted` then applies
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fundusray.corruptions.receipts import Receipt
from fundusray.corruptions.registry import CORRUPTIONS, Intervals, Smooth
from fundusray.errors import InputError

TURN = {(0, 180): 180.0, (0, 360): 360.0}
"""Intervals of angles, which go round."""


def differentiable_corruptions() -> tuple[str, ...]:
    """The corruptions that have gradients by their parameters."""
    return tuple(name for name in CORRUPTIONS if CORRUPTIONS.facts(name).smooth is not None)


def smooth_corruption(name: str) -> Smooth:
    """The corruption on float images, differentiable by its parameters.

    Raises:
        InputError: it has none; says which have.
    """
    smooth = CORRUPTIONS.facts(name).smooth
    if smooth is None:
        have = ", ".join(differentiable_corruptions())
        raise InputError(f"{name} has no gradients by its parameters (have: {have})")
    return smooth


def level_intervals(name: str, level: int) -> Intervals:
    """Smallest and largest value of each parameter within a level."""
    return CORRUPTIONS.facts(name).levels[level - 1]


def parameter_tensors(
    done: Sequence[Receipt], device: torch.device | None = None
) -> dict[str, Tensor]:
    """Parameters of receipts of one corruption, float32 [B, ...] each."""
    names = done[0].parameters
    return {
        name: torch.tensor([each.parameters[name] for each in done], device=device).float()
        for name in names
    }


def kept_in_level(name: str, level: int, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The nearest parameters that the level allows; angles go round. What has no interval, a
    colour, is as it was."""
    kept = {key: values.detach() for key, values in parameters.items()}
    for key, interval in level_intervals(name, level).items():
        if interval in TURN:
            kept[key] = kept[key].remainder(TURN[interval])
        else:
            kept[key] = kept[key].clamp(*interval)
    return kept


def receipts_of(name: str, level: int, parameters: Mapping[str, Tensor]) -> list[Receipt]:
    """Receipts of these parameters [B, ...], kept in the level."""
    facts, kept = CORRUPTIONS.facts(name), kept_in_level(name, level, parameters)
    rows = zip(*(values.double().tolist() for values in kept.values()), strict=True)
    made = []
    for row in rows:
        values = dict(zip(kept, row, strict=True))
        for key, (low, high) in facts.levels[level - 1].items():
            # float32 is not exact: an end of an interval may lie just outside of it.
            values[key] = min(max(values[key], low), high)
        made.append(Receipt(name, level, values, facts.version))
    return made
