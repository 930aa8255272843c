"""The boundary attack: a random walk along the decision boundary that comes nearer and nearer."""

from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Annotated, Any

import torch
from torch import Tensor

from fundusray.attacks.label_walks import (
    DIRECTIONS,
    Walk,
    far_start,
    moved,
    nearest_images,
    to_boundary,
)
from fundusray.attacks.registry import ATTACKS, AttackProblem
from fundusray.hashed_numbers import coarse_normal_numbers
from fundusray.keywords import Above, AtLeast

HALVINGS = 10
"""Of the way from the image to the first noise that is misclassified."""
EVERY = 10
"""Steps from one look at the orthogonal step alone to the next."""
FACTOR = 1.5
CONVERGED = 1e-6
"""A source step below which an image comes no nearer that float32 could show."""


def _queries(args: Mapping[str, Any], num_classes: int) -> int:
    return int(args["queries"])


@ATTACKS.register(
    "boundary",
    title="boundary attack",
    source="Brendel, Rauber and Bethge 2018",
    norms=("l2",),
    gradient=False,
    nearest=True,
    passes=_queries,
)
def boundary(
    problem: AttackProblem,
    *,
    queries: Annotated[int, AtLeast(1)] = 5000,
    orthogonal: Annotated[float, Above(0)] = 0.01,
    source: Annotated[float, Above(0)] = 0.01,
    batch: Annotated[int, AtLeast(1)] = 32,
) -> Tensor:
    """The nearest image of another class that a walk of so many queries comes to.

    Args:
        orthogonal, source: the first steps, as shares of the distance.
        batch: walks side by side, each of which asks about one image a round.
    """
    walk = partial(_walk, orthogonal=orthogonal, source=source)
    return nearest_images(problem, walk, queries, batch)


class AdaptiveStep:
    """A step that grows where many tries succeed and shrinks where few do."""

    def __init__(self, length: float, few: float, many: float, window: int) -> None:
        self.length = length
        self._few, self._many, self._window = few, many, window
        self._outcomes: list[bool] = []

    def hear(self, success: bool) -> float:
        """What the step changed by, 1 unless a window of outcomes is full."""
        self._outcomes.append(success)
        if len(self._outcomes) < self._window:
            return 1.0
        rate = sum(self._outcomes) / len(self._outcomes)
        self._outcomes.clear()
        factor = FACTOR if rate > self._many else 1 / FACTOR if rate < self._few else 1.0
        self.length *= factor
        return factor


def _walk(problem: AttackProblem, place: int, orthogonal: float, source: float) -> Walk:
    """Brendel et al. 2018, section 2: a step on the sphere around the image, one towards it.

    About half of the steps on the sphere shall stay misclassified (their figure 2); that is seen
    from every tenth, asked about by itself. The step towards the image adapts by its own outcomes.
    """
    image, row = problem.image[place].contiguous(), problem.row[place : place + 1]
    start = yield from far_start(problem, place)
    if start is None:
        return
    offset: Tensor = yield from to_boundary(image, start, "l2", HALVINGS)
    sphere = AdaptiveStep(orthogonal, 0.2, 0.5, 5)
    towards = AdaptiveStep(source, 0.1, 0.25, 30)
    for step in count():
        if towards.length < CONVERGED:
            return
        noise = coarse_normal_numbers(problem.seed, row, DIRECTIONS + step, image.numel())
        around = on_sphere(offset, noise.view(image.shape).to(image), sphere.length)
        if step % EVERY == 0:
            (reached,) = yield moved(image, around)
            towards.length *= sphere.hear(reached)
        candidate = moved(image, around, 1 - towards.length)
        (reached,) = yield candidate
        if reached:
            offset = candidate[0] - image
        towards.hear(reached)


def on_sphere(offset: Tensor, noise: Tensor, step: float) -> Tensor:
    """An offset as long as this one, `step` times its length away along the noise's part that is
    orthogonal to it."""
    flat, drawn = offset.flatten(), noise.flatten()
    squared = flat.dot(flat)
    share = flat.dot(drawn) / squared
    rest = (drawn.dot(drawn) - share * share * squared).clamp_min(1e-30)
    along = step * torch.sqrt(squared / rest)
    shrink = (1 + step * step) ** -0.5
    return (offset * ((1 - along * share) * shrink)).addcmul_(noise, along * shrink)
