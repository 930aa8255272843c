"""The attribution maps by name with their facts, and the one form in which each is asked for.

A map is a function `(problem, **its keywords) -> Attribution`: of images and a class of each it
says which pixels speak for that class and which against it. `run.run_map` calls it, and holds it to
its form.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fundusray.registry import Registry

PASSED = frozenset({"problem"})
"""Parameters of a map that the runner passes, not the user."""
GRADIENT_PASSES = 3
"""Forward passes that a gradient costs: the pass itself, and about two on the way back."""
CHUNK = 32
"""Images of one pass, of MEASURED pixels a side: more at a time are no faster on a CPU, and hold
memory. Of larger images fewer, so that a pass holds as much: what does not fit in what the system
hands out at once took up to twice the time."""
MEASURED = 128
ON_GPU = 16
"""Times as many images of one pass on a GPU."""
OUTPUTS = ("logit", "probability")
"""What of the class may be explained: its logit, or its share of the softmax."""
HALF_GREY = 0.5
"""A photograph without content (Li et al.): of every channel half."""


@dataclass(frozen=True)
class MapProblem:
    """Images, and of each the class whose output is to be explained."""

    model: nn.Module
    """In evaluation mode: images [B, 3, S, S] in [0, 1] to class logits [B, K]."""
    image: Tensor
    """[B, 3, S, S] float32 in [0, 1]."""
    target: Tensor
    """[B] int64: the class."""
    row: Tensor
    """[B] int64: what is random is a function of (seed, row), so that no image depends on the
    others of its batch."""
    layers: Mapping[str, str]
    """"early" and "last" -> the path of such a layer in the model; empty where it has no feature
    maps."""
    chunk: int = CHUNK
    """Images of one pass."""

    def part(self, places: Tensor) -> "MapProblem":
        """The problem of the images at some places [b]."""
        kept = {name: getattr(self, name)[places] for name in ("image", "target", "row")}
        return replace(self, **kept)

    def size(self) -> int:
        """Side of the images, pixels."""
        return self.image.shape[-1]


@dataclass(frozen=True)
class Attribution:
    """What a map says of images."""

    values: Tensor
    """[B, 1, S, S] float32: positive speaks for the class, negative against it."""
    gap: Tensor | None = None
    """[B]: of a map whose values should sum to F(image) - F(baseline), by how much they do not, as
    a share of the larger of 1e-3 and |F(image) - F(baseline)|; None of others."""
    gradients: Tensor | None = None
    """[B] int64: how many gradients each image took, where that is not the same for all."""


def gradient_cost(args: Mapping[str, Any], size: int) -> int:
    """Forward passes of a map that takes `steps` gradients, or one."""
    return GRADIENT_PASSES * int(args.get("steps", 1))


@dataclass(frozen=True, kw_only=True)
class MapFacts:
    """What is to be known of a map."""

    title: str
    """What its authors call it."""
    source: str
    """Who, where: Sundararajan et al. 2017, section 3."""
    needs: str = ""
    """What a network has to have for it: "early" or "last", such a layer; "evidence", a map of its
    own; nothing."""
    complete: bool = False
    """Whether its values should sum to F(image) - F(baseline)."""
    passes: Callable[[Mapping[str, Any], int], int] = gradient_cost
    """(all its keywords, side of the images) -> forward passes that an image costs, about."""


MAPS: Registry[Callable[..., Attribution]] = Registry("map", MapFacts)


def images_at_once(image: Tensor) -> int:
    """How many images [B, C, S, S] go through a network in one pass."""
    most = CHUNK * MEASURED**2 // (image.shape[-1] * image.shape[-2])
    return max(1, most * (ON_GPU if image.is_cuda else 1))


def laid_out(image: Tensor) -> Tensor:
    """Images [B, C, S, S] as convolutions pass them fastest: channels last, also where the network
    was not laid out so. On a CPU that was up to twice as fast."""
    return image.contiguous(memory_format=torch.channels_last)


def class_output(logits: Tensor, target: Tensor, output: str = "logit") -> Tensor:
    """What is explained of each image, [B]: of its class the logit or the probability."""
    scores = logits.float()
    if output == "probability":
        scores = scores.softmax(dim=1)
    return scores.gather(1, target[:, None])[:, 0]


def class_gradient(
    model: nn.Module, image: Tensor, target: Tensor, output: str = "logit"
) -> tuple[Tensor, Tensor]:
    """(gradient of the class's output by each image [B, 3, S, S], that output [B])."""
    with torch.enable_grad():
        image = laid_out(image.detach()).requires_grad_(True)
        value = class_output(model(image), target, output)
        (gradient,) = torch.autograd.grad(value.sum(), image)
    return gradient, value.detach()


def chunked(num: int, size: int) -> list[slice]:
    """`num` things in runs of at most `size`."""
    return [slice(start, start + size) for start in range(0, num, size)]
