"""Halves of the validation rows judge each other, so that nothing is told by what it was chosen."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fundusray.config import Recipe, override
from fundusray.errors import DamagedError
from fundusray.metrics import point_figures
from fundusray.models import fit_thresholds
from fundusray.models.heads import border_class_logits
from fundusray.tasks import Classification
from fundusray.tasks.classification import logits_of, with_logits
from fundusray.training import best_epoch


def test_predictions_whose_network_is_no_more_are_not_done_without(
    make_trainer, tmp_path: Path
) -> None:
    """Two epochs are trained and judged, and the first one's predictions damaged or lost."""
    trainer = make_trainer(tmp_path / "run", data__fractions=(0.7, 0.3, 0.0))
    trainer.run()
    place = tmp_path / "run" / "epochs" / "0001.parquet"
    history = trainer.position.history
    assert trainer.validation.conclude(history)["held_out_by"] == "kappa"
    content = place.read_bytes()
    flipped = content[:50] + bytes([content[50] ^ 1]) + content[51:]
    for damage in (lambda: place.write_bytes(flipped), place.unlink):
        damage()
        with pytest.raises(
            DamagedError, match=rf"{place} is missing or damaged.*delete {tmp_path}/run"
        ):
            trainer.validation.conclude(history)


def held_out(
    logits: dict[int, np.ndarray],
    targets: np.ndarray,
    half: np.ndarray,
    metric: str,
    regression: bool = False,
) -> tuple[np.ndarray, list[int]]:
    """`best_epoch.held_out` of class logits [N, K]."""
    recipe = override(Recipe(), {"model.output": "regression"}) if regression else Recipe()
    num_classes = next(iter(logits.values())).shape[1]
    task = Classification(recipe, tuple(map(str, range(num_classes))))
    columns = {epoch: with_logits({"target": targets}, part) for epoch, part in logits.items()}
    joined, chosen = best_epoch.held_out(columns, targets, half, metric, task)
    assert (joined["target"] == targets).all()
    return logits_of(joined), chosen


def hot(answers: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[answers]


def test_each_half_is_told_by_the_epoch_the_other_chose() -> None:
    targets = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    half = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    wrong = 1 - targets
    first = hot(np.where(half == 0, targets, wrong), 2)  # right on half 0 alone
    second = hot(np.where(half == 1, targets, wrong), 2)
    joined, chosen = held_out({1: first, 2: second}, targets, half, "accuracy")
    assert chosen == [2, 1]
    assert point_figures(targets, joined)["accuracy"] == 0.0
    both = {1: first, 2: hot(targets, 2), 3: hot(targets, 2)}
    joined, chosen = held_out(both, targets, half, "accuracy")
    assert chosen == [2, 1] and point_figures(targets, joined)["accuracy"] == 0.5


@pytest.mark.parametrize("epochs", [1, 3])
def test_thresholds_of_a_regression_are_not_fitted_to_what_they_judge(epochs: int) -> None:
    """Scores that say nothing have no kappa; fitted to the same rows, they seem to have one."""
    told, flattered = [], []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        targets, half = draw.integers(0, 5, 60), np.arange(60) % 2
        logits = {}
        for epoch in range(epochs):
            scores = draw.normal(2, 1, 60).astype(np.float32)
            fitted = fit_thresholds(scores, targets, 5)
            logits[epoch] = border_class_logits(torch.from_numpy(scores)[:, None] - fitted).numpy()
        flattered.append(max(point_figures(targets, given)["kappa"] for given in logits.values()))
        joined, _ = held_out(logits, targets, half, "kappa", regression=True)
        told.append(point_figures(targets, joined)["kappa"])
    error = np.std(told) / np.sqrt(len(told))
    assert np.mean(flattered) > 0.1
    assert abs(np.mean(told)) < 4 * error < 0.1


def test_a_regression_that_knows_its_rows_still_does() -> None:
    targets = np.tile(np.arange(5), 12)
    scores = (targets + np.random.default_rng(0).normal(0, 0.1, 60)).astype(np.float32)
    given = border_class_logits(
        torch.from_numpy(scores)[:, None] - fit_thresholds(scores, targets, 5)
    ).numpy()
    half = np.arange(60) // 30
    joined, chosen = held_out({7: given}, targets, half, "kappa", regression=True)
    assert chosen == [7, 7] and point_figures(targets, joined)["kappa"] > 0.97


def test_a_half_without_a_learned_epoch_chooses_by_its_loss() -> None:
    """Half 1 is of one class, so no kappa chooses for half 0; epoch 2 is the surer one there."""
    targets = np.array([0, 1, 0, 1, 0, 0, 0, 0])
    half = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    first, second = hot(targets, 2), 3 * hot(targets, 2)
    _, chosen = held_out({1: first, 2: second}, targets, half, "kappa")
    assert chosen == [2, 1]


def test_a_constant_epoch_is_not_chosen_by_its_accuracy() -> None:
    """Three of four rows are of class 0; an epoch that knows half of either class has less
    accuracy than always answering 0, and a lower loss."""
    targets = np.tile([0, 0, 0, 1], 8)
    half = np.repeat([0, 1], 16)
    constant = np.tile(np.float32([3, -3]), (32, 1))
    unsure = np.where(np.arange(32)[:, None] % 8 < 5, hot(targets, 2), hot(1 - targets, 2))
    _, chosen = held_out({1: constant, 2: unsure}, targets, half, "accuracy")
    assert point_figures(targets, unsure)["accuracy"] < point_figures(targets, constant)["accuracy"]
    assert chosen == [2, 2]
