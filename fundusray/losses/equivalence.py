"""Which rows of a table are one and the same loss under different names.

Decided by numbers, not names: the losses of every class and their gradients are compared on a
fixed grid of outputs, given the class counts at hand.
"""

import inspect
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fundusray.losses.arguments import check_args
from fundusray.losses.registry import LOSSES, compute_loss, num_outputs
from fundusray.losses.showings import ClassShowings, class_showings, sampling_sentence
from fundusray.settings import Loss, Sampling

TOLERANCE = 0.01
"""Two losses are the same if no value and no gradient differs by more than this share."""
STAGES = tuple(stage / 50 for stage in range(50))
"""Shares of the run at which losses that change on the way are compared."""
SPREADS = (0.0, 0.3, 1.0, 3.0)
"""Standard deviations of the grid's outputs: from undecided to nearly certain."""
DRAWS = 12
EXACT = 1e-9
"""Up to here a difference is rounding."""


class _Row(NamedTuple):
    name: str
    sampling: Sampling
    output: str  # the model.output it learns from; "" for class logits
    values: Tensor  # [P, R] losses of the grid at P stages of the run; 1 if they do not change
    gradients: Tensor  # [P, R, W]
    shown: ClassShowings
    counts: tuple[int, ...]


def same_loss(
    rows: Sequence[tuple[str, Loss, Sampling]],
    counts: Sequence[int],
    *,
    batch: int = 1,
    tolerance: float = TOLERANCE,
) -> list[str]:
    """A sentence for every row whose loss on `counts` [K] is that of a row before it.

    Rows are (name, loss, sampling); `batch` is the global batch size. Each row is told once,
    beside the first earlier row of the same loss and sampling, or else of the same loss: then they
    differ in sampling alone, or a constant factor, which is said.

    Raises:
        InputError: a wrong loss argument, no training image, quotas that do not fit the classes.
    """
    built: list[_Row] = []
    told = []
    for name, loss, sampling in rows:
        row = _measured(name, loss, sampling, counts, batch)
        found = [(other, *_factor(row, other, tolerance)) for other in built]
        alike = [each for each in found if each[2] <= tolerance]
        # First those with the same sampling, then those of equal size.
        alike.sort(key=lambda each: (not _shows_alike(row, each[0], tolerance), each[1] != 1))
        if alike:
            told.append(_said(row, *alike[0], tolerance))
        built.append(row)
    return told


def comparison_grid(present: Sequence[int], width: int) -> tuple[Tensor, Tensor]:
    """(outputs [R, W] float64, targets [R]): every class in `present` on the same outputs."""
    draws = torch.randn(
        len(SPREADS), DRAWS, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    points = (draws * torch.tensor(SPREADS, dtype=torch.float64)[:, None, None]).flatten(0, 1)
    target = torch.tensor(present).repeat_interleave(len(points))
    return points.repeat(len(present), 1), target


def _measured(name: str, loss: Loss, sampling: Sampling, counts: Sequence[int], batch: int) -> _Row:
    """The loss on the grid; a loss of whole batches takes the grid for one."""
    check_args(loss.name, loss.args)
    seen = class_showings(sampling, counts, batch)
    present = [k for k, count in enumerate(counts) if count]
    raw, target = comparison_grid(present, num_outputs(loss.name, len(counts)))
    raw.requires_grad_(True)
    tensor = torch.tensor(counts, dtype=torch.float64)
    values, gradients = [], []
    changes = "progress" in inspect.signature(LOSSES[loss.name]).parameters
    for stage in STAGES if changes else STAGES[:1]:
        value = compute_loss(loss.name, loss.args, raw, target, counts=tensor, progress=stage)
        gradients.append(torch.autograd.grad(value.sum(), raw)[0])
        values.append(value.detach())
    output = LOSSES.facts(loss.name).output
    stacked = torch.stack(values), torch.stack(gradients)
    return _Row(name, sampling, output, *stacked, seen, tuple(counts))


def _factor(row: _Row, other: _Row, tolerance: float) -> tuple[float, float]:
    """(c, largest relative difference between `row` and c times `other`); c is 1 if that will do.

    Infinitely different where they learn from different outputs.
    """
    if row.output != other.output:
        return 1.0, math.inf
    plain = _difference(row, other, 1.0)
    size = other.gradients.norm(dim=-1).mean()
    if plain <= tolerance or size == 0:
        return 1.0, plain
    factor = (row.gradients.norm(dim=-1).mean() / size).item()
    return factor, _difference(row, other, factor)


def _difference(row: _Row, other: _Row, factor: float) -> float:
    """Largest difference of a value or gradient, as a share of the larger of the two."""
    values = row.values, factor * other.values
    gradients = row.gradients, factor * other.gradients
    return max(
        _relative((values[0] - values[1]).abs(), *(each.abs() for each in values)),
        _relative(
            (gradients[0] - gradients[1]).norm(dim=-1), *(each.norm(dim=-1) for each in gradients)
        ),
    )


def _relative(apart: Tensor, one: Tensor, two: Tensor) -> float:
    larger = torch.maximum(one, two)
    # Where both are next to nothing beside the rest of the grid, their difference is rounding.
    floor = (EXACT * larger.max()).clamp_min(torch.finfo(larger.dtype).tiny)
    return (apart / torch.maximum(larger, floor)).max().item()


def _shows_alike(row: _Row, other: _Row, tolerance: float) -> bool:
    """Whether an epoch shows every class equally often, up to the tolerance."""
    pairs = zip(row.shown.images, other.shown.images, strict=True)
    return all(abs(a - b) <= tolerance * max(a, b) for a, b in pairs)


def _said(row: _Row, other: _Row, factor: float, gap: float, tolerance: float) -> str:
    sizes = " + ".join(f"{count:,.0f}" for count in row.counts)
    size = "" if factor == 1 else f", up to a constant factor of {factor:.4g}"
    apart = "exactly" if gap <= EXACT * 100 else f"to within {100 * gap:.2g} %"
    same = (
        f"“{row.name}” is the same loss as “{other.name}”{size}: on {sizes} training images "
        f"their values and gradients agree {apart}"
    )
    one, two = sampling_sentence(row.sampling), sampling_sentence(other.sampling)
    if row.sampling == other.sampling:
        cause = f"Both rows use {one}"
    elif _shows_alike(row, other, tolerance):
        cause = f"Their samplings ({one}, {two}) also show every class equally often"
    else:
        return f"{same}. The rows differ in sampling: {one} against {two}."
    if factor != 1:
        return f"{same}. {cause}; the factor acts as one on the learning rate."
    return f"{same}. {cause}, so a difference between their results has another cause."
