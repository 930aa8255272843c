"""SegPGD: first the pixels that are right, later those that are wrong as well."""

from typing import Annotated

from torch import Tensor

from fundusray.attacks.budget import Length, usual_step
from fundusray.attacks.segmentation.losses import split_cross_entropy
from fundusray.attacks.segmentation.projected_gradient import linf_budget, stepped
from fundusray.attacks.segmentation.registry import SEGMENTATION_ATTACKS, SegmentationProblem
from fundusray.keywords import AtLeast, OneOf


def share_of_wrong_pixels(step: int, steps: int) -> float:
    """The weight of wrong pixels at a step, counted from 1: (t - 1) / 2T, from 0 to below 1/2 (Gu
    et al. 2022, algorithm 1)."""
    return (step - 1) / (2 * steps)


@SEGMENTATION_ATTACKS.register("segpgd", title="SegPGD", source="Gu et al. 2022, algorithm 1")
def segpgd(
    problem: SegmentationProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = 20,
    step: Annotated[float, Length(usual_step)] = 0.0,
    start: Annotated[str, OneOf("random", "image")] = "random",
) -> Tensor:
    """Raises the cross entropy of right pixels and, more from step to step, of wrong ones; `step` 0
    is 2.5 eps / steps."""
    budget = linf_budget(problem, steps, step, start)
    return stepped(
        problem,
        budget,
        problem.target,
        lambda number: split_cross_entropy(share_of_wrong_pixels(number, steps)),
    )
