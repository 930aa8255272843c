"""What a network says of images under a condition, and how far each image was changed."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.attacks import evaluating
from fundusray.attacks.gradient import distance
from fundusray.conditions import Clean, Condition
from fundusray.pipeline import Batch
from fundusray.training.loop import predict

MEASURED = ("clean_prediction", "success", "linf", "l2")
"""Columns of changed images, in their order; `conditions.columns` says what they are."""


class Predictions(NamedTuple):
    """One line per image."""

    rows: np.ndarray  # int64 [N]
    logits: np.ndarray  # float32 [N, K] of the images under the condition
    columns: dict[str, np.ndarray]
    """MEASURED of images that are changed, each [N]; empty where they are clean."""

    def gathered(
        self, sorted_rows: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    ) -> "Predictions":
        """Everyone's, by a function that brings (rows [N], values [N, M]) of all workers together
        in order of the rows."""
        # All of it is exact in float64, so that it travels in one piece.
        values = [self.logits, *(column[:, None] for column in self.columns.values())]
        rows, whole = sorted_rows(self.rows, np.concatenate(values, axis=1, dtype=np.float64))
        num = whole.shape[1] - len(self.columns)
        columns = {
            name: whole[:, num + i].astype(column.dtype)
            for i, (name, column) in enumerate(self.columns.items())
        }
        return Predictions(rows, whole[:, :num].astype(np.float32), columns)


def predictions_under(
    condition: Condition,
    model: nn.Module,
    batches: Iterable[Batch],
    precision: AbstractContextManager[Any],
) -> Predictions:
    """What a network says of the valid images of some batches under a condition.

    An image is changed as a function of its row, whatever its company. `success` is of images that
    the network is right of as they are and wrong of when changed. The model's statistics stay as
    they are.
    """
    if isinstance(condition, Clean):
        return Predictions(*predict(model, batches, precision), {})

    def network(image: Tensor) -> Tensor:
        with precision:
            return model(image).float()

    parts = []
    with evaluating(model):
        for batch in batches:
            image, target, row = (part[batch.valid] for part in batch[:3])
            if len(row):
                parts.append([row.cpu().numpy(), *_changed(condition, network, image, target, row)])
    if not parts:
        none = {name: np.zeros(0) for name in MEASURED}
        return Predictions(np.zeros(0, np.int64), np.zeros((0, 0), np.float32), none)
    rows, logits, *measured = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Predictions(rows, logits, dict(zip(MEASURED, measured, strict=True)))


def _changed(
    condition: Condition,
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    target: Tensor,
    row: Tensor,
) -> list[np.ndarray]:
    """Logits [B, K] of the changed images, and MEASURED of each."""
    changed = condition.changed(network, image, target, row)
    with torch.no_grad():
        logits, clean = network(changed), network(image).argmax(dim=1)
    success = (clean == target) & (logits.argmax(dim=1) != target)
    far = [distance(changed, image, norm) for norm in ("linf", "l2")]
    return [part.cpu().numpy() for part in (logits, clean, success, *far)]
