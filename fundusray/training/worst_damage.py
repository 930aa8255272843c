"""The search for the damage within a level that costs a photograph most.

What is tried is always looked at as an evaluation looks at it: a receipt, the loader, the network.
Gradients only say where to try next.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.conditions.worst_case import WorstCase
from fundusray.config import Data
from fundusray.corruptions import Receipt
from fundusray.corruptions.worst_case import (
    differentiable_corruptions,
    kept_in_level,
    level_intervals,
    parameter_tensors,
    receipts_of,
    smooth_corruption,
)
from fundusray.data.prepared.frames import smoothly_finished
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.pipeline.augment.augmentation import parse_augmentation, view_text
from fundusray.pipeline.engines.plain import augment_images, fill_level
from fundusray.tasks import Columns
from fundusray.tasks.classification import logits_of

LEVELS = 255
Look = Callable[[Sequence[Receipt]], Columns]
"""Receipts of all rows to what the network says of photographs damaged so."""
Loss = Callable[[np.ndarray, str, dict[str, Tensor]], Tensor]
"""(places of some rows, a corruption, its parameters) to the loss of each, differentiable."""


class _Worst:
    """The worst damage of each row so far."""

    def __init__(self, num: int) -> None:
        self.loss = np.full(num, -np.inf)
        self.receipts: list[Receipt | None] = [None] * num
        self.columns: Columns = {}

    def take(self, receipts: Sequence[Receipt], columns: Columns) -> None:
        """Keeps what costs more than all before; the earlier one where both cost the same."""
        logits = torch.from_numpy(logits_of(columns).astype(np.float64))
        target = torch.from_numpy(np.asarray(columns["target"], np.int64))
        loss = F.cross_entropy(logits, target, reduction="none").numpy()
        more = loss > self.loss
        self.columns = {
            name: np.where(more, values, self.columns.get(name, values))
            for name, values in columns.items()
        }
        self.loss = np.where(more, loss, self.loss)
        for place in np.flatnonzero(more):
            self.receipts[place] = receipts[place]


def worst_damage(
    condition: WorstCase, rows: np.ndarray, side: int, look: Look, loss: Loss
) -> tuple[Columns, list[Receipt]]:
    """(what the network says of each row [N] under its worst damage, that damage)."""
    worst = _Worst(len(rows))
    for draw in range(condition.draws):
        receipts = condition.drawn(draw).receipts(rows, side)
        worst.take(receipts, look(receipts))
    parameters = _by_kind(worst.receipts)
    for _ in range(condition.steps):
        for (name, level), (places, values) in parameters.items():
            moved = _moved(name, level, values, lambda p, n=name, at=places: loss(at, n, p),
                           condition.steps)  # fmt: skip
            parameters[name, level] = places, moved
        tried = list(worst.receipts)
        for (name, level), (places, values) in parameters.items():
            for place, receipt in zip(places, receipts_of(name, level, values), strict=True):
                tried[place] = receipt
        worst.take(tried, look(tried))
    return worst.columns, list(worst.receipts)


def _by_kind(
    receipts: Sequence[Receipt | None],
) -> dict[tuple[str, int], tuple[np.ndarray, dict[str, Tensor]]]:
    """(corruption, level) -> (places of its rows, their parameters), of those with gradients."""
    able, found = differentiable_corruptions(), {}
    kinds = [(one.name, one.level) if one else None for one in receipts]
    for kind in dict.fromkeys(kinds):
        if kind is not None and kind[0] in able:
            places = np.array([place for place, each in enumerate(kinds) if each == kind])
            held = [one for place in places if (one := receipts[place]) is not None]
            found[kind] = places, parameter_tensors(held)
    return found


def _moved(
    name: str,
    level: int,
    parameters: dict[str, Tensor],
    loss: Callable[[dict[str, Tensor]], Tensor],
    steps: int,
) -> dict[str, Tensor]:
    """The parameters a step up the loss; together the steps are as wide as their interval."""
    free = level_intervals(name, level)
    begun = {key: values.detach().clone() for key, values in parameters.items()}
    for key in free:
        begun[key].requires_grad_(True)
    gradients = torch.autograd.grad(loss(begun).sum(), [begun[key] for key in free],
                                    allow_unused=True)  # fmt: skip
    with torch.no_grad():
        for (key, (low, high)), gradient in zip(free.items(), gradients, strict=True):
            if gradient is not None:
                begun[key] = begun[key] + gradient.nan_to_num(0.0).sign() * (high - low) / steps
    return kept_in_level(name, level, begun)


class SmoothFinish:
    """Damaged frames as the network sees them, with gradients by the damage's parameters."""

    def __init__(self, prepared: PreparedSet, data: Data, device: torch.device) -> None:
        self.prepared, self.data, self.device = prepared, data, device
        self.view = parse_augmentation(view_text(data))
        self.level = fill_level(PREPROCESS.find(data.preprocess).fill)

    def shown(self, rows: np.ndarray, name: str, parameters: dict[str, Tensor]) -> Tensor:
        """Images float [B, 3, out, out] in [0, 1] of some rows, damaged by `parameters` [B, ...].

        Raises:
            InputError: no gradient passes the preprocessing.
        """
        pixels = torch.from_numpy(self.prepared.pixels(rows)).to(self.device)
        frame = pixels.permute(0, 3, 1, 2).float() / LEVELS
        damaged = smooth_corruption(name)(frame, parameters)
        image = smoothly_finished(self.data, damaged, self.prepared.seen(rows))
        if not self.view.steps:
            return image
        none = np.zeros(len(rows), np.int64)
        draws = self.view.draw(self.prepared.size, seed=0, epoch=0, rows=rows, repeat=none)
        return augment_images(image, draws, self.level)
