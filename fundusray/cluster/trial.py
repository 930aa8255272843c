"""One trial of a search: its trainings, where they live, and what they tell the search."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from fundusray import config
from fundusray.cluster.proposing import BEST, EPOCHS
from fundusray.cluster.record import Record
from fundusray.cluster.rows import reseeded
from fundusray.cluster.train import run_folder, train
from fundusray.config import Recipe, override
from fundusray.data.shards import PreparedSet
from fundusray.errors import LockedError

PATIENCE = 180.0
"""Seconds a trial waits for its folder: what ran there under a killed driver takes a while to
end."""


@dataclass(frozen=True)
class Search:
    """One search, settled: everything its parts need."""

    base: Recipe
    """What trials vary; CPUs per worker are settled."""
    prepared: str
    opened: PreparedSet
    """What lies there; opening it takes long."""
    storage: str
    folder: str

    @property
    def metric(self) -> str:
        return f"val_{self.base.train.select}"

    def run_folders(self, settings: dict[str, Any]) -> list[str]:
        """The folders of a trial's trainings."""
        tuned = override(self.base, settings)
        repeats = range(self.base.tune.repeats)
        return [run_folder(reseeded(tuned, n), self.opened, self.storage) for n in repeats]

    def record(self) -> Record:
        """What is remembered of it; read it before use."""
        return Record(self.folder, lambda settings: self.run_folders(settings)[0])


def trainable(
    search: Search, method: Callable[[dict[str, Any]], str]
) -> Callable[[dict[str, Any]], None]:
    """The driver of one trial: plain values in its closure, so that it travels.

    Its last report holds everything the search needs of it, whether its epochs were trained now,
    under an earlier driver, or by another search.
    """
    text, prepared, storage = config.to_json(search.base), search.prepared, search.storage
    metric = search.metric

    def trial(asked: dict[str, Any]) -> None:
        base = config.from_json(text)
        tuned = override(base, asked["settings"])
        label = slug(method(asked["settings"]))
        results = []
        for repeat in range(base.tune.repeats):
            # The first training tells its epochs, by which the search may stop the trial.
            callbacks = () if repeat else (TuneReportCallback(),)
            recipe = reseeded(tuned, repeat)
            results.append(
                _when_free(lambda r=recipe, c=callbacks: train(r, prepared, storage, c, label))
            )
        history, values = results[0]["history"], [r["best"].get("value") for r in results]
        tune.report(
            {
                "epoch": history[-1]["epoch"],
                metric: values[0],
                BEST: values,
                EPOCHS: [[row["epoch"], row[metric]] for row in history],
            }
        )

    return trial


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


def slug(text: str) -> str:
    """The text as a name that every file system and dashboard takes."""
    text = text.replace("γ", "gamma").replace("β", "beta")
    kept = (c if c.isascii() and (c.isalnum() or c in ".=") else " " for c in text)
    return "-".join("".join(kept).split())
