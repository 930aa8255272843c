"""The job that searches: runs or goes on, chooses on validation rows, reports on test rows."""

from dataclasses import replace
from typing import Any

from fundusray import files
from fundusray.cluster import evaluate as cluster_evaluate
from fundusray.cluster import train as cluster_train
from fundusray.cluster.results import finished_result
from fundusray.cluster.runtime import start as cluster_start
from fundusray.cluster.search import tune as cluster_tune
from fundusray.cluster.search.record import HEAD
from fundusray.cluster.search.study import SearchSpace
from fundusray.command import Command
from fundusray.config import override
from fundusray.errors import InputError, NoCheckpointError
from fundusray.jobs.command_to_recipe import prepared_of, print_recipe, recipe_of
from fundusray.jobs.looks import Looks, record_look
from fundusray.jobs.training import about_of, examples_of, interval_text, trial_of
from fundusray.models.bundle import load_bundle
from fundusray.reports import leaderboards
from fundusray.reports.number_text import number_text, people_text
from fundusray.runs.identity import with_training_seed
from fundusray.runs.provenance import unseen_rows
from fundusray.runs.run import Run
from fundusray.training import checkpoints


def tune(asked: Command, space: SearchSpace) -> dict[str, Any]:
    """Searches a space and writes the leaderboard; given a search's folder in place of a recipe,
    writes its report anew."""
    if asked.words and files.exists(files.join(files.absolute(asked.words[0]), HEAD)):
        return _again(asked, space)
    asked = replace(asked, changes=space.SETTINGS | asked.changes)
    recipe = recipe_of(asked, "balancing")
    if asked.show:
        return print_recipe(recipe)
    cluster_tune.check_space(recipe, space)
    prepared, storage = prepared_of(recipe), recipe.run.storage
    run = cluster_train.planned(recipe, prepared, storage)
    return report_search(run, cluster_tune.run_search(run, space), space)


def _again(asked: Command, space: SearchSpace) -> dict[str, Any]:
    """The report of a search as it stands, from its record alone."""
    if len(asked.words) > 1 or asked.changes or asked.smoke:
        raise InputError(f"{asked.words[0]} is a search: it is reported as it is, without settings")
    run, found = cluster_tune.recorded_search(files.absolute(asked.words[0]), space)
    cluster_start.start_ray()
    print(f"search {found['folder']}: reported from its record, nothing is run", flush=True)
    return print_recipe(run.recipe) if asked.show else report_search(run, found, space)


def report_search(run: Run, found: dict[str, Any], space: SearchSpace) -> dict[str, Any]:
    """Writes the report of a search and prints what was chosen; the job's result.

    Args:
        run: what the search varies.
        found: of `cluster.search.tune.search_outcome`.
    """
    recipe, opened, folder = run.recipe, run.prepared, found["folder"]
    results = [_whole_result(run, entry, 0) for entry in found["trials"]]
    trials = [
        _searched(run, entry, result, space)
        for entry, result in zip(found["trials"], results, strict=True)
    ]
    modes = "; ".join(sorted({result["mode"] for result in results if result}))
    about = about_of(recipe, run.split, run.start, f"{recipe.name}: {space.TITLE}", modes)
    chosen = next((trial for trial in trials if trial.chosen), None)
    seen = next((trial for trial in trials if trial.predictions), None)
    looks = Looks()
    if seen is not None:
        figures = {"predictions": seen.predictions, "reported_split": seen.side}
        looks = record_look(opened.info["manifest"], figures, recipe.run.storage, folder)
    about["notes"] += looks.notes
    examples = examples_of(recipe, opened, folder)
    paths = leaderboards.write_search(folder, trials, found["study"], about, examples)
    ends: dict[str, Any] = {"prepared": run.set_folder} | _front(found["study"], folder)
    ends |= {"patients": about.get("patients") or "known"} | looks.result
    if chosen is None:
        print("chosen: none, no trial has a validation value")
    else:
        row = next(row for row in leaderboards.leaderboard(trials) if row["chosen"])
        print(
            f"chosen: {row['method']}, by validation {chosen.selected_by} "
            f"{number_text(chosen.validation)}, the best of {len(trials)} trials"
        )
        side = "test" if chosen.side == "test" else "validation"
        if row["n"]:
            print(
                f"  kappa {interval_text(row, 'kappa')} on {people_text(row, 'image')} ({side} "
                f"rows)"
            )
        ends |= {"chosen": row["method"], "validation": chosen.validation}
        ends |= {key: row[key] for key in ("bundle", "predictions")}
    for note in looks.notes:
        print(f"note: {note}")
    print(f"leaderboard: {paths['leaderboard']}\nreport: {paths['report']}")
    return {"status": "finished", "folder": folder} | paths | ends


def _front(study: dict[str, Any], folder: str) -> dict[str, Any]:
    """Writes and prints what is traded for what; where it is. Nothing of one objective."""
    reached, names = study.get("reached", []), study.get("objectives", [])
    if not reached:
        return {}
    place = files.join(folder, "front.csv")
    files.write_csv(place, reached)
    print("front, of validation rows, none beaten in all of it by another:")
    for row in sorted(reached, key=lambda row: -row[names[0]]):
        if row["front"]:
            values = ", ".join(f"{name} {number_text(row[name])}" for name in names)
            print(f"  trial {row['number'] + 1} {row['method']}: {values}")
    return {"front": place}


def _whole_result(run: Run, entry: dict[str, Any], number: int) -> dict[str, Any] | None:
    """The result of one of a trial's trainings, made whole where a file of it is damaged; None of
    one that did not finish."""
    result, faults = finished_result(entry["folders"][number])
    if faults:  # what is damaged is named and made again
        recipe = with_training_seed(override(run.recipe, entry["proposed"]), number)
        result = cluster_train.train_recipe(recipe, run.set_folder, run.storage, run.sets)
    return result


def is_baseline(space: SearchSpace, proposed: dict[str, Any]) -> bool:
    """Whether a trial is the space's first point, which the others are compared with."""
    return space.POINTS[0].items() <= proposed.items()


def _searched(
    run: Run,
    entry: dict[str, Any],
    result: dict[str, Any] | None,
    space: SearchSpace,
) -> leaderboards.ReportTrial:
    """A search's trial as the report wants it; one stopped early is judged by its best epoch."""
    proposed = entry["proposed"]
    recipe, name = override(run.recipe, proposed), space.method(proposed)
    first = entry["folders"][0]
    if result is None and files.exists(files.join(first, "bundle", "MANIFEST.json")):
        result = _early(run, first)
    if result is None or entry["error"]:
        reason = entry["error"] or "ended before its first epoch did"
        result = {"status": "failed", "reason": reason}
    split = run.sets.split(run.set_folder, recipe)
    trial = trial_of(recipe, split, result, name, proposed)
    repeats = [_whole_result(run, entry, n) for n in range(len(entry["folders"]))]
    able = trial.status == "finished" and len(repeats) > 1 and all(repeats)
    return replace(
        trial,
        baseline=is_baseline(space, proposed),
        chosen=entry["chosen"],
        validation=entry["value"],
        repeats=tuple(one["predictions"] for one in repeats) if able else (),
    )


def _early(run: Run, folder: str) -> dict[str, Any]:
    """The figures of a trial that was stopped early, by its best epoch until then."""
    place = files.join(folder, "bundle")
    bundle = load_bundle(place)
    judged = unseen_rows(run.prepared, place, bundle)
    result = cluster_evaluate.evaluate_bundle(place, judged, run.set_folder, folder)
    # The first bundle is written before the first checkpoint; a kill may fall in between.
    kept = {"history": [], "best": bundle.info["best"], "seconds": 0.0}
    reason = "others did better by then"
    try:
        name, _ = checkpoints.newest_checkpoint(
            files.join(folder, "checkpoints"), bundle.info["key"]
        )
    except NoCheckpointError as error:
        # The bundle is whole, so the trial can be judged; only the way there is not known.
        name, reason = "", f"{reason}; {error}"
    if name:
        state = checkpoints.state_of(files.join(folder, "checkpoints", name))
        kept = {key: state[key] for key in kept}
    return result | kept | {"status": "stopped early", "reason": reason}
