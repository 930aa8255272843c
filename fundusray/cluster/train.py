"""Trains one recipe on the cluster: prepared set in, bundle and predictions out."""

import secrets
from typing import Any

import numpy as np

import fundusray
from fundusray import config, files
from fundusray.attacks import judging_budget, training_budget
from fundusray.cluster.entry import work
from fundusray.cluster.fitting import with_batch
from fundusray.cluster.lineage import start_chosen, start_leak
from fundusray.cluster.matching import require_start_order
from fundusray.cluster.results import (
    changed,
    finished,
    say,
    write_recipe,
    write_result,
)
from fundusray.cluster.rows import (
    split_digest,
    split_of,
    split_rows,
    write_sides,
)
from fundusray.cluster.running import run, tidy, worker_cpus, worker_gpus
from fundusray.config import Data, Recipe
from fundusray.data import SOURCES
from fundusray.data.epochs import epoch_plan
from fundusray.data.leaks import find_leaks, refusal
from fundusray.data.mixing import beside
from fundusray.data.preprocess import check_args as check_preprocess
from fundusray.data.sampling import share
from fundusray.data.shards import PreparedSet, open_set
from fundusray.data.splits import reported_split
from fundusray.errors import InputError
from fundusray.lock import locked
from fundusray.losses import check_args, check_output, effective_weights, weight_ratio
from fundusray.metrics import ORDINAL, summary
from fundusray.models import check as check_model
from fundusray.models.weights import start_digest
from fundusray.pipeline import augment
from fundusray.tasks.classification import check_choice
from fundusray.training.job import Job
from fundusray.training.outcome import outcome_of
from fundusray.training.timetable import Timetable, passes

NEED_ORDER = ("regression", "coral", "corn", "quadratic_kappa", "squared_error")
"""Heads and losses by which a miss by two classes is worse than by one."""


def check(recipe: Recipe) -> None:
    """Refuses what cannot run before anything is read or written.

    Raises:
        InputError: an unknown name, a bad keyword, a missing weights file.
    """
    data = recipe.data
    if data.judge != "graded":
        raise InputError(
            f"data.judge={data.judge}: what has no grade is not learned; give it to evaluate.py"
        )
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
    elif recipe.train.select.startswith("robust_"):
        raise InputError(f"train.select={recipe.train.select} needs adversarial.eps, e.g. 2/255")
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
    return _folder(recipe, run_key(recipe, prepared), storage)


def _folder(recipe: Recipe, key: str, storage: str) -> str:
    name = recipe.run.name or recipe.name
    return files.join(storage, f"{name}-{key[:8]}")


def settled(recipe: Recipe, prepared: PreparedSet, storage: str) -> Recipe:
    """The recipe with its batch a number (train.batch=auto), and an epoch that is chosen by what
    its classes have."""
    recipe = _chosen_without_order(recipe, prepared)
    return with_batch(recipe, prepared, storage, worker_cpus(recipe) - 0.05, worker_gpus(recipe))


def _chosen_without_order(recipe: Recipe, prepared: PreparedSet) -> Recipe:
    """The recipe with the epoch chosen by balanced accuracy, where train.select needs an order of
    the classes that is not known."""
    by = recipe.train.select
    if by not in ORDINAL or prepared.ordered or len(prepared.classes) == 2:
        return recipe
    print(
        f"train.select={by} needs classes in their order, which is not known of "
        f"{', '.join(prepared.classes)}: the epoch is chosen by balanced_accuracy; give the order "
        "(data.classes=<all of them, the worst last>) to choose by it",
        flush=True,
    )
    return config.override(recipe, {"train.select": "balanced_accuracy"})


def check_order(recipe: Recipe, prepared: PreparedSet) -> None:
    """Refuses heads and losses that need the order of the classes where it is not known.

    Raises:
        InputError: which, and what to do.
    """
    if prepared.ordered or len(prepared.classes) == 2:
        return
    head, loss = recipe.model.output, recipe.loss.name
    for key, value in (("model.output", head), ("loss.name", loss)):
        if value in NEED_ORDER:
            raise InputError(
                f"{key}={value} needs classes in their order, which is not known of "
                f"{', '.join(prepared.classes)}; give it (data.classes=<all of them, the worst "
                "last>), or choose model.output=softmax and a loss without order (cross_entropy)"
            )


def train(
    recipe: Recipe,
    prepared_folder: str,
    storage: str,
    callbacks: tuple[Any, ...] = (),
    label: str = "",
) -> dict[str, Any]:
    """Runs one recipe to its end, or goes on where it stands; the run's `result.json`.

    The dashboard shows it under `label` and its folder's name. A finished run is not run again;
    what of it is damaged is named and made again, equal to what it was.
    Rows, augmentation and dropout do not depend on how often workers died; see
    `training/trainer.py`.

    Raises:
        InputError: the recipe does not fit the data.
        LockedError: another process trains in the same folder.
        RunFailedError: as `running.run`; it and a signal leave a checkpoint to go on from.
    """
    check(recipe)
    prepared = open_set(prepared_folder)
    recipe = settled(recipe, prepared, storage)
    key = run_key(recipe, prepared)
    folder = _folder(recipe, key, storage)
    done, _ = finished(folder)
    if done:
        return done
    sides = split_rows(prepared, recipe)
    check_split(recipe, prepared, sides)
    name = files.base_name(folder)
    with locked(folder):
        done, faults = finished(folder)
        if done:  # another process has finished it just now
            return done
        say(faults)
        tidy(folder)
        write_recipe(folder, recipe, storage)
        write_split(folder, prepared, sides)
        job = Job(
            recipe=config.to_json(recipe),
            prepared=prepared_folder,
            folder=folder,
            key=key,
            storage=storage,
            threads=worker_cpus(recipe),
            attempt=secrets.token_hex(8),
        )
        shown = "-".join(filter(None, [label, name]))
        if not computed(folder, key):
            run(work, recipe, job, shown, recipe.cluster.workers, callbacks)
        result = _result(recipe, prepared, folder, sides, outcome_of(folder, key))
        if not recipe.train.keep_checkpoints:
            # Nothing goes on from here; the optimiser's state is twice the size of the network.
            # Before the result: a finished run is not looked at again.
            files.remove(files.join(folder, "checkpoints"))
        write_result(folder, result)
    return result


def computed(folder: str, key: str) -> bool:
    """Whether the workers of a run are done and what they wrote is whole; the mode that they
    computed in is then put back, should its file be damaged."""
    outcome = outcome_of(folder, key)
    if not outcome:
        return False
    files.write_json(files.join(folder, "mode.json"), outcome["way"])
    faults = changed(folder, outcome["tables"])
    say(faults)
    return not faults


def check_split(recipe: Recipe, prepared: PreparedSet, sides: dict[str, np.ndarray]) -> None:
    """Refuses a split that leaks, cannot train or be judged, and what does not fit its classes."""
    targets = prepared.targets()
    check_model(recipe.model, smallest_side(recipe.data), num_classes=len(prepared.classes))
    check_order(recipe, prepared)
    require_start_order(recipe.model.init_from, prepared.classes)
    leaks = find_leaks(prepared.table, split_of(prepared, recipe))
    if leaks and not recipe.data.allow_leak:
        raise InputError(refusal(leaks))
    leak = start_leak(recipe.model, prepared.table, split_of(prepared, recipe))
    if leak and not recipe.data.allow_leak:
        raise InputError(
            f"{leak}; the figures would be too good. Give the start's own split "
            "(data.split_file=<its run>/split.csv), another start, or go on with "
            "data.allow_leak=true, which every table will say"
        )
    for name in ("train", "val", reported_split(sides)):
        if not len(sides[name]):
            raise InputError(
                f"the {name} split is empty: {len(targets)} images in shares "
                f"{recipe.data.fractions}; give more images or other data.fractions"
            )
    rows = sides["train"]
    if len(np.unique(targets[rows])) < 2:
        raise InputError("the train split holds one class only; training needs at least two")
    check_choice(recipe.train.select, targets[sides["val"]], prepared.classes)
    counts = np.bincount(targets[rows], minlength=len(prepared.classes)).tolist()
    effective_weights(recipe.loss.name, recipe.loss.args, counts)
    share(epoch_plan(recipe, prepared, rows, 0), 0, recipe.cluster.most)
    if recipe.data.mix:
        beside(prepared, open_set(recipe.data.mix))


def timetable_of(recipe: Recipe, prepared: PreparedSet) -> Timetable:
    """How many steps and epochs a recipe trains on a set."""
    rows = split_rows(prepared, recipe)["train"]
    return Timetable(passes(recipe), len(epoch_plan(recipe, prepared, rows, 0).rows))


def write_split(folder: str, prepared: PreparedSet, sides: dict[str, np.ndarray]) -> None:
    """Writes who is on which side of the split, see `write_sides`."""
    column = np.full(len(prepared.table), "", dtype=object)
    for name, rows in sides.items():
        column[rows] = name
    write_sides(folder, prepared.table, column)


def _result(
    recipe: Recipe,
    prepared: PreparedSet,
    folder: str,
    sides: dict[str, np.ndarray],
    outcome: dict[str, Any],
) -> dict[str, Any]:
    side = outcome["reported_split"]
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
        "start_chosen": start_chosen(recipe.model, prepared.table, sides[side]),
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
        "metrics": summary(files.read_table(predictions)),
        "robust": _robust(recipe, folder, outcome),
        "version": fundusray.__version__,
    }


def _robust(recipe: Recipe, folder: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """The figures of the same rows under the attack that judges; {} where the recipe has none."""
    if not recipe.adversarial.eps:
        return {}
    attacked = files.join(folder, "attacked.parquet")
    told = {"predictions": attacked, "optimistic": outcome.get("robust_optimistic", False)}
    return told | summary(files.read_table(attacked))
