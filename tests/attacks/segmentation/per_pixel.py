"""Networks that segment: one whose gradients can be written down, and a small one of
convolutions."""

import numpy as np
import torch
from torch import Tensor, nn


class PerPixel(nn.Module):
    """Logits W x + b of C classes at each pixel, of that pixel alone."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.weight, self.bias = torch.tensor(weight).float(), torch.tensor(bias).float()
        self.images = 0

    def forward(self, image: Tensor) -> Tensor:
        self.images += len(image)
        logits = torch.einsum("kc,bchw->bkhw", self.weight, image)
        return logits + self.bias[None, :, None, None]


def drawn_per_pixel(num_classes: int, seed: int = 0) -> PerPixel:
    rng = np.random.default_rng(seed)
    return PerPixel(3 * rng.normal(size=(num_classes, 3)), rng.normal(size=num_classes))


def convolutions(num_classes: int, seed: int = 0) -> nn.Module:
    """Two convolutions, whose answers differ from place to place."""
    torch.manual_seed(seed)
    first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, num_classes, 3, padding=1)
    nn.init.normal_(first.weight, std=0.8)
    nn.init.normal_(last.weight, std=0.5)
    return nn.Sequential(first, nn.SiLU(), last).eval()


def pictures(num: int, side: int, seed: int = 1) -> Tensor:
    """[num, 3, side, side] in [0, 1], with black and white among them."""
    generator = torch.Generator().manual_seed(seed)
    return (1.2 * torch.rand(num, 3, side, side, generator=generator) - 0.1).clamp(0, 1)


def drawn_classes(num: int, side: int, num_classes: int, seed: int = 2) -> Tensor:
    """int64 [num, side, side]"""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_classes, (num, side, side), generator=generator)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def full_area_gradient(net: PerPixel, image: np.ndarray, c: int) -> np.ndarray:
    """Of the mean cross entropy of a 2 x 2 image [3, 2, 2] against c everywhere, pixel by pixel."""
    weight, bias = net.weight.double().numpy(), net.bias.double().numpy()
    gradient = np.zeros_like(image)
    for y in range(2):
        for x in range(2):
            share = softmax(weight @ image[:, y, x] + bias)
            share[c] -= 1
            gradient[:, y, x] = weight.T @ share / 4
    return gradient


def mean_loss(net: PerPixel, image: np.ndarray, target: np.ndarray) -> float:
    """Mean cross entropy of a 2 x 2 image against its true mask, pixel by pixel."""
    weight, bias = net.weight.double().numpy(), net.bias.double().numpy()
    losses = []
    for y in range(2):
        for x in range(2):
            losses.append(-np.log(softmax(weight @ image[:, y, x] + bias)[target[y, x]]))
    return float(np.mean(losses))
