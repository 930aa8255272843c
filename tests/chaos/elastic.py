"""Trains with 1 to 2 workers on a cluster that loses a node under way and gets one again.

Run by test_elastic.py in a process of its own. Prints what came out, beside one worker's result.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import ray
import ray.train
import safetensors.numpy

from fundusray import files
from fundusray.cluster import prepare
from fundusray.cluster.runtime import start
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override
from fundusray.runs.run import plan_run
from fundusray.training.checkpoints import checkpoint_name

BASE = override(
    Recipe(name="elastic"),
    {
        "data.num_images": 96,
        "data.size": 32,
        "data.fractions": (0.5, 0.25, 0.25),
        "model.name": "resnet18",
        # Without batch statistics, which are each worker's own.
        "train.phases": "all(epochs=100, norm=frozen)",
        "train.batch": 8,
        "train.lr": 1e-4,
        "train.optimizer": "sgd",
        "train.precision": "fp32",
        "train.layout": "contiguous",
        "train.checkpoint_seconds": 1.0,
        "cluster.cpus": 1,
        "cluster.max_failures": 10,
    },
)


def reached(folder: Path, step: int) -> None:
    """Waits until the run has a checkpoint of such a step or a later one."""
    place = folder / "checkpoints"
    while not place.exists() or max(
        (p.name for p in place.iterdir()), default=""
    ) < checkpoint_name(step):
        time.sleep(0.1)


def join(address: str) -> subprocess.Popen:
    """A node of one CPU that has joined the cluster; Ray gives one up that takes 30 s to come."""
    command = [RAY, "start", "--address", address, "--num-cpus", "1", "--block"]
    while True:
        node = subprocess.Popen(
            command,
            env=os.environ | {"RAY_AUTH_MODE": "token"},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        while node.poll() is None:
            if ray.cluster_resources().get("CPU", 0) >= 2:
                return node
            time.sleep(0.5)


def change(address: str, node: subprocess.Popen, folder: Path) -> None:
    """Takes the node away, as a spot instance goes, and later gives another one."""
    reached(folder, 20)
    os.killpg(node.pid, signal.SIGKILL)
    print("node lost", file=sys.stderr, flush=True)
    while ray.cluster_resources().get("CPU", 0) >= 2:
        time.sleep(0.5)
    reached(folder, 60)
    NODES.append(join(address))
    print("node added", file=sys.stderr, flush=True)


RAY = str(Path(sys.executable).with_name("ray"))
NODES: list[subprocess.Popen] = []


def main(folder: str) -> None:
    start.start_ray(cpus=1)
    address = ray.get_runtime_context().gcs_address
    # As often as a test can wait for; a minute otherwise.
    ray.train.ScalingConfig = functools.partial(
        ray.train.ScalingConfig, elastic_resize_monitor_interval_s=1.0
    )
    prepared = prepare.prepare_set(BASE, folder)
    one = train_recipe(BASE, prepared, files.join(folder, "one"))
    elastic = override(BASE, {"cluster.workers": (1, 2)})
    storage = files.join(folder, "elastic")
    place = Path(plan_run(elastic, prepared, storage).folder)
    NODES.append(join(address))
    arguments = (address, NODES[0], place)
    threading.Thread(target=change, args=arguments, daemon=True).start()
    many = train_recipe(elastic, prepared, storage)
    weights = [
        safetensors.numpy.load_file(files.join(run["bundle"], "model.safetensors"))
        for run in (one, many)
    ]
    distance = max(float(np.abs(weights[0][k] - weights[1][k]).max()) for k in weights[0])
    losses = [[row["train_loss"] for row in run["history"]] for run in (one, many)]
    print("FOUND " + json.dumps({"distance": distance, "losses": losses}))
    for node in NODES[1:]:
        os.killpg(node.pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
