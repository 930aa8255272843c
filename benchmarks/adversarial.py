"""What attacks cost in training: a step of PGD with K steps against a plain step, and against
torchattacks in the same loop.

A plain step is a forward pass, a backward pass to the activations and one to the weights, about a
third each; each step of the attack adds the first two. So a step with PGD-K should take 1 + 2K/3
plain ones; all else, drawing, projecting and measuring, has a share of 15 %.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torchattacks
from rounds import conclude, seconds
from torch import Tensor, nn

from fundusray.attacks import evaluation_mode, training_budget
from fundusray.attacks.gradient import perturbation_distance
from fundusray.config import Adversarial, Model
from fundusray.models import build_model
from fundusray.pipeline.loader import Batch
from fundusray.training.objectives import OBJECTIVES

BATCH, SIDE, CLASSES, SEED = 8, 96, 5, 7
SLACK = 1.15
METHODS = (("fast", 1), ("pgd", 3), ("pgd", 7))


class Turn(NamedTuple):
    """Seconds of one round, each way once."""

    plain: float
    ours: float
    peer: float


def per_sample(output: Tensor, target: Tensor) -> Tensor:
    """[B] cross entropy."""
    return nn.functional.cross_entropy(output.float(), target, reduction="none")


def learn(optimizer: torch.optim.Optimizer, losses: Tensor) -> None:
    """The rest of a step, the same for all."""
    optimizer.zero_grad(set_to_none=True)
    losses.mean().backward()
    optimizer.step()


class Bench:
    """A network, a batch and the three ways to make a step of them."""

    def __init__(self, device: torch.device, batch: int, side: int, precision: str) -> None:
        self.device = device
        model = build_model(Model(name="resnet18"), CLASSES, 0).to(device)
        self.model = model.to(memory_format=torch.channels_last).train()
        # Weights stay as they are, so that every step is the same work on the same numbers.
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0)
        image = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
        image = image.to(device).contiguous(memory_format=torch.channels_last)
        row = torch.arange(batch, device=device)
        self.batch = Batch(image, row % CLASSES, row, row >= 0)
        self.half = precision == "bf16"

    def precision(self) -> torch.autocast | nullcontext:
        kind = self.device.type
        return torch.autocast(kind, torch.bfloat16) if self.half else nullcontext()

    def ours(self, settings: Adversarial) -> None:
        """A step of a recipe with this method; without one, a plain step."""
        objective = OBJECTIVES.find(settings.method)
        made = objective(self.model, self.model, self.batch, per_sample, settings, SEED)
        while True:
            with self.precision():
                losses = next(made, None)
            if losses is None:
                return self.wait()
            learn(self.optimizer, losses)

    def peer(self, settings: Adversarial) -> None:
        """A step with images attacked by torchattacks, with the same steps and radius."""
        with self.precision():
            found = self.theirs(settings)
            losses = per_sample(self.model(found), self.batch.target)
        learn(self.optimizer, losses)
        self.wait()

    def theirs(self, settings: Adversarial) -> Tensor:
        budget = training_budget(settings)
        with evaluation_mode(self.model):
            attack = torchattacks.PGD(
                self.model, budget.eps, budget.step, budget.steps, budget.random_start
            )
            return attack(self.batch.image, self.batch.target)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def check(self, settings: Adversarial) -> bool:
        """Whether ours is within the budget and, from the same start, equal to the peer's."""
        seen: list[Tensor] = []

        def look(_: nn.Module, inputs: tuple[Tensor]) -> None:
            if self.model.training:
                seen.append(inputs[0].detach())

        # The peer first: the pass that learns moves the batch statistics that attacks use.
        theirs = self.theirs(settings)
        hook = self.model.register_forward_pre_hook(look)
        self.ours(settings)
        hook.remove()
        eps, (found,) = training_budget(settings).eps, seen
        far = perturbation_distance(found, self.batch.image, "linf")
        apart = (found - theirs).abs()
        # A gradient within rounding of 0 has either sign.
        same = (apart <= 1e-6).float().mean().item()
        print(
            f"  within {far.max() * 255:.4f} of {eps * 255:.4f} levels; {same:.2%} pixels as peer"
        )
        return bool(0.99 * eps < far.min() and far.max() <= eps + 1e-6 and same > 0.99)


def rounds(bench: Bench, settings: Adversarial, num: int) -> list[Turn]:
    """The three ways in turn, after one round that does not count."""
    ways: list[Callable[[], None]] = [
        lambda: bench.ours(Adversarial()),
        lambda: bench.ours(settings),
        lambda: bench.peer(settings),
    ]
    return [Turn(*map(seconds, ways)) for _ in range(num + 1)][1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    given = parser.parse_args()
    bench = Bench(torch.device(given.device), given.batch, given.side, given.precision)
    sure = Bench(bench.device, given.batch, given.side, "fp32")
    ratios: dict[str, tuple[float, float]] = {}
    for method, steps in METHODS:
        settings = Adversarial(method=method, eps="4/255", steps=steps)
        name = f"{method}-{steps}"
        print(name)
        if not sure.check(Adversarial(method="pgd", eps="4/255", steps=steps, random_start=False)):
            print(f"FAILED: {name}: the attacked images are not those of the peer")
            return 1
        turns = rounds(bench, settings, given.rounds)
        cost = statistics.median(turn.ours / turn.plain for turn in turns)
        peer = statistics.median(turn.peer / turn.ours for turn in turns)
        allowed = (1 + 2 * steps / 3) * SLACK
        print(f"  a plain step {statistics.median(turn.plain for turn in turns) * 1e3:.1f} ms")
        print(f"  costs {cost:.2f} plain steps, of {allowed:.2f} allowed; peer {peer:.2f} of ours")
        ratios[f"{name}_allowed_over_taken"] = (allowed / cost, 1)
        ratios[f"{name}_peer_over_ours"] = (peer, 1)
    conclude(ratios)
    return 0


if __name__ == "__main__":
    sys.exit(main())
