"""Integrated gradients (Sundararajan et al. 2017): what each pixel adds on the straight line from a
photograph without content to the image.

Values sum to F(image) - F(baseline), as far as the sum over steps is the integral; by how much they
do not is measured with every map. All (image, step) pairs go through the network in chunks of one
size, whatever the number of images or steps, so memory does not grow with either.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.keywords import AtLeast, OneOf, Within
from fundusray.saliency.path_integral import RULES, STEPS, Line, completeness_gap
from fundusray.saliency.registry import (
    CHUNK,
    HALF_GREY,
    MAPS,
    OUTPUTS,
    Attribution,
    MapProblem,
    class_gradient,
    class_output,
)

FIRST = 4
"""Intervals that an adaptive integration begins with; they are halved from there."""
MOST = 512


@dataclass(frozen=True)
class Paths:
    """The straight lines that are integrated along, one of each image."""

    model: nn.Module
    image: Tensor
    """[B, 3, S, S], where they end."""
    baseline: Tensor
    """[B or 1, 3, S, S], where they begin."""
    target: Tensor
    """[B]"""
    output: str = "logit"
    chunk: int = CHUNK

    def total(self) -> Tensor:
        """F(image) - F(baseline), [B]."""
        start = self._outputs(self.baseline).expand(len(self.image), -1)
        ends = (self._outputs(self.image), start)
        end, start = (class_output(logits, self.target, self.output) for logits in ends)
        return end - start

    def _outputs(self, image: Tensor) -> Tensor:
        """Logits [n, K], a chunk at a time."""
        with torch.no_grad():
            return torch.cat([self.model(some) for some in image.split(self.chunk)])

    def sums_of_gradients(self, which: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        """Of the images at `which` [b] weighted sums of the gradients at some places [n] on their
        lines, 0 at the baseline and 1 at the image: one of each row of weights [w, n],
        [w, b, 3, S, S]."""
        totals = self.image.new_zeros(len(weights), len(which), *self.image.shape[1:])
        for some, steps in _pairs(len(which), len(places), self.chunk, places.device):
            rows = which[some]
            start = self.baseline.expand_as(self.image)[rows]
            along = start + _column(places[steps]) * (self.image[rows] - start)
            gradient, _ = class_gradient(self.model, along, self.target[rows], self.output)
            for total, weight in zip(totals, weights, strict=True):
                total.index_add_(0, some, gradient * _column(weight[steps]))
        return totals

    def attributions(self, gradients: Tensor, which: Tensor) -> Tensor:
        """(image - baseline) times mean gradients of the images at `which`, [b, 3, S, S]."""
        return gradients * (self.image - self.baseline)[which]


def _column(numbers: Tensor) -> Tensor:
    """Numbers [n] to multiply images [n, 3, S, S] by."""
    return numbers[:, None, None, None]


def _pairs(num: int, steps: int, chunk: int, device: torch.device) -> Iterator[list[Tensor]]:
    """(image, step) of every pair of `num` images and `steps`, a chunk at a time: int64 [c]
    twice."""
    pairs = torch.arange(num * steps, device=device)
    for some in pairs.split(chunk):
        yield [some // steps, some % steps]


def integrated_gradients_of(
    model: nn.Module,
    image: Tensor,
    target: Tensor,
    *,
    steps: int = STEPS,
    rule: str = RULES[0],
    output: str = "logit",
    baseline: Tensor | float = HALF_GREY,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """(attributions [B, 3, S, S], gap [B], see `path_integral.completeness_gap`) of a model in
    evaluation mode.

    Args:
        baseline: one number for every pixel, or images [B or 1, 3, S, S].

    Raises:
        InputError: a baseline of another shape, or another rule.
    """
    if rule not in RULES:
        raise InputError(f"rule={rule}: {' or '.join(RULES)}")
    paths = Paths(model, image, baseline_images(image, baseline), target, output, chunk)
    every = torch.arange(len(image), device=image.device)
    places, weights = Line(steps, rule).nodes(image)
    (gradients,) = paths.sums_of_gradients(every, places, weights[None])
    attributions = paths.attributions(gradients, every)
    return attributions, completeness_gap(attributions, paths.total())


def adaptive_integrated_gradients_of(
    paths: Paths, tolerance: float, most: int = MOST
) -> tuple[Tensor, Tensor, Tensor]:
    """(attributions [B, 3, S, S], gap [B], gradients taken [B]): of each image as many steps as
    bring its gap to the tolerance.

    Clenshaw-Curtis rules of 4, 8, 16, ... intervals: the places of one are among those of the next,
    so no gradient is taken twice; each is added to the sums of all rules that have its place, so
    that none is kept. The last rule has at most `most` intervals, but 4; an image that it does not
    bring there stays as it is then.
    """
    num, device = len(paths.image), paths.image.device
    attributions = torch.zeros_like(paths.image)
    gap = torch.full((num,), torch.inf, device=device)
    taken = torch.zeros(num, dtype=torch.int64, device=device)
    total, left = paths.total(), torch.arange(num, device=device)
    rules = list(_new_places(most))
    sums = paths.image.new_zeros(len(rules), *paths.image.shape)
    for places, weights in rules:
        here = {"dtype": torch.float32, "device": device}
        sums += paths.sums_of_gradients(
            left, torch.tensor(places, **here), torch.tensor(weights, **here)
        )
        taken[left] += len(places)
        attributions[left] = paths.attributions(sums[0], left)
        gap[left] = completeness_gap(attributions[left], total[left])
        still = gap[left] > tolerance
        left, sums = left[still], sums[1:, still]
        if not len(left):
            break
    return attributions, gap, taken


def _new_places(most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each rule of 4, 8, ... intervals up to `most`, 4 at least: (the places [n] that the one
    before has not; their weights [r, n] in this rule and in each that follows)."""
    doublings = max(0, (most // FIRST).bit_length() - 1)
    rules = [clenshaw_curtis(FIRST << number) for number in range(doublings + 1)]
    for number, (places, _) in enumerate(rules):
        new = np.arange(len(places)) if not number else np.arange(1, len(places), 2)
        # Place k of a rule is place 2 k of the next.
        finer = enumerate(weights for _, weights in rules[number:])
        yield places[new], np.stack([weights[new << ahead] for ahead, weights in finer])


def clenshaw_curtis(intervals: int) -> tuple[np.ndarray, np.ndarray]:
    """(places (1 - cos(pi k / n)) / 2 for k = 0..n, their weights, whose sum is 1) of an even n
    (Clenshaw and Curtis 1960); exact for polynomials of degree n."""
    angles = np.pi * np.arange(intervals + 1) / intervals
    orders = np.arange(0, intervals + 1, 2)
    # The integral of the k-th Chebyshev polynomial, halved at both ends of the sum.
    terms = np.cos(np.outer(angles, orders)) / (1 - orders**2)
    terms[:, [0, -1]] /= 2
    weights = 2 * terms.sum(axis=1) / intervals
    weights[[0, -1]] /= 2
    return (1 - np.cos(angles)) / 2, weights


def baseline_images(image: Tensor, baseline: Tensor | float) -> Tensor:
    """The baseline as images [B or 1, 3, S, S].

    Raises:
        InputError: one of another shape.
    """
    if not isinstance(baseline, Tensor):
        return torch.full_like(image[:1], baseline)
    if baseline.shape[1:] != image.shape[1:] or len(baseline) not in (1, len(image)):
        raise InputError(
            f"a baseline of images {tuple(image.shape)} is one image (1, *{tuple(image.shape[1:])})"
            f" or one of each, got {tuple(baseline.shape)}"
        )
    return baseline.to(image)


@MAPS.register(
    "integrated_gradients",
    title="Integrated gradients",
    source="Sundararajan et al. 2017, section 3; Li et al., Attribution Method",
    complete=True,
)
def integrated_gradients(
    problem: MapProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = STEPS,
    rule: Annotated[str, OneOf(*RULES)] = RULES[0],
    output: Annotated[str, OneOf(*OUTPUTS)] = "logit",
    baseline: Annotated[float, Within(0, 1)] = HALF_GREY,
    tolerance: Annotated[float, AtLeast(0)] = 0.0,
) -> Attribution:
    """The sum over channels of each pixel's integrated gradient.

    Args:
        steps: gradients on the line of an image; with a tolerance no more intervals than these
            (but 4 at least), of which n take n + 1 gradients.
        baseline: the number of every pixel where the line begins.
        tolerance: 0, or the completeness gap at which an image is done.
    """
    start = baseline_images(problem.image, baseline)
    if tolerance:
        paths = Paths(problem.model, problem.image, start, problem.target, output, problem.chunk)
        found, gap, taken = adaptive_integrated_gradients_of(paths, tolerance, steps)
        return Attribution(found.sum(dim=1, keepdim=True), gap, taken)
    found, gap = integrated_gradients_of(
        problem.model, problem.image, problem.target, steps=steps, rule=rule, output=output,
        baseline=start, chunk=problem.chunk,
    )  # fmt: skip
    return Attribution(found.sum(dim=1, keepdim=True), gap)
