"""The job that makes one network of several and judges it beside them."""

import math
from dataclasses import replace
from typing import Any

from fundusray import files
from fundusray.cluster import ensemble as cluster_ensemble
from fundusray.cluster.runtime import start as cluster_start
from fundusray.command import Command, with_absolute_places
from fundusray.config import Recipe, override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.jobs.command_to_recipe import prepared_of, print_recipe
from fundusray.jobs.looks import record_look
from fundusray.jobs.training import about_of, examples_of, interval_text, trial_from
from fundusray.metrics import METRICS
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.reports import leaderboards
from fundusray.reports.number_text import TOO_FEW, people_text
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.provenance import start_on
from fundusray.runs.split_of_run import split_of


def ensemble(asked: Command) -> dict[str, Any]:
    """Averages bundles, in weights and in answers, and judges both beside the single networks."""
    bundles = [bundle_folder(word) for word in asked.words]
    if len(set(bundles)) < max(len(bundles), 2):
        raise InputError(
            "give two different bundles or more: "
            "python jobs/ensemble.py <run folder>/bundle <run folder>/bundle key=value"
        )
    members = [load_bundle(place) for place in bundles]
    for place, member in zip(bundles, members, strict=True):
        require_label(member.recipe, place)
    # What the networks once started from need not be there any more.
    blank = {"run.storage": "", "model.weights": "", "model.init_from": ""}
    recipe = override(members[0].recipe, blank | asked.changes)
    if "data.source" in asked.changes and "data.root" not in asked.changes:
        recipe = override(recipe, {"data.root": ""})
    recipe = with_absolute_places(recipe, cluster_start.in_submitted_job())
    if asked.show:
        return print_recipe(recipe)
    prepared = prepared_of(recipe, trains=False)
    weights = [weights_digest(place) for place in bundles]
    storage = recipe.run.storage
    places = [files.relative(place, storage, storage) for place in bundles]
    key = files.hash_json([sorted(weights), places, files.base_name(prepared)], 8)
    folder = files.join(storage, f"{recipe.name}-ensemble-{key}")
    found = cluster_ensemble.compare_members(bundles, recipe, prepared, folder)
    side = "val" if found["optimistic"] else "test"
    seen = {"predictions": found["predictions"], "reported_split": side}
    looks = record_look(open_set(prepared).info["manifest"], seen, recipe.run.storage, folder)
    found["notes"] += looks.notes
    paths = _page(folder, found, bundles, recipe, prepared)
    print(ensemble_text(found))
    print(f"table: {found['table']}\nbundle of the mean: {found['bundle']}")
    print(f"report: {paths['report']}")
    places = {key: found[key] for key in ("bundle", "predictions", "table")} | paths
    ends = {"prepared": prepared, "patients": found["patients"] or "known"}
    return {"status": "finished", "folder": folder} | ends | places | looks.result


def _page(
    folder: str, found: dict[str, Any], bundles: list[str], recipe: Recipe, prepared: str
) -> dict[str, str]:
    """Writes the networks as a leaderboard and a page, compared with the first member."""
    members = [load_bundle(place) for place in bundles]
    # The means are of the first one's kind, and nobody trained them.
    known = [(one.recipe, one.info.get("best", {})) for one in members]
    known += [(members[0].recipe, {})] * (len(found["networks"]) - len(members))
    trials = []
    for row, (own, best) in zip(found["networks"], known, strict=True):
        result = {"status": "finished", "best": best, "optimistic": found["optimistic"]}
        result["seconds"] = math.nan  # of their trainings, which are not asked
        result |= {key: row[key] for key in ("bundle", "predictions")}
        trial = trial_from(own, result, row["network"], None, 0)
        trials.append(replace(trial, published={}, baseline=not trials))
    opened = open_set(prepared)
    judged = override(recipe, {"data.split_file": files.join(folder, "split.csv")})
    split, start = split_of(opened, judged), start_on(judged.model, opened.table)
    title = f"{recipe.name}: {len(bundles)} networks and their means"
    about = about_of(judged, split, start, title, "fp32 channels_last")
    about["split"] = "the test side is what is new to every member"
    about["notes"] += found["notes"]
    return leaderboards.write_search(folder, trials, {}, about, examples_of(recipe, opened, folder))


def ensemble_text(found: dict[str, Any]) -> str:
    """The figures of `cluster.ensemble.compare_members` in words, the paired differences last."""
    first = found["networks"][0]
    lines = [f"{people_text(first, 'image')}, new to every member"]
    if found["optimistic"]:
        lines[0] += "; best epochs were chosen on them: optimistic"
    lines += [f"note: {note}" for note in found["notes"]]
    for row in found["networks"]:
        lines.append(row["network"])
        lines += [f"  {name:18} {interval_text(row, name)}" for name in METRICS]
    lines.append(f"always the majority class: accuracy {first['majority_accuracy']:.3f}")
    lines.append("paired differences, 95 % intervals by patient, not corrected for their number:")
    for row in found["differences"]:
        name = f"{row['network']} - {row['against']}"
        if row["difference"] is None:
            lines.append(f"  {name}, {row['metric']}: not defined on these images")
            continue
        around = f" [{row['low']:+.3f}, {row['high']:+.3f}]" if not row["why"] else f" ({TOO_FEW})"
        difference = f"{row['difference']:+.3f}{around}"
        lines.append(f"  {name}, {row['metric']}: {difference} {row['verdict']}")
    return "\n".join(lines)
