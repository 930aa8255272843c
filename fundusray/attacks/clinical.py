"""Attacks that do what harms a patient: referable disease called healthy, a grade far off.

They need classes in order. What they are after is their own (`AttackFacts.success`): a wrong class
alone is not enough. `AttackFacts.concerns` says which images they are about.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from fundusray.attacks.budget import Budget, usual_step
from fundusray.attacks.gradient import Ascend, Success
from fundusray.attacks.projected_gradient import Descent, descended
from fundusray.attacks.registry import (
    ATTACKS,
    GRADIENT_PASSES,
    AttackProblem,
    images_after_tries,
)
from fundusray.errors import InputError
from fundusray.keywords import AtLeast
from fundusray.metrics.auc import first_referable


def _passes(args: Mapping[str, Any], num_classes: int) -> int:
    """A gradient a step, and one look at the end of each start."""
    return int(args["restarts"]) * (GRADIENT_PASSES * int(args["steps"]) + 1)


def is_referable(grade: Tensor, num_classes: int) -> Tensor:
    """Whether a class is referable disease, bool [B]: grade 2 and above, or class 1 of two."""
    return grade >= first_referable(num_classes)


def called_healthy(outputs: Tensor, target: Tensor) -> Tensor:
    """Whether disease that is referable is answered by a class that is not, bool [B]."""
    num_classes = outputs.shape[1]
    answer = outputs.argmax(dim=1)
    return is_referable(target, num_classes) & ~is_referable(answer, num_classes)


def healthy_over_referable(logits: Tensor, target: Tensor) -> Tensor:
    """Log odds of "not referable", [B]."""
    first = first_referable(logits.shape[1])
    return logits[:, :first].logsumexp(dim=1) - logits[:, first:].logsumexp(dim=1)


def log_disagreement(logits: Tensor, target: Tensor) -> Tensor:
    """log sum_k p_k (k - y)^2 of the probabilities p, [B].

    The logarithm has the gradient's direction of the sum itself, and one where the network is so
    sure that all p_k but one are 0 in float32.
    """
    grades = torch.arange(logits.shape[1], device=logits.device)
    away = (grades - target[:, None]).abs().float()
    return (logits.log_softmax(dim=1) + 2 * away.log()).logsumexp(dim=1)


def _missed(args: Mapping[str, Any], success: Success) -> Success:
    return called_healthy


@ATTACKS.register(
    "referable_missed",
    title="referable disease missed",
    source="ours; steps of Madry et al. 2018, section 2.1",
    passes=_passes,
    success=_missed,
    concerns=is_referable,
    needs_order=True,
)
def referable_missed(
    problem: AttackProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = 20,
    restarts: Annotated[int, AtLeast(1)] = 1,
) -> Tensor:
    """Referable disease towards "not referable": raises the log odds of the classes below it over
    the others. Images without referable disease come back as they are, asked about once."""
    places = problem.places()
    num_classes = problem.network.logits(problem.image, places).shape[1]
    concerned = places[is_referable(problem.target, num_classes)]
    return _descended(problem, concerned, healthy_over_referable, steps, restarts)


def _far_off(args: Mapping[str, Any], success: Success) -> Success:
    grades = int(args["grades"])

    def far_off(outputs: Tensor, target: Tensor) -> Tensor:
        num_classes = outputs.shape[1]
        if grades >= num_classes:
            raise InputError(
                f"kappa_loss(grades={grades}): {num_classes} classes are {num_classes - 1} apart "
                f"at most; give grades=1 to {num_classes - 1}"
            )
        return (outputs.argmax(dim=1) - target).abs() >= grades

    return far_off


@ATTACKS.register(
    "kappa_loss",
    title="quadratic disagreement",
    source="ours, weights of Cohen 1968; steps of Madry et al. 2018, section 2.1",
    passes=_passes,
    success=_far_off,
    needs_order=True,
)
def kappa_loss(
    problem: AttackProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = 20,
    restarts: Annotated[int, AtLeast(1)] = 1,
    grades: Annotated[int, AtLeast(1)] = 2,
) -> Tensor:
    """An answer at least `grades` classes off the right one: raises the expected quadratic
    disagreement, which is what quadratic kappa counts.

    Raises:
        InputError: no two classes are so far apart.
    """
    return _descended(problem, problem.places(), log_disagreement, steps, restarts)


def _descended(
    problem: AttackProblem, places: Tensor, ascend: Ascend, steps: int, restarts: int
) -> Tensor:
    """All images, those at `places` [b] after PGD from random starts on what `ascend` gives."""
    length = usual_step(problem.eps, {"steps": steps})
    descent = Descent(Budget(problem.norm, problem.eps, length, steps), ascend)

    def attempt(part: AttackProblem, _: Tensor, turn: int) -> Tensor:
        return descended(part, descent, turn)

    tries = [partial(attempt, turn=turn) for turn in range(restarts)]
    attacked = problem.image.clone()
    if len(places):
        attacked[places] = images_after_tries(problem.part(places), tries)
    return attacked
