"""Small networks whose layers are looked into, with images to look at."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.pipeline.loader import Batch
from fundusray.saliency import MapProblem

SIZE, CLASSES = 12, 3


class Plain(nn.Module):
    """Convolutions in a row; `inplace`: what follows a convolution writes into what it said."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, stride=2)
        self.hidden = nn.Linear(5, 6)
        self.head = nn.Linear(6, CLASSES)
        self.inplace = inplace

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.first(image), self.inplace)
        x = F.max_pool2d(F.relu(self.second(x), self.inplace), 2)
        return self.head(F.relu(self.hidden(x.mean(dim=(2, 3))), self.inplace))


class Residual(nn.Module):
    """A layer with a way around it, on which another stands. `inplace`: the one is added into the
    other; `joined`: they are put side by side."""

    def __init__(self, inplace: bool = False, joined: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.around = nn.Conv2d(4, 4, 1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(8 if joined else 4, CLASSES)
        self.inplace, self.joined = inplace, joined

    def forward(self, image: Tensor) -> Tensor:
        before = torch.tanh(self.first(image))
        self.unused(before)
        main, around = self.second(before), self.around(before)
        if self.joined:
            return self.head(torch.cat([main, around], dim=1).square().mean(dim=(2, 3)))
        if self.inplace:
            main += around
        else:
            main = main + around
        return self.head(main.square().mean(dim=(2, 3)))


class Straight(nn.Module):
    """Linear from its pixels to its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * SIZE * SIZE, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.first(image).flatten(1))


def built(network: type[nn.Module], **keywords: bool) -> nn.Module:
    """A network of these random weights, as `explainable` has it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return network(**keywords).eval().requires_grad_(False)


def problem_of(model: nn.Module, num: int = 2, size: int = SIZE, chunk: int = 7) -> MapProblem:
    """Some images and classes; points on a line go in several passes."""
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(num, 3, size, size, generator=generator)
    target = torch.arange(num) % CLASSES
    layers = {"early": "first", "last": "second"}
    return MapProblem(model, image, target, torch.arange(num), layers, chunk)


def hooks_of(model: nn.Module) -> int:
    """How many hooks hang on its layers."""
    return sum(len(layer._forward_hooks) + len(layer._backward_hooks) for layer in model.modules())


def opened_eyes(batch: int) -> SimpleNamespace:
    """What a worker holds: a network, and five photographs in batches, the last of which is filled
    up with what is not valid."""
    model = built(Plain)
    image = problem_of(model, num=5).image

    def batches(rows: np.ndarray, condition: object) -> Iterator[Batch]:
        for start in range(0, len(rows), batch):
            some = torch.from_numpy(rows[start : start + batch])
            row = torch.cat([some, some[:1].expand(batch - len(some))])
            valid = torch.arange(batch) < len(some)
            yield Batch(image[row], 0 * row, row, valid)

    return SimpleNamespace(model=model, batches=batches)
