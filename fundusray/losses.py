"""Losses against class imbalance: one number per sample, never reduced.

Every loss is `(logits [B, K], target [B], *, counts [K], **args) -> [B]`; `counts` are the training
set's images per class. Whoever trains averages over the rows that count, so padding weighs nothing
and two workers add up to one.

Weighted losses multiply cross entropy by w[target]. A class without a training image has weight 0:
it is never a training target, and a validation row of that class then adds nothing to the loss
(the metrics still count it).
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.errors import InputError
from fundusray.registry import Registry, unknown_name

LOSSES: Registry[Callable[..., Tensor]] = Registry("loss")


@LOSSES.register("cross_entropy")
def cross_entropy(logits: Tensor, target: Tensor, *, counts: Tensor) -> Tensor:
    """-log p[target], in float32 or wider whatever the network's precision."""
    return F.cross_entropy(_wide(logits), target, reduction="none")


@LOSSES.register("focal")
def focal(logits: Tensor, target: Tensor, *, counts: Tensor, gamma: float = 2.0) -> Tensor:
    """-(1 - p)^gamma log p with p = p[target]; gamma 0 is cross entropy.

    Lin et al., Focal loss for dense object detection (2017), eq. 4, in its softmax form.
    """
    log_p = -F.cross_entropy(_wide(logits), target, reduction="none")
    # 1 - p without cancellation; the floor keeps the gradient of (1 - p)^gamma finite at p = 1.
    rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -(rest**gamma) * log_p


@LOSSES.register("class_balanced")
def class_balanced(
    logits: Tensor, target: Tensor, *, counts: Tensor, beta: float = 0.999
) -> Tensor:
    """Cross entropy weighted by the inverse effective number of images; beta 0 is cross entropy.

    w = (1 - beta) / (1 - beta^n), scaled to sum to K. Cui et al., Class-balanced loss based on
    effective number of samples (2019), eq. 4 and 12. While beta^n is near 0 for the rarest class
    all weights are near 1: with hundreds of images per class, beta .9 and .99 do nothing.
    """
    return _weighted(logits, target, class_balanced_weights(counts, beta))


@LOSSES.register("inverse_frequency")
def inverse_frequency(
    logits: Tensor, target: Tensor, *, counts: Tensor, normalise: bool = True
) -> Tensor:
    """Cross entropy weighted by 1 / (n / N), as Wu (2020) has it, for N images in all.

    With `normalise` the weights have mean 1 over the training images, so the learning rate keeps
    its meaning; without, they are N / n to the letter, whose mean is K.
    """
    return _weighted(logits, target, inverse_frequency_weights(counts, normalise))


@LOSSES.register("class_weights")
def class_weights(
    logits: Tensor,
    target: Tensor,
    *,
    counts: Tensor,
    power: float = 1.0,
    weights: Sequence[float] = (),
) -> Tensor:
    """Cross entropy weighted by (n_max / n)^power, or by the given weights; power 0 leaves it.

    Both are scaled to mean 1 over the training images (sum of n w / N = 1): ratios between
    classes are as given, and the learning rate keeps its meaning. Power 1 is Yu's table 5C.
    """
    return _weighted(logits, target, power_weights(counts, power, weights))


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


def _mean_one(weights: Tensor, counts: Tensor) -> Tensor:
    """Scaled so that the mean over the training images is 1; all zero stays zero."""
    total = (counts * weights).sum()
    return weights * torch.where(total > 0, counts.sum() / total, 0.0)


def _weighted(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    loss = F.cross_entropy(_wide(logits), target, reduction="none")
    return loss * weights.to(loss.dtype)[target]


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


WEIGHTS: dict[str, Callable[..., Tensor]] = {
    "class_balanced": class_balanced_weights,
    "inverse_frequency": inverse_frequency_weights,
    "class_weights": power_weights,
}


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _are_weights(value: Any) -> bool:
    numbers = isinstance(value, (tuple, list)) and all(_is_number(each) for each in value)
    return numbers and (not value or (min(value) >= 0 and max(value) > 0))


_NEEDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "gamma": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    "beta": (lambda value: _is_number(value) and 0 <= value < 1, "a number in [0, 1)"),
    "power": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    "normalise": (lambda value: isinstance(value, bool), "true or false"),
    "weights": (_are_weights, "numbers of at least 0, not all 0"),
}


def check_args(name: str, args: dict[str, Any]) -> None:
    """Checks a loss and its keywords before anything is built.

    Raises:
        InputError: an unknown loss or keyword (the nearest is named), or a value out of range.
    """
    known = set(inspect.signature(LOSSES.find(name)).parameters) - {"logits", "target", "counts"}
    for key, value in args.items():
        if key not in known:
            raise unknown_name(f"argument of loss {name}", key, known)
        fits, need = _NEEDS.get(key, (lambda value: True, ""))
        if not fits(value):
            raise InputError(f"loss.args.{key}: needs {need}, got {value!r}")


def effective_weights(name: str, args: dict[str, Any], counts: Sequence[int]) -> list[float]:
    """[K] class weights in effect, ones where the loss weighs no class; 0 for an empty class."""
    check_args(name, args)
    if name not in WEIGHTS:
        return [1.0] * len(counts)
    return WEIGHTS[name](torch.tensor(counts, dtype=torch.float64), **args).tolist()


def weight_ratio(weights: Sequence[float]) -> float:
    """Largest over smallest weight of the classes that have any: how strongly a loss balances."""
    positive = [weight for weight in weights if weight > 0]
    return max(positive) / min(positive)
