"""Integrated gradients of a layer: how much each of its neurons speaks for a class.

The line goes from what the layer says of a half-grey image, computed once and stored (Li et al.,
"attributing outcome to intermediate layers"), to what it says of the photograph. What lies before
the layer is run once for each pass and keeps no graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from fundusray.keywords import AtLeast, OneOf
from fundusray.saliency.activations import (
    MAP,
    activation,
    at_image_size,
    layer_path,
    not_on_the_way,
    several_instead,
)
from fundusray.saliency.path_integral import (
    GAUSS_LEGENDRE,
    RULES,
    STEPS,
    Line,
    column,
    completeness_gap,
)
from fundusray.saliency.registry import (
    GRADIENT_PASSES,
    HALF_GREY,
    MAPS,
    OUTPUTS,
    Attribution,
    MapProblem,
    chunked,
    class_output,
)


@dataclass(frozen=True)
class LayerAttribution:
    """What each neuron of a layer contributes to a class, [B, C, h, w] or [B, U]."""

    values: Tensor
    """(activation - baseline) times the mean gradient."""
    activation: Tensor
    """What the layer says of the images."""
    gradient: Tensor
    """The mean gradient along the line."""
    output: Tensor
    """[B]: what is explained, of the images."""
    gap: Tensor
    """[B]: see `path_integral.completeness_gap`, between the two ends of the line."""


def layer_baseline(
    model: nn.Module, path: str, image: Tensor, dims: tuple[int, ...] = MAP
) -> Tensor:
    """What the layer at `path` says of a half-grey image of the size of `image`, [1, ...]; the same
    for all images of a model, a layer and a size, so whoever has many keeps it."""
    with torch.no_grad():
        return activation(model, path, torch.full_like(image[:1], HALF_GREY), dims)


def layer_attributions(
    problem: MapProblem,
    path: str,
    baseline: Tensor,
    line: Line,
    output: str = "logit",
    dims: tuple[int, ...] = MAP,
) -> LayerAttribution:
    """Integrated gradients of the class's output by the neurons of a layer (Sundararajan et al.
    2017, equation 1, with the layer's neurons for pixels).

    Args:
        path: of the layer in the model, see `activations.layer_path`.
        baseline: `layer_baseline` of it.
        output: "logit" or "probability".
        dims: (4,) for feature maps; (2, 4): units of a fully connected layer, too.

    Raises:
        InputError: a layer that is no such one, is passed more than once, or that the answer does
            not depend on.
    """
    singles = [problem.part(place) for place in torch.arange(len(problem.image)).split(1)]
    parts = [_of_one(single, path, baseline, line, output, dims) for single in singles]
    names = LayerAttribution.__dataclass_fields__
    return LayerAttribution(*(torch.cat([getattr(part, n) for part in parts]) for n in names))


def _of_one(
    problem: MapProblem,
    path: str,
    baseline: Tensor,
    line: Line,
    output: str,
    dims: tuple[int, ...],
) -> LayerAttribution:
    """The attributions of one image."""
    places, weights = line.nodes(problem.image)
    # Both ends go along with the first points, so that what lies before the layer is not run anew.
    ends = places.new_tensor([0.0, 1.0])
    places, weights = torch.cat([ends, places]), torch.cat([0 * ends, weights])
    total, outputs, own = torch.zeros_like(baseline), [], baseline
    for some in chunked(len(places), problem.chunk + len(ends)):
        points, value, own = _outputs_on_line(problem, path, baseline, places[some], output, dims)
        (gradient,) = torch.autograd.grad(value, points, torch.ones_like(value), allow_unused=True)
        if gradient is None:
            raise not_on_the_way(path)
        total += torch.tensordot(weights[some], gradient, dims=1)[None]
        outputs.append(value.detach())
    start, end = torch.cat(outputs)[:2].split(1)
    values = (own - baseline) * total
    return LayerAttribution(values, own, total, end, completeness_gap(values, end - start))


def _outputs_on_line(
    problem: MapProblem,
    path: str,
    baseline: Tensor,
    places: Tensor,
    output: str,
    dims: tuple[int, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """(points of the line [n, ...], the class's output at each [n], the layer's own output)."""
    kept: list[Tensor] = []

    def on_line(own: Tensor) -> Tensor:
        own = own.detach()
        points = baseline + column(places, own) * (own - baseline)
        kept[:] = [points.requires_grad_(True), own]
        return points.clone()

    with torch.enable_grad():
        logits = several_instead(problem.model, path, problem.image, len(places), on_line, dims)
        value = class_output(logits, problem.target.expand(len(places)), output)
    if not value.requires_grad:
        raise not_on_the_way(path)
    return kept[0], value, kept[1].clone()


def _passes(args: Mapping[str, Any], size: int) -> int:
    return GRADIENT_PASSES * (int(args["steps"]) + 2) + 1


@MAPS.register(
    "layer_integrated_gradients",
    title="Integrated gradients of a layer",
    source="Li et al., lesion detection; Sundararajan et al. 2017, section 3",
    needs="early",
    passes=_passes,
)
def layer_integrated_gradients(
    problem: MapProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = STEPS,
    rule: Annotated[str, OneOf(*RULES)] = GAUSS_LEGENDRE,
    layer: str = "",
    output: Annotated[str, OneOf(*OUTPUTS)] = "logit",
) -> Attribution:
    """The attributions of a layer's neurons, summed over its channels, at the image's size.

    Args:
        layer: "": the last before the network's blocks, Conv2d_4a_3x3 of Inception.
    """
    path = layer_path(problem, layer, "early")
    baseline = layer_baseline(problem.model, path, problem.image)
    found = layer_attributions(problem, path, baseline, Line(steps, rule), output)
    values = found.values.sum(dim=1, keepdim=True)
    return Attribution(at_image_size(values, problem.size()), found.gap)
