"""Lesion detection (Li et al.): the pixels behind those neurons of an early layer that speak most
for a class, and behind those that speak most against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from fundusray.keywords import AtLeast, OneOf
from fundusray.saliency.activations import layer_path
from fundusray.saliency.layer_integrated_gradients import layer_attributions, layer_baseline
from fundusray.saliency.neuron_integrated_gradients import (
    neuron_attributions,
    weighted_attributions,
)
from fundusray.saliency.path_integral import GAUSS_LEGENDRE, RULES, STEPS, Line
from fundusray.saliency.registry import (
    GRADIENT_PASSES,
    MAPS,
    OUTPUTS,
    Attribution,
    MapProblem,
    images_at_once,
)
from fundusray.saliency.run import explainable, whole_keywords

NEURONS = 20
"""Of each sign, unless told otherwise."""


@dataclass(frozen=True)
class InfluentialNeurons:
    """Neurons of a layer that speak most for a class, or most against it; the strongest first."""

    places: Tensor
    """int64 [B, K, 3]: channel, y, x in the layer."""
    attribution: Tensor
    """[B, K]: of one sign; 0 where an image has fewer such neurons."""


@dataclass(frozen=True)
class LesionRegions:
    """What Li et al. show of images."""

    positive: Tensor
    """[B, 1, S, S]: the active regions of the most positive neurons, weighted by attribution."""
    negative: Tensor
    """[B, 1, S, S]: of the most negative ones."""
    supporting: InfluentialNeurons
    opposing: InfluentialNeurons
    gap: Tensor
    """[B]: of the neurons' attributions, see `path_integral.completeness_gap`."""

    @property
    def both(self) -> Tensor:
        """[B, 1, S, S]: the sum of the two."""
        return self.positive + self.negative


@dataclass(frozen=True)
class LesionMethod:
    """How lesions are looked for."""

    path: str
    """Of the layer in the model."""
    neurons: int = NEURONS
    """Of each sign."""
    line: Line = field(default_factory=Line)
    output: str = "logit"


def influential_neurons(values: Tensor, num: int) -> tuple[InfluentialNeurons, InfluentialNeurons]:
    """(the `num` most positive, the `num` most negative) of neurons' attributions [B, C, h, w]; all
    of them where there are no more."""
    flat = values.flatten(1)
    found = []
    for sign in (1, -1):
        most, index = (sign * flat).topk(min(num, flat.shape[1]), dim=1)
        places = torch.stack(torch.unravel_index(index, values.shape[1:]), dim=-1)
        found.append(InfluentialNeurons(places, sign * most.clamp_min(0)))
    return found[0], found[1]


def neurons_of(
    problem: MapProblem, method: LesionMethod, baseline: Tensor | None = None
) -> tuple[InfluentialNeurons, InfluentialNeurons, Tensor]:
    """(the neurons that speak most for the class, those that speak most against it, the gap [B] of
    all neurons' attributions).

    Args:
        baseline: `layer_baseline` of the layer, where the caller keeps it.

    Raises:
        InputError: as `layer_attributions`.
    """
    if baseline is None:
        baseline = layer_baseline(problem.model, method.path, problem.image)
    found = layer_attributions(problem, method.path, baseline, method.line, method.output)
    return *influential_neurons(found.values, method.neurons), found.gap


def lesion_regions(
    problem: MapProblem, method: LesionMethod, baseline: Tensor | None = None
) -> LesionRegions:
    """The resultant regions of each image, of both signs apart, and their neurons; arguments and
    errors as `neurons_of`."""
    supporting, opposing, gap = neurons_of(problem, method, baseline)
    first, second = supporting.attribution, opposing.attribution
    weights = torch.stack(
        [
            torch.cat([first, torch.zeros_like(second)], dim=1),
            torch.cat([torch.zeros_like(first), second], dim=1),
        ],
        dim=1,
    )
    places = torch.cat([supporting.places, opposing.places], dim=1)
    regions = weighted_attributions(problem, method.path, places, weights, method.line).sum(dim=2)
    return LesionRegions(regions[:, :1], regions[:, 1:], supporting, opposing, gap)


def active_regions(
    problem: MapProblem, path: str, neurons: InfluentialNeurons, line: Line
) -> Tensor:
    """The pixels that each neuron answers to, channels summed, [B, K, S, S]; weighted by the
    neurons' attributions they sum to the resultant region."""
    return neuron_attributions(problem, path, neurons.places, line).sum(dim=2)


def _passes(args: Mapping[str, Any], size: int) -> int:
    # Neurons' attributions, then the pixels behind them.
    return 2 * GRADIENT_PASSES * (int(args["steps"]) + 1) + 1


def regions_of_image(
    model: nn.Module,
    image: Tensor,
    target: Tensor,
    args: Mapping[str, Any],
    layers: Mapping[str, str],
) -> LesionRegions:
    """What the map `lesion_detection` with these keywords is made of, of images [B, 3, S, S] in
    [0, 1] and the classes [B] that are explained; errors as `run_map`."""
    keywords = whole_keywords("lesion_detection", args)
    with explainable(model), torch.no_grad():
        row = torch.zeros_like(target)
        problem = MapProblem(model, image, target, row, layers, images_at_once(image))
        path = layer_path(problem, keywords["layer"], "early")
        line = Line(keywords["steps"], keywords["rule"])
        method = LesionMethod(path, keywords["neurons"], line, keywords["output"])
        return lesion_regions(problem, method)


@MAPS.register(
    "lesion_detection", title="Lesion detection", source="Li et al., lesion detection",
    needs="early", passes=_passes,
)  # fmt: skip
def lesion_detection(
    problem: MapProblem,
    *,
    neurons: Annotated[int, AtLeast(1)] = NEURONS,
    steps: Annotated[int, AtLeast(1)] = STEPS,
    rule: Annotated[str, OneOf(*RULES)] = GAUSS_LEGENDRE,
    layer: str = "",
    output: Annotated[str, OneOf(*OUTPUTS)] = "logit",
) -> Attribution:
    """The resultant region of the neurons that speak most for a class and most against it.

    Args:
        neurons: of each sign.
        layer: "": the last before the network's blocks, Conv2d_4a_3x3 of Inception.
    """
    path = layer_path(problem, layer, "early")
    method = LesionMethod(path, neurons, Line(steps, rule), output)
    signs = neurons_of(problem, method)[:2]
    places = torch.cat([sign.places for sign in signs], dim=1)
    # One sum of both signs: one gradient, where the regions apart take two.
    weights = torch.cat([sign.attribution for sign in signs], dim=1)[:, None]
    regions = weighted_attributions(problem, path, places, weights, method.line)
    return Attribution(regions.sum(dim=2))
