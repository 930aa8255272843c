"""Whether a cluster can ever hold what a recipe asks for, said before anything else is done."""

import os

from fundusray import files
from fundusray.cluster.runtime.start import (
    cluster_resources,
    joins_cluster,
    live_nodes,
    workers_that_fit,
)
from fundusray.cluster.runtime.train_workers import worker_cpus, worker_gpus
from fundusray.config import Recipe
from fundusray.errors import InputError


def require_room(recipe: Recipe) -> None:
    """Refuses workers that this machine alone can never hold.

    A cluster that was joined may grow, or be added to by hand: there a run waits, and says so.

    Raises:
        InputError: what was asked for, and what there is.
    """
    if joins_cluster():
        return
    workers, cpus, gpus = recipe.cluster.fewest, worker_cpus(recipe), worker_gpus(recipe)
    if workers_that_fit(cpus, gpus) >= workers:
        return
    raise InputError(
        f"{demand_text(workers, cpus, gpus)}, but {capacity_text()} and no other node can come: "
        f"this machine "
        "runs a Ray of its own. Ask for less (cluster.workers, cluster.cpus, cluster.gpus), or "
        "submit the job to a cluster (README, On a cluster)"
    )


def demand_text(workers: int, cpus: float, gpus: float) -> str:
    """What a run asks for, in words that name the settings."""
    each = [f"cluster.cpus={cpus:g}"] + ([f"cluster.gpus={gpus:g}"] if gpus else [])
    return f"cluster.workers={workers} with {' and '.join(each)} each"


def capacity_text() -> str:
    """What the cluster has, in words."""
    has, count = cluster_resources(), len(live_nodes())
    parts = f"{has['CPU']:g} CPUs and {has['GPU']:g} GPUs"
    return f"there are {parts}" + (f" on {count} nodes" if count > 1 else "")


def require_writable(storage: str) -> None:
    """Refuses a storage into which nothing can be written, before Ray is started.

    Raises:
        InputError: the reason the system gives.
        DiskError: the disk is full.
    """
    if files.is_uri(storage):
        return
    # A storage that is still to be made is not made yet: what comes next may refuse the command.
    folder = storage
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    probe = files.join(folder, f"{files.TEMPORARY}probe-{os.getpid()}")
    try:
        files.write_bytes(probe, b"probe")
        files.remove(probe)
    except OSError as error:
        raise InputError(
            f"run.storage={storage}: nothing can be written there ({error.strerror}); give a "
            "folder of your own"
        ) from error
