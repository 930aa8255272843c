"""Grad-CAM: a layer's channels, each weighted by its mean gradient."""

from typing import Annotated

import torch
from torch import Tensor, nn

from fundusray.keywords import OneOf
from fundusray.saliency.activations import at_image_size, layer_gradient, layer_path
from fundusray.saliency.registry import (
    MAPS,
    OUTPUTS,
    Attribution,
    MapProblem,
    chunked,
    class_output,
    laid_out,
)


def grad_cam_of(
    model: nn.Module, path: str, image: Tensor, target: Tensor, output: str = "logit"
) -> Tensor:
    """The map at the layer's own resolution, [B, 1, h, w]: sum over channels of the activation
    times the mean of its gradient (Selvaraju et al. 2017, equations 1 and 2, without the last
    ReLU). Only what lies behind the layer is differentiated.

    Raises:
        InputError: as `activations.layer_gradient`.
    """
    activation, gradient, _ = layer_gradient(
        model, path, laid_out(image), lambda logits: class_output(logits, target, output)
    )
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * activation).sum(dim=1, keepdim=True)


@MAPS.register(
    "grad_cam", title="Grad-CAM", source="Selvaraju et al. 2017, section 3", needs="last"
)
def grad_cam(
    problem: MapProblem,
    *,
    layer: str = "",
    output: Annotated[str, OneOf(*OUTPUTS)] = "logit",
) -> Attribution:
    """Grad-CAM in the image; the paper's map is its positive part.

    Args:
        layer: its path in the network; the last feature map unless given.
    """
    path = layer_path(problem, layer, "last")
    parts = [
        grad_cam_of(problem.model, path, problem.image[some], problem.target[some], output)
        for some in chunked(len(problem.image), problem.chunk)
    ]
    return Attribution(at_image_size(torch.cat(parts), problem.size()))
