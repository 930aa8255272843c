"""Pretrains a network on drawn photographs: drawn by a pool, learned by Ray Train workers."""

import secrets
from functools import partial
from typing import Any

import numpy as np

import fundusray
from fundusray import config, files
from fundusray.cluster.results import finished_result, print_damage, write_recipe, write_result
from fundusray.cluster.runtime import entry
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.train_workers import remove_leftovers, run_train_workers, worker_cpus
from fundusray.cluster.runtime.units import Unit
from fundusray.cluster.train import workers_done
from fundusray.config import Data, Recipe
from fundusray.data.manifest.contract import GRADES
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.data.prepared.preprocess import check_preprocess_args as check_preprocess
from fundusray.data.sampling import worker_share
from fundusray.errors import InputError
from fundusray.lock import locked
from fundusray.metrics import figure_summary
from fundusray.models import check_model
from fundusray.models.load_weights import start_digest
from fundusray.phases import parse_phases
from fundusray.pipeline.augment import augmentation
from fundusray.runs.check_segmentation import require_label
from fundusray.settings.deciding import SCHEMA, deciding
from fundusray.training import drawn_lesions
from fundusray.training.drawn_examples import plan_of_drawn, sides
from fundusray.training.drawn_lesions import PART
from fundusray.training.job import Job
from fundusray.training.outcome import outcome_of


def check_pretraining(recipe: Recipe) -> None:
    """Refuses what cannot run before anything is drawn.

    Raises:
        InputError: an unknown name, a bad keyword, or a batch the workers cannot share.
    """
    require_label(recipe, recipe.name)
    check_preprocess(recipe.data.preprocess, recipe.data.preprocess_args)
    for text in (augmentation.train_text(recipe.data), augmentation.view_text(recipe.data)):
        augmentation.check_augmentation(text, recipe.data.size)
    check_model(recipe.model, augmentation.smallest_side(recipe.data), len(GRADES))
    _check_training(recipe)
    rows, batch = len(sides(recipe)["train"]), recipe.train.batch
    if not batch:
        raise InputError("train.batch=auto is for trainings; give a pretraining a number")
    if rows < batch:
        raise InputError(
            f"data.num_images={recipe.data.num_images} leaves less than one batch of {batch} to "
            "learn from; give more images or a smaller train.batch"
        )
    grades = np.arange(recipe.data.num_images) % len(GRADES)
    worker_share(plan_of_drawn(recipe, grades, 0), 0, recipe.cluster.most)


def _check_training(recipe: Recipe) -> None:
    """Refuses ways to train that masks cannot follow, or that the papers' recipes bring along."""
    phases = parse_phases(recipe.train.phases, recipe.train.epochs)
    seeking = augmentation.parse_augmentation(augmentation.train_text(recipe.data)).seeking
    for key, given in {
        "data.augment": recipe.data.augment if seeking else "",
        "adversarial.eps": recipe.adversarial.eps,
        "train.mixup": recipe.train.mixup,
        "loss.sparsity": recipe.loss.sparsity,
        "data.mix": recipe.data.mix,
        "data.permute_labels": recipe.data.permute_labels,
        "train.phases": any(phase.trainable == "head" for phase in phases) and recipe.train.phases,
    }.items():
        if given:
            raise InputError(
                f"{key}={given}: a pretraining learns all of the network from drawn photographs as "
                f"they are; leave {key} out, and give it to the training that starts from it"
            )


def pretrain_network(recipe: Recipe, storage: str) -> dict[str, Any]:
    """Runs one pretraining to its end, or goes on where it stands; the run's `result.json`.

    The bundle it names holds the classification network alone.

    Raises:
        InputError: the recipe cannot be pretrained.
        LockedError: another process works in the same folder.
        RunFailedError: as `train_workers.run_train_workers`; it and a signal leave a checkpoint to
        go on from.
    """
    check_pretraining(recipe)
    start = start_digest(recipe.model)
    key = files.hash_json([SCHEMA, deciding(recipe), drawn_lesions.VERSION, start], 16)
    name = f"pretrain-{recipe.run.name or recipe.name}-{key[:8]}"
    folder = files.join(storage, name)
    done, _ = finished_result(folder)
    if done:
        return done
    with locked(folder):
        done, faults = finished_result(folder)
        if done:  # another process has finished it just now
            return done
        print_damage(faults)
        remove_leftovers(folder)
        write_recipe(folder, recipe, storage)
        job = Job(
            recipe=config.to_json(recipe),
            prepared=draw_parts(recipe, storage),
            folder=folder,
            key=key,
            storage=storage,
            threads=worker_cpus(recipe),
            attempt=secrets.token_hex(8),
        )
        if not workers_done(folder, key):
            run_train_workers(entry.pretrain, recipe, job, name, recipe.cluster.workers)
        result = _result(folder, outcome_of(folder, key))
        if not recipe.train.keep_checkpoints:
            files.remove(files.join(folder, "checkpoints"))
        write_result(folder, result)
    return result


def draw_parts(recipe: Recipe, storage: str) -> str:
    """Draws what is not there yet, on all CPUs of the cluster; the folder of the parts.

    Parts do not depend on how many are asked for: a larger set begins with a smaller one's.
    """
    data = recipe.data
    way = [
        data.size,
        data.preprocess,
        data.preprocess_args,
        recipe.split_seed,
        drawn_lesions.VERSION,
    ]
    key = files.hash_json([*way, PREPROCESS.find(data.preprocess).version], 8)
    folder = files.join(storage, "drawn", f"{data.preprocess}-{data.size}-{key}")
    parts = drawn_lesions.part_places(folder, data.num_images)
    there = {name for name, _, _ in files.list_dir(folder)}
    units = [
        Unit(files.base_name(part), (part, index), PART)
        for index, part in enumerate(parts)
        if files.base_name(part) not in there
    ]
    with Pool("drawing", partial(_draw, data, recipe.split_seed)) as pool:
        pool.values(units)
    return folder


def _draw(data: Data, seed: int, location: str, index: int) -> None:
    drawn = drawn_lesions.draw_part(data, seed, index * PART, (index + 1) * PART)
    files.write_bytes(location, drawn_lesions.to_bytes(drawn))


def _result(folder: str, outcome: dict[str, Any]) -> dict[str, Any]:
    predictions = files.join(folder, "predictions.parquet")
    return {
        "status": "finished",
        "folder": folder,
        "bundle": files.join(folder, "bundle"),
        "predictions": predictions,
        "history": outcome["history"],
        "seconds": outcome["seconds"],
        "metrics": figure_summary(files.read_table(predictions)),
        "version": fundusray.__version__,
    }
