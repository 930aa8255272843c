"""Targeted modulation: the smallest changes by which a network takes an image for another class.

Gaziv et al. (2023) change an image within a budget until a network, best an adversarially trained
one, answers a class that was chosen before, and look at what had to be changed; Kon (2024) does it
with photographs of the retina and the sex a network reads from them. The search is PGD towards the
class as the robustness library has it: from the image itself, and of all iterates the nearest to
the goal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from fundusray.attacks import Budget, Predict, parse_eps, pgd
from fundusray.attacks.budget import NORMS, usual_step
from fundusray.attacks.gradient import cross_entropy, input_gradient, perturbation_distance
from fundusray.attacks.losses import lead, rival_classes, towards
from fundusray.errors import InputError
from fundusray.keywords import AtLeast, OneOf
from fundusray.saliency.registry import GRADIENT_PASSES, MAPS, Attribution, MapProblem, chunked

NOWHERE = -1
"""The goal where none is named: of two classes the other one, of more the runner-up."""
EPS = "3unit01"
"""The usual budget: the L2 radius of the robustness library's ImageNet networks."""


class LengthText:
    """A length with its unit, as attacks are given it: 3unit01, 4/255."""

    need = "a length and its unit: 3unit01 (pixels in [0, 1]), 4/255 (8-bit levels)"

    def fits(self, value: Any) -> bool:
        try:
            parse_eps(str(value), "l2")
        except InputError:
            return False
        return True


@dataclass(frozen=True)
class Modulation:
    """Images that were led to another class."""

    image: Tensor
    """[B, 3, S, S] in [0, 1]: the modulated ones."""
    goal: Tensor
    """[B] int64: the class each was led to."""
    reached: Tensor
    """[B] bool: whether the network answers that class."""
    budget: Tensor
    """[B] int64: which of the budgets it is within: of a sweep the smallest that reached the goal,
    or the last."""
    distance: Tensor
    """[B] float64: how far each was moved, measured, in the budget's norm."""


def modulation_budget(eps: float, norm: str = "l2", steps: int = 20) -> Budget:
    """How a modulation searches: steps of 2.5 eps / steps from the image, the best iterate kept."""
    step = usual_step(eps, {"steps": steps})
    return Budget(norm, eps, step, steps, random_start=False, best=True)


def goal_classes(logits: Tensor, target: Tensor, goal: int = NOWHERE) -> Tensor:
    """The class each image is led to, int64 [B]: `goal`, or where none is named, or the image is of
    it, the class that is nearest to the target: of two the other one.

    Args:
        logits: [B, K] of the images as they are.
        target: [B], the class that each is led away from.

    Raises:
        InputError: a goal that the network does not know.
    """
    if goal >= logits.shape[1]:
        raise InputError(
            f"targeted_modulation(goal={goal}): the network knows the classes 0 to "
            f"{logits.shape[1] - 1}"
        )
    nearest = rival_classes(logits, target, 1)[:, 0]
    return nearest if goal == NOWHERE else torch.where(target == goal, nearest, goal)


def modulated(
    model: Predict, image: Tensor, goal: Tensor, budget: Budget, chunk: int = 32
) -> Modulation:
    """Images [B, 3, S, S] after PGD towards a class of each, within one budget.

    The budget is measured after the search; the model is in evaluation mode, its weights without
    gradients (`explainable`).
    """
    parts = [
        pgd(model, image[some], goal[some], budget, ascend=towards(cross_entropy))
        for some in chunked(len(image), chunk)
    ]
    led = torch.cat(parts) if parts else image
    with torch.no_grad():
        answers = [model(led[some]).argmax(dim=1) for some in chunked(len(image), chunk)]
    reached = (torch.cat(answers) if answers else goal) == goal
    distance = perturbation_distance(led, image, budget.norm)
    return Modulation(led, goal, reached, torch.zeros_like(goal), distance)


def modulated_within(
    model: Predict, image: Tensor, goal: Tensor, budgets: Sequence[Budget], chunk: int = 32
) -> Modulation:
    """Each image within the smallest of some budgets that reaches its goal, or within the last.

    Budgets lie within each other, so what a smaller one reaches counts as reached by the larger
    ones, and is not searched again: the share of images with `reached` and `budget` <= k is the
    rate at budget k.

    Raises:
        InputError: budgets of several norms, or that do not ascend.
    """
    radii = [budget.eps for budget in budgets]
    if not radii or radii != sorted(set(radii)) or len({budget.norm for budget in budgets}) > 1:
        raise InputError(
            f"targeted_modulation: budgets of one norm that ascend, got {list(budgets)}"
        )
    found = modulated(model, image, goal, budgets[0], chunk)
    for number, budget in enumerate(budgets[1:], 1):
        live = (~found.reached).nonzero()[:, 0]
        if not len(live):
            break
        fresh = modulated(model, image[live], goal[live], budget, chunk)
        found = replace(
            found,
            image=found.image.index_copy(0, live, fresh.image),
            reached=found.reached.index_copy(0, live, fresh.reached),
            budget=found.budget.index_fill(0, live, number),
            distance=found.distance.index_copy(0, live, fresh.distance),
        )
    return found


def modulation_strength(
    model: Predict, image: Tensor, led: Tensor, target: Tensor, goal: Tensor
) -> Tensor:
    """The difference image as a map of the class `target`, [B, 1, S, S].

    Each pixel has the change of that channel which was changed most, in size. Its sign says what
    was changed: + where the change by itself lowers the lead of the target over the goal, as far as
    the gradient at the image goes, so that what stood there spoke for the target; - where it raises
    the lead, and is undone by what happens elsewhere. (Whether a pixel became brighter or darker,
    the sign of the difference itself, says neither.)

    Args:
        image, led: [B, 3, S, S], before and after.
        target, goal: [B], the class that the images were led away from, and to.
    """
    difference = led - image
    gradient, _ = input_gradient(model, image, torch.stack([goal, target], dim=1), lead)
    raises = (difference * gradient).sum(dim=1, keepdim=True) > 0
    strength = difference.abs().amax(dim=1, keepdim=True)
    return torch.where(raises, -strength, strength)


def _passes(args: Mapping[str, Any], size: int) -> int:
    # One gradient more for the signs, and the best iterate is looked for once more.
    return GRADIENT_PASSES * (int(args["steps"]) + 1) + 2


@MAPS.register(
    "targeted_modulation",
    title="Targeted modulation",
    source="Gaziv et al. 2023; Kon 2024",
    passes=_passes,
)
def targeted_modulation(
    problem: MapProblem,
    *,
    eps: Annotated[str, LengthText()] = EPS,
    norm: Annotated[str, OneOf(*NORMS)] = "l2",
    steps: Annotated[int, AtLeast(1)] = 20,
    goal: Annotated[int, AtLeast(NOWHERE)] = NOWHERE,
) -> Attribution:
    """What PGD changes to make the explained class another one, see `modulation_strength`.

    Args:
        eps: how far an image may be moved, with its unit.
        goal: the class that is led to; -1, and for images that are explained as this very class:
            the other one, of more than two the runner-up.

    Raises:
        InputError: a goal that the network does not know, or more levels than there are.
    """
    budget = modulation_budget(parse_eps(eps, norm, "targeted_modulation.eps"), norm, steps)
    parts = []
    for some in chunked(len(problem.image), problem.chunk):
        image, target = problem.image[some], problem.target[some]
        to = goal_classes(problem.model(image).float(), target, goal)
        led = modulated(problem.model, image, to, budget, problem.chunk).image
        parts.append(modulation_strength(problem.model, image, led, target, to))
    return Attribution(torch.cat(parts))
