"""The job that measures a trained network on photographs that are new to it."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fundusray import files, recipes
from fundusray.attacks import length_text as length_shown
from fundusray.cluster import evaluate as cluster_evaluate
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.runtime import start as cluster_start
from fundusray.command import Command, with_absolute_places
from fundusray.conditions import (
    Clean,
    CorruptionCondition,
    parse_condition,
    require_condition_of_task,
)
from fundusray.config import Recipe, override
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.data.sampling import plan_epoch
from fundusray.errors import InputError
from fundusray.harmless import printable_text
from fundusray.jobs.command_to_recipe import expanded_changes, prepared_of, print_recipe
from fundusray.jobs.method_notes import notes_of
from fundusray.jobs.segmentation_reports import report_segmentation
from fundusray.jobs.training import about_of, trial_from, write_training_report
from fundusray.metrics.calibration import BINS, calibration_interval
from fundusray.metrics.robustness import damage_figures
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.reports import leaderboards
from fundusray.reports.number_text import count_text, estimate_text
from fundusray.runs.joined_networks import rows_unseen_by_all
from fundusray.runs.provenance import UnseenRows, require_pixels, start_on, unseen_rows
from fundusray.runs.split_of_run import Split
from fundusray.tasks import is_segmentation
from fundusray.training.timetable import Timetable, passes_over_rows

SPLITTING = ("split", "split_file", "fractions", "split_seed")
"""Settings of the data that decide who is on which side."""


def evaluate(asked: Command) -> dict[str, Any]:
    """Measures a bundle on its own test rows, or on all other photographs it does not know, under
    the condition that `condition=` names."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/evaluate.py <run folder>/bundle key=value")
    condition = parse_condition(asked.changes.get("condition", "clean"))
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    require_condition_of_task(condition, is_segmentation(bundle.recipe))
    recipe = asked_recipe(place, bundle.recipe, asked.changes)
    if asked.show:
        return print_recipe(recipe)
    damaged = isinstance(condition, CorruptionCondition)
    prepared = prepared_of(recipe, trains=False, frames=damaged)
    if recipe.data.judge == "ungradable":
        if condition != Clean():
            raise InputError(
                f"condition={condition}: photographs without a grade have no right answer to be "
                "driven away from; leave condition or data.judge out"
            )
        return _ungradable(recipe, place, prepared)
    opened = in_classes_of(open_set(prepared), place, bundle)
    judged = unseen_rows(opened, place, bundle)
    how = [] if condition == Clean() else [str(condition)]
    key = files.hash_json([weights_digest(place), files.base_name(prepared), *how], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-evaluation-{key}")
    result = cluster_evaluate.evaluate_bundle(
        place, judged, prepared, folder, condition, recipe.cluster.cpus
    )
    result["best"] = bundle.info.get("best", {})
    if is_segmentation(recipe):
        notes = [*judged.notes, *([f"measured under {condition}"] if how else [])]
        ends = report_segmentation(recipe, opened, result, notes)
        return ends | {"prepared": prepared, "condition": str(condition)}
    predictions = files.read_table(result["predictions"])
    told, calibration = changes_of(predictions), calibration_interval(predictions)
    damage = damage_figures(predictions) if "level" in predictions.column_names else []
    result["notes"] = judged.notes + changes_said(str(condition), told) + _calibrated(calibration)
    result["notes"] += damage_said(str(condition), damage)
    trial, about = page_of(recipe, bundle, opened, judged, result)
    report = write_training_report(recipe, opened, result, trial, about)
    told |= {"condition": str(condition), "calibration": calibration}
    told |= {"levels": damage} if damage else {}
    return report | {"prepared": prepared} | told


def changes_of(predictions: pa.Table) -> dict[str, Any]:
    """How many images were right as they are, how many of those wrong when changed, and the
    largest changes; nothing where images are clean."""
    if "success" not in predictions.column_names:
        return {}
    clean, target = (predictions[name].to_numpy() for name in ("clean_prediction", "target"))
    return {
        "right": int((clean == target).sum()),
        "successes": int(predictions["success"].to_numpy().sum()),
        "linf": float(predictions["linf"].to_numpy().max()),
        "l2": float(predictions["l2"].to_numpy().max()),
    }


def changes_said(condition: str, told: dict[str, Any]) -> list[str]:
    """The same in a sentence."""
    if not told:
        return []
    share = f" ({told['successes'] / told['right']:.0%})" if told["right"] else ""
    return [
        f"measured under {condition}: of {count_text(told['right'], 'image')} that the network "
        f"is right "
        f"of as they are, {told['successes']:,} are made wrong{share}; the largest change is "
        f"{length_shown(told['linf'])} of a pixel, {told['l2']:.3g} of an image (L2, pixels in "
        "[0, 1]). Any other class than the right one will do, so a kappa of these rows is no worst "
        "case"
    ]


def damage_said(condition: str, figures: list[dict[str, Any]]) -> list[str]:
    """The accuracy at each level of damage and under each kind of it, in a sentence."""
    if not figures:
        return []
    parts = [
        f"{row['corruption'].replace('_', ' ') or 'level ' + str(row['level'])} "
        f"{estimate_text(row, 'accuracy')} (n {row['n']:,})"
        for row in figures
    ]
    return [
        f"measured under {condition}, each photograph damaged once; accuracy {', '.join(parts)}"
    ]


def _calibrated(calibration: dict[str, Any]) -> list[str]:
    """How far sureness is from being right, in a sentence."""
    low, high = calibration["low"], calibration["high"]
    around = f"[{low:.3f}, {high:.3f}]" if low is not None else f"({calibration['why']})"
    return [
        f"expected calibration error {calibration['value']:.3f} {around}: the probability of an "
        "answer is that far from the share of such answers that are right, in the mean over "
        f"{BINS} bins of it"
    ]


def _ungradable(recipe: Recipe, place: str, prepared: str) -> dict[str, Any]:
    """What a network calls photographs that nobody could grade, printed and listed."""
    key = files.hash_json([weights_digest(place), files.base_name(prepared)], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-ungradable-{key}")
    result = cluster_evaluate.answer_unlabelled(place, prepared, folder)
    called = ", ".join(f"{printable_text(name)} {num:,}" for name, num in result["called"].items())
    print(f"{result['n']} ungradable photographs, called: {called}")
    print(f"  mean probability of what they are called: {result['probability']:.3f}")
    print("  no figure: there is no grade to hold these answers against")
    print(f"answers: {result['answers']}")
    return result | {"prepared": prepared}


class NewPhotographs(NamedTuple):
    """Photographs, and which of them are new to a network."""

    prepared: str
    opened: PreparedSet
    """With its labels in the classes of the network."""
    judged: UnseenRows


def new_photographs(
    recipe: Recipe, place: str, bundle: Bundle, frames: bool = False
) -> NewPhotographs:
    """Those that a recipe asks for, of the network at `place`; frames: as they are to be damaged.

    Raises:
        InputError: photographs of a class that the network does not know, or none that is new.
    """
    prepared = prepared_of(recipe, trains=False, frames=frames)
    opened = in_classes_of(open_set(prepared), place, bundle)
    return NewPhotographs(prepared, opened, rows_unseen_by_all(opened, [place], [bundle]))


def asked_recipe(place: str, trained: Recipe, asked: dict[str, str]) -> Recipe:
    """The network's recipe with the photographs that the command line asks for.

    Raises:
        InputError: other pixels, tiles, or another split, than the network was trained with.
    """
    changes = expanded_changes(asked)
    changes.pop("condition", None)
    # Its weights are in the bundle; what they once started from may be gone.
    still = {"run.storage": "", "model.weights": "", "model.init_from": ""}
    recipe = override(trained, still | changes)
    if "data.source" in changes and "data.root" not in changes:
        recipe = override(recipe, {"data.root": ""})
    recipe = with_absolute_places(recipe, cluster_start.in_submitted_job())
    require_pixels(place, trained.data, recipe.data)
    if recipe.segmentation != trained.segmentation:
        raise InputError(
            f"{', '.join(key for key in changes if key.startswith('segmentation.'))}: {place} is "
            f"judged as it was trained (segmentation.tile={trained.segmentation.tile}, "
            f"segmentation.overlap={trained.segmentation.overlap:g}, segmentation.loss="
            f"{trained.segmentation.loss}); leave it out, or cut photographs otherwise by "
            "jobs/segment.py with segment.tile= and segment.overlap="
        )
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
    recipe: Recipe, bundle: Bundle, opened: PreparedSet, judged: UnseenRows, result: dict[str, Any]
) -> tuple[leaderboards.ReportTrial, leaderboards.PageFacts]:
    """What the page of an evaluation says; of the training, what the bundle knows."""
    counts = bundle.info.get("counts") if "manifest" in bundle.info else None
    clean = result.get("condition", "clean") == "clean"
    name = recipe.name if clean else f"{recipe.name}, {result['condition']}"
    trial = trial_from(recipe, result, name, counts, _epochs(recipe, counts))
    # Of other photographs nothing was published; its own start is not in the recipe any more.
    own = recipes.published_figures(bundle.recipe) if judged.side != "all" and clean else {}
    trial = replace(trial, published=own)
    split, start = Split(opened, judged.sides), start_on(recipe.model, opened.table)
    about = about_of(recipe, split, start, name, "fp32 channels_last")
    if judged.side == "all":
        about["split"] = ""
    about["notes"] += result.get("notes", judged.notes)
    about["notes"] += notes_of(recipe, result, counts, opened.classes)
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
    return Timetable(passes_over_rows(recipe), len(plan.rows)).epochs
