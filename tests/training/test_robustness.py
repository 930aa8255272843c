"""Figures under attack; the alarm is for a breakdown and nothing else."""

from typing import Any

import numpy as np
import pytest

from fundusray.config import Adversarial, Recipe
from fundusray.tasks import Classification
from fundusray.training.robustness import collapse_alarm, robust_figures, spread_evenly

TASK = Classification(Recipe(), ("a", "b", "c", "d", "e"))


def judged(right: list[int], num: int, own: float, epoch: int) -> dict[str, Any]:
    """An epoch's row: of `num` attacked images of each class so many stay right."""
    targets = np.repeat(np.arange(len(right)), num)
    answers = np.concatenate(
        [np.where(np.arange(num) < r, k, (k + 1) % len(right)) for k, r in enumerate(right)]
    )
    row = robust_figures(TASK, targets, answers != targets, targets)
    return {f"val_{name}": value for name, value in row.items()} | {
        "epoch": epoch,
        "val_own_balanced_accuracy": own,
    }


def epochs(
    robust: list[float], own: list[float] | None = None, num: int = 48, classes: int = 5
) -> list[dict[str, Any]]:
    """Rows of epochs with these robust balanced accuracies, equal in all classes."""
    own = own or [0.6 + 0.05 * i for i in range(len(robust))]
    return [
        judged([round(r * num)] * classes, num, o, i + 1)
        for i, (r, o) in enumerate(zip(robust, own, strict=True))
    ]


FAST = Adversarial(method="fast", eps="8/255", judge_steps=20)


def test_a_breakdown_is_told_with_the_way_back() -> None:
    history = epochs([0.25, 0.5, 0.45, 0.0], [0.3, 0.7, 0.8, 0.96])
    told = collapse_alarm(history, FAST)
    assert told is not None
    assert (told.epoch, told.back_to) == (4, 2)
    for part in (
        "0.500 (epoch 2)", "0.000 (epoch 4; a constant answer has 0.200) under 20-step PGD",
        "from 0.700 to 0.960", "Go back to epoch 2", "adversarial.method=pgd or a smaller",
    ):  # fmt: skip
        assert part in told.sentence


@pytest.mark.parametrize("method", ["pgd", "trades", "mart"])
def test_what_was_done_is_not_advised(method: str) -> None:
    told = collapse_alarm(epochs([0.5, 0.0]), Adversarial(method=method, eps="8/255", steps=2))
    assert told is not None
    assert "adversarial.method" not in told.sentence
    assert "more adversarial.steps than 2" in told.sentence


def test_a_network_that_begins_to_learn_is_no_breakdown() -> None:
    """Two epochs that answer the most frequent class, which no attack changes, then one that
    knows the classes and is fooled."""
    targets = np.repeat(np.arange(5), [55, 28, 19, 12, 6])
    always = robust_figures(TASK, targets, targets != 0, targets)
    fooled = robust_figures(TASK, targets, np.ones(120, bool), targets)
    assert always["robust_accuracy"] == pytest.approx(55 / 120)
    assert always["robust_accuracy"] == always["robust_constant_accuracy"]
    assert always["robust_balanced_accuracy"] == always["robust_chance"] == 0.2
    assert fooled["robust_accuracy"] == 0.0
    history = [
        {f"val_{name}": value for name, value in row.items()}
        | {"epoch": epoch, "val_own_balanced_accuracy": own}
        for epoch, (row, own) in enumerate([(always, 0.2), (always, 0.2), (fooled, 0.4)], 1)
    ]
    assert all(collapse_alarm(history[:n], FAST) is None for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("robust", "own", "num"),
    [
        ([], None, 48),
        ([0.0], None, 48),  # nothing to fall from
        ([0.3, 0.4, 0.5], None, 48),  # learning
        ([0.6, 0.45], None, 48),  # a fall, not to half of what is above 0.2
        ([0.5, 0.1], [0.55, 0.2], 48),  # its own attack fools it as well
        ([0.5, 0.1], [0.1, 0.18], 48),  # it always was fooled by its own, which is stronger
        ([0.5, 0.1, 0.48], None, 48),  # recovered
        ([0.34, 0.0], None, 3),  # 5 of 15 and 0 of 15: chance
        ([0.2, 0.0], None, 48),  # no better than a constant answer before
        ([0.0, 0.0], None, 48),
    ],
)
def test_no_alarm(robust: list[float], own: list[float] | None, num: int) -> None:
    assert collapse_alarm(epochs(robust, own, num), FAST) is None


@pytest.mark.parametrize(
    ("robust", "num"), [([1.0, 0.0], 10), ([0.4, 0.1], 48), ([0.6, 0.2], 24), ([0.5, 0.25], 60)]
)
def test_alarm(robust: list[float], num: int) -> None:
    told = collapse_alarm(epochs(robust, None, num), FAST)
    assert told is not None
    assert told.back_to == 1


def test_the_alarm_sees_a_recorded_collapse() -> None:
    """What tests/training/test_collapse.py measured every ten epochs: two classes, 120 images."""
    robust = [0.5, 0.492, 0.608, 0.508, 0.658, 0.65, 0.658, 0.675, 0.442, 0.55, 0.15, 0.217]
    own = [0.5, 0.533, 0.608, 0.617, 0.792, 0.8, 0.85, 0.858, 0.875, 0.883, 0.917, 0.85]
    history = epochs(robust, own, num=60, classes=2)
    rung = [n for n in range(1, 13) if collapse_alarm(history[:n], FAST)]
    assert rung == [11, 12]


def test_chance_rarely_rings() -> None:
    """Ten epochs at the same true robustness of 0.35, 12 images of each of five classes, the own
    attack held."""
    generator = np.random.default_rng(0)
    rung = 0
    for _ in range(300):
        history = [
            judged(generator.binomial(12, 0.35, 5).tolist(), 12, 0.8, epoch)
            for epoch in range(1, 11)
        ]
        rung += any(collapse_alarm(history[: n + 1], FAST) is not None for n in range(10))
    assert rung <= 6


def test_judged_rows_are_as_many_of_each_class_as_there_are() -> None:
    targets = np.random.default_rng(3).permutation(np.repeat(np.arange(5), [60, 20, 20, 12, 8]))
    chosen = spread_evenly(targets, 80, seed=0)
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(targets[chosen]).tolist() == [20, 20, 20, 12, 8]
    few = np.bincount(targets[spread_evenly(targets, 12, seed=0)])
    assert sorted(few) == [2, 2, 2, 3, 3]
    assert np.array_equal(chosen, spread_evenly(targets, 80, seed=0))
    assert not np.array_equal(chosen, spread_evenly(targets, 80, seed=1))
    assert np.array_equal(spread_evenly(targets, 500, seed=1), np.arange(120))


def test_robust_accuracy_counts_classes_as_often_as_they_occur() -> None:
    """Ten rows of each of two classes are attacked, of which one is nine in ten."""
    targets = np.repeat([0, 1], 10)
    answers = np.where(np.arange(20) < 8, targets, 1 - targets)  # 8 of 10, 0 of 10
    found = robust_figures(TASK, targets, answers != targets, np.repeat([0, 1], [90, 10]))
    assert found["robust_accuracy"] == pytest.approx(0.72)
    assert found["robust_balanced_accuracy"] == pytest.approx(0.4)
    assert found["robust_constant_accuracy"] == 0.9 and found["robust_chance"] == 0.5
    spread = (9 / 12 * 3 / 12 + 1 / 12 * 11 / 12) / 12
    assert found["robust_error"] == pytest.approx(spread**0.5 / 2)
