"""Jobs that train and judge: run on the cluster, write the report, say where."""

import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import fundusray
from fundusray import files, recipes
from fundusray.cluster import evaluate as cluster_evaluate
from fundusray.cluster import prepare as cluster_prepare
from fundusray.cluster import start as cluster_start
from fundusray.cluster import train as cluster_train
from fundusray.cluster import tune as cluster_tune
from fundusray.cluster.rows import split_of, split_rows
from fundusray.cluster.study import Space
from fundusray.cluster.train import timetable_of
from fundusray.command import Asked, settle
from fundusray.config import Recipe, override
from fundusray.data.joining import locate
from fundusray.data.leaks import find_leaks, told
from fundusray.data.shards import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.jobs.asking import expanded, prepared_of, recipe_of, shown
from fundusray.jobs.honesty import notes_of
from fundusray.losses import effective_weights, weight_ratio
from fundusray.models.bundle import load_bundle
from fundusray.pipeline.augment import train_text, view_text
from fundusray.pipeline.examples import example_images
from fundusray.reports import figures, tables
from fundusray.training import checkpoints


def train(asked: Asked) -> dict[str, Any]:
    """Trains one recipe and writes its report."""
    recipe = recipe_of(asked, "balancing")
    if asked.show:
        return shown(recipe)
    prepared = prepared_of(recipe)
    recipe = cluster_train.settled(recipe, open_set(prepared), recipe.run.storage)
    result = cluster_train.train(recipe, prepared, recipe.run.storage)
    return _told(recipe, prepared, result, result["folder"], result["mode"])


def evaluate(asked: Asked) -> dict[str, Any]:
    """Measures a bundle on its own test rows, or on other photographs."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/evaluate.py <run folder>/bundle key=value")
    bundle = files.absolute(asked.words[0])
    trained = load_bundle(bundle)
    changes = expanded(asked.changes)
    # Its weights are in the bundle; what they once started from may be gone.
    still = {"run.storage": "", "model.weights": "", "model.init_from": ""}
    recipe = override(trained.recipe, still | changes)
    if "data.source" in changes and "data.root" not in changes:
        recipe = override(recipe, {"data.root": ""})
    recipe = settle(recipe, cluster_start.in_submitted_job())
    if asked.show:
        return shown(recipe)
    prepared = prepared_of(recipe)
    manifest = open_set(prepared).info["manifest"]
    if manifest != trained.info["manifest"]:
        # Other photographs: none was trained on, and the split of the training is not theirs.
        recipe = override(recipe, {"data.split": "patient", "data.split_file": ""})
    key = files.hash_json([bundle, manifest], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-evaluation-{key}")
    result = cluster_evaluate.evaluate(bundle, recipe, prepared, folder)
    return _told(recipe, prepared, result, folder, "fp32 channels_last")


def _told(
    recipe: Recipe, prepared: str, result: dict[str, Any], folder: str, mode: str
) -> dict[str, Any]:
    """The report of one training or evaluation, its summary printed; the job's result."""
    opened = open_set(prepared)
    trial = trial_of(recipe, result, recipe.name, opened)
    about = about_of(recipe, opened, recipe.name, mode)
    about["notes"] += _undecoded(result) + notes_of(recipe, result, opened)
    examples = examples_of(recipe, opened, folder)
    paths = tables.write_run(folder, trial, about, examples)
    metrics = result["metrics"]
    print(
        f"{metrics['n']} images of {metrics['num_patients']} patients ({result['reported_split']})"
    )
    for name in ("accuracy", "balanced_accuracy", "kappa", "auc_referable"):
        print(f"  {name:18} {interval_text(metrics, name)}")
    if result.get("robust"):
        print(f"  {'under attack':18} accuracy {interval_text(result['robust'], 'accuracy')}")
    print(f"  always the majority class: accuracy {metrics['majority_accuracy']:.3f}")
    print(f"report: {paths['report']}")
    keys = ("status", "folder", "bundle", "predictions")
    return {key: result[key] for key in keys} | paths | {"prepared": prepared}


def interval_text(metrics: dict[str, Any], name: str) -> str:
    if metrics[name] is None:
        return "not defined on these images"
    low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
    around = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
    return f"{metrics[name]:.3f}{around}"


def tune(asked: Asked, space: Space) -> dict[str, Any]:
    """Searches a space and writes the leaderboard."""
    recipe = recipe_of(asked, "balancing")
    if asked.show:
        return shown(recipe)
    prepared, storage = prepared_of(recipe), recipe.run.storage
    recipe = cluster_train.settled(recipe, open_set(prepared), storage)
    found = cluster_tune.search(recipe, prepared, storage, space)
    opened = open_set(prepared)
    trials = [_searched(recipe, entry, prepared, opened, space.method) for entry in found["trials"]]
    folder = found["folder"]
    modes = {t["mode"] for t in (_result_of(e["folder"]) for e in found["trials"]) if t}
    about = about_of(recipe, opened, f"{recipe.name}: balancing methods", "; ".join(sorted(modes)))
    examples = examples_of(recipe, opened, folder)
    paths = tables.write_search(folder, trials, found["study"], about, examples)
    best = tables.leaderboard(trials)[0]
    print(f"best: {best['method']}, kappa {interval_text(best, 'kappa')} on {best['n']} images")
    print(f"leaderboard: {paths['leaderboard']}\nreport: {paths['report']}")
    ends = {"bundle": best["bundle"], "predictions": best["predictions"], "prepared": prepared}
    return {"status": "finished", "folder": folder} | paths | ends


def _result_of(folder: str) -> dict[str, Any] | None:
    location = files.join(folder, "result.json")
    return files.read_json(location) if files.exists(location) else None


def _searched(
    base: Recipe,
    entry: dict[str, Any],
    prepared: str,
    opened: PreparedSet,
    method: Callable[[dict[str, Any]], str],
) -> tables.Trial:
    """A search's trial as the report wants it; one stopped early is judged by its best epoch."""
    recipe, name = override(base, entry["proposed"]), method(entry["proposed"])
    result = _result_of(entry["folder"])
    if result is None and files.exists(files.join(entry["folder"], "bundle", "MANIFEST.json")):
        result = _early(recipe, entry["folder"], prepared)
    if result is None or entry["error"]:
        reason = entry["error"] or "ended before its first epoch did"
        result = {"status": "failed", "reason": reason}
    return trial_of(recipe, result, name, opened, entry["proposed"])


def _early(recipe: Recipe, folder: str, prepared: str) -> dict[str, Any]:
    bundle = files.join(folder, "bundle")
    result = cluster_evaluate.evaluate(bundle, recipe, prepared, folder)
    name, _ = checkpoints.newest(files.join(folder, "checkpoints"), load_bundle(bundle).info["key"])
    state = files.read_json(files.join(folder, "checkpoints", name, "state.json"))
    kept = {key: state[key] for key in ("history", "best", "seconds")}
    return result | kept | {"status": "stopped early", "reason": "others did better by then"}


def trial_of(
    recipe: Recipe,
    result: dict[str, Any],
    method: str,
    opened: PreparedSet,
    proposed: dict[str, Any] | None = None,
) -> tables.Trial:
    best, sides = result.get("best", {}), split_rows(opened, recipe)
    targets = opened.targets()[sides["train"]]
    counts = np.bincount(targets, minlength=len(opened.classes)).tolist()
    weights = effective_weights(recipe.loss.name, recipe.loss.args, counts)
    return tables.Trial(
        method=method,
        loss=recipe.loss.name,
        sampler=recipe.sampling.name,
        batch=recipe.train.batch,
        epochs_run=len(result.get("history", [])),
        epochs_asked=timetable_of(recipe, opened).epochs,
        best_epoch=best.get("epoch", 0),
        selected_by=recipe.train.select,
        optimistic=result.get("optimistic", False),
        side=result.get("reported_split", "test"),
        seconds=result.get("seconds", 0.0),
        weight_ratio=weight_ratio(weights),
        overrides=proposed or {},
        published=recipe.published or recipes.published(recipe),
        bundle=result.get("bundle", ""),
        predictions=result.get("predictions", ""),
        history=result.get("history", []),
        baseline=recipe.loss.name == "cross_entropy"
        and recipe.sampling.name == "natural"
        and recipe.model.dropout == 0,
        status=result["status"],
        reason=result.get("reason", ""),
    )


def about_of(recipe: Recipe, opened: PreparedSet, title: str, mode: str) -> dict[str, Any]:
    """What the page says around the figures."""
    sides, targets = split_rows(opened, recipe), opened.targets()
    patients = np.array(opened.patients())
    num_classes, model = len(opened.classes), recipe.model
    start = f"weights {model.weights}" if model.weights else "random start"
    start = f"from {model.init_from}" if model.init_from else start
    splits = {
        name: {
            "n": len(rows),
            "patients": len(set(patients[rows])),
            "counts": np.bincount(targets[rows], minlength=num_classes).tolist(),
        }
        for name, rows in sides.items()
        if len(rows)
    }
    return {
        "title": title,
        "command": "python " + " ".join(sys.argv),
        "recipe": recipe.name,
        "source": f"{recipe.data.source} {recipe.data.root}".strip(),
        "splits": splits,
        "split": _split_said(recipe),
        "leak": told(find_leaks(opened.table, split_of(opened, recipe))),
        "classes": list(opened.classes),
        "preprocess": _pixels_said(recipe),
        "model": f"{model.name}{_head_said(recipe)}, {start}, dropout {model.dropout:g}",
        "mode": mode,
        "seed": recipe.seed,
        "prepared": _quarantine(opened),
        "resources": {key: f"{value:g}" for key, value in cluster_start.resources().items()},
        "versions": {"fundusray": fundusray.__version__, "python": platform.python_version()},
        "notes": _data_notes(opened),
    }


def _head_said(recipe: Recipe) -> str:
    """What follows the features, where it is not one layer of class logits."""
    model = recipe.model
    hidden = "".join(f" -> {width}" for width in model.hidden)
    output = "" if model.output == "softmax" else f" -> {model.output}"
    return hidden + output


def _split_said(recipe: Recipe) -> str:
    """How rows came to their side of the split."""
    data = recipe.data
    if data.split_file:
        return f"split by the file {files.base_name(data.split_file)}"
    how = {"given": "the publisher's own split", "image": "split by image"}
    return how.get(data.split, data.split)


def _undecoded(result: dict[str, Any]) -> list[str]:
    """A sentence on prepared images that did not decode while the network was trained."""
    found = result.get("quarantined", [])
    if not found:
        return []
    names = ", ".join(f"{row['image_id']} ({row['reason']})" for row in found[:5])
    more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
    return [f"{len(found):,} prepared images did not decode and were left out: {names}{more}"]


def _pixels_said(recipe: Recipe) -> str:
    """What was done to pixels: once, in each epoch, and before they are judged."""
    data = recipe.data
    keywords = ", ".join(f"{key} {value}" for key, value in data.preprocess_args.items())
    prepared = f"{data.preprocess}{f' ({keywords})' if keywords else ''}, {data.size} px"
    return f"{prepared}; train {train_text(data)}; judged {view_text(data)}"


def _data_notes(opened: PreparedSet) -> list[str]:
    """What a reader must know of the photographs themselves."""
    conflicts = opened.info["num_conflicts"]
    if not conflicts:
        return []
    return [
        f"{conflicts:,} of {opened.info['num_twins']:,} pairs of near-duplicates bear different "
        f"labels (twins.parquet in {opened.folder} names them): the labels are noisy to that extent"
    ]


def _quarantine(opened: PreparedSet) -> dict[str, Any]:
    skipped = files.read_table(files.join(opened.folder, "skipped.parquet")).to_pylist()
    repaired = sum(opened.table["repaired"].to_pylist())
    return {"kept": len(opened.table), "repaired": repaired, "skipped": skipped}


def examples_of(recipe: Recipe, opened: PreparedSet, folder: str) -> str:
    """Writes the sheet of photographs as taken, prepared and augmented; where it is."""
    data = recipe.data
    places = locate(data, cluster_prepare.data_root(recipe, recipe.run.storage))
    roots = {name: root for name, (_, root) in places.items()}
    sheet = example_images(opened, roots, train_text(data), data.pipeline, recipe.seed)
    location = files.join(folder, "examples.png")
    files.write_bytes(location, figures.examples_sheet(sheet))
    return location
