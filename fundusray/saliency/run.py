"""Maps as they are asked for: checked before, held to their form after."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fundusray.attacks import evaluation_mode
from fundusray.errors import InputError
from fundusray.keywords import check_keywords, default_values
from fundusray.models.classifiers import Classifier
from fundusray.saliency.registry import MAPS, PASSED, Attribution, MapProblem, images_at_once

Explanation = Callable[[MapProblem], Tensor]
"""A problem to the maps of its images, [B, 1, S, S]: what is judged, be it a map of MAPS or not."""


def check_map(name: str, args: Mapping[str, Any]) -> None:
    """Refuses a map that there is not, and keywords that it does not take.

    Raises:
        InputError: what was given and what would be right.
    """
    function = MAPS.find(name)
    check_keywords(name, f"keyword of map {name}", function, PASSED, dict(args))


def whole_keywords(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """All keywords of a map: those that are given, the others as they are by default."""
    return default_values(MAPS.find(name), PASSED) | dict(args)


@contextmanager
def explainable(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode, its weights without gradients; afterwards as it was."""
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    with evaluation_mode(model):
        for weight in learning:
            weight.requires_grad_(False)
        try:
            yield model
        finally:
            for weight in learning:
                weight.requires_grad_(True)


def run_map(
    name: str,
    args: Mapping[str, Any],
    model: nn.Module,
    image: Tensor,
    target: Tensor,
    *,
    row: Tensor,
    layers: Mapping[str, str],
    chunk: int = 0,
) -> Attribution:
    """The map of each image.

    Args:
        name, args: of MAPS, and its keywords.
        model: images in [0, 1] to class logits [B, K]; is left as it was.
        image: [B, 3, S, S] in [0, 1].
        target: int64 [B], the class that is explained.
        row: int64 [B], which images they are: what is random depends on them.
        layers: "early" and "last" -> paths in the model, see `models.feature_layers`.
        chunk: images of one pass; 0: see `registry.images_at_once`.

    Raises:
        InputError: no such map or keyword, a class that the network does not know, a network that
            gives no class logits, or whatever the map itself needs.
    """
    check_map(name, args)
    if not len(image):
        return Attribution(image.new_zeros(0, 1, *image.shape[2:]))
    with explainable(model):
        _require_classes(model, image, target)
        chunk = chunk or images_at_once(image)
        problem = MapProblem(model, image.float(), target, row, dict(layers), chunk)
        with torch.no_grad():
            found = MAPS.find(name)(problem, **args)
    values = found.values
    shape = (len(image), 1, *image.shape[2:])
    assert values.shape == shape, f"map {name} gives {tuple(values.shape)}, not {shape}"
    if not values.isfinite().all():
        rows = row[~values.isfinite().flatten(1).all(dim=1)].tolist()
        raise InputError(
            f"map {name} is not finite for rows {rows[:8]}: the network's outputs or gradients "
            "overflow there; look at its weights, or take a map without gradients (occlusion)"
        )
    return Attribution(values.float().contiguous(), found.gap, found.gradients)


def explanation(name: str, args: Mapping[str, Any]) -> Explanation:
    """The map of MAPS by that name, as whoever judges maps asks for it; refuses as `run_map`."""

    def explain(problem: MapProblem) -> Tensor:
        return run_map(
            name, args, problem.model, problem.image, problem.target, row=problem.row,
            layers=problem.layers, chunk=problem.chunk,
        ).values  # fmt: skip

    check_map(name, args)
    return explain


def _require_classes(model: nn.Module, image: Tensor, target: Tensor) -> None:
    """Checks that the network says class logits, and has the classes that are asked for.

    Raises:
        InputError: another output, or a class outside it.
    """
    # A classifier says how many; a pass for it would be a good part of what a quick map costs.
    num = model.num_classes if isinstance(model, Classifier) else _class_count(model, image)
    if target.min() < 0 or target.max() >= num:
        raise InputError(
            f"class {int(target.max() if target.max() >= num else target.min())} is asked for; the "
            f"network's {num} classes are numbered 0 to {num - 1}"
        )


def _class_count(model: nn.Module, image: Tensor) -> int:
    """How many classes a network answers.

    Raises:
        InputError: it gives no class logits, or one.
    """
    with torch.no_grad():
        logits = model(image[:1])
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"maps explain class logits [B, K]; this network gives {shape} (a network of masks "
            "needs a class and a place: explain one pixel's logit by a wrapper that picks it)"
        )
    if logits.shape[1] == 1:
        raise InputError(
            "this network gives one logit: give it as the two logits [0, z] of its two classes "
            "(model.output=binary does)"
        )
    return logits.shape[1]
