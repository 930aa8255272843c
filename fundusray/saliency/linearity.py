"""Linearity (Li et al., last section): what a layer's units are given of the answer along a
gradient that an image is moved by, farther and farther.

    x(c) = clip(x + c * dF/dx, 0, 1), c doubled from step to step

A unit's attribution by integrated gradients is the product of two terms: its activation less that
of a half-grey image, and the mean gradient on the line between. Which of them grows with c says
whether the answer is linear in the unit.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.saliency.activations import UNITS
from fundusray.saliency.layer_integrated_gradients import (
    LayerAttribution,
    layer_attributions,
    layer_baseline,
)
from fundusray.saliency.path_integral import Line
from fundusray.saliency.registry import HALF_GREY, MapProblem, chunked, class_gradient
from fundusray.saliency.run import explainable

DOUBLINGS = 10
FIRST = 1 / 255
"""What the first c adds to the number that it changes most."""
STEPS = 32
TINY = 1e-30


@dataclass(frozen=True)
class GradientSweep:
    """How far images are moved, and how attributions are found."""

    path: str
    """Of the layer in the model: a fully connected one, or one with feature maps, each of which is
    then a unit."""
    doublings: int = DOUBLINGS
    line: Line = field(default_factory=lambda: Line(STEPS))
    output: str = "logit"


@dataclass(frozen=True)
class UnitSweep:
    """What became of images and of the units of a layer; J is as they are, then each c."""

    c: Tensor
    """[B, J]: 0, then FIRST over the gradient's largest number, doubled again and again."""
    moved: Tensor
    """[B, J]: the mean change of a number of the image, after it was clipped."""
    output: Tensor
    """[B, J]: the class's output."""
    attribution: Tensor
    """[B, J, U]: of a feature map the sum over its places."""
    difference: Tensor
    """[B, J, U]: activation less the baseline's; of a feature map the mean over its places."""
    gradient: Tensor
    """[B, J, U]: the mean gradient on the line; of a feature map by its mean, the sum over
    places."""

    def columns(self, most: int) -> dict[str, list[object]]:
        """A row for each image and each of its `most` units of the largest mean size of
        attribution: place (of the image), unit, and what it is given at each step, [J] each."""
        kept = min(most or self.attribution.shape[2], self.attribution.shape[2])
        order = self.attribution.abs().mean(dim=1).argsort(dim=1, descending=True, stable=True)
        order = order[:, :kept]
        place = torch.arange(len(order)).repeat_interleave(kept)
        columns: dict[str, list[object]] = {
            "place": place.tolist(),
            "unit": order.flatten().tolist(),
        }
        for name in ("c", "moved", "output"):
            values = getattr(self, name).cpu().numpy().astype(np.float64)
            columns[name] = [row for row in values for _ in range(kept)]
        for name in ("attribution", "difference", "gradient"):
            values = getattr(self, name).gather(
                2, order[:, None].expand(-1, self.attribution.shape[1], -1)
            )
            values = values.transpose(1, 2).flatten(0, 1)
            columns[name] = list(values.cpu().numpy().astype(np.float64))
        return columns


def gradient_examples(
    problem: MapProblem, doublings: int, output: str = "logit"
) -> tuple[Tensor, Tensor]:
    """(c [B, J], images x(c) [B, J, 3, S, S]) with J = doublings + 2: as they are, and from the
    first c on. c is in units of the image's own gradient, so that networks and outputs whose
    gradients are of other sizes go equally far."""
    parts = [
        class_gradient(problem.model, problem.image[some], problem.target[some], output)[0]
        for some in chunked(len(problem.image), problem.chunk)
    ]
    gradient = torch.cat(parts)
    largest = gradient.abs().amax(dim=(1, 2, 3)).clamp_min(TINY)
    lengths = FIRST * 2.0 ** torch.arange(doublings + 1, device=largest.device)
    c = torch.cat([0 * largest[:, None], lengths / largest[:, None]], dim=1)
    moved = problem.image[:, None] + c[..., None, None, None] * gradient[:, None]
    return c, moved.clamp(0, 1)


def unit_sweep(problem: MapProblem, sweep: GradientSweep) -> UnitSweep:
    """The attributions of a layer's units to the class along the sweep of each image.

    Raises:
        InputError: as `layer_attributions`.
    """
    baseline = layer_baseline(problem.model, sweep.path, problem.image, UNITS)
    c, images = gradient_examples(problem, sweep.doublings, sweep.output)
    parts = []
    for place, moved in enumerate(images):
        targets = problem.target[place].expand(len(moved))
        rows = problem.row[place].expand(len(moved))
        own = replace(problem, image=moved, target=targets, row=rows)
        found = layer_attributions(own, sweep.path, baseline, sweep.line, sweep.output, UNITS)
        parts.append((found.output, *_of_units(found, baseline)))
    output, attribution, difference, gradient = (
        torch.stack([part[n] for part in parts]) for n in range(4)
    )
    moved = (images - images[:, :1]).abs().mean(dim=(2, 3, 4))
    return UnitSweep(c, moved, output, attribution, difference, gradient)


def require_units(model: nn.Module, path: str, size: int) -> None:
    """Refuses a layer that cannot be followed, by a half-grey image of this side.

    Raises:
        InputError: as `layer_attributions`.
    """
    grey = next(model.parameters()).new_full((1, 3, size, size), HALF_GREY, dtype=torch.float32)
    first = torch.zeros(1, dtype=torch.int64, device=grey.device)
    with explainable(model):
        baseline = layer_baseline(model, path, grey, UNITS)
        problem = MapProblem(model, grey, first, first, {})
        layer_attributions(problem, path, baseline, Line(1), dims=UNITS)


def _of_units(found: LayerAttribution, baseline: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(attribution, difference, gradient) of units, [J, U] each."""
    difference = found.activation - baseline
    if found.values.ndim == 2:
        return found.values, difference, found.gradient
    places = (2, 3)
    return found.values.sum(places), difference.mean(places), found.gradient.sum(places)
