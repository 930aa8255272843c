"""The losses by name with their facts, and how one is called."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fundusray.losses.priors import class_log_shares
from fundusray.registry import Registry

PASSED = frozenset({"logits", "target", "counts", "progress", "valid", "batch_counts"})
"""Parameters of a loss that the training passes, not the recipe."""


def as_many_as_classes(num_classes: int) -> int:
    """W of class logits [B, W]."""
    return num_classes


@dataclass(frozen=True, kw_only=True)
class LossFacts:
    """What is to be known of a loss; unless told otherwise it is one of class logits [B, K]."""

    output: str = ""
    """The model.output it learns from; empty: class logits, of softmax or binary."""
    width: Callable[[int], int] = as_many_as_classes
    """Classes -> W of the raw outputs [B, W] that it takes."""
    prior: Callable[[Sequence[int]], Tensor] = class_log_shares
    """Training images per class -> the raw outputs [W] that answer their frequencies."""
    weights: Callable[..., Tensor] | None = None
    """(counts [K], the loss's keywords that it knows, progress) -> [K] class weights in effect;
    None: no class is weighed."""
    weighs_cross_entropy: bool = False
    """With equal weights it is cross entropy, which a report then says."""
    needs_order: bool = False
    """A miss by two classes is worse than by one, so that their order has to be known."""
    check: Callable[[dict[str, Any]], None] | None = None
    """Raises InputError where keywords that are right by themselves do not go together. What each
    has to be stands in the loss's signature, as Annotated[float, AtLeast(0)]."""


LOSSES: Registry[Callable[..., Tensor]] = Registry("loss", LossFacts)


def compute_loss(
    name: str,
    args: dict[str, Any],
    raw: Tensor,
    target: Tensor,
    *,
    counts: Tensor,
    progress: float = 0.0,
    valid: Tensor | None = None,
    batch_counts: Tensor | None = None,
) -> Tensor:
    """[B] losses of a network's raw outputs [B, ...], by a loss's name and keywords.

    `progress`, the share of the run's steps done in [0, 1), `valid` [B] bool, False on padding, and
    `batch_counts` [K], images per class in the global batch, reach the losses that have a use for
    them. Computed in float32 at least, also within
    autocast.
    """
    function = LOSSES.find(name)
    offered = {"progress": progress, "valid": valid, "batch_counts": batch_counts}
    taken = inspect.signature(function).parameters
    extra = {key: value for key, value in offered.items() if key in taken}
    # Widened outputs alone would not do: within autocast a product of matrices is bf16 again.
    with torch.autocast(raw.device.type, enabled=False):
        return function(at_least_float32(raw), target, counts=counts, **extra, **args)


def num_outputs(name: str, num_classes: int) -> int:
    """W of the raw outputs [B, W] that a loss takes for so many classes."""
    return LOSSES.facts(name).width(num_classes)


def at_least_float32(raw: Tensor) -> Tensor:
    """The outputs in float32, or in float64 if they are: whatever the network's precision."""
    return raw.to(torch.promote_types(raw.dtype, torch.float32))


def of_target(weights: Tensor, target: Tensor, like: Tensor) -> Tensor:
    """[B] weights of the targets' classes, on the device and in the type of `like`."""
    return weights.to(like.device, like.dtype)[target]
