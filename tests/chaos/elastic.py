"""Trains with 1 to 2 workers on a cluster that loses a node under way and gets one again.

Run by test_elastic.py in a process of its own. Prints what came out, beside one worker's result.
"""

import functools
import json
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import ray
import ray.train
import safetensors.numpy
from ray.cluster_utils import Cluster

from fundusray import files
from fundusray.cluster import prepare
from fundusray.cluster.train import run_folder, train
from fundusray.config import Recipe, override
from fundusray.data.shards import open_set
from fundusray.training.checkpoints import name_of

BASE = override(
    Recipe(name="elastic"),
    {
        "data.num_images": 96,
        "data.size": 32,
        "data.fractions": (0.5, 0.25, 0.25),
        "model.name": "resnet18",
        # Without batch statistics, which are each worker's own.
        "train.phases": "all(epochs=60, norm=frozen)",
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
    while not place.exists() or max((p.name for p in place.iterdir()), default="") < name_of(step):
        time.sleep(0.1)


def change(cluster: Cluster, node: object, folder: Path) -> None:
    """Takes the node away, and gives another one back."""
    reached(folder, 40)
    cluster.remove_node(node, allow_graceful=False)
    print("node lost", file=sys.stderr, flush=True)
    reached(folder, 120)
    cluster.add_node(num_cpus=1)
    print("node added", file=sys.stderr, flush=True)


def main(folder: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 1, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address)
    # As often as a test can wait for; a minute otherwise.
    ray.train.ScalingConfig = functools.partial(
        ray.train.ScalingConfig, elastic_resize_monitor_interval_s=1.0
    )
    prepared = prepare.prepare(BASE, folder)
    one = train(BASE, prepared, files.join(folder, "one"))
    elastic = override(BASE, {"cluster.workers": (1, 2)})
    storage = files.join(folder, "elastic")
    place = Path(run_folder(elastic, open_set(prepared), storage))
    threading.Thread(target=change, args=(cluster, node, place), daemon=True).start()
    many = train(elastic, prepared, storage)
    weights = [
        safetensors.numpy.load_file(files.join(run["bundle"], "model.safetensors"))
        for run in (one, many)
    ]
    distance = max(float(np.abs(weights[0][k] - weights[1][k]).max()) for k in weights[0])
    losses = [[row["train_loss"] for row in run["history"]] for run in (one, many)]
    print("FOUND " + json.dumps({"distance": distance, "losses": losses}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
