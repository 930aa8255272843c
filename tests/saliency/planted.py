"""Drawn eyes with planted lesions, and small networks to be explained on them."""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.data.drawn.source import draw_photograph
from fundusray.saliency import MapProblem

SIDE = 48


@cache
def eyes(num: int = 3, side: int = SIDE) -> tuple[Tensor, Tensor, Tensor]:
    """(images [num, 3, S, S], where lesions are bool [num, 1, S, S], fundus likewise)."""
    drawn = [draw_photograph(2, index, 3, side) for index in range(num)]
    images = np.stack([eye.image for eye in drawn])
    lesions = np.stack([np.any(list(eye.masks.values()), axis=0) for eye in drawn])
    fundus = images.max(axis=3) > 8
    return (
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255,
        torch.from_numpy(lesions)[:, None],
        torch.from_numpy(fundus)[:, None],
    )


class Linear(nn.Module):
    """Two logits: 0, and the sum of the weighted pixels."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, image: Tensor) -> Tensor:
        logit = (image * self.weight).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def convolutions(seed: int = 0, classes: int = 3) -> nn.Sequential:
    """Three convolutions with batch statistics; in training mode, its weights with gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.SiLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes),
        )  # fmt: skip
        nn.init.normal_(net[1].weight, 1, 0.2)
        nn.init.normal_(net[9].weight, std=1.0)
    return net


def problem_of(model: nn.Module, image: Tensor, chunk: int = 5) -> MapProblem:
    """Class 1 of each image; rows are not their places."""
    row = torch.arange(len(image)) * 3 + 7
    return MapProblem(model, image, torch.ones(len(image), dtype=torch.int64), row, {}, chunk)
