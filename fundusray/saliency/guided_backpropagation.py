"""Guided backpropagation: a gradient that is stopped wherever it is negative at a rectifier."""

import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fundusray.errors import InputError
from fundusray.keywords import OneOf
from fundusray.saliency.gradients import largest_channel
from fundusray.saliency.registry import (
    MAPS,
    OUTPUTS,
    Attribution,
    MapProblem,
    chunked,
    class_output,
)

RECTIFIERS = {"relu": None, "relu_": None, "relu6": 6.0, "hardtanh": 6.0, "hardtanh_": 6.0}
"""Functions of torch that cut off what is negative -> the largest number that they let through."""
OTHERS = frozenset({
    "silu", "silu_", "gelu", "mish", "mish_", "hardswish", "hardswish_", "elu", "elu_", "selu",
    "selu_", "celu", "celu_", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "rrelu_", "softplus",
    "threshold", "threshold_",
})  # fmt: skip
"""Activations of torch for which the method says nothing: of these the gradient would be plain."""


@MAPS.register(
    "guided_backpropagation",
    title="Guided backpropagation",
    source="Springenberg et al. 2015, section 3.4",
)
def guided_backpropagation(
    problem: MapProblem, *, output: Annotated[str, OneOf(*OUTPUTS)] = "logit"
) -> Attribution:
    """The gradient of the class's output by each pixel, of its channels the largest, where on its
    way back every rectifier lets positive numbers through alone.

    By captum, which knows rectifiers that are modules of the kind nn.ReLU; here also those that are
    functions, write into their input, stand in several places, or end at 6.

    Raises:
        InputError: a network without rectifiers, or with other activations beside them, of which
            the gradient would silently be a plain one.
    """
    # Loaded where it is used: it takes a second, which nobody else should pay.
    from captum.attr import GuidedBackprop

    guided = GuidedBackprop(_ThroughOneRectifier(problem.model, output))
    parts = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        for some in chunked(len(problem.image), problem.chunk):
            image = problem.image[some].detach().clone().requires_grad_(True)
            parts.append(guided.attribute(image, additional_forward_args=problem.target[some]))
    return Attribution(largest_channel(torch.cat(parts).detach()))


class _ThroughOneRectifier(nn.Module):
    """A model whose rectifiers all are the one module `rectifier`, the only one captum finds.

    The model is none of its submodules, so that no hook is ever laid on the model's own.
    """

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.rectifier = nn.ReLU()
        self._answer: Callable[[Tensor, Tensor], Tensor] = lambda image, target: class_output(
            model(image), target, output
        )

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """The class's output of each image, [B]."""
        with _Rectifying(self.rectifier) as seen:
            value = self._answer(image, target)
        if seen.others or not seen.rectifiers:
            reason = f"has {', '.join(sorted(seen.others))}" if seen.others else "has no rectifier"
            raise InputError(
                "guided_backpropagation is defined for networks whose activations are rectifiers "
                f"(ReLU, ReLU6); this one {reason}, where it would be a plain gradient; take "
                "saliency or smooth_grad, or a resnet, inception_v3, efficientnet_lite0 or bagnet33"
            )
        return value


class _Rectifying(TorchFunctionMode):
    """Lets a module do what torch's rectifiers do; counts them, and names other activations."""

    def __init__(self, rectifier: nn.Module) -> None:
        super().__init__()
        self.rectifier = rectifier
        self.rectifiers = 0
        self.others: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in OTHERS:
            self.others.add(name.rstrip("_"))
        if name not in RECTIFIERS:
            return func(*args, **kwargs)
        value = args[0] if args else kwargs["input"]
        if name.startswith("hardtanh") and not _is_relu6(args, kwargs):
            self.others.add("hardtanh")
            return func(*args, **kwargs)
        self.rectifiers += 1
        if not (isinstance(value, Tensor) and value.requires_grad):
            return func(*args, **kwargs)
        # A copy: what else reads the same numbers has a gradient of its own, which is not cut off.
        rectified = self.rectifier(value.clone())
        if (most := RECTIFIERS[name]) is not None:
            rectified = rectified.clamp(max=most)
        inplace = name.endswith("_") or kwargs.get("inplace", args[1:] and args[-1] is True)
        return value.copy_(rectified) if inplace else rectified


def _is_relu6(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether hardtanh is called as ReLU6 does: what is below 0 or above 6 is cut off."""
    bounds = dict(zip(("min_val", "max_val"), args[1:3], strict=False)) | dict(kwargs)
    return bounds.get("min_val", -1.0) == 0 and bounds.get("max_val", 1.0) == 6
