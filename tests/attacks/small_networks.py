"""Networks on which attacks are tried: linear ones, whose robustness is known, and small ones of
convolutions."""

import torch
from torch import Tensor, nn

from fundusray.attacks import AttackOutcome, run_attack


def wrong_class(logits: Tensor, target: Tensor) -> Tensor:
    """Success of an attack that leads anywhere."""
    return logits.argmax(dim=1) != target


class Linear(nn.Module):
    """Logits W x + b of K classes."""

    def __init__(self, classes: int, image: Tensor, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(classes, image[0].numel(), generator=generator)
        self.weight = nn.Parameter(weight)
        # No class is ahead of the others in the mean over these images.
        self.bias = -(image.flatten(1) @ weight.T).mean(dim=0)

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1) @ self.weight.T + self.bias


def convolutions(classes: int = 5, seed: int = 0, side: int = 15) -> nn.Sequential:
    """Two convolutions with batch statistics, in evaluation mode."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2), nn.SiLU(),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, classes),
    ).eval()  # fmt: skip
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    nn.init.normal_(net[7].weight, std=0.5)
    with torch.no_grad():
        net[7].bias -= net(pictures(64, side)).mean(dim=0)
    return net


def pictures(num: int, side: int, low: float = 0.0, high: float = 1.0, seed: int = 4) -> Tensor:
    """[num, 3, side, side]"""
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(num, 3, side, side, generator=generator)


def attacked(
    name: str,
    args: dict,
    model: nn.Module,
    image: Tensor,
    target: Tensor | None = None,
    norm: str = "linf",
    eps: float = 8 / 255,
    row: Tensor | None = None,
    **more: object,
) -> AttackOutcome:
    """`run_attack` away from the classes that the network says, unless others are given."""
    if target is None:
        with torch.no_grad():
            target = model(image).argmax(dim=1)
    row = torch.arange(len(image)) if row is None else row
    more.setdefault("success", wrong_class)
    return run_attack(name, args, model, image, target, row=row, norm=norm, eps=eps, **more)


def distance(far: Tensor, image: Tensor, norm: str) -> Tensor:
    """float64 [B]"""
    order = 2 if norm == "l2" else torch.inf
    return torch.linalg.vector_norm((far - image).double().flatten(1), order, dim=1)
