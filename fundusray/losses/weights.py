"""Class weights in effect: what a loss multiplies each class's images by.

A class without a training image has weight 0: it is never a training target, and a validation row
of that class then adds nothing to the loss (the metrics still count it).
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fundusray.errors import InputError
from fundusray.losses.arguments import check_args
from fundusray.losses.registry import LOSSES


def class_balanced_weights(counts: Tensor, beta: float = 0.999) -> Tensor:
    """[K] float64 weights of `class_balanced`; they sum to the number of classes with images."""
    counts = counts.double()
    # -expm1(n log beta) is 1 - beta^n, exact also for beta next to 1.
    effective = -torch.expm1(counts * math.log(beta)) if beta > 0 else torch.ones_like(counts)
    present = counts > 0
    weights = torch.where(present, 1 / effective.clamp_min(1e-300), 0.0)
    return weights * (present.sum() / weights.sum())


def inverse_frequency_weights(counts: Tensor, normalise: bool = True) -> Tensor:
    """[K] float64 weights of `inverse_frequency`."""
    counts = counts.double()
    weights = torch.where(counts > 0, counts.sum() / counts.clamp_min(1), 0.0)
    return _mean_one(weights, counts) if normalise else weights


def power_weights(counts: Tensor, power: float = 1.0, weights: Sequence[float] = ()) -> Tensor:
    """[K] float64 weights of `class_weights`.

    Raises:
        InputError: not one given weight per class.
    """
    counts = counts.double()
    if len(weights) not in (0, len(counts)):
        raise InputError(
            f"loss.args.weights: {len(counts)} classes need {len(counts)} numbers, got {weights!r}"
        )
    if weights:
        given = torch.tensor(weights, dtype=torch.float64, device=counts.device)
    else:
        given = (counts.max() / counts.clamp_min(1)) ** power
    return _mean_one(torch.where(counts > 0, given, 0.0), counts)


def present_weights(counts: Tensor) -> Tensor:
    """[K] float64: 1 for a class with training images, 0 for one without."""
    return (counts > 0).double()


def deferred_weights(
    counts: Tensor, beta: float = 0.9999, defer: float = 0.8, progress: float = 0.0
) -> Tensor:
    """[K] float64 weights of `ldam`: ones until `defer` of the run is done, then class balanced.

    `defer` 1 is never. They have mean 1 over the training images, as the paper's weighted mean of a
    batch has (its algorithm 1 divides by the batch's weights), so the rate keeps its meaning.
    """
    if defer < 1 and progress >= defer:
        return _mean_one(class_balanced_weights(counts, beta), counts.double())
    return present_weights(counts)


def _mean_one(weights: Tensor, counts: Tensor) -> Tensor:
    """Scaled so that the mean over the training images is 1; all zero stays zero."""
    total = (counts * weights).sum()
    return weights * torch.where(total > 0, counts.sum() / total, 0.0)


def effective_weights(
    name: str, args: dict[str, Any], counts: Sequence[int], progress: float = 1.0
) -> list[float]:
    """[K] class weights in effect, ones where the loss weighs no class; 0 for an empty class.

    `progress` is the share of the run that is done; without it, the weights of the run's end.

    Raises:
        InputError: an unknown loss or keyword, or a value out of range.
    """
    check_args(name, args)
    function = LOSSES.facts(name).weights
    if function is None:
        return [1.0] * len(counts)
    taken = inspect.signature(function).parameters
    given = {key: value for key, value in (args | {"progress": progress}).items() if key in taken}
    return function(torch.tensor(counts, dtype=torch.float64), **given).tolist()


def weight_ratio(weights: Sequence[float]) -> float:
    """Largest over smallest weight of the classes that have any: how strongly a loss balances."""
    positive = [weight for weight in weights if weight > 0]
    return max(positive) / min(positive)
