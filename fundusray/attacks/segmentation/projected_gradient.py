"""PGD on segmentations: start, step along the sign of the gradient, project."""

from collections.abc import Callable
from typing import Annotated

from torch import Tensor

from fundusray.attacks.budget import Budget, Length, usual_step
from fundusray.attacks.gradient import project_into_budget, steepest_move
from fundusray.attacks.noise import random_offset
from fundusray.attacks.segmentation.losses import cross_entropy_of_pixels
from fundusray.attacks.segmentation.registry import (
    SEGMENTATION_ATTACKS,
    PixelLoss,
    SegmentationProblem,
)
from fundusray.keywords import AtLeast, OneOf


def linf_budget(problem: SegmentationProblem, steps: int, step: float, start: str) -> Budget:
    """So many steps of `step`, 0: of 2.5 eps / steps, within the problem's eps; from a random
    place or from the image."""
    length = step or usual_step(problem.eps, {"steps": steps})
    return Budget("linf", problem.eps, length, steps, start == "random")


def stepped(
    problem: SegmentationProblem,
    budget: Budget,
    goal: Tensor,
    ascend_at: Callable[[int], PixelLoss],
    start: Tensor | None = None,
) -> Tensor:
    """Attacked images [B, 3, S, S] after the last step: x <- project(x + step sign(gradient))
    (Madry et al. 2018, section 2.1).

    Args:
        goal: int64 [B, S, S]: what the loss takes beside the logits.
        ascend_at: step, counted from 1 -> what it raises.
        start: images to start from, within the budget; None: as the budget says.
    """
    image = problem.image
    attacked = image if start is None else start
    if start is None and budget.random_start:
        offset = random_offset(image, problem.row, problem.seed, budget)
        attacked = project_into_budget(image + offset, image, budget)
    for number in range(1, budget.steps + 1):
        gradient, _ = problem.gradient(attacked, goal, ascend_at(number))
        attacked = project_into_budget(attacked + steepest_move(gradient, budget), image, budget)
    return attacked


@SEGMENTATION_ATTACKS.register(
    "pixel_pgd",
    title="projected gradient descent on the mean cross entropy of pixels",
    source="Madry et al. 2018, section 2.1; of segmentations: Arnab et al. 2018",
)
def pixel_pgd(
    problem: SegmentationProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = 20,
    step: Annotated[float, Length(usual_step)] = 0.0,
    start: Annotated[str, OneOf("random", "image")] = "random",
) -> Tensor:
    """Raises the mean cross entropy of an image's pixels; `step` 0 is 2.5 eps / steps."""
    budget = linf_budget(problem, steps, step, start)
    return stepped(problem, budget, problem.target, lambda number: cross_entropy_of_pixels)
