"""Trains one recipe with several numbers of workers, also changing under way; prints what came out.

`many_workers.py <folder> 1 4 2-1-2`: with one worker, with four, and with 2, then 1, then 2.

Run by test_workers.py in a process of its own: Ray there has 4 CPUs, and the process is told to
stop by signals. Batch norms are frozen, so that the network has no batch statistics.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import safetensors.numpy

from fundusray import files
from fundusray.cluster import prepare
from fundusray.cluster.runtime import start
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override
from fundusray.runs.run import plan_run
from fundusray.training.checkpoints import checkpoint_name

BASE = override(
    Recipe(name="workers"),
    {
        "data.num_images": 96,
        "data.size": 32,
        "data.fractions": (0.5, 0.25, 0.25),
        "model.name": "resnet18",
        "train.phases": "head(epochs=1, norm=frozen) + all(epochs=1, norm=frozen)",
        "train.batch": 8,
        "train.lr": 1e-3,
        "train.optimizer": "sgd",
        "train.precision": "fp32",
        "train.layout": "contiguous",
        "train.checkpoint_seconds": 0.0,
        "cluster.cpus": 1,
    },
)

CHANGES = [3, 7]
"""Steps after which the number of workers changes: one in each phase of six."""


def told(result: dict) -> dict:
    """Figures of a run, and its weights' file."""
    kept = {k: v for k, v in result["metrics"].items() if isinstance(v, float)}
    losses = [[row["train_loss"], row["val_loss"]] for row in result["history"]]
    return {"metrics": kept, "losses": losses, "bundle": result["bundle"]}


def stop_at(folder: str, step: int) -> None:
    """Tells this process to stop once the run has done so many steps."""
    place = Path(folder, "checkpoints")
    while not place.exists() or max(
        (p.name for p in place.iterdir()), default=""
    ) < checkpoint_name(step):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)


def run(prepared: str, storage: str, plan: list[int]) -> dict:
    """The run with one number of workers after the other, changed at the steps of CHANGES."""
    for place, workers in enumerate(plan, 1):
        recipe = override(BASE, {"cluster.workers": workers})
        if place == len(plan):
            return train_recipe(recipe, prepared, storage)
        folder = plan_run(recipe, prepared, storage).folder
        stop = threading.Thread(target=stop_at, args=(folder, CHANGES[place - 1]), daemon=True)
        stop.start()
        try:
            train_recipe(recipe, prepared, storage)
        except SystemExit as ended:
            assert ended.code == 143
            done = sorted(Path(folder, "checkpoints").iterdir())[-1].name
            print(f"stopped with {workers} workers at {done}", file=sys.stderr)
    raise AssertionError("it was to be stopped, and ended")


def main(folder: str, plans: list[str]) -> None:
    start.start_ray(cpus=max(int(number) for plan in plans for number in plan.split("-")))
    prepared = prepare.prepare_set(BASE, folder)
    found = {}
    for plan in plans:
        numbers = [int(number) for number in plan.split("-")]
        found[plan] = told(run(prepared, files.join(folder, plan), numbers))
    one = safetensors.numpy.load_file(files.join(found["1"]["bundle"], "model.safetensors"))
    for plan, result in found.items():
        own = safetensors.numpy.load_file(files.join(result["bundle"], "model.safetensors"))
        assert own.keys() == one.keys(), plan
        result["distance"] = max(float(np.abs(own[k] - one[k]).max()) for k in one if one[k].size)
    print("FOUND " + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
