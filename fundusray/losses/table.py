"""The losses by name, the model outputs they learn from, and how one is called."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fundusray.registry import Registry

LOSSES: Registry[Callable[..., Tensor]] = Registry("loss")

OUTPUTS: dict[str, str] = {
    "coral": "coral",
    "corn": "corn",
    "squared_error": "regression",
}
"""The model.output that a loss needs; a loss not named here takes class logits [B, K], so softmax
or binary."""


def compute(
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
        return function(widen(raw), target, counts=counts, **extra, **args)


def num_outputs(name: str, num_classes: int) -> int:
    """W of the raw outputs [B, W] that a loss takes for so many classes."""
    widths = {"coral": num_classes - 1, "corn": num_classes - 1, "regression": 1}
    return widths.get(OUTPUTS.get(name, ""), num_classes)


def widen(raw: Tensor) -> Tensor:
    """The outputs in float32, or in float64 if they are: whatever the network's precision."""
    return raw.to(torch.promote_types(raw.dtype, torch.float32))


def of_target(weights: Tensor, target: Tensor, like: Tensor) -> Tensor:
    """[B] weights of the targets' classes, on the device and in the type of `like`."""
    return weights.to(like.device, like.dtype)[target]
