"""A copy of a network that gives the same logits with fewer passes over memory: batch norms folded
into the convolutions before them. For an attack to search; the network itself decides."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from fundusray.attacks.gradient import evaluation_mode

SAME = 1e-4
"""By how much of the largest logit the copy's may differ."""


def folded(model: nn.Module, image: Tensor) -> nn.Module:
    """The copy, in evaluation mode; the model itself where nothing can be folded, or where the
    copy would not say the same of these images [B, 3, S, S] in [0, 1]."""
    with evaluation_mode(model), torch.no_grad():
        pairs = _pairs(model, image)
        if not pairs:
            return model
        copied = deepcopy(model).requires_grad_(False)
        for convolution, norm in pairs:
            _fold(copied, convolution, norm)
        logits, theirs = model(image), copied(image)
    apart = (logits - theirs).abs().max()
    same = logits.isfinite().all() and apart <= SAME * logits.abs().max()
    return copied if same else model


def within_rounding(logits: Tensor) -> Tensor:
    """Where the network may answer another class than its copy, which says `logits` [B, K], bool
    [B]: the two largest are no further apart than twice what both may differ by."""
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    # Not: further apart. What is no number is uncertain.
    return ~(first - second > 4 * SAME * logits.abs().amax(dim=1))


def _pairs(model: nn.Module, image: Tensor) -> list[tuple[str, str]]:
    """(convolution, norm) by their paths: the norm takes what the convolution gave, as is seen in
    a pass; each is used once."""
    outputs: list[tuple[Tensor, str]] = []
    calls: dict[str, int] = {}
    seen: list[tuple[str, str]] = []

    def after_convolution(path: str) -> Any:
        def keep(_: nn.Module, inputs: Any, output: Tensor) -> None:
            calls[path] = calls.get(path, 0) + 1
            outputs.append((output, path))

        return keep

    def before_norm(path: str) -> Any:
        def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls[path] = calls.get(path, 0) + 1
            seen.extend((source, path) for output, source in outputs if output is inputs[0])

        return look

    with _hooked(model, after_convolution, before_norm):
        model(image)
    return [pair for pair in seen if all(calls[path] == 1 for path in pair)]


@contextmanager
def _hooked(model: nn.Module, after_convolution: Any, before_norm: Any) -> Iterator[None]:
    hooks = []
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(after_convolution(path)))
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            hooks.append(layer.register_forward_pre_hook(before_norm(path)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _fold(model: nn.Module, convolution: str, norm: str) -> None:
    """Puts a norm's scale and shift into a convolution's weight and bias; in its place stays what
    it does beside (timm's BatchNormAct2d drops and activates)."""
    conv, batch_norm = model.get_submodule(convolution), model.get_submodule(norm)
    assert isinstance(conv, nn.Conv2d) and isinstance(batch_norm, nn.BatchNorm2d)
    mean, variance = batch_norm.running_mean, batch_norm.running_var
    assert mean is not None and variance is not None
    gamma, beta = torch.ones_like(mean).double(), torch.zeros_like(mean).double()
    if batch_norm.affine:
        gamma, beta = batch_norm.weight.double(), batch_norm.bias.double()
    scale = gamma / (variance.double() + batch_norm.eps).sqrt()
    bias = 0.0 if conv.bias is None else conv.bias.double()
    shift = beta + (bias - mean.double()) * scale
    weight = conv.weight.double() * scale[:, None, None, None]
    layout = torch.channels_last if _channels_last(conv.weight) else torch.contiguous_format
    conv.weight = nn.Parameter(
        weight.to(conv.weight.dtype).contiguous(memory_format=layout), requires_grad=False
    )
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
    beside = [getattr(batch_norm, name, None) for name in ("drop", "act")]
    stays = nn.Sequential(*[layer for layer in beside if isinstance(layer, nn.Module)])
    model.set_submodule(norm, stays.eval())


def _channels_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
