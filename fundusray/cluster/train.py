"""Trains one recipe on the cluster: prepared set in, bundle and predictions out."""

import secrets
from dataclasses import replace
from typing import Any

import fundusray
from fundusray import config, files
from fundusray.cluster.batch_probe import with_batch
from fundusray.cluster.results import (
    changed_files,
    finished_result,
    print_damage,
    write_recipe,
    write_result,
)
from fundusray.cluster.runtime.entry import work
from fundusray.cluster.runtime.train_workers import remove_leftovers, worker_cpus, worker_gpus
from fundusray.cluster.runtime.train_workers import run_train_workers as run_workers
from fundusray.config import Recipe
from fundusray.harmless import file_name_slug
from fundusray.lock import locked
from fundusray.losses import effective_weights, weight_ratio
from fundusray.metrics.table_summary import table_summary
from fundusray.runs.check import check, check_run, chosen_without_order
from fundusray.runs.run import Run, plan_run
from fundusray.runs.split_of_run import OpenSets, write_sides
from fundusray.settings.deciding import SCHEMA
from fundusray.training.job import Job
from fundusray.training.outcome import outcome_of


def planned(
    recipe: Recipe, prepared_folder: str, storage: str, sets: OpenSets | None = None
) -> Run:
    """The run of a recipe on a prepared set, with all that the data and the machines decide: the
    metric that chooses the epoch, and the batch (train.batch=auto).

    Args:
        sets: those that the command has open.

    Raises:
        InputError: as `runs.run.plan_run`, or no batch fits.
    """
    sets = sets or OpenSets()
    recipe = chosen_without_order(recipe, sets.at(prepared_folder))
    if not recipe.train.batch:
        cpus, gpus = worker_cpus(recipe) - 0.05, worker_gpus(recipe)
        recipe = with_batch(recipe, sets.split(prepared_folder, recipe), storage, cpus, gpus)
    return plan_run(recipe, prepared_folder, storage, sets)


def train_recipe(
    recipe: Recipe,
    prepared_folder: str,
    storage: str,
    sets: OpenSets | None = None,
    callbacks: tuple[Any, ...] = (),
    title: str = "",
) -> dict[str, Any]:
    """Checks one recipe, plans it and fits it; see `planned` and `fit`."""
    check(recipe)
    return fit(planned(recipe, prepared_folder, storage, sets), callbacks, title)


def fit(run: Run, callbacks: tuple[Any, ...] = (), title: str = "") -> dict[str, Any]:
    """Trains a run to its end, or goes on where it stands; its `result.json`.

    The dashboard shows it under its `title` and its folder's name, progress under the title, where
    it has one. A finished run is not run again;
    what of it is damaged is named and made again, equal to what it was.
    Rows, augmentation and dropout do not depend on how often workers died; see
    `training/trainer.py`.

    Raises:
        InputError: the recipe does not fit the data.
        LockedError: another process trains in the same folder.
        RunFailedError: as `train_workers.run_train_workers`; it and a signal leave a checkpoint to
        go on from.
    """
    recipe, folder = run.recipe, run.folder
    done, _ = finished_result(folder)
    if done:
        return done
    check_run(run)
    with locked(folder):
        done, faults = finished_result(folder)
        if done:  # another process has finished it just now
            return done
        print_damage(faults)
        remove_leftovers(folder)
        write_recipe(folder, recipe, run.storage)
        write_sides(folder, run.prepared.table, run.split.sides)
        if not workers_done(folder, run.key):
            shown = "-".join(filter(None, [file_name_slug(title), files.base_name(folder)]))
            job = replace(job_of(run), title=title)
            run_workers(work, recipe, job, shown, recipe.cluster.workers, callbacks)
        result = _result(run, outcome_of(folder, run.key))
        if not recipe.train.keep_checkpoints:
            # Nothing goes on from here; the optimiser's state is twice the size of the network.
            # Before the result: a finished run is not looked at again.
            files.remove(files.join(folder, "checkpoints"))
        write_result(folder, result)
    return result


def job_of(run: Run) -> Job:
    """What the workers are told of a run."""
    return Job(
        recipe=config.to_json(run.recipe),
        prepared=run.set_folder,
        folder=run.folder,
        key=run.key,
        split=run.split.digest,
        storage=run.storage,
        threads=worker_cpus(run.recipe),
        attempt=secrets.token_hex(8),
    )


def workers_done(folder: str, key: str) -> bool:
    """Whether the workers of a run are done and what they wrote is whole; the mode that they
    computed in is then put back, should its file be damaged."""
    outcome = outcome_of(folder, key)
    if not outcome:
        return False
    files.write_json(files.join(folder, "mode.json"), outcome["way"])
    faults = changed_files(folder, outcome["tables"])
    print_damage(faults)
    return not faults


def _result(run: Run, outcome: dict[str, Any]) -> dict[str, Any]:
    recipe, folder, side = run.recipe, run.folder, outcome["reported_split"]
    predictions = files.join(folder, "predictions.parquet")
    weights = effective_weights(recipe.loss.name, recipe.loss.args, outcome["counts"])
    return {
        "status": "finished",
        "folder": folder,
        "bundle": files.join(folder, "bundle"),
        "predictions": predictions,
        "reported_split": side,
        "optimistic": outcome["optimistic"],
        "held_out_epochs": outcome.get("held_out_epochs", []),
        "held_out_by": outcome.get("held_out_by", ""),
        "held_out_undefined": outcome.get("held_out_undefined", []),
        "start_chosen": run.start.chosen(run.rows[side]),
        "best": outcome["best"],
        "best_by": outcome["best_by"],
        "ended": outcome["ended"],
        "history": outcome["history"],
        "seconds": outcome["seconds"],
        # What its workers held, most of all at once: the cluster may be another one by tomorrow.
        "workers": recipe.cluster.most,
        "cpus": worker_cpus(recipe),
        "gpus": worker_gpus(recipe),
        "mode": outcome["mode"],
        "quarantined": outcome["quarantined"],
        "weight_ratio": weight_ratio(weights),
        "metrics": table_summary(files.read_table(predictions)),
        "robust": _robust(recipe, folder, outcome),
        "key": run.key,
        "schema": SCHEMA,
        "version": fundusray.__version__,
    }


def _robust(recipe: Recipe, folder: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """The figures of the same rows under the attack that judges; {} where the recipe has none."""
    if not recipe.adversarial.eps:
        return {}
    attacked = files.join(folder, "attacked.parquet")
    told = {"predictions": attacked, "optimistic": outcome.get("robust_optimistic", False)}
    return told | table_summary(files.read_table(attacked))
