"""Jobs that train: run on the cluster, write the report, say where."""

import math
import platform
import sys
from typing import Any

import numpy as np

import fundusray
from fundusray import files, recipes
from fundusray.cluster import prepare as cluster_prepare
from fundusray.cluster import train as cluster_train
from fundusray.cluster.runtime import start as cluster_start
from fundusray.command import Command
from fundusray.conditions.damage import finishing, training_damage
from fundusray.config import Recipe
from fundusray.data.labels.class_names import order_unknown
from fundusray.data.manifest.joining import locate_sources
from fundusray.data.manifest.leftovers import by_reason
from fundusray.data.manifest.patients import separation_sentence, unknown_patients_caveat
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.split.leaks import SIDES, leak_sentence
from fundusray.errors import InputError
from fundusray.harmless import printable_text
from fundusray.jobs.command_to_recipe import prepared_of, print_recipe, recipe_of
from fundusray.jobs.looks import record_look
from fundusray.jobs.method_notes import constant_words, networks_said, notes_of
from fundusray.jobs.segmentation_reports import report_segmentation
from fundusray.losses import LOSSES, effective_weights, weight_ratio
from fundusray.metrics import METRICS, withheld_figures
from fundusray.pipeline.augment.augmentation import train_text, view_text
from fundusray.pipeline.examples import example_images
from fundusray.reports import figures, leaderboards, sentences
from fundusray.reports.number_text import TOO_FEW, people_text
from fundusray.runs.provenance import Start
from fundusray.runs.run import Run, timetable_of
from fundusray.runs.split_of_run import Split
from fundusray.tasks import is_segmentation


def train(asked: Command) -> dict[str, Any]:
    """Trains one recipe and writes its report."""
    recipe = recipe_of(asked, "balancing")
    if asked.show:
        return print_recipe(recipe)
    _require_copies(recipe)
    prepared = prepared_of(recipe)
    run = cluster_train.planned(recipe, prepared, recipe.run.storage)
    result = cluster_train.fit(run)
    recipe = run.recipe
    if is_segmentation(recipe):
        notes = segmentation_notes(run, result)
        ends = report_segmentation(recipe, run.prepared, result, notes)
        return ends | {"prepared": prepared}
    trial = trial_of(recipe, run.split, result, recipe.name)
    about = about_of(recipe, run.split, run.start, recipe.name, result["mode"])
    notes = notes_of(recipe, result, run.counts, run.prepared.classes)
    about["notes"] += _undecoded(result) + notes
    ends = write_training_report(recipe, run.prepared, result, trial, about)
    return ends | {"prepared": prepared}


def _require_copies(recipe: Recipe) -> None:
    """Refuses a share of copies of which there are none: what is trained would be another model.

    Raises:
        InputError: what to give.
    """
    share = recipe.data.mix_share
    if share != Recipe().data.mix_share and not recipe.data.mix:
        raise InputError(
            f"data.mix_share={share:g}: {recipe.name} learns copies, and data.mix names none; give "
            "data.mix=<the set that jobs/derive.py made>, of several with commas, or leave "
            "data.mix_share out; the models of avramidis.table1 are trained in turn by "
            "jobs/segmentation_scheme.py"
        )


def segmentation_notes(run: Run, result: dict[str, Any]) -> list[str]:
    """What a reader should know of a training of masks, in sentences: who is on which side, how
    the epoch was chosen, and of the photographs."""
    recipe, prepared, leaks = run.recipe, run.prepared, run.split.leaks
    said = [
        _leak_said(run.split, run.start),
        separation_sentence(prepared.table, _how(recipe), leaks),
        unknown_patients_caveat(prepared.table),
        networks_said(result),
        result["optimistic"] and "the judged photographs chose the epoch: the figures flatter",
    ]
    own = notes_of(recipe, result, None, prepared.classes)
    data = _data_notes(prepared, recipe) + run.start.unasked
    return [*filter(None, said), *_undecoded(result), *data, *own]


def write_training_report(
    recipe: Recipe,
    opened: PreparedSet,
    result: dict[str, Any],
    trial: leaderboards.ReportTrial,
    about: leaderboards.PageFacts,
) -> dict[str, Any]:
    """The report of one training or evaluation, its summary printed; the job's result, but for
    where the prepared set is."""
    folder = result["folder"]
    files.sweep(folder)
    looks = record_look(opened.info["manifest"], result, recipe.run.storage, folder)
    about["notes"] += looks.notes
    examples = examples_of(recipe, opened, folder)
    paths = leaderboards.write_run(folder, trial, about, examples)
    metrics, side = result["metrics"], result["reported_split"]
    print(f"{people_text(metrics, 'image')} ({side} rows)")
    if said := networks_said(result):
        print(said)
    without = withheld_figures(files.read_table(result["predictions"]))
    shown_as = {"auc_referable": printable_text(sentences.auc_name(about))}
    for name in METRICS:
        said = "not given, as the order of the classes is not known"
        said = said if name in without else interval_text(metrics, name)
        print(f"  {shown_as.get(name, name):18} {said}")
    if robust := result.get("robust"):
        print(f"  {'under attack':18} accuracy {interval_text(robust, 'accuracy')}")
        print(f"  {'':18} balanced {interval_text(robust, 'balanced_accuracy')}")
        print(f"  {'':18} {constant_words(robust)}")
    print(f"  always the majority class: accuracy {metrics['majority_accuracy']:.3f}")
    for note in result.get("notes", []):
        print(f"note: {note}")
    for note in looks.notes:
        print(f"note: {note}")
    print(f"report: {paths['report']}")
    keys = ("status", "folder", "bundle", "predictions")
    told = {key: result[key] for key in ("held_out_epochs", "start_chosen") if result.get(key)}
    ends = {"patients": about.get("patients") or "known"}
    return {key: result[key] for key in keys} | told | paths | ends | looks.result


def interval_text(metrics: dict[str, Any], name: str) -> str:
    if metrics[name] is None:
        return "not defined on these images"
    low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
    around = f"[{low:.3f}, {high:.3f}]" if low is not None else f"({TOO_FEW})"
    return f"{metrics[name]:.3f} {around}"


def trial_of(
    recipe: Recipe,
    split: Split,
    result: dict[str, Any],
    method: str,
    proposed: dict[str, Any] | None = None,
) -> leaderboards.ReportTrial:
    """A training of the recipe on a split, as the report wants it."""
    epochs = timetable_of(recipe, split).epochs
    return trial_from(recipe, result, method, split.counts, epochs, proposed)


def trial_from(
    recipe: Recipe,
    result: dict[str, Any],
    method: str,
    counts: list[int] | None,
    epochs: int,
    proposed: dict[str, Any] | None = None,
) -> leaderboards.ReportTrial:
    """As `trial_of`, from the training images per class, None where they are not known."""
    best, history = result.get("best", {}), result.get("history", [])
    weights = effective_weights(recipe.loss.name, recipe.loss.args, counts) if counts else []
    return leaderboards.ReportTrial(
        method=method,
        loss=recipe.loss.name,
        sampler=recipe.sampling.name,
        batch=recipe.train.batch,
        epochs_run=max(len(history), best.get("epoch", 0)),
        epochs_asked=epochs,
        best_epoch=best.get("epoch", 0),
        selected_by=recipe.train.select,
        optimistic=result.get("optimistic", False),
        held_out_epochs=tuple(result.get("held_out_epochs", ())),
        start_chosen=result.get("start_chosen", 0) > 0,
        precision=result.get("mode", "").partition(" ")[0],
        side=result.get("reported_split", "test"),
        seconds=result.get("seconds", 0.0),
        weight_ratio=weight_ratio(weights) if weights else math.nan,
        weighs_cross_entropy=LOSSES.facts(recipe.loss.name).weighs_cross_entropy,
        overrides=proposed or {},
        published=recipes.published_figures(recipe),
        bundle=result.get("bundle", ""),
        predictions=result.get("predictions", ""),
        history=history,
        baseline=recipe.loss.name == "cross_entropy"
        and recipe.sampling.name == "natural"
        and recipe.model.dropout == 0,
        status=result["status"],
        reason=result.get("reason", ""),
    )


def about_of(
    recipe: Recipe, split: Split, start: Start, title: str, mode: str
) -> leaderboards.PageFacts:
    """What the page says around the figures.

    Args:
        split: the sides of the rows that were trained on and judged; they may be called "all" and
            "known" as well.
        start: what the network began with.
    """
    opened, sides = split.prepared, split.sides
    patients, targets = np.array(opened.patients()), opened.targets()
    num_classes, model = len(opened.classes), recipe.model
    place = f"weights {model.weights}" if model.weights else "random start"
    place = f"from {model.init_from}" if model.init_from else place
    splits = {
        name: {
            "n": len(rows),
            "patients": len(set(patients[rows]) - {""}),
            "counts": np.bincount(targets[rows], minlength=num_classes).tolist(),
        }
        for name in (*SIDES, "all", "known")
        if len(rows := np.flatnonzero(sides == name))
    }
    return {
        "title": title,
        "command": "python " + " ".join(sys.argv),
        "recipe": recipe.name,
        "source": f"{recipe.data.source} {recipe.data.root}".strip(),
        "splits": splits,
        "split": separation_sentence(opened.table, _how(recipe), split.leaks),
        "patients": unknown_patients_caveat(opened.table),
        "leak": _leak_said(split, start),
        "classes": list(opened.classes),
        "ordered": opened.ordered,
        "preprocess": _pixels_said(recipe),
        "model": f"{model.name}{_head_said(recipe)}, {place}, dropout {model.dropout:g}"
        f"{_averages_said(recipe)}",
        "mode": mode,
        "seed": _seeds_said(recipe),
        "prepared": _quarantine(opened),
        "resources": {
            key: f"{value:g}" for key, value in cluster_start.cluster_resources().items()
        },
        "versions": {"fundusray": fundusray.__version__, "python": platform.python_version()},
        "notes": _data_notes(opened, recipe) + start.unasked,
    }


def _leak_said(split: Split, start: Start) -> str:
    """Who is on two sides, and what the start knows of what is judged; "" where nobody is."""
    began = start.leak(split.sides)
    began = f"LEAK ALLOWED (data.allow_leak=true): {began}" if began else ""
    return "; ".join(filter(None, [leak_sentence(split.leaks), began]))


def _head_said(recipe: Recipe) -> str:
    """What follows the features, where it is not one layer of class logits."""
    model = recipe.model
    hidden = "".join(f" -> {width}" for width in model.hidden)
    output = "" if model.output == "softmax" else f" -> {model.output}"
    return hidden + output


def _averages_said(recipe: Recipe) -> str:
    """What is averaged in a network that is judged: its weights, its answers to flips."""
    average, flips = recipe.train.average, recipe.model.flips
    said = f", weights averaged (decay {average:g})" if average else ""
    return said + (f", judged under flips ({flips})" if flips != "none" else "")


def _seeds_said(recipe: Recipe) -> str:
    apart = recipe.split_seed != recipe.seed
    return f"{recipe.seed}" + (f", of the split {recipe.split_seed}" if apart else "")


def _how(recipe: Recipe) -> str:
    """How rows came to their side of the split: data.split, or by which file."""
    data = recipe.data
    file = files.base_name(data.split_file)
    return f"split by the file {file}" if data.split_file else data.split


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


def _data_notes(opened: PreparedSet, recipe: Recipe) -> list[str]:
    """What a reader must know of the photographs themselves."""
    notes, conflicts = list(opened.info.get("notes", [])), opened.info["num_conflicts"]
    if not (opened.ordered or is_segmentation(recipe)):
        notes.append(f"{order_unknown(opened.classes)}.")
    if not conflicts:
        return notes
    return [
        *notes,
        f"{conflicts:,} of {opened.info['num_twins']:,} pairs of near-duplicates bear different "
        f"labels (twins.parquet in {opened.folder} names them): the labels are noisy to that "
        "extent",
    ]


def _quarantine(opened: PreparedSet) -> dict[str, Any]:
    skipped = files.read_table(files.join(opened.folder, "skipped.parquet")).to_pylist()
    repaired = sum(opened.table["repaired"].to_pylist())
    return {
        "kept": len(opened.table),
        "repaired": repaired,
        "skipped": [row for row in skipped if row.get("counted", True) or row.get("ungradable")],
        "ungradable": opened.info.get("num_ungradable", 0),
        "unlabelled": opened.info.get("num_unlabelled", 0),
        "untaken": by_reason(skipped),
    }


def examples_of(recipe: Recipe, opened: PreparedSet, folder: str) -> str:
    """Writes the sheet of photographs as taken, prepared and augmented; where it is."""
    data = recipe.data
    places = locate_sources(data, cluster_prepare.data_root(recipe, recipe.run.storage))
    roots = {name: root for name, (_, root) in places.items()}
    changes = finishing(data, opened), training_damage(data, opened, recipe.seed)
    text, seed = train_text(data), recipe.seed
    sheet = example_images(opened, roots, text, data.pipeline, seed, changes)
    location = files.join(folder, "examples.png")
    files.write_bytes(location, figures.examples_sheet(sheet))
    return location
