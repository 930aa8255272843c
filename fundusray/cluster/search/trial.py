"""One trial of a search: its trainings, where they live, and what they tell the search."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from fundusray import config
from fundusray.cluster.search.callbacks import BEST, EPOCHS, OBJECTIVES
from fundusray.cluster.search.record import SearchRecord
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override
from fundusray.errors import LockedError
from fundusray.runs.identity import with_training_seed
from fundusray.runs.run import Run, plan_run
from fundusray.runs.split_of_run import OpenSets

PATIENCE = 180.0
"""Seconds a trial waits for its folder: what ran there under a killed driver takes a while to
end."""


@dataclass(frozen=True)
class SearchJob:
    """One search, settled: everything its parts need."""

    base: Recipe
    """What trials vary; CPUs per worker are settled."""
    set_folder: str
    """Of the prepared set."""
    storage: str
    folder: str
    sets: OpenSets

    @property
    def metric(self) -> str:
        return f"val_{self.base.train.select}"

    def runs(self, settings: dict[str, Any]) -> list[Run]:
        """A trial's trainings."""
        tuned = override(self.base, settings)
        repeats = range(self.base.tune.repeats)
        return [
            plan_run(with_training_seed(tuned, n), self.set_folder, self.storage, self.sets)
            for n in repeats
        ]

    def run_folders(self, settings: dict[str, Any]) -> list[str]:
        """The folders of a trial's trainings."""
        return [run.folder for run in self.runs(settings)]

    def record(self) -> SearchRecord:
        """What is remembered of it; read it before use."""
        return SearchRecord(self.folder, lambda settings: self.run_folders(settings)[0])


def trial_function(
    search: SearchJob, method: Callable[[dict[str, Any]], str]
) -> Callable[[dict[str, Any]], None]:
    """The driver of one trial: plain values in its closure, so that it travels.

    Its last report holds everything the search needs of it, whether its epochs were trained now,
    under an earlier driver, or by another search.
    """
    text, prepared, storage = config.to_json(search.base), search.set_folder, search.storage
    metric = search.metric

    def trial(asked: dict[str, Any]) -> None:
        base = config.from_json(text)
        tuned = override(base, asked["settings"])
        title = f"trial {asked['number'] + 1} {method(asked['settings'])}"
        results, sets = [], OpenSets()
        for repeat in range(base.tune.repeats):
            # The first training tells its epochs, by which the search may stop the trial.
            callbacks = () if repeat else (TuneReportCallback(),)
            recipe, of_all = with_training_seed(tuned, repeat), base.tune.repeats
            named = f"{title}, training {repeat + 1}/{of_all}" if of_all > 1 else title
            train = partial(train_recipe, recipe, prepared, storage, sets, callbacks, named)
            results.append(_when_free(train))
        history, values = results[0]["history"], [r["best"].get("value") for r in results]
        tune.report(
            {
                "epoch": history[-1]["epoch"],
                metric: values[0],
                BEST: values,
                EPOCHS: [[row["epoch"], row[metric]] for row in history],
                OBJECTIVES: [objective_values(result, base.tune.objectives) for result in results],
            }
        )

    return trial


def objective_values(result: dict[str, Any], names: Sequence[str]) -> list[float | None]:
    """What a training reached in each objective, in its best epoch; [] of none."""
    best = result["best"].get("epoch")
    row = next((row for row in result["history"] if row["epoch"] == best), {})
    return [row.get(f"val_{name}") for name in names]


def _when_free(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `act` returns, once nobody else is in the run's folder."""
    began = time.monotonic()
    while True:
        try:
            return act()
        except LockedError:
            if time.monotonic() - began > PATIENCE:
                raise
            time.sleep(1.0)
