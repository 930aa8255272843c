"""A training step in the chosen mode against a plain timm loop, and what a checkpoint costs.

The peer is what most scripts do: timm's network in contiguous fp32, cross entropy, AdamW. Ours is
the step that workers take, in the precision and layout that the probe picks on this machine. Both
see the same images; before timing, the losses of the first step must agree. What a GPU does is in
device.py.
"""

import sys
import tempfile
import time

import timm
import torch
from rounds import compare, conclude
from torch import nn

from fundusray.config import Adversarial, Loss, Model, Train
from fundusray.models import build_model
from fundusray.pipeline.loader import Batch
from fundusray.tasks.classification import Objective
from fundusray.training import checkpoints, numeric_precision
from fundusray.training.checkpoints import Position
from fundusray.training.optimizers import build_optimizer
from fundusray.training.step import StepSettings, train_step

CASES = {"efficientnet_b0": 1.5, "resnet18": 1.7}
SIDE, CLASSES = 256, 5
TOLERANCE = 0.05
"""Of the first loss, relative: bf16 has 8 bits."""


def batch_of(num: int, side: int, device: torch.device) -> Batch:
    image = torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    rows = torch.arange(num, device=device)
    return Batch(image, rows % CLASSES, rows, torch.ones_like(rows) > 0)


def ours(name: str, way: numeric_precision.Precision, device: torch.device) -> StepSettings:
    """The workers' own step over the network in that mode."""
    model = build_model(Model(name=name), CLASSES, seed=0).to(device).train()
    numeric_precision.prepare_model(model, way)
    train = Train()
    objective = Objective(Loss(), torch.ones(CLASSES, device=device))
    optimizer, precision = build_optimizer(model, train), numeric_precision.autocast(way, device)
    return StepSettings(model, model, optimizer, objective, Adversarial(), precision, mixup=0.0)


def on_cpu(name: str, rounds: int) -> float:
    """The ratio of one network at 256 px on this machine's cores."""
    device, num = torch.device("cpu"), 8
    batch = batch_of(num, SIDE, device)
    chosen, timings = numeric_precision.probe_precisions(
        build_model(Model(name=name), CLASSES, seed=0), (num, 3, SIDE, SIDE), device, Train()
    )
    print(f"{name}: probe picks {chosen} of { ({k: round(v, 3) for k, v in timings.items()}) }")
    way = ours(name, chosen, device)
    layout = batch._replace(
        image=batch.image.contiguous(memory_format=numeric_precision.memory_format(chosen))
    )
    peer = timm.create_model(name, num_classes=CLASSES)
    peer.load_state_dict(way.model.net.state_dict())
    peer.train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4)

    def plain() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(peer((batch.image - 0.5) / 0.5), batch.target)
        loss.backward()
        optimizer.step()
        return loss.item()

    def step() -> float:
        total = train_step(way, layout, scale=1 / num, seed=0, progress=0.0)
        return total.item() / num

    theirs, mine = plain(), step()
    assert abs(theirs - mine) <= TOLERANCE * theirs, f"first losses differ: {theirs} and {mine}"
    return compare(f"step, {name} {SIDE} px", plain, step, rounds, items=num, unit="images")


def checkpoint_share() -> float:
    """Share of a run that a checkpoint every train.checkpoint_seconds takes, of efficientnet_b0."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    way = ours("efficientnet_b0", numeric_precision.Precision("fp32", "channels_last"), device)
    train_step(way, batch_of(2, 64, device), scale=0.5, seed=0, progress=0.0)
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for step in range(5):
            clock = time.perf_counter()
            checkpoints.save_checkpoint(
                folder, way.model, way.optimizer, Position(step=step), "bench"
            )
            taken.append(time.perf_counter() - clock)
    share = sorted(taken)[2] / Train().checkpoint_seconds
    print(
        f"checkpoint: {sorted(taken)[2]:.2f} s every {Train().checkpoint_seconds:g} s: {share:.2%}"
    )
    return share


def main(rounds: int = 5) -> None:
    ratios = {f"step_{name}": (on_cpu(name, rounds), need) for name, need in CASES.items()}
    share = checkpoint_share()
    conclude(ratios)
    print(f"SHARE checkpoint {share:.4f} (needs <= 0.02)", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
