"""The job that judges a trained network by both eyes of every patient."""

from typing import Any

from fundusray import files
from fundusray.cluster.both_eyes import judge_both_eyes
from fundusray.command import Command
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.jobs.command_to_recipe import prepared_of, print_recipe
from fundusray.jobs.evaluating import asked_recipe
from fundusray.jobs.looks import record_look
from fundusray.jobs.training import interval_text
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.registry import unknown_name
from fundusray.reports.number_text import count_text
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.provenance import unseen_rows

SIDES = ("train", "val")
"""What a second stage can be fitted on."""


def both_eyes(asked: Command) -> dict[str, Any]:
    """Fits a second stage on both eyes of the training patients and judges it beside the network
    alone, in pairs."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/two_eyes.py <run folder>/bundle key=value")
    changes = dict(asked.changes)
    fit = changes.pop("fit", "train")
    if fit not in SIDES:
        raise unknown_name("fit", fit, SIDES)
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    require_label(bundle.recipe, place)
    recipe = asked_recipe(place, bundle.recipe, changes)
    if asked.show:
        return print_recipe(recipe)
    prepared = prepared_of(recipe, trains=False)
    opened = open_set(prepared)
    judged = unseen_rows(opened, place, bundle)
    key = files.hash_json([weights_digest(place), files.base_name(prepared), fit], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-both-eyes-{key}")
    result = judge_both_eyes(place, judged, prepared, folder, fit, recipe.cluster.cpus)
    looked = {"predictions": result["predictions"], "reported_split": judged.side}
    looks = record_look(opened.info["manifest"], looked, recipe.run.storage, folder)
    print(_said(result, fit, judged.side))
    for note in [*judged.notes, *looks.notes]:
        print(f"  {note}")
    places = {name: result[name] for name in ("predictions", "second_stage")}
    figures = {"pairs": result["pairs"], "fitted_on": result["fitted_on"]}
    return {"status": "finished", "folder": folder} | places | figures | looks.result


def _said(result: dict[str, Any], fit: str, side: str) -> str:
    """The figures of one and of both eyes, and their differences."""
    lines = [
        f"both eyes, fitted on {count_text(result['fitted_on'], 'photograph')} ({fit}), judged "
        f"on the "
        f"{side} rows, {result['pairs']} of them with a fellow eye"
    ]
    for row in result["networks"]:
        lines.append(f"  {row['network']:10} kappa {interval_text(row, 'kappa')}")
    for each in result["differences"]:
        if each["low"] is not None:
            lines.append(
                f"  {each['metric']:18} {each['difference']:+.4f} "
                f"({each['low']:+.4f} to {each['high']:+.4f}): {each['verdict']}"
            )
    return "\n".join(lines)
