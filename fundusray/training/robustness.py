"""How a network is judged under attack, and the alarm when its robustness was only apparent."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.attacks import Budget, evaluating, pgd_until_fooled, random_offset
from fundusray.attacks.gradient import distance
from fundusray.pipeline import Batch

SIGMAS = 4.0
"""Standard errors that a fall has to exceed: the best of many epochs is high by chance, too."""


class Attacked(NamedTuple):
    """What a network says of attacked images, one line per image."""

    rows: np.ndarray  # int64 [N]
    logits: np.ndarray  # float32 [N, K] of the attacked images
    linf: np.ndarray  # float64 [N] largest change of a pixel, in [0, 1]
    l2: np.ndarray  # float64 [N] length of the change, pixels in [0, 1]


class Alarm(NamedTuple):
    """Robustness that broke down."""

    epoch: int
    """In which it was seen."""
    back_to: int
    """The epoch of the best robust accuracy, to which a run should go back."""
    sentence: str


def attacked_logits(
    model: nn.Module,
    batches: Iterable[Batch],
    budget: Budget,
    seed: int,
    precision: AbstractContextManager[Any],
) -> Attacked:
    """Logits of the valid images, attacked until they are misclassified or steps are used up.

    argmax(logits) is the target exactly where neither the image nor any iterate fooled the network
    (`attacks.pgd_until_fooled`). An image's attack is a function of (seed, row). The model's mode
    and statistics stay as they are.
    """

    def predict(image: Tensor) -> Tensor:
        with precision:
            return model(image).float()

    parts = []
    with evaluating(model):
        for batch in batches:
            image, target, row = (part[batch.valid] for part in batch[:3])
            if not len(row):
                continue
            offset = random_offset(image, row, seed, budget) if budget.random_start else None
            found = pgd_until_fooled(predict, image, target, budget, offset)
            with torch.no_grad():
                logits = predict(found)
            far = [distance(found, image, norm) for norm in ("linf", "l2")]
            parts.append([part.cpu().numpy() for part in (row, logits, *far)])
    if not parts:
        none = np.zeros(0)
        return Attacked(np.zeros(0, np.int64), np.zeros((0, 0), np.float32), none, none)
    return Attacked(*map(np.concatenate, zip(*parts, strict=True)))


def alarm(history: list[dict[str, Any]], num: int) -> Alarm | None:
    """What to say if the newest epoch overfitted catastrophically, None if it did not.

    Of each epoch: `epoch`, `train_loss` (on training's own, weaker attacks) and
    `val_robust_accuracy` over `num` images under a stronger attack. The sign of it (Wong et al.
    2020; Andriushchenko and Flammarion 2020): the loss falls on while robust accuracy breaks down,
    here to less than half of the best epoch's and by more than chance.
    """
    if len(history) < 2:
        return None
    best = max(history[:-1], key=lambda row: row["val_robust_accuracy"])
    newest = history[-1]
    before, now = best["val_robust_accuracy"], newest["val_robust_accuracy"]
    falling = newest["train_loss"] < best["train_loss"]
    if not (falling and now < before / 2 and before - now > SIGMAS * _error(before, now, num)):
        return None
    sentence = (
        f"catastrophic overfitting: robust accuracy fell from {before:.3f} (epoch "
        f"{best['epoch']}) to {now:.3f} (epoch {newest['epoch']}) while the loss on training's own "
        f"attacks fell from {best['train_loss']:.3f} to {newest['train_loss']:.3f}; the network "
        f"has learned to mislead that attack. Go back to epoch {best['epoch']}, and train with a "
        "smaller adversarial.eps or with adversarial.method=pgd"
    )
    return Alarm(newest["epoch"], best["epoch"], sentence)


def _error(before: float, now: float, num: int) -> float:
    """Standard error of the difference of two accuracies over `num` images each.

    One success and one failure are added to each (Agresti and Caffo 2000), so that accuracies of 0
    and 1 have an error, too. The images are the same ones, so the true error is smaller.
    """
    rates = ((before * num + 1) / (num + 2), (now * num + 1) / (num + 2))
    return math.sqrt(sum(rate * (1 - rate) for rate in rates) / (num + 2))
