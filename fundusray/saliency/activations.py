"""A network's layers seen from outside: what a layer says, and what comes of saying otherwise.

Hooks are taken off again whatever happens. A pass stops at the layer where nothing behind it is
asked for. What is put in a layer's place is handed on as a copy, so that a layer behind it that
writes into its input (an in-place ReLU) does not touch it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.registry import unknown_name
from fundusray.saliency.registry import MapProblem

Instead = Callable[[Tensor], Tensor]
"""A layer's output to what is handed on in its place."""
WHOLE = "net."
"""Before the path of a layer in a classifier, which holds its network under this name."""
MAP = (4,)
"""Dimensions of a layer's output: a feature map [B, C, h, w]."""
UNITS = (2, 4)
"""A feature map or the units of a fully connected layer, [B, U]."""


class _ReachedError(Exception):
    """Ends a pass at a layer; carries nothing, is caught where it is raised for."""


def layer_path(problem: MapProblem, name: str, usual: str) -> str:
    """The path in the model of the layer `name`; "": the one that is `usual`, "early" or "last".

    Raises:
        InputError: no such layer (the network's layers are listed), or a network without feature
            maps where none is named.
    """
    if not name:
        if usual not in problem.layers:
            raise InputError(
                "this network has no feature map [B, C, H, W]: its features are tokens or stand in "
                "another order; name a layer (layer=), or take a map that needs none "
                "(integrated_gradients, occlusion)"
            )
        return problem.layers[usual]
    return named_layer(problem.model, name)


def named_layer(model: nn.Module, name: str) -> str:
    """The path in the model of the layer that its network calls `name`.

    Raises:
        InputError: no such layer; the network's are listed.
    """
    paths = [path for path, _ in model.named_modules() if path]
    for path in (WHOLE + name, name):
        if path in paths:
            return path
    raise unknown_name("layer", name, [path.removeprefix(WHOLE) for path in paths])


def activation(model: nn.Module, path: str, image: Tensor, dims: tuple[int, ...] = MAP) -> Tensor:
    """What the layer at `path` says of images [B, 3, S, S], [B, C, h, w]; the pass ends there.

    Args:
        dims: how many dimensions its output may have.

    Raises:
        InputError: the layer gives no feature map, or is not passed.
    """
    kept: list[Tensor] = []

    def keep(_: nn.Module, inputs: Any, output: Any) -> None:
        kept.append(_features(path, output, dims))
        raise _ReachedError

    with _hooked(model, path, keep):
        try:
            model(image)
        except _ReachedError:
            return kept[0]
    raise _not_passed(path)


def output_instead(
    model: nn.Module, path: str, image: Tensor, instead: Instead, dims: tuple[int, ...] = MAP
) -> Tensor:
    """What the model says of images where the layer at `path` hands on `instead` of its output.

    Where `instead` gives a batch of another size, the images have to be one: what goes around the
    layer is then the same for all of it.

    Raises:
        InputError: as `activation`, or the layer is passed more than once.
    """
    calls = 0

    def replace(_: nn.Module, inputs: Any, output: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise InputError(
                f"layer {path.removeprefix(WHOLE)} is passed more than once for an image (it is "
                "shared by several places of the network, or the network is judged under flips: "
                "model.flips=none); take another layer"
            )
        return instead(_features(path, output, dims))

    with _hooked(model, path, replace):
        logits = model(image)
    if not calls:
        raise _not_passed(path)
    return logits


def several_instead(
    model: nn.Module,
    path: str,
    image: Tensor,
    num: int,
    instead: Instead,
    dims: tuple[int, ...] = MAP,
) -> Tensor:
    """What the model says of one image [1, 3, S, S] where the layer at `path` hands on `num` others
    in its output's place, [num, K].

    What lies before the layer is run for the one image. Where the network joins the layer with what
    goes around it so that one image does not fit many (a concatenation), it is run for copies.

    Args:
        instead: the layer's output of the image [1, ...] -> [num, ...].

    Raises:
        InputError: as `output_instead`, or the answer does not depend on the layer.
    """

    def of_first(output: Tensor) -> Tensor:
        return instead(output[:1])

    try:
        logits = output_instead(model, path, image, of_first, dims)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        # Shapes that do not go together; anything else comes again, and is then raised.
        logits = output_instead(model, path, image.repeat(num, 1, 1, 1), of_first, dims)
    if len(logits) != num:
        raise not_on_the_way(path)
    return logits


def layer_gradient(
    model: nn.Module, path: str, image: Tensor, score: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """(the layer's output [B, C, h, w], the gradient of `score` by it, logits [B, K]).

    No graph is kept of what lies before the layer; `score` takes the logits to [B].

    Raises:
        InputError: as `activation`, or nothing behind the layer depends on it.
    """
    kept: list[Tensor] = []

    def lead(output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_(True))
        return kept[0].clone()

    with torch.enable_grad():
        logits = output_instead(model, path, image, lead)
        value = score(logits).sum()
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, kept[0], allow_unused=True)
    if gradient is None:
        raise not_on_the_way(path)
    return kept[0].detach(), gradient, logits.detach()


def at_image_size(values: Tensor, size: int) -> Tensor:
    """Maps [B, 1, h, w] of a layer at the side of the images, [B, 1, S, S], bilinear."""
    return F.interpolate(values, size=(size, size), mode="bilinear", align_corners=False)


@contextmanager
def _hooked(model: nn.Module, path: str, hook: Callable[..., Any]) -> Iterator[None]:
    handle = model.get_submodule(path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _features(path: str, output: Any, dims: tuple[int, ...]) -> Tensor:
    if isinstance(output, Tensor) and output.ndim in dims:
        return output
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    units = " and no units [B, U]" if 2 in dims else ""
    raise InputError(
        f"layer {path.removeprefix(WHOLE)} gives {shape}, no feature map [B, C, H, W]{units}; take "
        "a convolution or a block"
    )


def not_on_the_way(path: str) -> InputError:
    """The error of a layer that is passed, but of which nothing reaches the answer."""
    return InputError(
        f"the network's answer does not depend on layer {path.removeprefix(WHOLE)}; take one that "
        "lies on the way to it"
    )


def _not_passed(path: str) -> InputError:
    return InputError(
        f"layer {path.removeprefix(WHOLE)} is not passed when the network answers (an auxiliary "
        "head?); take one that lies on the way"
    )
