"""Integrated gradients (Sundararajan et al. 2017): what each pixel adds on the straight line from a
photograph without content to the image.

Values sum to F(image) - F(baseline), as far as the sum over steps is the integral; by how much they
do not is measured with every map. All (image, step) pairs go through the network in chunks of one
size, whatever the number of images or steps, so memory does not grow with either.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.keywords import AtLeast, OneOf, Within
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

RULES = ("gauss_legendre", "riemann_right")
STEPS = 50
FIRST = 4
"""Intervals that an adaptive integration begins with; they are halved from there."""
MOST = 512
SMALLEST = 1e-3
"""A difference F(image) - F(baseline) that is smaller is not taken for the whole of a gap."""


class Rule(NamedTuple):
    """Where on the line gradients are taken, 0 at the baseline and 1 at the image, and what each
    counts; the weights sum to 1."""

    places: tuple[float, ...]
    weights: tuple[float, ...]


def integration_rule(name: str, steps: int) -> Rule:
    """A rule of so many places.

    riemann_right: k/m for k = 1..m (Li et al., Numerical Approximation); gauss_legendre: exact for
    polynomials of degree 2 m - 1.

    Raises:
        InputError: another name.
    """
    if name == "riemann_right":
        return Rule(tuple(k / steps for k in range(1, steps + 1)), (1 / steps,) * steps)
    if name == "gauss_legendre":
        roots, weights = np.polynomial.legendre.leggauss(steps)
        return Rule(tuple(((roots + 1) / 2).tolist()), tuple((weights / 2).tolist()))
    raise InputError(f"rule={name}: {' or '.join(RULES)}")


@dataclass(frozen=True)
class Line:
    """The straight lines that are integrated along."""

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
        with torch.no_grad():
            end = self.model(self.image)
            start = self.model(self.baseline).expand(len(self.image), -1)
        ends = [class_output(logits, self.target, self.output) for logits in (end, start)]
        return ends[0] - ends[1]

    def sum_of_gradients(self, which: Tensor, rule: Rule) -> Tensor:
        """Of the images at `which` [b] the weighted sum of the gradients at a rule's places,
        [b, 3, S, S]."""
        total = torch.zeros_like(self.image[which])
        difference = self.image - self.baseline
        for some, place, weight in _pairs(len(which), rule, self.chunk, self.image.device):
            rows = which[some]
            along = self.baseline.expand_as(self.image)[rows] + place * difference[rows]
            gradient, _ = class_gradient(self.model, along, self.target[rows], self.output)
            total.index_add_(0, some, gradient.mul_(weight))
        return total

    def attributions(self, gradients: Tensor, which: Tensor) -> Tensor:
        """(image - baseline) times mean gradients of the images at `which`, [b, 3, S, S]."""
        return gradients * (self.image - self.baseline)[which]


def _pairs(
    num: int, rule: Rule, chunk: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(image, place, weight) of every pair of an image and a step, a chunk at a time: int64 [c],
    and float32 [c, 1, 1, 1] twice."""
    images = torch.arange(num, device=device).repeat_interleave(len(rule.places))
    places, weights = (
        torch.tensor(part, dtype=torch.float64).float().to(device).repeat(num)[:, None, None, None]
        for part in rule
    )
    yield from zip(images.split(chunk), places.split(chunk), weights.split(chunk), strict=True)


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
    """(attributions [B, 3, S, S], completeness gap [B], see `relative_gap`) of a model in
    evaluation mode.

    Args:
        baseline: one number for every pixel, or images [B or 1, 3, S, S].

    Raises:
        InputError: a baseline of another shape, or another rule.
    """
    line = Line(model, image, baseline_images(image, baseline), target, output, chunk)
    every = torch.arange(len(image), device=image.device)
    gradients = line.sum_of_gradients(every, integration_rule(rule, steps))
    attributions = line.attributions(gradients, every)
    return attributions, relative_gap(attributions, line.total())


def adaptive_integrated_gradients_of(
    line: Line, tolerance: float, most: int = MOST
) -> tuple[Tensor, Tensor, Tensor]:
    """(attributions [B, 3, S, S], gap [B], gradients taken [B]): of each image as many steps as
    bring its gap to the tolerance.

    Clenshaw-Curtis rules of 4, 8, 16, ... intervals: the places of one are among those of the next,
    so no gradient is taken twice. An image that has `most` intervals stays as it is then.
    """
    num, device = len(line.image), line.image.device
    attributions = torch.zeros_like(line.image)
    gap = torch.full((num,), torch.inf, device=device)
    taken = torch.zeros(num, dtype=torch.int64, device=device)
    total, left = line.total(), torch.arange(num, device=device)
    kept: dict[float, Tensor] = {}
    intervals = FIRST
    while len(left):
        places, weights = clenshaw_curtis(intervals)
        for place in places:
            if place not in kept:
                kept[place] = line.sum_of_gradients(left, Rule((place,), (1.0,)))
                taken[left] += 1
        gradients = sum(
            (kept[place] * weight for place, weight in zip(places, weights, strict=True)),
            torch.zeros_like(line.image[left]),
        )
        attributions[left] = line.attributions(gradients, left)
        gap[left] = relative_gap(attributions[left], total[left])
        still = gap[left] > tolerance
        if 2 * intervals > most:
            break
        left, intervals = left[still], 2 * intervals
        kept = {place: gradient[still] for place, gradient in kept.items()}
    return attributions, gap, taken


def clenshaw_curtis(intervals: int) -> Rule:
    """The rule with its places at (1 - cos(pi k / n)) / 2, k = 0..n, of an even n (Clenshaw and
    Curtis 1960); exact for polynomials of degree n."""
    angles = np.pi * np.arange(intervals + 1) / intervals
    orders = np.arange(0, intervals + 1, 2)
    # The integral of the k-th Chebyshev polynomial, halved at both ends of the sum.
    terms = np.cos(np.outer(angles, orders)) / (1 - orders**2)
    terms[:, [0, -1]] /= 2
    weights = 2 * terms.sum(axis=1) / intervals
    weights[[0, -1]] /= 2
    return Rule(tuple(((1 - np.cos(angles)) / 2).tolist()), tuple(weights.tolist()))


def relative_gap(attributions: Tensor, total: Tensor) -> Tensor:
    """By how much attributions [B, ...] do not sum to `total` [B], as a share of it, [B]; of a
    total that is smaller than 1e-3 as a share of 1e-3."""
    found = attributions.double().flatten(1).sum(dim=1)
    return ((found - total).abs() / total.abs().clamp_min(SMALLEST)).float()


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
        steps: gradients on the line of an image; with a tolerance the most that are taken.
        baseline: the number of every pixel where the line begins.
        tolerance: 0, or the completeness gap at which an image is done.
    """
    start = baseline_images(problem.image, baseline)
    line = Line(problem.model, problem.image, start, problem.target, output, problem.chunk)
    if tolerance:
        found, gap, taken = adaptive_integrated_gradients_of(line, tolerance, steps)
        return Attribution(found.sum(dim=1, keepdim=True), gap, taken)
    found, gap = integrated_gradients_of(
        problem.model, problem.image, problem.target, steps=steps, rule=rule, output=output,
        baseline=start, chunk=problem.chunk,
    )  # fmt: skip
    return Attribution(found.sum(dim=1, keepdim=True), gap)
