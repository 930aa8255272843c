"""PGD with 5 steps against torchattacks on the same images, and a sweep over four budgets.

Where few images succeed what is saved is batch norms folded into convolutions; where most do, the
steps after the one that succeeded. Both attack what the network says of the images, start at the
images themselves and take steps of 1.25 eps / 4; both end with a pass that sees what succeeded, of
the network itself and not of its copy. Every image that the peer breaks has to be broken by ours.
"""

import argparse
import sys
from collections.abc import Callable

import torch
import torchattacks
from rounds import compare, conclude
from torch import Tensor, nn

from fundusray.attacks import folded, run_attack, sweep
from fundusray.attacks.gradient import perturbation_distance
from fundusray.attacks.losses import margin
from fundusray.config import Model
from fundusray.models import build_model

BATCH, SIDE, CLASSES, STEPS = 32, 128, 5, 5
SHARES = (0.2, 0.4, 0.75, 1.0)
"""Of images that succeed under the budgets of the sweep."""


def wrong_class(logits: Tensor, target: Tensor) -> Tensor:
    """Success: another class."""
    return logits.argmax(dim=1) != target


class Bench:
    """A network with ImageNet's features and a head whose classes are equally likely, and smooth
    images."""

    def __init__(self, batch: int, side: int) -> None:
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(batch, 3, 9, 9, generator=generator)
        self.image = nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 1)
        torch.manual_seed(0)
        self.model = build_model(Model(name="efficientnet_lite0", weights="imagenet"), CLASSES, 0)
        self.model.eval().requires_grad_(False)
        with torch.no_grad():
            spread = self.model(self.image)
            self.offset = spread.mean(dim=0)
            self.clean = self.network(self.image)
        self.target = self.clean.argmax(dim=1)
        self.copy = folded(self.model, self.image).to(memory_format=torch.channels_last)
        self.row = torch.arange(batch)

    def network(self, image: Tensor) -> Tensor:
        """Logits of the network itself."""
        return self.model(image) - self.offset

    def search(self, image: Tensor) -> Tensor:
        """Logits of its folded copy."""
        return self.copy(image.contiguous(memory_format=torch.channels_last)) - self.offset

    def peer(self, eps: float) -> tuple[Tensor, Tensor]:
        """(images, success) of torchattacks."""
        outer = self

        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = outer.model

            def forward(self, image: Tensor) -> Tensor:
                return outer.network(image)

        attack = torchattacks.PGD(
            Network().eval(), eps=eps, alpha=1.25 * eps / 4, steps=STEPS, random_start=False
        )
        found = attack(self.image, self.target)
        with torch.no_grad():
            return found, wrong_class(self.network(found), self.target)

    def ours(self, eps: float) -> tuple[Tensor, Tensor]:
        """(images, success) of run_attack."""
        args = {"steps": STEPS, "step": 1.25 * eps / 4, "start": "image"}
        outcome = run_attack(
            "pgd", args, self.network, self.image, self.target, row=self.row, norm="linf", eps=eps,
            success=wrong_class, search=self.search, copied=True, clean=self.clean,
        )  # fmt: skip
        return outcome.image, outcome.success

    def swept(self, budgets: list[float]) -> list[Tensor]:
        """Success under each budget; steps are as long as usual, 2.5 eps / 5 = 1.25 eps / 2.5."""
        outcomes = sweep(
            "pgd", {"steps": STEPS, "start": "image"}, self.network, self.image, self.target,
            row=self.row, norm="linf", eps=budgets, success=wrong_class, search=self.search,
            copied=True, clean=self.clean,
        )  # fmt: skip
        return [outcome.success for outcome in outcomes]

    def budgets(self) -> list[float]:
        """The eps at which so many of SHARES would be broken if the network were linear."""
        image = self.image.clone().requires_grad_(True)
        logits = self.network(image)
        ahead = -margin(logits, self.target)
        (gradient,) = torch.autograd.grad(ahead.sum(), image)
        needed = (ahead / gradient.abs().sum(dim=(1, 2, 3))).detach()
        return torch.quantile(needed, torch.tensor(SHARES)).tolist()


def same_work(bench: Bench, eps: float) -> bool:
    """Whether ours breaks all that the peer breaks, within the budget, by the network itself."""
    _, theirs = bench.peer(eps)
    found, ours = bench.ours(eps)
    with torch.no_grad():
        confirmed = wrong_class(bench.network(found), bench.target)
    far = perturbation_distance(found, bench.image, "linf").max().item()
    share = ours.float().mean().item()
    print(
        f"eps {eps * 255:.4f} levels: ours breaks {share:.2f}, the peer "
        f"{theirs.float().mean():.2f}; farthest {far * 255:.4f} levels",
        flush=True,
    )
    inside = bool(found.min() >= 0 and found.max() <= 1 and far <= eps + 1e-6)
    return inside and bool((ours | ~theirs).all()) and torch.equal(ours, confirmed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--side", type=int, default=SIDE)
    given = parser.parse_args()
    bench = Bench(given.batch, given.side)
    budgets = bench.budgets()
    cases = {
        "none_succeed": (1e-7, 1.0),
        "some_succeed": (budgets[1], 1.2),
        "most_succeed": (4 * budgets[3], 3.5),
    }
    ratios: dict[str, tuple[float, float]] = {}

    def timed(name: str, least: float, peer: Callable, ours: Callable, items: int) -> None:
        ratio = compare(name, peer, ours, given.rounds, items=items, unit="images")
        ratios[name] = (ratio, least)

    for name, (eps, least) in cases.items():
        if not same_work(bench, eps):
            print(f"FAILED: {name}: an image that the peer breaks is not broken by ours")
            return 1
        timed(
            f"pgd_{name}", least, lambda eps=eps: bench.peer(eps),
            lambda eps=eps: bench.ours(eps), given.batch,
        )  # fmt: skip
    found = [bench.peer(eps)[1] for eps in budgets]
    swept = bench.swept(budgets)
    print("sweep:", *(f"{a.float().mean():.2f}/{b.float().mean():.2f}" for a, b in zip(
        found, swept, strict=True)))  # fmt: skip
    if not all((ours | ~theirs).all() for ours, theirs in zip(swept, found, strict=True)):
        print("FAILED: sweep: an image that the peer breaks is not broken by ours")
        return 1
    timed(
        "pgd_four_budgets", 1.5, lambda: [bench.peer(eps) for eps in budgets],
        lambda: bench.swept(budgets), given.batch * len(budgets),
    )  # fmt: skip
    conclude(ratios)
    return 0


if __name__ == "__main__":
    sys.exit(main())
