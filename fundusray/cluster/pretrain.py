"""Pretrains a network on drawn photographs: drawn by a pool, learned by Ray Train workers."""

import secrets
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

import fundusray
from fundusray import config, files
from fundusray.cluster import entry
from fundusray.cluster.pulse import Pulse
from fundusray.cluster.results import (
    changed,
    finished,
    outcome_of,
    say,
    write_recipe,
    write_result,
)
from fundusray.cluster.running import note, noted, run, tidy, worker_cpus
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.units import Unit
from fundusray.cluster.stopping import Watcher
from fundusray.config import Data, Recipe
from fundusray.data.found import GRADES
from fundusray.data.preprocess import PREPROCESS
from fundusray.data.preprocess import check_args as check_preprocess
from fundusray.errors import FundusError, InputError
from fundusray.lock import locked
from fundusray.metrics import summary
from fundusray.models import check as check_model
from fundusray.models.weights import start_digest
from fundusray.pipeline import augment
from fundusray.settings.deciding import SCHEMA, deciding
from fundusray.training import sketches
from fundusray.training.pretraining import Place, Pretraining, sides
from fundusray.training.sketches import PART

JUDGED_ALONE = 1800
"""Seconds the other ranks wait while the first one judges an epoch."""


@dataclass(frozen=True)
class Job:
    """What the driver tells its workers, as plain values."""

    recipe: str
    """The recipe as JSON."""
    parts: tuple[str, ...]
    """Where the drawn photographs are."""
    folder: str
    key: str
    threads: int
    attempt: str


def check(recipe: Recipe) -> None:
    """Refuses what cannot run before anything is drawn.

    Raises:
        InputError: an unknown name, a bad keyword, or a batch the workers cannot share.
    """
    check_preprocess(recipe.data.preprocess, recipe.data.preprocess_args)
    for text in (augment.train_text(recipe.data), augment.view_text(recipe.data)):
        augment.check(text, recipe.data.size)
    check_model(recipe.model, augment.smallest_side(recipe.data), len(GRADES))
    workers, batch = recipe.cluster.fewest, recipe.train.batch
    if batch < 2 * workers or batch % workers:
        near = max(batch // workers, 2) * workers
        raise InputError(
            f"train.batch={batch} cannot be shared by cluster.workers={workers}, at least two "
            f"images each; try {near}"
        )
    if len(sides(recipe)[0]) < batch:
        raise InputError(
            f"data.num_images={recipe.data.num_images} leaves less than one batch of {batch} to "
            "learn from; give more images or a smaller train.batch"
        )


def pretrain(recipe: Recipe, storage: str) -> dict[str, Any]:
    """Runs one pretraining to its end, or goes on where it stands; the run's `result.json`.

    The bundle it names holds the classification network alone.

    Raises:
        InputError: the recipe cannot be pretrained.
        LockedError: another process works in the same folder.
        RunFailedError: as `running.run`; it and a signal leave a checkpoint to go on from.
    """
    check(recipe)
    start = start_digest(recipe.model)
    key = files.hash_json([SCHEMA, deciding(recipe), sketches.VERSION, start], 16)
    name = f"pretrain-{recipe.run.name or recipe.name}-{key[:8]}"
    folder = files.join(storage, name)
    done, _ = finished(folder)
    if done:
        return done
    with locked(folder):
        done, faults = finished(folder)
        if done:  # another process has finished it just now
            return done
        say(faults)
        tidy(folder)
        write_recipe(folder, recipe, storage)
        job = Job(
            recipe=config.to_json(recipe),
            parts=tuple(draw_parts(recipe, storage)),
            folder=folder,
            key=key,
            threads=worker_cpus(recipe),
            attempt=secrets.token_hex(8),
        )
        # A changing number of workers is for trainings, whose rows do not depend on it.
        workers = (recipe.cluster.fewest,)
        outcome = outcome_of(folder, key)
        if not outcome or changed(folder, outcome["tables"]):
            run(entry.pretrain, recipe, job, name, workers, timeout=JUDGED_ALONE)
            outcome = outcome_of(folder, key)
        result = _result(folder, outcome)
        if not recipe.train.keep_checkpoints:
            files.remove(files.join(folder, "checkpoints"))
        write_result(folder, result)
    return result


def draw_parts(recipe: Recipe, storage: str) -> list[str]:
    """Draws what is not there yet, on all CPUs of the cluster; where the parts are.

    Parts do not depend on how many are asked for: a larger set begins with a smaller one's.
    """
    data = recipe.data
    way = [data.size, data.preprocess, data.preprocess_args, recipe.split_seed, sketches.VERSION]
    key = files.hash_json([*way, PREPROCESS.find(data.preprocess).version], 8)
    folder = files.join(storage, "drawn", f"{data.preprocess}-{data.size}-{key}")
    number = -(-data.num_images // PART)
    parts = [files.join(folder, f"part-{index:05d}.npz") for index in range(number)]
    there = {name for name, _, _ in files.list_dir(folder)}
    units = [
        Unit(files.base_name(part), (part, index), PART)
        for index, part in enumerate(parts)
        if files.base_name(part) not in there
    ]
    with Pool("drawing", partial(_draw, data, recipe.split_seed)) as pool:
        pool.values(units)
    return parts


def _draw(data: Data, seed: int, location: str, index: int) -> None:
    drawn = sketches.sketch(data, seed, index * PART, (index + 1) * PART)
    files.write_bytes(location, sketches.to_bytes(drawn))


def _result(folder: str, outcome: dict[str, Any]) -> dict[str, Any]:
    predictions = files.join(folder, "predictions.parquet")
    return {
        "status": "finished",
        "folder": folder,
        "bundle": files.join(folder, "bundle"),
        "predictions": predictions,
        "history": outcome["history"],
        "seconds": outcome["seconds"],
        "metrics": summary(files.read_table(predictions)),
        "version": fundusray.__version__,
    }


def work(settings: dict[str, Any]) -> None:
    """The function of one worker; what no retry can cure is noted for the driver."""
    job = Job(**settings)
    if noted(job):
        return
    torch.set_num_threads(job.threads)
    rank, world = dist.get_rank(), dist.get_world_size()
    watcher = Watcher(job.folder, job.attempt)
    try:
        with Pulse(job.attempt, rank) as pulse:

            def watch(step: int) -> bool:
                pulse.step = step
                return rank == 0 and watcher.asked()

            device = ray.train.torch.get_device()
            place = Place(job.folder, tuple(job.parts), job.key, device, rank, world, watch)
            Pretraining(config.from_json(job.recipe), place).run()
    except FundusError as error:
        note(job, error)
        raise
