"""SEA: one APGD for each of several losses of pixels; the worst of each image is chosen later.

Follows the authors' code in that the radius shrinks on the way, in that the length of steps is
chosen by a loss without a mask, and in that the iterate with the fewest right pixels is kept. Their
first version has the losses of pixels that are right on a sphere, their last one the balanced one;
here are both.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from fundusray.attacks.auto_pgd import FIRST_STEP, Ascent, looks_at_step
from fundusray.attacks.budget import Budget
from fundusray.attacks.gradient import project_into_budget
from fundusray.attacks.noise import random_offset
from fundusray.attacks.registry import GRADIENT_PASSES
from fundusray.attacks.segmentation.losses import (
    balanced_masked_cross_entropy,
    cross_entropy_of_pixels,
    jensen_shannon,
    masked_cross_entropy,
    masked_spherical,
    right_pixels,
    spherical,
)
from fundusray.attacks.segmentation.registry import (
    SEGMENTATION_ATTACKS,
    PixelLoss,
    SegmentationProblem,
    mean_over_pixels,
)
from fundusray.keywords import AtLeast

RADII = (2.0, 1.5, 1.0)
"""Of eps, one after the other (Croce et al. 2024, section 2)."""
SHARES = (0.3, 0.3)
"""Of all steps within the first radii; the last has the rest."""


class FollowedLoss(NamedTuple):
    """A loss whose gradient is followed, and the one by which the length of steps is chosen: a
    mask makes the first one fall as pixels become wrong."""

    ascend: PixelLoss
    judge: PixelLoss


SEA_LOSSES = {
    "jensen_shannon": FollowedLoss(jensen_shannon, cross_entropy_of_pixels),
    "masked_cross_entropy": FollowedLoss(masked_cross_entropy, cross_entropy_of_pixels),
    "masked_spherical": FollowedLoss(masked_spherical, spherical),
    "balanced_cross_entropy": FollowedLoss(balanced_masked_cross_entropy, cross_entropy_of_pixels),
}


def steps_of_radii(steps: int) -> tuple[int, int, int]:
    """How many of all steps are taken within each of RADII."""
    first, second = (int(share * steps) for share in SHARES)
    return first, second, steps - first - second


def _passes(args: Mapping[str, Any]) -> int:
    return GRADIENT_PASSES * len(SEA_LOSSES) * (int(args["steps"]) + len(RADII))


@SEGMENTATION_ATTACKS.register(
    "sea",
    title="segmentation ensemble attack",
    source="Croce, Singh and Hein 2024, section 2",
    passes=_passes,
    candidates=tuple(SEA_LOSSES),
)
def sea(
    problem: SegmentationProblem, *, steps: Annotated[int, AtLeast(1)] = 300
) -> dict[str, Tensor]:
    """Name of each loss -> images [B, 3, S, S] after so many steps with it."""
    return {
        name: within_shrinking_radius(problem, loss, steps, turn)
        for turn, (name, loss) in enumerate(SEA_LOSSES.items())
    }


def within_shrinking_radius(
    problem: SegmentationProblem, loss: FollowedLoss, steps: int, turn: int = 0
) -> Tensor:
    """Images [B, 3, S, S] within eps: APGD within 2 eps, from there within 1.5 eps, then eps.

    Args:
        turn: which of several random starts.
    """
    image, attacked = problem.image, problem.image
    for radius, num in zip(RADII, steps_of_radii(steps), strict=True):
        budget = Budget("linf", radius * problem.eps, 1.0, num)
        if radius == RADII[0]:
            offset = random_offset(image, problem.row, problem.seed, budget, turn)
            attacked = image + offset
        attacked = project_into_budget(attacked, image, budget)
        attacked = _of_fewest_right_pixels(problem, attacked, budget, loss)
    return attacked


def _of_fewest_right_pixels(
    problem: SegmentationProblem, start: Tensor, budget: Budget, loss: FollowedLoss
) -> Tensor:
    """Of each image's iterates, the start included, the one with the fewest right pixels, of equal
    ones the last (Croce and Hein 2020, algorithm 1, on an image's mean loss)."""
    target, places = problem.target, torch.arange(len(start), device=start.device)
    gradient, logits = problem.gradient(start, target, loss.ascend)
    value = mean_over_pixels(loss.judge(logits, target))
    state = Ascent.starting(places, start, gradient, value, FIRST_STEP * budget.eps)
    worst, fewest = start, right_pixels(logits, target).flatten(1).sum(dim=1)
    for number, period in enumerate(looks_at_step(budget.steps)):
        moved = state.next_images(problem.image, budget, first=not number)
        gradient, logits = problem.gradient(moved, target, loss.ascend)
        right = right_pixels(logits, target).flatten(1).sum(dim=1)
        worst = torch.where((right <= fewest)[:, None, None, None], moved, worst)
        fewest = torch.minimum(fewest, right)
        state.advance(moved, gradient, mean_over_pixels(loss.judge(logits, target)))
        if period:
            state.look_at_step(period)
    return worst
