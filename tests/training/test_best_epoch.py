"""An epoch is chosen by what it has above a network that always answers the same."""

from typing import Any

import numpy as np
import pytest

from fundusray.config import Recipe
from fundusray.errors import InputError
from fundusray.metrics import constant_answer, point_figures, selectors
from fundusray.metrics.registered import OF_MASKS
from fundusray.tasks import Classification
from fundusray.tasks.classification import check_choice, is_undefined
from fundusray.training.best_epoch import best_by, epoch_standing, new_best_epoch

TARGETS = np.repeat(np.arange(5), [55, 28, 19, 12, 6])
CLASSES = ("0", "1", "2", "3", "4")
TASK = Classification(Recipe(), CLASSES)


def test_the_constant_answer_is_what_the_metrics_say_of_it() -> None:
    logits = np.tile([2.0, 1.0, 0.0, 0.0, 0.0], (len(TARGETS), 1))
    for name, value in point_figures(TARGETS, logits).items():
        assert constant_answer(name, TARGETS) == pytest.approx(value), name
        if name.endswith("accuracy"):
            assert constant_answer(f"robust_{name}", TARGETS) == pytest.approx(value)


@pytest.mark.parametrize("metric", [name for name in selectors() if name not in OF_MASKS])
def test_a_constant_epoch_never_wins_over_a_learned_one(metric: str) -> None:
    constant = constant_answer(metric, TARGETS)
    always, learned = (
        epoch_standing(constant, constant, 0.1),
        epoch_standing(constant + 0.01, constant, 9.0),
    )
    assert learned > always


def test_without_a_learned_epoch_the_loss_decides() -> None:
    """By accuracy nothing beats .458; the epoch that has begun to learn has the lower loss."""
    assert epoch_standing(0.42, 0.458, 1.1) > epoch_standing(0.458, 0.458, 1.4)
    assert epoch_standing(None, 0.5, 1.1) > epoch_standing(0.5, 0.5, 1.4)


def epoch(number: int, loss: float, **values: float | None) -> dict[str, Any]:
    return {"epoch": number, "val_loss": loss} | {f"val_{k}": v for k, v in values.items()}


def test_the_best_epoch_by_each_metric() -> None:
    """As a run went that learned in its fourth epoch: the first three answer class 0 alone."""
    share = 55 / 120
    history = [
        epoch(1, 1.44, kappa=0.0, accuracy=share, robust_accuracy=share, auc_referable=None),
        epoch(2, 1.73, kappa=0.0, accuracy=share, robust_accuracy=share, auc_referable=None),
        epoch(3, 1.58, kappa=0.0, accuracy=share, robust_accuracy=0.29, auc_referable=None),
        epoch(4, 1.16, kappa=0.41, accuracy=0.52, robust_accuracy=0.0, auc_referable=None),
    ]
    found = best_by(history, TASK, TARGETS)
    assert found["kappa"] == {"epoch": 4, "value": 0.41, "better": True}
    assert found["accuracy"] == {"epoch": 4, "value": 0.52, "better": True}
    assert found["robust_accuracy"] == {"epoch": 4, "value": 0.0, "better": False}
    assert set(found) == {"kappa", "accuracy", "robust_accuracy"}
    # Of equal epochs the earliest.
    twice = [epoch(1, 1.0, kappa=0.3), epoch(2, 0.9, kappa=0.3)]
    assert best_by(twice, TASK, TARGETS)["kappa"]["epoch"] == 1


def test_a_run_keeps_the_first_epoch_that_has_learned() -> None:
    """The same run epoch by epoch; before, the best of what is no better is kept, and said so."""
    losses, kappas = [1.44, 1.73, 1.16, 1.2], [0.0, 0.0, 0.41, 0.41]
    best: dict[str, Any] = {}
    kept = []
    for number, (loss, kappa) in enumerate(zip(losses, kappas, strict=True), 1):
        best = new_best_epoch(epoch(number, loss, kappa=kappa), best, TASK, TARGETS) or best
        kept.append((best["epoch"], best["better"]))
    assert kept == [(1, False), (1, False), (3, True), (3, True)]
    assert best == {
        "epoch": 3, "metric": "val_kappa", "value": 0.41, "loss": 1.16, "constant": 0.0,
        "better": True,
    }  # fmt: skip


def test_rows_that_cannot_choose_are_refused() -> None:
    for metric in selectors():
        check_choice(metric, TARGETS, CLASSES)
        with pytest.raises(InputError, match="all of class '3'"):
            check_choice(metric, np.full(9, 3), CLASSES)
    mild = np.array([0, 1, 1, 0])
    check_choice("kappa", mild, CLASSES)
    with pytest.raises(
        InputError, match=r"train.select=auc_referable is not defined .* 0, 1 alone"
    ):
        check_choice("auc_referable", mild, CLASSES)
    assert not is_undefined("auc_referable", mild, num_classes=2)
