"""CosPGD: each pixel counts by how far its answer agrees with its class."""

from typing import Annotated

from torch import Tensor

from fundusray.attacks.budget import Length, usual_step
from fundusray.attacks.segmentation.losses import aligned_cross_entropy
from fundusray.attacks.segmentation.projected_gradient import linf_budget, stepped
from fundusray.attacks.segmentation.registry import SEGMENTATION_ATTACKS, SegmentationProblem
from fundusray.keywords import AtLeast, OneOf


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


SQUASHES = {"softmax": _softmax, "sigmoid": Tensor.sigmoid}


@SEGMENTATION_ATTACKS.register(
    "cospgd", title="CosPGD", source="Agnihotri, Jung and Keuper 2024, algorithm 1"
)
def cospgd(
    problem: SegmentationProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = 20,
    step: Annotated[float, Length(usual_step)] = 0.0,
    start: Annotated[str, OneOf("random", "image")] = "random",
    squash: Annotated[str, OneOf(*SQUASHES)] = "softmax",
) -> Tensor:
    """Raises the cross entropy of each pixel times the cosine of its squashed logits and its class;
    `step` 0 is 2.5 eps / steps. Their first version took the sigmoid."""
    loss = aligned_cross_entropy(SQUASHES[squash])
    budget = linf_budget(problem, steps, step, start)
    return stepped(problem, budget, problem.target, lambda number: loss)
