"""Integrated gradients of single neurons of a layer: which pixels one of them answers to.

All neurons of an image share its points on the line and one pass to the layer, which ends there.
Gradients are then taken from that one graph, of each neuron, or of weighted sums of neurons: by
linearity the sum of many neurons' attributions costs no more than one's.
"""

import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.saliency.activations import WHOLE, activation
from fundusray.saliency.path_integral import Line, column
from fundusray.saliency.registry import HALF_GREY, MapProblem, chunked


def neuron_attributions(problem: MapProblem, path: str, neurons: Tensor, line: Line) -> Tensor:
    """Integrated gradients of neurons' activations by pixels from a half-grey image,
    [B, K, 3, S, S]; summed over channels each is the neuron's active region (Li et al.).

    Args:
        path: of their layer in the model.
        neurons: int64 [B, K, 3], of each image's neurons channel, y, x in the layer.

    Raises:
        InputError: a layer without such neurons, or that is not passed.
    """
    num = neurons.shape[1]
    weights = torch.eye(num, device=neurons.device).expand(len(neurons), num, num)
    return weighted_attributions(problem, path, neurons, weights, line)


def weighted_attributions(
    problem: MapProblem, path: str, neurons: Tensor, weights: Tensor, line: Line
) -> Tensor:
    """Weighted sums of `neuron_attributions`, [B, G, 3, S, S]; G gradients an image and not K.

    Args:
        weights: [B, G, K], of each sum the neurons' weights.

    Raises:
        InputError: as `neuron_attributions`.
    """
    parts = [
        _of_one(problem, path, image[None], own, mix, line)
        for image, own, mix in zip(problem.image, neurons, weights, strict=True)
    ]
    return torch.stack(parts)


def _of_one(
    problem: MapProblem, path: str, image: Tensor, neurons: Tensor, mix: Tensor, line: Line
) -> Tensor:
    """The sums of one image [1, 3, S, S], [G, 3, S, S]."""
    away = image - HALF_GREY
    total = image.new_zeros(len(mix), *image.shape[1:])
    places, weights = line.nodes(image)
    for some in chunked(len(places), problem.chunk):
        points = HALF_GREY + column(places[some], image) * away
        total += _gradients(problem.model, path, points, neurons, mix, weights[some])
    return away * total


def _gradients(
    model: nn.Module, path: str, points: Tensor, neurons: Tensor, mix: Tensor, weights: Tensor
) -> Tensor:
    """Of each sum of neurons the weighted sum over points [n, 3, S, S] of its gradients,
    [G, 3, S, S]."""
    with torch.enable_grad():
        points = points.requires_grad_(True)
        # A copy, which a network may write into.
        answer = activation(model, path, points.clone())
        _require_neurons(path, answer, neurons)
        channel, y, x = neurons.unbind(dim=1)
        sums = (weights @ answer[:, channel, y, x].float()) @ mix.to(weights).T
        found = []
        # One after the other: the points already fill a pass, and a batch of gradients over them
        # would hold as many times the memory.
        for place, value in enumerate(sums):
            (gradient,) = torch.autograd.grad(
                value, points, retain_graph=place + 1 < len(sums), materialize_grads=True
            )
            found.append(gradient.sum(dim=0))
    return torch.stack(found)


def _require_neurons(path: str, answer: Tensor, neurons: Tensor) -> None:
    """Checks that the layer has these neurons.

    Raises:
        InputError: it has not.
    """
    sides = torch.tensor(answer.shape[1:], device=neurons.device)
    outside = ((neurons < 0) | (neurons >= sides)).any(dim=1)
    if outside.any():
        raise InputError(
            f"layer {path.removeprefix(WHOLE)} has channels, rows and columns "
            f"{tuple(answer.shape[1:])}, and no neuron {tuple(neurons[outside][0].tolist())}"
        )
