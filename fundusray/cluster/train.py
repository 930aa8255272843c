"""Trains one recipe on the cluster: prepared set in, bundle and predictions out."""

import secrets
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

import fundusray
from fundusray import config, files
from fundusray.attacks import judging_budget, training_budget
from fundusray.cluster.entry import work
from fundusray.cluster.fitting import with_batch
from fundusray.cluster.keeping import Job
from fundusray.cluster.pulse import COLLECTIVE_TIMEOUT, Monitor
from fundusray.cluster.rows import epoch_plan, reported_split, split_digest, split_of, split_rows
from fundusray.cluster.start import resources
from fundusray.cluster.stopping import Stop
from fundusray.config import Data, Recipe
from fundusray.data import SOURCES, given
from fundusray.data.leaks import find_leaks, refusal
from fundusray.data.mixing import beside
from fundusray.data.preprocess import check_args as check_preprocess
from fundusray.data.sampling import share
from fundusray.data.shards import PreparedSet, open_set
from fundusray.errors import FundusError, InputError
from fundusray.lock import locked
from fundusray.losses import check_args, check_output, effective_weights, weight_ratio
from fundusray.metrics import summary
from fundusray.models import check as check_model
from fundusray.models.weights import start_digest
from fundusray.pipeline import augment
from fundusray.training.timetable import Timetable

MOST_CPUS = 8
"""More threads than this no longer help one worker's steps."""


class RunFailedError(FundusError):
    """Training ended without a result."""


def check(recipe: Recipe) -> None:
    """Refuses what cannot run before anything is read or written.

    Raises:
        InputError: an unknown name, a bad keyword, a missing weights file.
    """
    data = recipe.data
    for source in data.source.split(","):
        SOURCES.find(source.strip())
    check_preprocess(data.preprocess, data.preprocess_args)
    for text in (augment.train_text(data), augment.view_text(data)):
        augment.check(text, data.size)
    check_args(recipe.loss.name, recipe.loss.args)
    check_model(recipe.model, smallest_side(data))
    if recipe.adversarial.eps:
        training_budget(recipe.adversarial)
        judging_budget(recipe.adversarial)
    elif recipe.train.select == "robust_accuracy":
        raise InputError("train.select=robust_accuracy needs adversarial.eps, e.g. 2/255")
    check_output(recipe.loss.name, recipe.model.output)


def smallest_side(data: Data) -> int:
    """The side of the smallest picture the network is shown, in training or judging."""
    texts = (augment.train_text(data), augment.view_text(data))
    return min(augment.output_size(text, data.size) for text in texts)


def run_key(recipe: Recipe, prepared: PreparedSet) -> str:
    """The hash of everything that decides a run's result: the recipe, the photographs, who is on
    which side of the split, and the weights it starts from."""
    split = split_digest(prepared, recipe)
    weights = start_digest(recipe.model)
    pixels = prepared.info["preprocess_version"]
    parts = [config.decisive(recipe), prepared.info["manifest"], pixels, split, weights]
    if recipe.data.mix:
        parts.append(files.sha256_file(files.join(recipe.data.mix, "set.json")))
    return files.hash_json(parts, 16)


def run_folder(recipe: Recipe, prepared: PreparedSet, storage: str) -> str:
    """Where a run lives: its name tells what, its hash exactly what."""
    name = (recipe.run.name or recipe.name).replace("/", "-")
    return files.join(storage, f"{name}-{run_key(recipe, prepared)[:8]}")


def worker_cpus(recipe: Recipe) -> int:
    """CPUs of one worker: as asked, or what the cluster has over the workers."""
    total = int(resources()["CPU"])
    return recipe.cluster.cpus or max(1, min(MOST_CPUS, total // recipe.cluster.most))


def worker_gpus(recipe: Recipe) -> float:
    """GPUs of one worker: as asked, or one where the cluster has any."""
    asked = recipe.cluster.gpus
    return asked if asked >= 0 else float(resources().get("GPU", 0) > 0)


def settled(recipe: Recipe, prepared: PreparedSet, storage: str) -> Recipe:
    """The recipe with its batch a number (train.batch=auto)."""
    return with_batch(recipe, prepared, storage, worker_cpus(recipe) - 0.05, worker_gpus(recipe))


def train(
    recipe: Recipe,
    prepared_folder: str,
    storage: str,
    callbacks: tuple[Any, ...] = (),
    label: str = "",
) -> dict[str, Any]:
    """Runs one recipe to its end, or goes on where it stands; the run's `result.json`.

    The dashboard shows it under `label` and its folder's name. A finished run is not run again.
    Rows, augmentation and dropout do not depend on how often workers died; see
    `cluster/worker.py`.

    Raises:
        InputError: the recipe does not fit the data.
        LockedError: another process trains in the same folder.
        RunFailedError: workers died more often than cluster.max_failures allows.
    """
    check(recipe)
    prepared = open_set(prepared_folder)
    recipe = settled(recipe, prepared, storage)
    folder = run_folder(recipe, prepared, storage)
    done = files.join(folder, "result.json")
    if files.exists(done):
        return files.read_json(done)
    sides = split_rows(prepared, recipe)
    check_split(recipe, prepared, sides)
    name = files.base_name(folder)
    with locked(folder):
        files.sweep(folder)
        files.write_bytes(files.join(folder, "recipe.json"), config.to_json(recipe).encode())
        write_split(folder, prepared, sides)
        job = Job(
            recipe=config.to_json(recipe),
            prepared=prepared_folder,
            folder=folder,
            key=run_key(recipe, prepared),
            storage=storage,
            threads=worker_cpus(recipe),
            attempt=secrets.token_hex(8),
        )
        _run_workers(recipe, job, callbacks, "-".join(filter(None, [label, name])))
        result = _result(recipe, prepared, folder, sides)
        files.write_json(done, result)
    return result


def check_split(recipe: Recipe, prepared: PreparedSet, sides: dict[str, np.ndarray]) -> None:
    """Refuses a split that leaks, cannot train or be judged, and what does not fit its classes."""
    targets = prepared.targets()
    check_model(recipe.model, smallest_side(recipe.data), num_classes=len(prepared.classes))
    leaks = find_leaks(prepared.table, split_of(prepared, recipe))
    if leaks and not recipe.data.allow_leak:
        raise InputError(refusal(leaks))
    for name in ("train", "val", reported_split(sides)):
        if not len(sides[name]):
            raise InputError(
                f"the {name} split is empty: {len(targets)} images in shares "
                f"{recipe.data.fractions}; give more images or other data.fractions"
            )
    rows = sides["train"]
    if len(np.unique(targets[rows])) < 2:
        raise InputError("the train split holds one class only; training needs at least two")
    counts = np.bincount(targets[rows], minlength=len(prepared.classes)).tolist()
    effective_weights(recipe.loss.name, recipe.loss.args, counts)
    share(epoch_plan(recipe, prepared, rows, 0), 0, recipe.cluster.most)
    if recipe.data.mix:
        beside(prepared, open_set(recipe.data.mix))


def timetable_of(recipe: Recipe, prepared: PreparedSet) -> Timetable:
    """How many steps and epochs a recipe trains on a set."""
    rows = split_rows(prepared, recipe)["train"]
    return Timetable(recipe.train, len(epoch_plan(recipe, prepared, rows, 0).rows))


def write_split(folder: str, prepared: PreparedSet, sides: dict[str, np.ndarray]) -> None:
    """Writes the manifest with this run's sides in its split column, and `split.csv`, which gives
    the same split to another run (data.split_file)."""
    column = np.full(len(prepared.table), "", dtype=object)
    for name, rows in sides.items():
        column[rows] = name
    table = prepared.table
    place = table.schema.get_field_index("split")
    table = table.set_column(place, "split", pa.array(column.tolist(), pa.string()))
    files.write_table(files.join(folder, "manifest.parquet"), table)
    given.write(files.join(folder, "split.csv"), prepared.table, column)


def _run_workers(recipe: Recipe, job: Job, callbacks: tuple[Any, ...], name: str) -> None:
    folder, attempt, gpus = job.folder, job.attempt, worker_gpus(recipe)
    # A little less than whole CPUs, so that the drivers of trials fit beside the workers.
    per_worker: dict[str, float] = {"CPU": job.threads - 0.05}
    if gpus:
        per_worker["GPU"] = gpus
    workers = recipe.cluster.workers
    trainer = TorchTrainer(
        work,
        train_loop_config=vars(job),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=COLLECTIVE_TIMEOUT),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers if len(workers) == 2 else workers[0],
            use_gpu=gpus > 0,
            resources_per_worker=per_worker,
        ),
        run_config=ray.train.RunConfig(
            # A name of its own for every attempt: Ray would otherwise continue from its own
            # snapshot, which is not written atomically. Our checkpoints decide where a run stands.
            name=f"{name}-{attempt[:4]}",
            storage_path=files.join(folder, "ray"),
            failure_config=ray.train.FailureConfig(
                max_failures=recipe.cluster.max_failures, controller_failure_limit=3
            ),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            callbacks=list(callbacks),
        ),
    )
    failure = files.join(folder, "failure.json")
    with Stop(folder, attempt) as stop:
        try:
            with Monitor(attempt):
                stop.run(trainer.fit)
        except ray.train.TrainingFailedError as error:
            stop.raise_if_stopped()
            _raise_noted(failure, attempt)
            _raise_told(error)
            raise RunFailedError(
                f"training in {folder} failed {recipe.cluster.max_failures + 1} times: {error}. "
                "Give the same command again to go on from the last checkpoint."
            ) from error
        finally:
            files.remove(files.join(folder, "ray"))
    stop.raise_if_stopped()
    _raise_noted(failure, attempt)
    files.remove(failure)


def _raise_noted(failure: str, attempt: str) -> None:
    """Raises what a worker noted as past curing, with its own exit code."""
    if not files.exists(failure) or files.read_json(failure)["attempt"] != attempt:
        return
    note = files.read_json(failure)
    error = RunFailedError(note["reason"])
    error.exit_code = note["code"]
    raise error


def _raise_told(error: ray.train.TrainingFailedError) -> None:
    """Raises what a worker could not even note, its disk being full, with its own exit code."""
    for cause in getattr(error, "worker_failures", {}).values():
        if isinstance(cause, FundusError):
            found = RunFailedError(str(cause))
            found.exit_code = cause.exit_code
            raise found from error


def _result(
    recipe: Recipe, prepared: PreparedSet, folder: str, sides: dict[str, np.ndarray]
) -> dict[str, Any]:
    outcome = files.read_json(files.join(folder, "outcome.json"))
    predictions = files.join(folder, "predictions.parquet")
    weights = effective_weights(recipe.loss.name, recipe.loss.args, outcome["counts"])
    return {
        "status": "finished",
        "folder": folder,
        "bundle": files.join(folder, "bundle"),
        "predictions": predictions,
        "reported_split": outcome["reported_split"],
        "optimistic": outcome["optimistic"],
        "held_out_epochs": outcome.get("held_out_epochs", []),
        "held_out_by": outcome.get("held_out_by", ""),
        "best": outcome["best"],
        "best_by": outcome["best_by"],
        "ended": outcome["ended"],
        "history": outcome["history"],
        "seconds": outcome["seconds"],
        "mode": outcome["mode"],
        "quarantined": outcome["quarantined"],
        "weight_ratio": weight_ratio(weights),
        "metrics": summary(files.read_table(predictions), seed=recipe.seed),
        "robust": _robust(recipe, folder, outcome),
        "version": fundusray.__version__,
    }


def _robust(recipe: Recipe, folder: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """The figures of the same rows under the recipe's stronger attack; {} where it has none."""
    if not recipe.adversarial.eps:
        return {}
    attacked = files.join(folder, "attacked.parquet")
    told = {"predictions": attacked, "optimistic": outcome.get("robust_optimistic", False)}
    return told | summary(files.read_table(attacked), seed=recipe.seed)
