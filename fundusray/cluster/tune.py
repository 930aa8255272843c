"""Searches a space of recipes with Ray Tune and Optuna; every trial is an override and a training.

Two things remember what is done: Tune's own record of the search, from which the same command
continues after a kill, and each trial's run folder, so that a finished trial is never trained again
even where Tune's record had not caught up.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import optuna
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from fundusray import config, files
from fundusray.cluster.results import finished
from fundusray.cluster.rows import split_rows
from fundusray.cluster.running import MOST_CPUS, worker_gpus
from fundusray.cluster.start import cpus_each, joins, room
from fundusray.cluster.study import Space, study_of
from fundusray.cluster.train import (
    check,
    check_split,
    run_folder,
    run_key,
    timetable_of,
    train,
)
from fundusray.config import Recipe, override
from fundusray.data.shards import open_set
from fundusray.errors import FundusError

DRIVER_CPU = 0.01
"""A trial's driver only waits for its workers; Tune refuses 0."""


def search_folder(recipe: Recipe, prepared: str, points: list[dict[str, Any]], storage: str) -> str:
    """Where a search lives: the same command finds it again."""
    size = [recipe.tune.trials, recipe.tune.grace]
    key = [run_key(recipe, open_set(prepared)), points, size]
    name = (recipe.run.name or recipe.name).replace("/", "-")
    return files.join(storage, f"{name}-search-{files.hash_json(key, 8)}")


def trial_resources(recipe: Recipe) -> tuple[Recipe, int]:
    """(the recipe with CPUs per worker settled, trials at a time): as asked, or what the cluster
    carries as it is.

    On a cluster that was joined, more trials than it carries wait for room, which is what makes an
    autoscaling one grow; this machine alone does not, and there they would only wait in vain.
    Without an order, one worker gets the fewest CPUs that still keep the whole cluster busy.
    """
    workers, gpus = recipe.cluster.fewest, worker_gpus(recipe)
    carried = max(1, room(recipe.cluster.cpus or 1, gpus) // workers)
    at_once = min(recipe.tune.concurrent or carried, recipe.tune.trials)
    if not joins():
        at_once = min(at_once, carried)
    each = recipe.cluster.cpus or cpus_each(at_once * workers, MOST_CPUS, gpus)
    return replace(recipe, cluster=replace(recipe.cluster, cpus=each)), at_once


class Halving(ASHAScheduler):
    """ASHA that lets the named points run to the end, since a table wants whole rows.

    Only what the search itself proposes can be stopped early, and nothing is stopped after its
    last epoch: it then still has to predict the rows it reports on.
    """

    def __init__(self, points: list[dict[str, Any]], epochs: int, **settings: Any) -> None:
        super().__init__(max_t=epochs + 1, **settings)
        self.points, self.epochs = points, epochs

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(controller, trial, result)
        named = any(point.items() <= trial.config.items() for point in self.points)
        done = result[self._time_attr] >= self.epochs
        return self.CONTINUE if named or done else decision


class Teller(tune.Callback):
    """Prints one line for every epoch of every trial."""

    def __init__(self, method: Callable[[dict[str, Any]], str], metric: str, total: int) -> None:
        self.method, self.metric, self.total, self.done = method, metric, total, set()

    def _name(self, trial: Any) -> str:
        return f"trial {trial.trial_id.split('_')[-1]} {self.method(trial.config)}"

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any
    ) -> None:
        value, loss = result[self.metric], result["train_loss"]
        print(
            f"{self._name(trial)}: epoch {result['epoch']}, {self.metric} {value:.3f}, "
            f"loss {loss:.3f}, {result['images_per_second']:.0f} images/s",
            flush=True,
        )

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done.add(trial.trial_id)
        print(f"{self._name(trial)}: ended ({len(self.done)}/{self.total})", flush=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done.add(trial.trial_id)
        print(f"{self._name(trial)}: FAILED ({len(self.done)}/{self.total})", flush=True)


@dataclass(frozen=True)
class Search:
    """One search, settled: everything its parts need."""

    base: Recipe
    """What trials vary; CPUs per worker are settled."""
    prepared: str
    storage: str
    folder: str
    space: Space
    points: list[dict[str, Any]]
    at_once: int

    @property
    def metric(self) -> str:
        return f"val_{self.base.train.select}"


def search(recipe: Recipe, prepared: str, storage: str, space: Space) -> dict[str, Any]:
    """Runs or continues a search.

    The space's POINTS are tried first, whole; Optuna proposes the rest.

    Returns:
        {"folder", "trials": [{"proposed", "folder", "error", "value"}], "study": {...}}, trials in
        the order they were proposed.

    Raises:
        InputError: a point does not fit the data; nothing was run.
        FundusError: every trial failed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    points = space.POINTS[: recipe.tune.trials]
    opened = open_set(prepared)
    for point in points:
        tried = override(recipe, point)
        check(tried)
        check_split(tried, opened, split_rows(opened, tried))
    folder = search_folder(recipe, prepared, points, storage)
    base, at_once = trial_resources(recipe)
    print(f"search {folder}: {recipe.tune.trials} trials, {at_once} at a time", flush=True)
    settled = Search(base, prepared, storage, folder, space, points, at_once)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        grid = _tuner(settled).fit()
    trials = []
    for outcome in grid:
        proposed = dict(outcome.config)
        trials.append(
            {
                "proposed": proposed,
                "folder": run_folder(override(base, proposed), opened, storage),
                "error": str(outcome.error).strip().splitlines()[-1] if outcome.error else "",
                "value": outcome.metrics.get(settled.metric) if outcome.metrics else None,
            }
        )
    if all(trial["error"] for trial in trials):
        raise FundusError(f"all {len(trials)} trials failed; the first: {trials[0]['error']}")
    return {"folder": folder, "trials": trials, "study": study_of(trials, space)}


def _tuner(search: Search) -> tune.Tuner:
    """Tune's side of the search: where an earlier call left it, or new."""
    trainable = tune.with_resources(_trainable(search), {"CPU": DRIVER_CPU})
    record = files.join(search.folder, "tune")
    if tune.Tuner.can_restore(record):
        print("going on with the search; finished trials are kept", flush=True)
        return tune.Tuner.restore(record, trainable, resume_unfinished=True, restart_errored=True)
    base, method = search.base, search.space.method
    goal = {"metric": search.metric, "mode": "max"}
    searcher = OptunaSearch(
        search.space.space,
        sampler=optuna.samplers.TPESampler(seed=base.seed),
        points_to_evaluate=search.points,
        **goal,
    )
    epochs = timetable_of(base, open_set(search.prepared)).epochs
    grace = min(base.tune.grace, epochs)
    scheduler = Halving(
        search.points,
        epochs,
        time_attr="epoch",
        grace_period=grace,
        reduction_factor=3,
        **goal,
    )
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=base.tune.trials,
            max_concurrent_trials=search.at_once,
            trial_name_creator=lambda trial: f"{_slug(method(trial.config))}-{trial.trial_id}",
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=search.folder,
            verbose=0,
            callbacks=[Teller(method, search.metric, base.tune.trials)],
        ),
    )


def _trainable(search: Search) -> Callable[[dict[str, Any]], None]:
    """The driver of one trial: plain values in its closure, so that it travels."""
    text, prepared, storage = config.to_json(search.base), search.prepared, search.storage
    method = search.space.method

    def trial(proposed: dict[str, Any]) -> None:
        tuned = override(config.from_json(text), proposed)
        known, _ = finished(run_folder(tuned, open_set(prepared), storage))
        if known:
            for row in known["history"]:
                tune.report(row)
            return
        label = _slug(method(proposed))
        train(tuned, prepared, storage, (TuneReportCallback(),), label)

    return trial


def _slug(text: str) -> str:
    """The text as a name that every file system and dashboard takes."""
    text = text.replace("γ", "gamma").replace("β", "beta")
    kept = (c if c.isascii() and (c.isalnum() or c in ".=") else " " for c in text)
    return "-".join("".join(kept).split())
