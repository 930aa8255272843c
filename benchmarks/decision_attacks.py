"""Queries per second of the boundary attack, many images in lock step, against Foolbox with one
image at a time and with 16; and how near both come with as many queries.

Foolbox is no dependency of ours. Where it cannot be imported, our own attack on one image at a time
stands in for it, which the names of the ratios say; how near it comes is then not compared.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator

import torch
from rounds import conclude, seconds
from torch import Tensor, nn

from fundusray.attacks import folded, run_attack
from fundusray.config import Model
from fundusray.models import build_model

try:
    import foolbox
except ImportError as error:
    foolbox, missing = None, str(error)
else:
    missing = ""

CLASSES, IMAGES = 5, 32
STARTING = 11
"""Queries after which a walk whose first noise is misclassified stands on the boundary."""


class Sides(nn.Module):
    """A network of the usual cost that takes these images for class 0 and noise for class 1."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.network, self.image = network.eval(), image
        with torch.no_grad():
            near = network(image).mean(dim=0)
            far = network(torch.rand_like(image)).mean(dim=0)
        self.normal = nn.Parameter(far - near)
        self.middle = nn.Parameter((near + (far - near) / 3) @ (far - near))
        self.queries = 0
        self.eval()
        self._copy: list[nn.Module] = []

    def copy(self) -> nn.Module:
        """One with folded batch norms, made once, as an evaluation does."""
        if not self._copy:
            noise = torch.rand_like(self.image[:2])
            copied = folded(self, noise).to(memory_format=torch.channels_last)
            self._copy.append(copied)
        return self._copy[0]

    def forward(self, image: Tensor) -> Tensor:
        self.queries += len(image)
        score = self.network(image) @ self.normal - self.middle
        return torch.stack([torch.zeros_like(score), score], dim=1)


def wrong_class(outputs: Tensor, target: Tensor) -> Tensor:
    return outputs.argmax(dim=1) != target


def ours(model: Sides, image: Tensor, queries: int, batch: int) -> Tensor:
    """The nearest images, of as many walks at a time; a copy with folded batch norms answers where
    rounding cannot matter."""
    copy = model.copy()

    def search(shown: Tensor) -> Tensor:
        return copy(shown.contiguous(memory_format=torch.channels_last))

    target = torch.zeros(len(image), dtype=torch.long, device=image.device)
    row = torch.arange(len(image), device=image.device)
    args = {"queries": queries, "batch": batch}
    outcome = run_attack(
        "boundary", args, model, image, target,
        row=row, norm="l2", eps=float("inf"), success=wrong_class, search=search, copied=True,
    )  # fmt: skip
    assert outcome.success.all(), "an image has no start"
    return outcome.image


def theirs(model: Sides, image: Tensor, start: Tensor, steps: int) -> Tensor:
    """Foolbox's nearest images, from these starts, all of them in one batch."""
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=image.device)
    target = torch.zeros(len(image), dtype=torch.long, device=image.device)
    return foolbox.attacks.BoundaryAttack(steps=steps).run(
        wrapped, image, target, starting_points=start
    )


def peers(
    model: Sides, image: Tensor, start: Tensor, steps: int
) -> Iterator[tuple[str, float, Callable[[], object]]]:
    """Name, least ratio and work of each peer."""
    if foolbox is None:
        queries = STARTING + steps
        yield "ours_one_image_at_a_time", 1, lambda: ours(model, image[:4], queries, 1)
        return

    def one_by_one() -> None:
        for place in range(4):
            theirs(model, image[place : place + 1], start[place : place + 1], steps)

    yield "foolbox_n1", 3.5, one_by_one
    yield "foolbox_n16", 1.2, lambda: theirs(model, image[:16], start[:16], steps)


def rate(model: Sides, work: Callable[[], object], queries: int = 0) -> float:
    """Queries per second; as many as the walks ask, or else as the network answers."""
    before = model.queries
    taken = seconds(work)
    return (queries or model.queries - before) / taken


def distance(attacked: Tensor, image: Tensor) -> float:
    """The geometric mean of the L2 distances."""
    return (attacked - image).flatten(1).norm(dim=1).log().mean().exp().item()


def nearness(num: int, steps: int) -> float:
    """Foolbox's mean distance over ours, with as many queries from the same starts, on a small
    network."""
    torch.manual_seed(1)
    image = torch.rand(num, 3, 16, 16) * 0.3 + 0.3
    small = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(128, CLASSES),
    )  # fmt: skip
    model = Sides(small, image)
    start = ours(model, image, STARTING, num)
    before = model.queries
    peer = distance(theirs(model, image, start, steps), image)
    queries = (model.queries - before) // num + STARTING
    mine = distance(ours(model, image, queries, num), image)
    print(f"  {queries} queries: mean L2 {mine:.4f}, Foolbox {peer:.4f}", flush=True)
    return peer / mine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--network", default="efficientnet_b0")
    parser.add_argument("--near-steps", type=int, default=1000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    torch.manual_seed(0)
    image = (torch.rand(IMAGES, 3, given.side, given.side) * 0.1 + 0.4).to(given.device)
    network = build_model(Model(name=given.network), CLASSES, 0).to(given.device).eval()
    model = Sides(network, image)
    start = ours(model, image, STARTING, IMAGES)
    ratios: dict[str, tuple[float, float]] = {}
    if foolbox is None:
        print(f"Foolbox is not here ({missing}): our own attack, one image at a time, stands in")
    for name, least, work in peers(model, image, start, given.steps):
        work()
        asked = STARTING + given.steps

        def mine_at(asked: int = asked) -> Tensor:
            return ours(model, image, asked, IMAGES)

        pairs = [
            (rate(model, work), rate(model, mine_at, asked * IMAGES)) for _ in range(given.rounds)
        ]
        peer, mine = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"{name:<26} peer {peer:.1f} queries/s   ours {mine:.1f} queries/s", flush=True)
        ratios[f"boundary_over_{name}"] = (statistics.median(b / a for a, b in pairs), least)
    if foolbox is not None:
        ratios["foolbox_distance_over_ours"] = (nearness(8, given.near_steps), 1)
    conclude(ratios)
    return 0


if __name__ == "__main__":
    sys.exit(main())
