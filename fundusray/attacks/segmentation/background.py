"""The attack of Avramidis et al.: every pixel is led to one class, by default the background."""

from typing import Annotated

import torch
from torch import Tensor

from fundusray.attacks.budget import Length, usual_step
from fundusray.attacks.segmentation.losses import towards_classes
from fundusray.attacks.segmentation.projected_gradient import linf_budget, stepped
from fundusray.attacks.segmentation.registry import SEGMENTATION_ATTACKS, SegmentationProblem
from fundusray.keywords import AtLeast, OneOf


@SEGMENTATION_ATTACKS.register(
    "background_pgd",
    title="PGD towards the full-area mask of one class",
    source="Avramidis et al., section 3: 100 steps towards the background at 1 %",
)
def background_pgd(
    problem: SegmentationProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = 100,
    step: Annotated[float, Length(usual_step)] = 0.0,
    to: Annotated[int, AtLeast(0)] = 0,
    start: Annotated[str, OneOf("random", "image")] = "image",
) -> Tensor:
    """Lowers the mean cross entropy to the mask that is class `to` everywhere.

    Their "negative epsilon" is the descent. They say neither the length of a step, here 2.5 eps /
    steps, nor where it starts, here from the image.

    Raises:
        InputError: the network does not know the class.
    """
    budget = linf_budget(problem, steps, step, start)
    goal = torch.full_like(problem.target, to)
    return stepped(problem, budget, goal, lambda number: towards_classes)
