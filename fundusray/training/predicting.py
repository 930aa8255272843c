"""What a network says of images under a condition, and how far each image was changed."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.attacks import evaluation_mode
from fundusray.attacks.gradient import perturbation_distance
from fundusray.conditions import Clean, Condition, CorruptionCondition
from fundusray.conditions.columns import TYPES
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Columns, Task
from fundusray.training.step import joined, predict_batches


def predictions_under(
    condition: Condition,
    model: nn.Module,
    batches: Iterable[Batch],
    precision: AbstractContextManager[Any],
    task: Task,
) -> tuple[np.ndarray, Columns]:
    """(rows [N], columns [N]): what is written of the valid images of some batches.

    Columns are the task's, of images under the condition, and of images that are changed
    `clean_prediction`, `success`, `linf` and `l2` (`conditions.columns`). An image is changed as a
    function of its row, whatever its company. `success` is of images that the network is right of
    as they are and wrong of when changed. The model's statistics stay as they are.
    """
    if isinstance(condition, Clean | CorruptionCondition):
        return predict_batches(model, batches, precision, task)

    def network(image: Tensor) -> Tensor:
        with precision:
            return model(image).float()

    rows, parts = [], []
    with evaluation_mode(model):
        for batch in batches:
            target = task.target(batch)[batch.valid]
            image, row = batch.image[batch.valid], batch.row[batch.valid]
            if len(row):
                rows.append(row.cpu().numpy())
                parts.append(_changed(condition, network, image, target, row, task))
    return joined(rows, parts)


def _changed(
    condition: Condition,
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    target: Tensor,
    row: Tensor,
    task: Task,
) -> Columns:
    """The task's columns of the changed images, and what was measured of each."""
    changed = condition.changed(network, image, target, row, task.attack_success)
    with torch.no_grad():
        outputs, clean = network(changed), network(image)
    wrong = task.attack_success(outputs, target)
    measured = {
        "clean_prediction": task.answers(clean),
        "success": wrong & ~task.attack_success(clean, target),
        "linf": perturbation_distance(changed, image, "linf"),
        "l2": perturbation_distance(changed, image, "l2"),
    }
    columns = {name: value.cpu().numpy() for name, value in measured.items()}
    return task.columns(outputs, target) | columns


def split_measured(columns: Columns) -> tuple[Columns, Columns]:
    """(the task's own columns, those that conditions add)."""
    measured = {name: columns[name] for name in TYPES if name in columns}
    return {name: value for name, value in columns.items() if name not in measured}, measured
