"""Universal perturbations: one change that fools a network on many photographs.

    learned = learn_universal(predict, train_batches, Budget("linf", 4 / 255, 1 / 255, 10))
    columns = judge_universal(predict, test_batches, learned.perturbation, learned.row)

Learned by projected ascent on batches (Shafahi, Najibi, Xu, Dickerson, Davis and Goldstein 2020,
algorithm 2) rather than image by image (Moosavi-Dezfooli, Fawzi, Fawzi and Frossard 2017).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from fundusray.attacks.budget import Budget, Radius
from fundusray.attacks.gradient import (
    Predict,
    cross_entropy,
    input_gradient,
    perturbation_distance,
    steepest_move,
)
from fundusray.attacks.noise import random_offset
from fundusray.errors import InputError
from fundusray.hashed_numbers import uniform_numbers

MOST_LOSS = 9.0
"""What an image's loss counts at most, so that few images that are lost already do not take the
perturbation for themselves (Shafahi et al. 2020, equation 3)."""

SIGNS = 5
"""Use of the numbers that noise has its signs from."""

Batches = Iterable[tuple[Tensor, Tensor, Tensor]]
"""Of images [B, 3, S, S] in [0, 1], targets [B], rows [B]; gone through more than once."""


class UniversalPerturbation(NamedTuple):
    """One change for all images, and what it was learned from."""

    perturbation: Tensor
    """[3, S, S] float32, within the budget."""
    row: Tensor
    """int64 [N], in order."""


def learn_universal(
    predict: Predict,
    batches: Batches,
    budget: Budget,
    goal: int | None = None,
    seed: int = 0,
) -> UniversalPerturbation:
    """The perturbation after `budget.steps` passes over the batches, a step of `budget.step` a
    batch; the later half of the passes has steps half as long, the last quarter a fourth.

    It starts at a place within the budget that is a function of the seed, so that equal batches
    give an equal perturbation.

    Args:
        goal: the class that all images shall be taken for; None: any but their own.

    Raises:
        InputError: no batches, or a class that the network does not know.
    """
    perturbation, rows = None, set[int]()
    for turn in range(budget.steps):
        step = budget.step * _decay(turn / budget.steps)
        for image, target, row in batches:
            if perturbation is None:
                perturbation = _start(image, budget, seed)
            rows.update(row.tolist())
            gradient = _gradient(predict, image, target, perturbation, goal)
            move = steepest_move(gradient, Budget(budget.norm, budget.eps, step, 1))
            perturbation = _within(perturbation + move, budget)
    if perturbation is None:
        raise InputError("a universal perturbation is learned from images, got no batch of them")
    return UniversalPerturbation(perturbation[0], torch.tensor(sorted(rows)))


def sign_noise(perturbation: Tensor, radius: Radius, seed: int) -> Tensor:
    """Noise of the shape of a perturbation [3, S, S] and as long as the radius allows: every number
    as large as any other, its sign drawn from the seed. What a perturbation is worth is what it
    does beyond this."""
    first = torch.zeros(1, dtype=torch.int64, device=perturbation.device)
    num = perturbation.numel()
    sign = (uniform_numbers(seed, first, SIGNS, num) - 0.5).sign().view(perturbation.shape)
    return sign * (radius.eps if radius.norm == "linf" else radius.eps / num**0.5)


def with_universal(image: Tensor, perturbation: Tensor) -> Tensor:
    """Images [B, 3, S, S] with the perturbation [3, S, S], in [0, 1].

    Raises:
        InputError: they are of another size.
    """
    if image.shape[1:] != perturbation.shape:
        raise InputError(
            f"a universal perturbation of {_size(perturbation)} pixels does not fit images of "
            f"{_size(image)}; learn one at their size"
        )
    return (image.to(perturbation.dtype) + perturbation).clamp(0.0, 1.0)


def judge_universal(
    predict: Predict, batches: Batches, perturbation: Tensor, learned: Tensor
) -> dict[str, Tensor]:
    """What a perturbation [3, S, S] does to images it was not learned from, a value for each.

    Columns [N]: `row, target, clean_prediction, prediction, linf, l2`. The rate at which it fools
    (Moosavi-Dezfooli et al. 2017) is the share whose prediction is not the clean one.

    Args:
        learned: rows that it was learned from.

    Raises:
        InputError: one of them is among the images.
    """
    columns: dict[str, list[Tensor]] = {}
    known = set(learned.tolist())
    for image, target, row in batches:
        twice = sorted(known & set(row.tolist()))
        if twice:
            raise InputError(
                f"the perturbation was learned from row {twice[0]} and {len(twice) - 1} others of "
                "this batch; judge it on other rows"
            )
        attacked = with_universal(image, perturbation)
        with torch.no_grad():
            values = {
                "row": row,
                "target": target,
                "clean_prediction": predict(image).argmax(dim=1),
                "prediction": predict(attacked).argmax(dim=1),
                "linf": perturbation_distance(attacked, image, "linf"),
                "l2": perturbation_distance(attacked, image, "l2"),
            }
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return {name: torch.cat(parts) for name, parts in columns.items()}


def _decay(share: float) -> float:
    return 1.0 if share < 0.5 else 0.5 if share < 0.75 else 0.25


def _start(image: Tensor, budget: Budget, seed: int) -> Tensor:
    """[1, 3, S, S]"""
    first = torch.zeros(1, dtype=torch.int64, device=image.device)
    like = torch.zeros_like(image[:1], dtype=torch.float32)
    return random_offset(like, first, seed, budget)


def _gradient(
    predict: Predict, image: Tensor, target: Tensor, perturbation: Tensor, goal: int | None
) -> Tensor:
    """Of the mean over images of min(loss, MOST_LOSS), by the perturbation, [1, 3, S, S]."""
    ascend: Callable[[Tensor, Tensor], Tensor] = lambda logits, classes: (  # noqa: E731
        cross_entropy(logits, classes).clamp_max(MOST_LOSS)
    )
    if goal is not None:
        target = torch.full_like(target, goal)
        ascend = _towards(goal)
    moved = image.float() + perturbation
    gradient, _ = input_gradient(predict, moved.clamp(0.0, 1.0), target, ascend)
    # A pixel that is cut off at black or white does not follow the perturbation.
    inside = (moved > 0) & (moved < 1)
    return (gradient * inside).mean(dim=0, keepdim=True)


def _towards(goal: int) -> Callable[[Tensor, Tensor], Tensor]:
    def ascend(logits: Tensor, classes: Tensor) -> Tensor:
        if goal >= logits.shape[1]:
            raise InputError(
                f"goal={goal}: the network knows the classes 0 to {logits.shape[1] - 1}"
            )
        return -cross_entropy(logits, classes)

    return ascend


def _within(perturbation: Tensor, budget: Budget) -> Tensor:
    if budget.norm == "linf":
        return perturbation.clamp(-budget.eps, budget.eps)
    length = torch.linalg.vector_norm(perturbation).clamp_min(1e-30)
    return perturbation * (budget.eps / length).clamp_max(1.0)


def _size(image: Tensor) -> str:
    return f"{image.shape[-2]} x {image.shape[-1]}"
