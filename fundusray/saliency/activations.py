"""A network's layers seen from outside: what a layer says, and what comes of saying otherwise.

Hooks are taken off again whatever happens. A pass stops at the layer where nothing behind it is
asked for. What is put in a layer's place is handed on as a copy, so that a layer behind it that
writes into its input (an in-place ReLU) does not touch it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.registry import unknown_name
from fundusray.saliency.registry import MapProblem

Instead = Callable[[Tensor], Tensor]
"""A layer's output to what is handed on in its place."""
WHOLE = "net."
"""Before the path of a layer in a classifier, which holds its network under this name."""


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
    paths = [path for path, _ in problem.model.named_modules() if path]
    for path in (WHOLE + name, name):
        if path in paths:
            return path
    raise unknown_name("layer", name, [path.removeprefix(WHOLE) for path in paths])


def activation(model: nn.Module, path: str, image: Tensor) -> Tensor:
    """What the layer at `path` says of images [B, 3, S, S], [B, C, h, w]; the pass ends there.

    Raises:
        InputError: the layer gives no feature map, or is not passed exactly once.
    """
    kept: list[Tensor] = []

    def keep(_: nn.Module, inputs: Any, output: Any) -> None:
        kept.append(_feature_map(path, output))
        raise _ReachedError

    with _hooked(model, path, keep):
        try:
            model(image)
        except _ReachedError:
            return kept[0]
    raise _not_passed(path)


def output_instead(model: nn.Module, path: str, image: Tensor, instead: Instead) -> Tensor:
    """What the model says of images where the layer at `path` hands on `instead` of its output.

    Where `instead` gives a batch of another size, the images have to be one: what goes around the
    layer is then the same for all of it.

    Raises:
        InputError: as `activation`.
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
        return instead(_feature_map(path, output))

    with _hooked(model, path, replace):
        logits = model(image)
    if not calls:
        raise _not_passed(path)
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
        raise InputError(
            f"the network's answer does not depend on layer {path.removeprefix(WHOLE)}; take one "
            "that lies on the way to it"
        )
    return kept[0].detach(), gradient, logits.detach()


@contextmanager
def _hooked(model: nn.Module, path: str, hook: Callable[..., Any]) -> Iterator[None]:
    handle = model.get_submodule(path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _feature_map(path: str, output: Any) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 4:
        return output
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise InputError(
        f"layer {path.removeprefix(WHOLE)} gives {shape}, no feature map [B, C, H, W]; take a "
        "convolution or a block"
    )


def _not_passed(path: str) -> InputError:
    return InputError(
        f"layer {path.removeprefix(WHOLE)} is not passed when the network answers (an auxiliary "
        "head?); take one that lies on the way"
    )
