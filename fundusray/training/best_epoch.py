"""Which epoch is kept (early stopping, in hindsight), measured above a constant answer.

A network that always answers the same has learned nothing, and yet it has the accuracy of the most
frequent class, also under any attack. An epoch counts as learned where its metric is above what the
best constant answer reaches on the same rows (`Task.constant_answer`); only then does the metric
decide. Where no epoch is, the one with the lowest validation loss is kept, and said to be no
better.
"""

from typing import Any

import numpy as np

from fundusray.tasks import Columns, Task

ROUNDING = 1e-9
"""What counts as equal."""


def above_constant(value: float | None, constant: float) -> bool:
    """Whether a metric is above the constant answer; one that is not defined is not."""
    return value is not None and value > constant + ROUNDING


def epoch_standing(value: float | None, constant: float, loss: float) -> tuple[bool, float]:
    """What epochs are compared by, the largest is best: learned ones by their value, all others,
    which come after them, by the smallest validation loss."""
    if value is not None and above_constant(value, constant):
        return True, value
    return False, -loss


def new_best_epoch(
    row: dict[str, Any], best: dict[str, Any], task: Task, targets: np.ndarray
) -> dict[str, Any]:
    """What an epoch's row is as the best so far by the task's metric; {} where `best` still is.

    Args:
        best: what this gave for the best epoch before, {} for none.
        targets: of the validation rows [N].
    """
    metric = task.selector
    value, loss = row[f"val_{metric}"], row["val_loss"]
    constant = task.constant_answer(metric, targets)
    now = epoch_standing(value, constant, loss)
    if best and now <= epoch_standing(best["value"], constant, best["loss"]):
        return {}
    return {
        "epoch": row["epoch"],
        "metric": f"val_{metric}",
        "value": value,
        "loss": loss,
        "constant": constant,
        "better": above_constant(value, constant),
    }


def best_by(
    history: list[dict[str, Any]], task: Task, targets: np.ndarray
) -> dict[str, dict[str, Any]]:
    """The best epoch by each metric that the history has: metric -> {epoch, value, better}.

    Args:
        history: rows of epoch, val_loss and val_<metric>.
        targets: of the validation rows [N].
    """
    found = {}
    for name in task.selectors:
        known = [row for row in history if row.get(f"val_{name}") is not None]
        if known:
            constant = task.constant_answer(name, targets)
            best = max(
                known,
                key=lambda row: (
                    epoch_standing(row[f"val_{name}"], constant, row["val_loss"]),
                    -row["epoch"],
                ),
            )
            value = best[f"val_{name}"]
            found[name] = {
                "epoch": best["epoch"],
                "value": value,
                "better": above_constant(value, constant),
            }
    return found


def held_out(
    columns: dict[int, Columns],
    targets: np.ndarray,
    half: np.ndarray,
    metric: str,
    task: Task,
) -> tuple[Columns, list[int]]:
    """Each half of some rows as the epoch sees it that is best on the other half.

    Args:
        columns: what was written of the rows by the network of each epoch.
        targets: int64 [N].
        half: 0 or 1 of each row [N].
        metric: what is best; of equal epochs the earliest is. Where no epoch is above the constant
            answer there, the validation loss decides (`epoch_standing`). What was fitted to all
            rows is fitted anew, to the other half alone.

    Returns:
        (columns of all rows, the epochs of half 0 and of half 1).
    """
    joined = {name: np.empty_like(values) for name, values in next(iter(columns.values())).items()}
    chosen = []
    for mine in (0, 1):
        other = half != mine
        seen = {epoch: task.recalibrated(found, other) for epoch, found in columns.items()}
        constant = task.constant_answer(metric, targets[other])
        values = {}
        for epoch, found in seen.items():
            figures = task.figures({name: part[other] for name, part in found.items()})
            values[epoch] = epoch_standing(figures[metric], constant, figures["loss"])
        best = max(values, key=lambda epoch: (values[epoch], -epoch))
        for name, part in seen[best].items():
            joined[name][~other] = part[~other]
        chosen.append(best)
    return joined, chosen
