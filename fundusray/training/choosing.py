"""Which epoch is best, measured above a network that always answers the same.

Such a network has learned nothing, and yet it has the accuracy of the most frequent class, also
under any attack. An epoch counts as learned where its metric is above what the best constant answer
reaches on the same rows; only then does the metric decide. Where no epoch is, the one with the
lowest validation loss is kept, and said to be no better.
"""

from typing import Any

import numpy as np

from fundusray.errors import InputError
from fundusray.metrics import METRICS, constant_answer, point

ROUNDING = 1e-9
"""What counts as equal."""


def better(value: float | None, constant: float) -> bool:
    """Whether a metric is above the constant answer; one that is not defined is not."""
    return value is not None and value > constant + ROUNDING


def standing(value: float | None, constant: float, loss: float) -> tuple[bool, float]:
    """What epochs are compared by, the largest is best: learned ones by their value, all others,
    which come after them, by the smallest validation loss."""
    if value is not None and better(value, constant):
        return True, value
    return False, -loss


def overtaking(
    row: dict[str, Any], best: dict[str, Any], metric: str, targets: np.ndarray
) -> dict[str, Any]:
    """What an epoch's row is as the best so far by a metric; {} where `best` still is.

    Args:
        best: what this gave for the best epoch before, {} for none.
        targets: of the validation rows [N].
    """
    value, loss = row[f"val_{metric}"], row["val_loss"]
    constant = constant_answer(metric, targets)
    now = standing(value, constant, loss)
    if best and now <= standing(best["value"], constant, best["loss"]):
        return {}
    return {
        "epoch": row["epoch"],
        "metric": f"val_{metric}",
        "value": value,
        "loss": loss,
        "constant": constant,
        "better": better(value, constant),
    }


def undefined(metric: str, targets: np.ndarray, num_classes: int) -> bool:
    """Whether rows of these targets [N] give no value, or the same to every network."""
    if len(np.unique(targets)) < 2:
        return True
    return metric in METRICS and point(targets, np.eye(num_classes)[targets])[metric] is None


def check_choice(metric: str, targets: np.ndarray, classes: tuple[str, ...]) -> None:
    """Refuses validation rows, of targets [N], that cannot choose an epoch by this metric.

    Raises:
        InputError: they are of one class, or of grades that are all on one side of "referable".
    """
    present = [classes[k] for k in np.unique(targets)]
    if len(present) < 2:
        raise InputError(
            f"the {len(targets)} validation images are all of class {present[0]!r}, which a "
            "network that always answers it gets right, so they choose no epoch; give more images, "
            "or other data.fractions or data.split_file"
        )
    if undefined(metric, targets, len(classes)):
        raise InputError(
            f"train.select={metric} is not defined on validation images of classes "
            f"{', '.join(present)} alone; give train.select=kappa, or other data.fractions"
        )


def best_by(
    history: list[dict[str, Any]], targets: np.ndarray, selectors: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """The best epoch by each metric that the history has: metric -> {epoch, value, better}.

    Args:
        history: rows of epoch, val_loss and val_<metric>.
        targets: of the validation rows [N].
    """
    found = {}
    for name in selectors:
        known = [row for row in history if row.get(f"val_{name}") is not None]
        if known:
            constant = constant_answer(name, targets)
            best = max(
                known,
                key=lambda row: (
                    standing(row[f"val_{name}"], constant, row["val_loss"]),
                    -row["epoch"],
                ),
            )
            value = best[f"val_{name}"]
            found[name] = {
                "epoch": best["epoch"],
                "value": value,
                "better": better(value, constant),
            }
    return found
