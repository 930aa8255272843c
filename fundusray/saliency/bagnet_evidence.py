"""The map that needs no attribution: what each patch of a BagNet says of the class."""

from typing import cast

import torch
from torch import Tensor

from fundusray.errors import InputError
from fundusray.models.bagnet import BagNet, Patches
from fundusray.models.classifiers import Classifier
from fundusray.saliency.registry import MAPS, Attribution, MapProblem, chunked


@MAPS.register(
    "bagnet_evidence",
    title="Patch evidence",
    source="Brendel and Bethge 2019, section 3",
    needs="evidence",
    passes=lambda args, size: 1,
)
def bagnet_evidence(problem: MapProblem) -> Attribution:
    """The class logit of each patch at the patch's centre, and between centres bilinear; a pixel
    further out than the outermost centres has the outermost evidence.

    A patch's number is a logit: their mean over patches is the class's. Of a network that is judged
    under flips, the mean of the maps of the image and its flips, turned back.

    Raises:
        InputError: a network or an output without evidence maps.
    """
    model = problem.model
    if not isinstance(model, Classifier):
        raise InputError(
            f"bagnet_evidence is of a classifier with evidence maps, this is a "
            f"{type(model).__name__}; take a network bagnet33, or another map (grad_cam)"
        )
    if model.no_evidence:
        raise InputError(
            f"bagnet_evidence shows a network's own evidence; {model.no_evidence}, or another map "
            "(grad_cam, occlusion)"
        )
    patches = cast(BagNet, model.net).patches()
    parts = []
    for some in chunked(len(problem.image), problem.chunk):
        image, target = problem.image[some], problem.target[some]
        views = [
            _placed_evidence(model, image.flip(dims), target, patches).flip(dims)
            for dims in model.flips
        ]
        parts.append(sum(views[1:], views[0]) / len(views))
    return Attribution(torch.cat(parts))


def _placed_evidence(model: Classifier, image: Tensor, target: Tensor, patches: Patches) -> Tensor:
    """[B, 1, S, S] of images as they are."""
    evidence = model.evidence(image).float()
    of_class = evidence[torch.arange(len(image), device=image.device), target]
    rows, columns = (
        interpolation(num, side, patches, image.device)
        for num, side in zip(of_class.shape[1:], image.shape[2:], strict=True)
    )
    return (rows @ of_class @ columns.T)[:, None]


def interpolation(num: int, side: int, patches: Patches, device: torch.device) -> Tensor:
    """[side, num] what each place of a row of evidence weighs at each pixel: linear between the
    centres of neighbouring patches, whole beyond the outermost."""
    pixels = torch.arange(side, dtype=torch.float32, device=device)
    between = ((pixels - patches.first) / patches.stride).clamp(0, num - 1)
    places = torch.arange(num, dtype=torch.float32, device=device)
    return (1 - (between[:, None] - places).abs()).clamp_min(0)
