"""What Ray Tune calls while a search runs: who proposes, who stops, who prints.

All three keep nothing of their own that a kill could lose; they read and write the search's record.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from fundusray.cluster.search.record import ENDED, SearchRecord
from fundusray.cluster.search.study import Proposal

BEST, EPOCHS, OBJECTIVES = "best_values", "epoch_values", "objectives"
"""Keys of the last thing a trial reports: the best value of each training, [epoch, value] of the
first one, and of each training what it reached in each objective of a search that has several."""


class TrialProposer(Searcher):
    """Hands out trials: those that were cut off in their order, then new ones."""

    def __init__(
        self, record: SearchRecord, total: int, propose: Callable[[int], Proposal]
    ) -> None:
        """
        Args:
            propose: from a trial's number to what it is to try.
        """
        super().__init__()
        self.record, self.propose, self.waiting = record, propose, record.left(total)

    def suggest(self, trial_id: str) -> Any:
        if not self.waiting:
            return Searcher.FINISHED
        number = self.waiting.pop(0)
        if number in self.record.entries:
            self.record.again(number)
        else:
            self.record.propose(number, self.propose(number))
        return {"number": number, "settings": self.record.entries[number].settings}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The record knows already."""

    def save(self, checkpoint_path: str) -> None:
        """Writes an empty file, as Tune wants one: nothing is ever restored from it."""
        with open(checkpoint_path, "wb"):
            pass

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search goes on from its own record")


class SuccessiveHalving(ASHAScheduler):
    """ASHA that lets the named points run to the end, since a table wants whole rows.

    Only what the search itself proposes can be stopped early, and nothing is stopped after its
    last epoch: it then still has to predict the rows it reports on. What earlier calls recorded
    counts as if this one had seen it.
    """

    def __init__(
        self,
        record: SearchRecord,
        points: list[dict[str, Any]],
        epochs: int,
        grace: int,
        metric: str,
    ) -> None:
        super().__init__(
            max_t=epochs + 1,
            time_attr="epoch",
            metric=metric,
            mode="max",
            grace_period=grace,
            reduction_factor=3,
        )
        self.record, self.points, self.epochs = record, points, epochs
        for entry in record.trials:
            self.offer(entry.number, entry.epochs)

    def offer(self, number: int, epochs: list[list[float]]) -> str:
        """Counts a trial's epochs in, [epoch, value] each; the decision on the last of them.

        Epochs that were counted before change nothing.
        """
        trial, decision = SimpleNamespace(trial_id=number), self.CONTINUE
        super().on_trial_add(None, trial)
        for epoch, value in epochs:
            decision = super().on_trial_result(None, trial, {"epoch": epoch, self.metric: value})
        return decision

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Trials are known by their number, not by what Tune calls them this time."""

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number, settings = trial.config["number"], trial.config["settings"]
        if EPOCHS in result:
            # Tune repeats the last report as the trial ends.
            if self.record.entries[number].state != "finished":
                last = result[BEST], result[EPOCHS], result[OBJECTIVES]
                self.record.finish(number, *last)
                self.offer(number, self.record.entries[number].epochs)
            return self.CONTINUE
        epoch, value = result["epoch"], result[self.metric]
        decision = self.offer(number, [[epoch, value]]) if value is not None else self.CONTINUE
        named = any(point.items() <= settings.items() for point in self.points)
        if named or epoch >= self.epochs:
            decision = self.CONTINUE
        self.record.epoch(number, epoch, value, stopped=decision == self.STOP)
        return decision

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Every epoch was counted when it came."""

    def on_trial_remove(self, controller: Any, trial: Any) -> None:
        """What it reported still counts."""


class TrialPrinter(tune.Callback):
    """Prints one line for every trial that ended, and records why one failed."""

    def __init__(
        self,
        record: SearchRecord,
        method: Callable[[dict[str, Any]], str],
        metric: str,
        total: int,
    ) -> None:
        self.record, self.method, self.metric, self.total = record, method, metric, total

    def _say(self, trial: Any, text: str) -> None:
        number, settings = trial.config["number"], trial.config["settings"]
        print(f"trial {number + 1} {self.method(settings)}: {text}", flush=True)

    def _ended(self) -> str:
        done = sum(entry.state in (*ENDED, "failed") for entry in self.record.trials)
        return f"({done}/{self.total})"

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        value = self.record.entries[trial.config["number"]].value
        reached = "" if value is None else f" at {self.metric} {value:.3f}"
        self._say(trial, f"ended{reached} {self._ended()}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = trial.get_pickled_error() or trial.get_error()
        lines = str(error or "").strip().splitlines()
        self.record.fail(trial.config["number"], lines[-1] if lines else "no reason recorded")
        self._say(trial, f"FAILED {self._ended()}")
