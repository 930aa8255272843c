"""The job that measures a trained network on photographs that are new to it."""

from dataclasses import replace
from typing import Any

import numpy as np

from fundusray import files, recipes
from fundusray.cluster import evaluate as cluster_evaluate
from fundusray.cluster import start as cluster_start
from fundusray.cluster.matching import in_classes_of
from fundusray.command import Asked, settle
from fundusray.config import Recipe, override
from fundusray.data.sampling import plan_epoch
from fundusray.data.shards import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.harmless import printable
from fundusray.jobs.asking import expanded, prepared_of, shown
from fundusray.jobs.honesty import notes_of
from fundusray.jobs.training import about_of, trial_from, written
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.weights import bundle_folder, digest
from fundusray.reports import tables
from fundusray.runs.provenance import Unseen, require_pixels, start_on, unseen
from fundusray.runs.split_of_run import Split
from fundusray.training.timetable import Timetable, passes

SPLITTING = ("split", "split_file", "fractions", "split_seed")
"""Settings of the data that decide who is on which side."""


def evaluate(asked: Asked) -> dict[str, Any]:
    """Measures a bundle on its own test rows, or on all other photographs it does not know."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/evaluate.py <run folder>/bundle key=value")
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    recipe = asked_recipe(place, bundle.recipe, asked.changes)
    if asked.show:
        return shown(recipe)
    prepared = prepared_of(recipe, trains=False)
    if recipe.data.judge == "ungradable":
        return _ungradable(recipe, place, prepared)
    opened = in_classes_of(open_set(prepared), place, bundle)
    judged = unseen(opened, place, bundle)
    key = files.hash_json([digest(place), files.base_name(prepared)], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-evaluation-{key}")
    result = cluster_evaluate.evaluate(place, judged, prepared, folder)
    result["best"] = bundle.info.get("best", {})
    trial, about = page_of(recipe, bundle, opened, judged, result)
    return written(recipe, opened, result, trial, about) | {"prepared": prepared}


def _ungradable(recipe: Recipe, place: str, prepared: str) -> dict[str, Any]:
    """What a network calls photographs that nobody could grade, printed and listed."""
    key = files.hash_json([digest(place), files.base_name(prepared)], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-ungradable-{key}")
    result = cluster_evaluate.answers(place, prepared, folder)
    called = ", ".join(f"{printable(name)} {num:,}" for name, num in result["called"].items())
    print(f"{result['n']} ungradable photographs, called: {called}")
    print(f"  mean probability of what they are called: {result['probability']:.3f}")
    print("  no figure: there is no grade to hold these answers against")
    print(f"answers: {result['answers']}")
    return result | {"prepared": prepared}


def asked_recipe(place: str, trained: Recipe, asked: dict[str, str]) -> Recipe:
    """The network's recipe with the photographs that the command line asks for.

    Raises:
        InputError: other pixels, or another split, than the network was trained with.
    """
    changes = expanded(asked)
    # Its weights are in the bundle; what they once started from may be gone.
    still = {"run.storage": "", "model.weights": "", "model.init_from": ""}
    recipe = override(trained, still | changes)
    if "data.source" in changes and "data.root" not in changes:
        recipe = override(recipe, {"data.root": ""})
    recipe = settle(recipe, cluster_start.in_submitted_job())
    require_pixels(place, trained.data, recipe.data)
    for key in SPLITTING:
        theirs, ours = getattr(trained.data, key), getattr(recipe.data, key)
        if f"data.{key}" in changes and theirs != ours:
            raise InputError(
                f"data.{key}={ours}: {place} was trained under its own split (data.{key}="
                f"{theirs or 'none'}), and what is judged is that split's side, or of other "
                f"photographs every one that it does not know; leave data.{key} out"
            )
    return recipe


def page_of(
    recipe: Recipe, bundle: Bundle, opened: PreparedSet, judged: Unseen, result: dict[str, Any]
) -> tuple[tables.Trial, tables.About]:
    """What the page of an evaluation says; of the training, what the bundle knows."""
    counts = bundle.info.get("counts") if "manifest" in bundle.info else None
    trial = trial_from(recipe, result, recipe.name, counts, _epochs(recipe, counts))
    # Of other photographs nothing was published; its own start is not in the recipe any more.
    own = recipes.published(bundle.recipe) if judged.side != "all" else {}
    trial = replace(trial, published=own)
    split, start = Split(opened, judged.sides), start_on(recipe.model, opened.table)
    about = about_of(recipe, split, start, recipe.name, "fp32 channels_last")
    if judged.side == "all":
        about["split"] = ""
    about["notes"] += judged.notes + notes_of(recipe, result, counts, opened.classes)
    return trial, about


def _epochs(recipe: Recipe, counts: list[int] | None) -> int:
    """How many epochs the training was asked for; 0 where its images per class are not known."""
    if counts is None:
        return 0
    targets = np.repeat(np.arange(len(counts)), counts)
    plan = plan_epoch(
        recipe.sampling,
        np.arange(len(targets)),
        targets,
        num_classes=len(counts),
        batch=recipe.train.batch,
        seed=recipe.seed,
        epoch=0,
        drop_last=recipe.train.drop_last,
    )
    return Timetable(passes(recipe), len(plan.rows)).epochs
