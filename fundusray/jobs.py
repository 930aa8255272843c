"""What each job does: read the command, run it on the cluster, write the report, say where."""

import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import fundusray
from fundusray import config, files, recipes
from fundusray.cluster import evaluate as cluster_evaluate
from fundusray.cluster import prepare as cluster_prepare
from fundusray.cluster import start as cluster_start
from fundusray.cluster import train as cluster_train
from fundusray.cluster import tune as cluster_tune
from fundusray.cluster.rows import reported_split, split_rows
from fundusray.cluster.study import Space
from fundusray.command import Asked, settle
from fundusray.config import Recipe, override
from fundusray.data.shards import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.losses import effective_weights, weight_ratio
from fundusray.models.bundle import load_bundle
from fundusray.pipeline.examples import example_images
from fundusray.reports import figures, tables
from fundusray.training import checkpoints


def _recipe(asked: Asked, default: str) -> Recipe:
    if len(asked.words) > 1:
        raise InputError(f"one recipe name at most, got {' '.join(asked.words)}")
    recipe = recipes.find(asked.words[0] if asked.words else default)
    if asked.smoke:
        recipe = recipes.smoke(recipe)
    recipe = override(recipe, asked.changes)
    # What would run can be seen before there are any data.
    return recipe if asked.show else settle(recipe, cluster_start.in_submitted_job())


def _shown(recipe: Recipe) -> dict[str, Any]:
    print(config.to_json(recipe))
    return {"status": "shown", "recipe": recipe.name}


def _prepared(recipe: Recipe) -> str:
    """Checks the recipe, joins or starts the cluster; the folder of the prepared set."""
    cluster_train.check(recipe)
    cluster_start.start()
    return cluster_prepare.prepare(recipe, recipe.run.storage)


def prepare(asked: Asked) -> dict[str, Any]:
    """Prepares a set; its folder."""
    recipe = _recipe(asked, "balancing")
    if asked.show:
        return _shown(recipe)
    folder = _prepared(recipe)
    return {"status": "finished", "folder": folder, "prepared": folder}


def train(asked: Asked) -> dict[str, Any]:
    """Trains one recipe and writes its report."""
    recipe = _recipe(asked, "balancing")
    if asked.show:
        return _shown(recipe)
    prepared = _prepared(recipe)
    result = cluster_train.train(recipe, prepared, recipe.run.storage)
    return _told(recipe, prepared, result, result["folder"], result["mode"])


def evaluate(asked: Asked) -> dict[str, Any]:
    """Measures a bundle on its own test rows, or on other photographs."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/evaluate.py <run folder>/bundle key=value")
    bundle = files.absolute(asked.words[0])
    trained = load_bundle(bundle).recipe
    recipe = override(trained, {"run.storage": ""} | asked.changes)
    if "data.source" in asked.changes and "data.root" not in asked.changes:
        recipe = override(recipe, {"data.root": ""})
    recipe = settle(recipe, cluster_start.in_submitted_job())
    if asked.show:
        return _shown(recipe)
    prepared = _prepared(recipe)
    key = files.hash_json([bundle, open_set(prepared).info["manifest"]], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-evaluation-{key}")
    result = cluster_evaluate.evaluate(bundle, recipe, prepared, folder)
    return _told(recipe, prepared, result, folder, "fp32 channels_last")


def _told(
    recipe: Recipe, prepared: str, result: dict[str, Any], folder: str, mode: str
) -> dict[str, Any]:
    """The report of one training or evaluation, its summary printed; the job's result."""
    opened = open_set(prepared)
    trial = _trial(recipe, result, recipe.name, opened)
    about = _about(recipe, opened, recipe.name, mode)
    examples = _examples(recipe, opened, folder)
    paths = tables.write_run(folder, trial, about, examples)
    metrics = result["metrics"]
    print(
        f"{metrics['n']} images of {metrics['num_patients']} patients ({result['reported_split']})"
    )
    for name in ("accuracy", "balanced_accuracy", "kappa", "auc_referable"):
        print(f"  {name:18} {_interval(metrics, name)}")
    print(f"  always the majority class: accuracy {metrics['majority_accuracy']:.3f}")
    print(f"report: {paths['report']}")
    keys = ("status", "folder", "bundle", "predictions")
    return {key: result[key] for key in keys} | paths | {"prepared": prepared}


def _interval(metrics: dict[str, Any], name: str) -> str:
    if metrics[name] is None:
        return "not defined on these images"
    low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
    around = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
    return f"{metrics[name]:.3f}{around}"


def tune(asked: Asked, space: Space) -> dict[str, Any]:
    """Searches a space and writes the leaderboard."""
    recipe = _recipe(asked, "balancing")
    if asked.show:
        return _shown(recipe)
    prepared, storage = _prepared(recipe), recipe.run.storage
    found = cluster_tune.search(recipe, prepared, storage, space)
    opened = open_set(prepared)
    trials = [_searched(recipe, entry, prepared, opened, space.method) for entry in found["trials"]]
    folder = found["folder"]
    modes = {t["mode"] for t in (_result_of(e["folder"]) for e in found["trials"]) if t}
    about = _about(recipe, opened, f"{recipe.name}: balancing methods", "; ".join(sorted(modes)))
    examples = _examples(recipe, opened, folder)
    paths = tables.write_search(folder, trials, found["study"], about, examples)
    best = tables.leaderboard(trials)[0]
    print(f"best: {best['method']}, kappa {_interval(best, 'kappa')} on {best['n']} images")
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
    return _trial(recipe, result, name, opened, entry["proposed"])


def _early(recipe: Recipe, folder: str, prepared: str) -> dict[str, Any]:
    bundle = files.join(folder, "bundle")
    result = cluster_evaluate.evaluate(bundle, recipe, prepared, folder)
    name, _ = checkpoints.newest(files.join(folder, "checkpoints"), load_bundle(bundle).info["key"])
    state = files.read_json(files.join(folder, "checkpoints", name, "state.json"))
    kept = {key: state[key] for key in ("history", "best", "seconds")}
    return result | kept | {"status": "stopped early", "reason": "others did better by then"}


def _trial(
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
        epochs_asked=recipe.train.epochs,
        best_epoch=best.get("epoch", 0),
        selected_by=recipe.train.select,
        optimistic=reported_split(sides) == "val",
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


def _about(recipe: Recipe, opened: PreparedSet, title: str, mode: str) -> dict[str, Any]:
    """What the page says around the figures."""
    sides, targets = split_rows(opened, recipe), opened.targets()
    patients = np.array(opened.patients())
    num_classes, model = len(opened.classes), recipe.model
    start = f"weights {model.weights}" if model.weights else "random start"
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
        "split": recipe.data.split,
        "classes": list(opened.classes),
        "preprocess": f"{recipe.data.preprocess}, {recipe.data.size} px; {recipe.data.augment}",
        "model": f"{model.name}, {start}, dropout {model.dropout:g}",
        "mode": mode,
        "seed": recipe.seed,
        "prepared": _quarantine(opened),
        "resources": {key: f"{value:g}" for key, value in cluster_start.resources().items()},
        "versions": {"fundusray": fundusray.__version__, "python": platform.python_version()},
        "notes": [],
    }


def _quarantine(opened: PreparedSet) -> dict[str, Any]:
    skipped = files.read_table(files.join(opened.folder, "skipped.parquet")).to_pylist()
    repaired = sum(opened.table["repaired"].to_pylist())
    return {"kept": len(opened.table), "repaired": repaired, "skipped": skipped}


def _examples(recipe: Recipe, opened: PreparedSet, folder: str) -> str:
    """Writes the sheet of photographs as taken, prepared and augmented; where it is."""
    root = cluster_prepare.data_root(recipe, recipe.run.storage)
    data = recipe.data
    sheet = example_images(opened, root, data.augment, data.pipeline, recipe.seed)
    location = files.join(folder, "examples.png")
    files.write_bytes(location, figures.examples_sheet(sheet))
    return location
