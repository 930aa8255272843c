"""The attacks by name with their facts, and the one way in which each is called.

An attack is a function `(problem, **its keywords) -> images [B, 3, S, S]`: what becomes of the
problem's images. It asks the problem's network alone, which counts; success and budget are measured
by `run.run_attack`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fundusray.attacks.gradient import Ascend, Predict, Success, cross_entropy, input_gradient
from fundusray.registry import Registry

PASSED = frozenset({"problem"})
"""Parameters of an attack that the runner passes, not the user."""
GRADIENT_PASSES = 3
"""Forward passes that a gradient costs: the pass itself, and about two on the way back."""


class QueriedNetwork:
    """A network as an attack sees it; counts what it is asked, image by image."""

    def __init__(self, predict: Predict, num: int, device: torch.device) -> None:
        self._predict = predict
        self.queries = torch.zeros(num, dtype=torch.int64, device=device)
        """Passes of each of the problem's images, [B]; a gradient is one."""

    def logits(self, image: Tensor, places: Tensor) -> Tensor:
        """Class logits [b, K] float32 of images [b, 3, S, S] that stand at `places` int64 [b] of
        the problem; a place may occur more than once."""
        self._count(places)
        with torch.no_grad():
            return self._predict(image).float()

    def gradient(
        self, image: Tensor, places: Tensor, goal: Tensor, ascend: Ascend = cross_entropy
    ) -> tuple[Tensor, Tensor]:
        """(gradient of `ascend` by each image [b, 3, S, S], logits [b, K] float32)."""
        self._count(places)
        return input_gradient(self._predict, image, goal, ascend)

    def _count(self, places: Tensor) -> None:
        self.queries.index_add_(0, places, torch.ones_like(places))


@dataclass(frozen=True)
class AttackProblem:
    """Images that a network is right of, and how far they may be changed."""

    network: QueriedNetwork
    image: Tensor
    """[B, 3, S, S] float32 or float64 in [0, 1]."""
    target: Tensor
    """[B] int64: the class that an attack leads away from."""
    row: Tensor
    """[B] int64: what is random is a function of (seed, row), so that no image depends on the
    others of its batch."""
    norm: str
    """linf or l2."""
    eps: float
    """Pixels in [0, 1]; infinite where an attack looks for the nearest image that succeeds."""
    success: Success
    """(logits [b, K], target [b]) -> whether an image has reached its end, bool [b]."""
    seed: int = 0


def cost_of_steps(args: Mapping[str, Any], num_classes: int) -> int:
    """Forward passes of an attack that takes `steps` gradients."""
    return GRADIENT_PASSES * int(args["steps"])


@dataclass(frozen=True, kw_only=True)
class AttackFacts:
    """What is to be known of an attack."""

    title: str
    """What its authors call it."""
    source: str
    """Who, where: Madry et al. 2018, section 2.1."""
    norms: tuple[str, ...] = ("linf", "l2")
    """Budgets it knows; the first one unless given."""
    gradient: bool = True
    """Whether it looks at gradients; without, at outputs alone."""
    nearest: bool = False
    """Whether it looks for the nearest image that succeeds, so that a budget may be left out."""
    passes: Callable[[Mapping[str, Any], int], int] = cost_of_steps
    """(all its keywords, classes) -> forward passes that an image costs at most."""


ATTACKS: Registry[Callable[..., Tensor]] = Registry("attack", AttackFacts)
