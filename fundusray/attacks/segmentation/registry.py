"""The attacks on segmentations by name with their facts, and the one way in which each is called.

An attack is a function `(problem, **its keywords) -> images [B, 3, S, S]`, or a dict of those by
name where it makes several of which the worst is chosen later, from rows. It asks the network
through the problem, which counts; its budget is measured by `run.run_segmentation_attack`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fundusray.attacks.gradient import Predict, input_gradient
from fundusray.attacks.registry import GRADIENT_PASSES
from fundusray.registry import Registry

PASSED = frozenset({"problem"})
"""Parameters of an attack that the runner passes, not the user."""

PixelLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits [b, C, S, S] float32, classes int64 [b, S, S]) -> a number for each pixel, [b, S, S]."""


def mean_over_pixels(values: Tensor) -> Tensor:
    """The mean of each image [B] of numbers [B, S, S]."""
    return values.flatten(1).mean(dim=1)


@dataclass(frozen=True)
class SegmentationProblem:
    """Images whose segmentation is to become wrong, and how far each pixel may be changed (linf).

    What becomes of an image does not depend on the others: losses are summed over images, and what
    is random is a function of (seed, row).
    """

    predict: Predict
    """Images [b, 3, S, S] in [0, 1] -> logits [b, C, S, S]."""
    image: Tensor
    """[B, 3, S, S] float32 in [0, 1]."""
    target: Tensor
    """int64 [B, S, S]: the class of each pixel, 0 for the background."""
    row: Tensor
    """int64 [B]"""
    eps: float
    """Where pixels are in [0, 1]."""
    seed: int = 0
    queries: Tensor = field(init=False)
    """int64 [B]: how often the network was asked of each image; a gradient is one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "queries", torch.zeros_like(self.row))

    def logits(self, image: Tensor, places: Tensor | None = None) -> Tensor:
        """Logits [b, C, S, S] float32 of images [b, 3, S, S] that stand at `places` int64 [b] of
        the problem, which may occur more than once; None: of all in their order."""
        self._count(places)
        with torch.no_grad():
            return self.predict(image).float()

    def gradient(
        self, image: Tensor, goal: Tensor, ascend: PixelLoss, places: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(gradient of the sum of `ascend` over an image's pixels by each image [b, 3, S, S],
        logits [b, C, S, S] float32) for classes `goal` int64 [b, S, S].

        Raises:
            InputError: the network gives none.
        """
        self._count(places)

        def value(logits: Tensor, goal: Tensor) -> Tensor:
            return ascend(logits, goal).flatten(1).sum(dim=1)

        return input_gradient(self.predict, image, goal, value)

    def _count(self, places: Tensor | None) -> None:
        if places is None:
            self.queries.add_(1)
        else:
            self.queries.index_add_(0, places, torch.ones_like(places))


def passes_of_steps(args: Mapping[str, Any]) -> int:
    """Forward passes of an attack that takes `steps` gradients."""
    return GRADIENT_PASSES * int(args["steps"])


@dataclass(frozen=True, kw_only=True)
class SegmentationAttackFacts:
    """What is to be known of an attack on segmentations."""

    title: str
    """What its authors call it."""
    source: str
    """Who, where: Gu et al. 2022, algorithm 1."""
    passes: Callable[[Mapping[str, Any]], int] = passes_of_steps
    """All its keywords -> forward passes that an image costs, about."""
    candidates: tuple[str, ...] = ("",)
    """Names of the images it makes of each; the one that an attack gives has none."""


SEGMENTATION_ATTACKS: Registry[Callable[..., Tensor | dict[str, Tensor]]] = Registry(
    "segmentation attack", SegmentationAttackFacts
)
