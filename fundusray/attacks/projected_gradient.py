"""FGSM and PGD by which networks are judged: with restarts, momentum, a class to lead to.

Training's own, which keeps no account of success, is `gradient.pgd`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from fundusray.attacks.budget import Budget, Length, usual_step
from fundusray.attacks.gradient import (
    Ascend,
    Success,
    cross_entropy,
    project_into_budget,
    steepest_move,
)
from fundusray.attacks.losses import LOSSES, towards
from fundusray.attacks.noise import random_offset
from fundusray.attacks.registry import (
    ATTACKS,
    GRADIENT_PASSES,
    AttackProblem,
    images_after_tries,
)
from fundusray.errors import InputError
from fundusray.keywords import AtLeast, OneOf

NOWHERE = -1
"""The class of an attack that leads to none: any other than the target will do."""


@dataclass(frozen=True)
class Descent:
    """How PGD goes along gradients."""

    budget: Budget
    ascend: Ascend = cross_entropy
    """(logits, goal) -> what is raised, [B]."""
    to: int = NOWHERE
    """The goal where it is another class than the target."""
    momentum: float = 0.0
    until_success: bool = True
    """Whether an image is done as soon as it succeeds; otherwise the last iterate comes back."""

    def goal(self, target: Tensor) -> Tensor:
        """What `ascend` takes beside the logits, [B]."""
        return target if self.to == NOWHERE else torch.full_like(target, self.to)


def descended(problem: AttackProblem, descent: Descent, turn: int = 0) -> Tensor:
    """Attacked images [B, 3, S, S]: x <- project(x + move) (Madry et al. 2018, section 2.1).

    With `until_success` each is as it was when it first succeeded, else after the last step; those
    that have succeeded are not computed again.
    """
    image, budget, live = problem.image, descent.budget, problem.places()
    attacked, goal = image.clone(), descent.goal(problem.target)
    if budget.random_start:
        offset = random_offset(image, problem.row, problem.seed, budget, turn)
        attacked = project_into_budget(image + offset, image, budget)
    velocity = torch.zeros_like(image) if descent.momentum else None
    for _ in range(budget.steps):
        if descent.until_success:
            survive, gradient = problem.gradient_of_survivors(
                attacked[live], live, goal[live], descent.ascend
            )
            live = live[survive]
            if not len(live):
                break
        else:
            gradient, _ = problem.network.gradient(attacked[live], live, goal[live], descent.ascend)
        if velocity is not None:
            gradient = descent.momentum * velocity[live] + _of_unit_sum(gradient)
            velocity[live] = gradient
        moved = attacked[live] + steepest_move(gradient, budget)
        attacked[live] = project_into_budget(moved, image[live], budget)
    return attacked


def _of_unit_sum(gradient: Tensor) -> Tensor:
    """Each gradient over the sum of its absolute values (Dong et al. 2018, eq. 6)."""
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    scaled = gradient / torch.where(largest > 0, largest, 1.0)
    return scaled / scaled.abs().sum(dim=(1, 2, 3), keepdim=True).clamp_min(1.0)


def reached_class(args: Mapping[str, Any], success: Success) -> Success:
    """Success of PGD: with `to`, that the network answers that class of an image of another one."""
    to = args["to"]
    if to == NOWHERE:
        return success

    def reached(logits: Tensor, target: Tensor) -> Tensor:
        if to >= logits.shape[1]:
            raise InputError(
                f"pgd(to={to}): the network knows the classes 0 to {logits.shape[1] - 1}"
            )
        return (logits.argmax(dim=1) == to) & (target != to)

    return reached


@ATTACKS.register(
    "fgsm",
    title="fast gradient sign method",
    source="Goodfellow et al. 2015, section 4",
    passes=lambda args, num_classes: GRADIENT_PASSES,
)
def fast_gradient_sign(problem: AttackProblem) -> Tensor:
    """One step of eps from the image along the gradient of the cross entropy."""
    budget = Budget(problem.norm, problem.eps, problem.eps, 1, random_start=False)
    return descended(problem, Descent(budget))


@ATTACKS.register(
    "pgd",
    title="projected gradient descent",
    source="Madry et al. 2018, section 2.1",
    success=reached_class,
)
def projected_gradient_descent(
    problem: AttackProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = 20,
    step: Annotated[float, Length(usual_step)] = 0.0,
    start: Annotated[str, OneOf("random", "image")] = "random",
    restarts: Annotated[int, AtLeast(1)] = 1,
    momentum: Annotated[float, AtLeast(0)] = 0.0,
    keep: Annotated[str, OneOf("any", "last")] = "any",
    to: Annotated[int, AtLeast(NOWHERE)] = NOWHERE,
    loss: Annotated[str, OneOf(*LOSSES)] = "cross_entropy",
) -> Tensor:
    """Steps along the gradient of a loss, each followed by the projection into the budget.

    Args:
        step: 0 is 2.5 eps / steps.
        restarts: from other places, of what the earlier ones left.
        momentum: share of the earlier gradients (MI-FGSM, Dong et al. 2018, eq. 6).
        keep: `any`: an image is done as soon as it succeeds; `last`: what the last step gives.
        to: the class that is led to; -1: away from the target.

    Raises:
        InputError: restarts that would be the same, or a class that the network does not know.
    """
    if start == "image" and restarts > 1:
        raise InputError(
            f"pgd(start=image, restarts={restarts}): from the image itself every restart is the "
            "same; leave start out, or restarts"
        )
    length = step or usual_step(problem.eps, {"steps": steps})
    budget = Budget(problem.norm, problem.eps, length, steps, start == "random")
    ascend = LOSSES[loss] if to == NOWHERE else towards(LOSSES[loss])
    descent = Descent(budget, ascend, to, momentum, keep == "any")
    # Images of the class that is led to stay as they are.
    places = (problem.target != to).nonzero()[:, 0]
    attacked = problem.image.clone()

    def attempt(part: AttackProblem, _: Tensor, turn: int) -> Tensor:
        return descended(part, descent, turn)

    tries = [partial(attempt, turn=turn) for turn in range(restarts)]
    attacked[places] = images_after_tries(problem.part(places), tries)
    return attacked
