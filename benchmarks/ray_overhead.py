"""What Ray Train costs: one worker against the same loop in a plain process.

The same steps of the same network, alternated in one run; the weights after them must be equal to
the bit. Prints the ratio of the median step and the fixed cost of starting and ending.
"""

import hashlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer

from fundusray.cluster.runtime.start import start_ray
from fundusray.config import Adversarial, Loss, Model, Train
from fundusray.models import build_model
from fundusray.pipeline.loader import Batch
from fundusray.tasks.classification import Objective
from fundusray.training.optimizers import build_optimizer
from fundusray.training.step import StepSettings, step_seed, train_step

ROUNDS, STEPS, BATCH, SIDE, THREADS = 3, 30, 8, 96, 1


def loop(config: dict[str, Any]) -> None:
    """Trains and writes the median step's seconds, their sum and a digest of the weights."""
    torch.set_num_threads(THREADS)
    model = build_model(Model(name="resnet18"), 5, 0).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, Train())
    objective = Objective(Loss(), torch.ones(5))
    way = StepSettings(model, model, optimizer, objective, Adversarial(), nullcontext(), mixup=0.0)
    model.train()
    seconds = []
    for step in range(STEPS):
        torch.manual_seed(step_seed(0, step, 0))
        image = torch.rand(BATCH, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
        batch = Batch(image, torch.arange(BATCH) % 5, torch.arange(BATCH), torch.ones(BATCH) > 0)
        clock = time.perf_counter()
        train_step(way, batch, scale=1 / BATCH, seed=step, progress=0.0)
        seconds.append(time.perf_counter() - clock)
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters()))
    told = {"step": statistics.median(seconds[3:]), "sum": sum(seconds), "hash": digest.hexdigest()}
    Path(config["out"]).write_text(json.dumps(told))


def plain(config: dict[str, Any]) -> None:
    """The loop in a process of its own, started as any launcher would."""
    process = multiprocessing.get_context("spawn").Process(target=loop, args=(config,))
    process.start()
    process.join()


def with_ray(config: dict[str, Any]) -> None:
    """The loop as the function of one Ray Train worker."""
    TorchTrainer(
        loop,
        train_loop_config=config,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=1, resources_per_worker={"CPU": THREADS}
        ),
        run_config=ray.train.RunConfig(storage_path=config["storage"]),
    ).fit()


def measure(run: Any, folder: str) -> dict[str, Any]:
    """What the loop told, with the seconds of the whole call that were not steps."""
    out = Path(folder) / "out.json"
    clock = time.perf_counter()
    run({"out": str(out), "storage": folder})
    whole = time.perf_counter() - clock
    told = json.loads(out.read_text())
    return told | {"fixed": whole - told["sum"]}


def main() -> int:
    clock = time.perf_counter()
    start_ray()
    init = time.perf_counter() - clock
    ratios, fixed, hashes = [], [], set()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            peer, ours = measure(plain, folder), measure(with_ray, folder)
            ratios.append(ours["step"] / peer["step"])
            fixed.append(ours["fixed"] - peer["fixed"])
            hashes |= {peer["hash"], ours["hash"]}
            print(
                f"round {number + 1}: step plain {peer['step'] * 1e3:.1f} ms, Ray "
                f"{ours['step'] * 1e3:.1f} ms; start and end plain {peer['fixed']:.1f} s, Ray "
                f"{ours['fixed']:.1f} s"
            )
    ray.shutdown()
    if len(hashes) != 1:
        print("FAILED: the weights after the same steps differ")
        return 1
    print(f"the weights after {STEPS} steps are equal in all {2 * ROUNDS} runs")
    print(f"starting Ray itself: {init:.1f} s, once a job")
    print(f"RATIO ray_step {statistics.median(ratios):.3f} (needs <= 1.05)")
    print(f"SECONDS ray_fixed_cost {statistics.median(fixed) + init:.1f} (needs <= 20)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
