"""Figures of a network under attack, and the alarm when its robustness was only apparent.

A network that always answers the most frequent class cannot be attacked: its robust accuracy is
that class's share, its robust balanced accuracy one over the number of classes. Robustness is
therefore looked at above that: while a network begins to learn, robust accuracy mostly falls.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fundusray.config import Adversarial
from fundusray.tasks import Task

SIGMAS = 4.0
"""Standard errors that a fall has to exceed: the best of many epochs is high by chance, too."""
ABOVE = 2.0
"""Standard errors above the constant answer from which a network was robust at all."""
WEAK = ("fast", "free")
"""Methods whose attack is a single step, which networks learn to mislead."""


class CollapseAlarm(NamedTuple):
    """Robustness that broke down."""

    epoch: int
    """In which it was seen."""
    back_to: int
    """The epoch of the best robust balanced accuracy, to which a run should go back."""
    sentence: str


def spread_evenly(targets: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Places int64 [<= num] of rows with these targets [N], sorted: a random choice that takes as
    many of each class as of any other, as far as there are so many.

    Few rows of a rare class, drawn as often as it occurs, would decide a fifth of a balanced
    accuracy by two or three images.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    turn = np.empty(len(targets), np.int64)
    for k in np.unique(targets):
        mine = targets[order] == k
        turn[mine] = np.arange(mine.sum())
    return np.sort(order[np.argsort(turn, kind="stable")[:num]])


def robust_figures(
    task: Task, targets: np.ndarray, wrong: np.ndarray, whole: np.ndarray
) -> dict[str, Any]:
    """Figures of attacked rows by the classes of their targets [M] and which are `wrong` [M].

    `whole` [N] are the targets of all the rows they were taken from, class by class:

    robust_balanced_accuracy: the mean over the classes of the share that stays right;
    robust_error: its standard error. One success and one failure are added to each class (Agresti
        and Caffo 2000), so that shares of 0 and 1 have an error, too;
    robust_accuracy: of all the rows; each class counts as often as it occurs among them;
    robust_constant_accuracy, robust_chance: what always answering one class reaches at most, by
        accuracy and by balanced accuracy;
    robust_n: rows attacked.
    """
    classes = np.unique(targets)
    num = np.array([(targets == k).sum() for k in classes])
    right = np.array([(~wrong[targets == k]).sum() for k in classes])
    often = np.array([(whole == k).sum() for k in classes])
    rates = (right + 1) / (num + 2)
    return {
        "robust_balanced_accuracy": float((right / num).mean()),
        "robust_error": float(np.sqrt((rates * (1 - rates) / (num + 2)).sum()) / len(classes)),
        "robust_accuracy": float((right / num * often).sum() / often.sum()),
        "robust_constant_accuracy": task.constant_answer("robust_accuracy", whole),
        "robust_chance": task.constant_answer("robust_balanced_accuracy", targets),
        "robust_n": len(targets),
    }


def collapse_alarm(history: list[dict[str, Any]], settings: Adversarial) -> CollapseAlarm | None:
    """What to say if the newest epoch overfitted catastrophically, None if it did not.

    Of each epoch: `epoch`, `val_own_balanced_accuracy` under training's own attack, and what
    `robust_figures` finds under the attack that judges, each with val_ before it. The sign of it
    (Wong
    et al. 2020; Andriushchenko and Flammarion 2020): against its own attack the network holds,
    against another it breaks down, here to less than half of what the best epoch had above the
    constant answer, and by more than chance. A network whose robustness falls against both has
    merely begun to learn, or to trade robustness for accuracy.
    """
    if len(history) < 2:
        return None
    best = max(history[:-1], key=lambda row: row["val_robust_balanced_accuracy"])
    newest = history[-1]
    rows = (best, newest)
    before, now = (row["val_robust_balanced_accuracy"] for row in rows)
    own_before, own_now = (row["val_own_balanced_accuracy"] for row in rows)
    errors, chance = [row["val_robust_error"] for row in rows], newest["val_robust_chance"]
    robust = before - chance > ABOVE * errors[0]
    broken = now - chance < (before - chance) / 2 and before - now > SIGMAS * math.hypot(*errors)
    held = own_now - chance > max(own_before - chance, 0.0) / 2
    if not (robust and broken and held):
        return None
    sentence = (
        f"catastrophic overfitting: robust balanced accuracy fell from {before:.3f} (epoch "
        f"{best['epoch']}) to {now:.3f} (epoch {newest['epoch']}; a constant answer has "
        f"{chance:.3f}) under {settings.judge_steps}-step PGD, while under training's own attack "
        f"it went from {own_before:.3f} to {own_now:.3f}; the network has learned to mislead that "
        f"attack. Go back to epoch {best['epoch']}, and train with {_advice(settings)}"
    )
    return CollapseAlarm(newest["epoch"], best["epoch"], sentence)


def _advice(settings: Adversarial) -> str:
    """What helps against it, other than what was done."""
    if settings.method in WEAK:
        return "adversarial.method=pgd or a smaller adversarial.eps"
    return f"more adversarial.steps than {settings.steps} or a smaller adversarial.eps"
