"""Linear networks, of which distances to another class are known exactly, and a small one that is
not linear."""

import torch
from torch import Tensor, nn

SIDE = 8


class LinearNetwork:
    """Logits W x + b, in float64 and row by row, so that no batch changes an answer."""

    def __init__(self, num_classes: int, side: int = SIDE, seed: int = 3) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (num_classes, 3 * side * side)
        self.weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.bias = torch.zeros(num_classes, dtype=torch.float64)

    def __call__(self, image: Tensor) -> Tensor:
        flat = image.double().flatten(1)
        return torch.stack([(flat * row).sum(dim=1) for row in self.weight], dim=1) + self.bias

    def centred(self, image: Tensor) -> "LinearNetwork":
        """With a bias that gives these images all classes."""
        self.bias = -self(image).mean(dim=0)
        return self

    def distance(self, image: Tensor, norm: str) -> Tensor:
        """From each image to the nearest other class, without the borders of [0, 1], [B]."""
        logits = self(image)
        label = logits.argmax(dim=1)
        normal = self.weight[label][:, None] - self.weight
        length = normal.norm(p=2 if norm == "l2" else 1, dim=2)
        away = (logits.gather(1, label[:, None]) - logits) / length
        return away.scatter(1, label[:, None], torch.inf).amin(dim=1)


def grey_images(num: int, side: int = SIDE, seed: int = 5) -> Tensor:
    """Images [B, 3, S, S] that are far from black and white."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, 3, side, side, generator=generator) * 0.2 + 0.4


def convolutional_network(image: Tensor, num_classes: int = 4) -> nn.Module:
    """A small network that answers several classes of these images."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(128, num_classes),
    ).eval()  # fmt: skip
    nn.init.normal_(net[4].weight, std=0.5)
    with torch.no_grad():
        net[4].bias -= net(image).mean(dim=0)
    return net


def wrong_class(outputs: Tensor, target: Tensor) -> Tensor:
    """Success as classification has it."""
    return outputs.argmax(dim=1) != target
