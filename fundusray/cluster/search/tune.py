"""Searches a space of recipes with Ray Tune and Optuna; every trial is an override and a training.

Tune runs the trials and nothing of its own is read back: its files are not written whole, and a
search that depends on them is lost with them. What was proposed and how it went is in the search's
record (`record.py`), the training itself in the trial's run folder.
"""

import secrets
from dataclasses import replace
from typing import Any

from ray import tune

from fundusray import config, files
from fundusray.cluster.runtime.start import cpus_each, joins_cluster, workers_that_fit
from fundusray.cluster.runtime.train_workers import MOST_CPUS, worker_gpus
from fundusray.cluster.search.callbacks import SuccessiveHalving, TrialPrinter, TrialProposer
from fundusray.cluster.search.record import HEAD, SearchRecord, TrialEntry, winning_trial
from fundusray.cluster.search.study import (
    Proposal,
    SearchSpace,
    pareto_front,
    points_of,
    propose_trial,
    setting_importance,
    space_summary,
)
from fundusray.cluster.search.trial import SearchJob, trial_function
from fundusray.config import Recipe, override, stored_recipe
from fundusray.errors import FundusError, InputError
from fundusray.harmless import file_name_slug
from fundusray.lock import locked
from fundusray.runs.check import check, check_run
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.run import Run, plan_run
from fundusray.runs.split_of_run import OpenSets
from fundusray.settings.deciding import SCHEMA, deciding
from fundusray.verified import DamagedError

DRIVER_CPU = 0.01
"""A trial's driver only waits for its workers; Tune refuses 0."""
TUNE = "tune-"
"""How folders begin in which Tune keeps what it likes; swept, never read."""


def search_folder(run: Run, points: list[dict[str, Any]], space: dict[str, Any]) -> str:
    """Where a search that varies a run lives: the same command finds it again. `space` is of
    `space_summary`."""
    recipe = run.recipe
    size = [recipe.tune.trials, recipe.tune.grace, recipe.tune.repeats, *recipe.tune.objectives]
    key = [run.key, points, size, space["digest"]]
    name = recipe.run.name or recipe.name
    return files.join(run.storage, f"{name}-search-{files.hash_json(key, 8)}")


def trial_resources(recipe: Recipe) -> tuple[Recipe, int]:
    """(the recipe with CPUs per worker settled, trials at a time): as asked, or what the cluster
    carries as it is.

    On a cluster that was joined, more trials than it carries wait for room, which is what makes an
    autoscaling one grow; this machine alone does not, and there they would only wait in vain.
    Without an order, one worker gets the fewest CPUs that still keep the whole cluster busy.
    """
    workers, gpus = recipe.cluster.fewest, worker_gpus(recipe)
    carried = max(1, workers_that_fit(recipe.cluster.cpus or 1, gpus) // workers)
    at_once = min(recipe.tune.concurrent or carried, recipe.tune.trials)
    if not joins_cluster():
        at_once = min(at_once, carried)
    each = recipe.cluster.cpus or cpus_each(at_once * workers, MOST_CPUS, gpus)
    return replace(recipe, cluster=replace(recipe.cluster, cpus=each)), at_once


def check_space(recipe: Recipe, space: SearchSpace) -> tuple[dict[str, Any], list[Proposal]]:
    """(what the space holds, its points that are to be tried); before any photograph is read.

    Raises:
        InputError: the space cannot be drawn from, or would not draw one of the points, or masks
            are learned, which no space is about.
    """
    require_label(recipe, recipe.name)
    return space_summary(space, recipe), points_of(space, space.POINTS[: recipe.tune.trials])


def run_search(run: Run, space: SearchSpace) -> dict[str, Any]:
    """Runs or continues a search that varies a run; where all of its trials have ended, nothing is
    run.

    The space's POINTS are tried first, whole; Optuna proposes the rest.

    Returns:
        As `search_outcome`.

    Raises:
        InputError: a point does not fit the space or the data; nothing was run.
        LockedError: another process runs the same search.
        FundusError: every trial failed.
    """
    recipe, total = run.recipe, run.recipe.tune.trials
    held, proposals = check_space(recipe, space)
    points = [proposal.settings for proposal in proposals]
    for point in points:
        tried = override(recipe, point)
        check(tried)
        check_run(plan_run(tried, run.set_folder, run.storage, run.sets))
    folder = search_folder(run, points, held)
    base, at_once = trial_resources(recipe)
    settled = SearchJob(base, run.set_folder, run.storage, folder, run.sets)
    with locked(folder):
        record = _opened(settled, held, points)
        left = record.left(total)
        print(f"search {folder}: {total} trials, {at_once} at a time", flush=True)
        if left and len(left) < total:
            print(f"going on: {total - len(left)} trials have ended", flush=True)
        if left:
            for name, is_folder, _ in files.list_dir(folder):
                if is_folder and name.startswith(TUNE):
                    files.remove(files.join(folder, name))
            place = f"{TUNE}{secrets.token_hex(4)}"
            try:
                _tuner(settled, record, space, proposals, at_once, place).fit()
            finally:
                files.remove(files.join(folder, place))
    return search_outcome(settled, record, space)


def _opened(search: SearchJob, held: dict[str, Any], points: list[dict[str, Any]]) -> SearchRecord:
    """The search's record, begun or read; its first file is written where it is not as it should
    be."""
    folder, record = search.folder, search.record()
    files.sweep(folder)
    files.sweep(files.join(folder, "trials"))
    head = {
        "schema": SCHEMA,
        "recipe": config.to_json(search.base),
        "prepared": search.set_folder.removeprefix(search.storage.rstrip("/") + "/"),
        "points": points,
        "space": held,
    }
    location = files.join(folder, HEAD)
    if not files.exists(location):
        _say_others(search, held)
    else:
        try:
            files.read_json(location)
        except DamagedError as error:
            print(f"search record: {error}; written again", flush=True)
        record.read(search.base.tune.trials)
    files.write_json(location, head)
    for entry in record.trials:
        if entry.state == "finished":
            done = [
                files.join(place, "result.json") for place in search.run_folders(entry.settings)
            ]
            if lost := [place for place in done if not files.exists(place)]:
                print(f"trial {entry.number + 1}: {lost[0]} is gone; run again", flush=True)
                record.again(entry.number)
    return record


def _say_others(search: SearchJob, held: dict[str, Any]) -> None:
    """Names searches of the same recipe that were made with another space, and how to see them."""
    begin = files.base_name(search.folder).rpartition("-")[0]
    for name, is_folder, _ in files.list_dir(search.storage):
        location = files.join(search.storage, name, HEAD)
        if not is_folder or not name.startswith(f"{begin}-") or not files.exists(location):
            continue
        try:
            head = files.read_json(location)
            same = deciding(config.from_json(head["recipe"])) == deciding(search.base)
        except (DamagedError, InputError):
            continue  # or of another version
        now, then = held["settings"], head["space"]["settings"]
        if same and head["space"] != held:
            other = [key for key in sorted({*now, *then}) if now.get(key) != then.get(key)]
            what = ", ".join(other) or "which setting is asked when"
            print(
                f"{files.join(search.storage, name)} searched another space ({what}); this is a "
                "search of its own, in which finished trainings are not run again. To see that one "
                "again, give its folder in place of the recipe",
                flush=True,
            )


def recorded_search(folder: str, space: SearchSpace) -> tuple[Run, dict[str, Any]]:
    """(the run that a search varies, its `search_outcome`) as it stands; nothing is run and no
    space has to hold what was proposed.

    Raises:
        InputError: no search is there, or one whose runs this version cannot name.
        DamagedError: its first file is damaged.
    """
    location = files.join(folder, HEAD)
    if not files.exists(location):
        raise InputError(f"{folder}: no search, it has no {HEAD}; give a recipe or such a folder")
    try:
        head = files.read_json(location)
    except DamagedError as error:
        raise DamagedError(f"{error}; the command that made the search writes it again") from error
    if head.get("schema") != SCHEMA:
        raise InputError(
            f"{folder} is a search of another version of fundusray, which called its runs "
            f"otherwise (schema {head.get('schema', 0)}, here {SCHEMA}), so that its trainings are "
            "not found any more; its leaderboard.csv and report.html are as they were. Give the "
            "recipe to search anew, or use the version that made it"
        )
    storage = folder.rstrip("/").rpartition("/")[0]
    recipe = override(stored_recipe(head["recipe"], location), {"run.storage": storage})
    here = files.is_uri(head["prepared"]) or head["prepared"].startswith("/")
    prepared = head["prepared"] if here else files.join(storage, head["prepared"])
    run = plan_run(recipe, prepared, storage, OpenSets())
    settled = SearchJob(recipe, prepared, storage, folder, run.sets)
    record = settled.record()
    record.read(recipe.tune.trials)
    return run, search_outcome(settled, record, space)


def search_outcome(search: SearchJob, record: SearchRecord, space: SearchSpace) -> dict[str, Any]:
    """What a search has come to.

    Returns:
        {"folder", "trials": [{"number", "proposed", "folders" (one per training), "state",
        "error", "value" (of validation rows), "chosen"}] in the order they were proposed, "study":
        {"history", "importance", "importance_note", of several objectives also "objectives" and
        "reached"}}. One trial at most is chosen.

    Raises:
        FundusError: every trial failed.
    """
    entries = record.trials
    if not entries or all(entry.state == "failed" for entry in entries):
        first = entries[0].reason if entries else "none was begun"
        raise FundusError(f"all {len(entries)} trials failed; the first: {first}")
    best = winning_trial(entries)
    trials = [
        {
            "number": entry.number,
            "proposed": entry.settings,
            "folders": search.run_folders(entry.settings),
            "state": entry.state,
            "error": entry.reason or ("not finished" if entry.state == "running" else ""),
            "value": entry.value,
            "chosen": entry is best,
        }
        for entry in entries
    ]
    study = _study(entries, space) | _trade_off(entries, search.base.tune.objectives, space)
    return {"folder": search.folder, "trials": trials, "study": study}


def _trade_off(
    entries: list[TrialEntry], objectives: tuple[str, ...], space: SearchSpace
) -> dict[str, Any]:
    """What each trial that ended reached in every objective and whether it is on the front; nothing
    of a search that has one objective."""
    if not objectives:
        return {}
    able = [entry for entry in entries if entry.objectives]
    front = pareto_front([entry.objectives for entry in able])
    reached = [
        {"number": entry.number, "method": space.method(entry.settings), "front": on_front}
        | dict(zip(objectives, entry.objectives, strict=True))
        for entry, on_front in zip(able, front, strict=True)
    ]
    return {"objectives": list(objectives), "reached": reached}


def _study(entries: list[TrialEntry], space: SearchSpace) -> dict[str, Any]:
    """The search's history and which settings mattered, plain values."""
    history = [
        {
            "number": entry.number,
            "value": entry.value,
            "state": "failed" if entry.value is None else "complete",
            "method": space.method(entry.settings),
        }
        for entry in entries
    ]
    valued = [(entry.proposal, entry.value) for entry in entries if entry.value is not None]
    shares, note = setting_importance(valued)
    return {"history": history, "importance": shares} | ({"importance_note": note} if note else {})


def _tuner(
    search: SearchJob,
    record: SearchRecord,
    space: SearchSpace,
    points: list[Proposal],
    at_once: int,
    name: str,
) -> tune.Tuner:
    """Tune's side of what is left of the search."""
    base, method, total = search.base, space.method, search.base.tune.trials

    def proposed(number: int) -> Proposal:
        if number < len(points):
            return points[number]
        known = record.before(number, several=bool(base.tune.objectives))
        return propose_trial(space, known, number, base.seed, max(1, len(base.tune.objectives)))

    epochs = search.runs({})[0].timetable.epochs
    whole = [point.settings for point in points]
    # What is traded off shows at the end: a robust network learns later than one that is not.
    grace = epochs if base.tune.objectives else min(base.tune.grace, epochs)
    halving = SuccessiveHalving(record, whole, epochs, grace, search.metric)
    driver = tune.with_resources(trial_function(search, method), {"CPU": DRIVER_CPU})
    return tune.Tuner(
        driver,
        tune_config=tune.TuneConfig(
            search_alg=TrialProposer(record, total, proposed),
            scheduler=halving,
            num_samples=len(record.left(total)),
            max_concurrent_trials=at_once,
            trial_name_creator=lambda trial: (
                f"{file_name_slug(method(trial.config['settings']))}-{trial.trial_id}"
            ),
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=search.folder,
            verbose=0,
            callbacks=[TrialPrinter(record, method, search.metric, total)],
        ),
    )
