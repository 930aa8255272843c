"""The one pool of work over the cluster: keyed units, workers that hold what is costly.

    def opened() -> Evaluator: ...                      # once in each worker
    def judged(evaluator: Evaluator, rows) -> pa.Table: ...

    with Pool("predicting", judged, Workers(opened, cpus=2), results=folder) as pool:
        for unit, location in pool.results(units):      # as they are done
            ...

Where results are files, a unit whose file is there and whole is not computed again. Where nothing
is to be held, or there are no more units than workers, Ray's own workers do the units: they stay
warm from one pool to the next. Whoever needs the results of some units to choose the next ones asks
again: what the workers hold stays open until the pool is closed.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fundusray import files
from fundusray.cluster.results import print_damage
from fundusray.cluster.runtime.gauges import Gauges
from fundusray.cluster.runtime.hands import Actors, Tasks, Workers, file_of
from fundusray.cluster.runtime.units import Lost, Queue, Unit
from fundusray.errors import DamagedError
from fundusray.progress import Progress

READERS = 8
"""Results read at a time to see whether they are whole."""


class Pool:
    """Does units of work on the cluster; a context that ends its workers.

    Args:
        what: says in progress, on the dashboard and in errors what is done: "predicting".
        work: what is computed of a unit: work(held, *arguments), or work(*arguments) where nothing
            is held. A function of a module, or a partial of one, that gives a small value; a table
            where results are files.
        results: the folder for results as files, `<key>.parquet`; empty: they come back by value,
            or the units write their own files.
    """

    def __init__(
        self, what: str, work: Callable[..., Any], workers: Workers | None = None, results: str = ""
    ) -> None:
        self.what, self.folder, self.note = what, results, ""
        workers = workers or Workers()
        self._hands: Tasks | Actors = Tasks(what, work, workers, results)
        # Whoever does one unit alone has nothing to hold for the next.
        self._actors = Actors(what, work, workers, results) if workers.opened else None
        self._gauges = Gauges(what)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: Any) -> None:
        self._hands.close()
        self._gauges.rest()

    def results(
        self, units: Iterable[Unit], lost: Lost | None = None
    ) -> Iterator[tuple[Unit, Any]]:
        """Each unit with its result (where results are files, their place), as they are done.

        What is done and whole comes first. The caller may set `note`, which stands behind the
        progress. Of a unit that kills its workers `lost` says what to do in its place; without it
        all others are done, and then it is an error.

        Raises:
            FundusError: our own, as a unit or `opened` raised it.
            UnitsLostError: workers died of some units, as often as they may; names them.
            WorkerLostError: workers die while they open what they are to hold.
            RayTaskError: any other error of a unit, with its own trace.
        """
        assert not self._hands.running, f"{self.what}: an earlier call was left under way"
        there, left = self._sorted_out(list(units))
        yield from there
        if not left:
            return
        if self._actors and len(left) > self._hands.room():
            self._hands = self._actors
        queue = Queue(left, lost)
        progress, done = Progress(self.what, sum(unit.rows for unit in left)), 0
        progress.update(done, self.note)
        self._hand_out(queue)
        while queue.waiting or self._hands.running:
            finished, before = [], done
            for unit, value, died in self._hands.ended():
                if died is None:
                    finished.append((unit, value))
                else:
                    done += queue.died(unit, died.why, self._hands.blames(died))
            # Before the caller takes its time.
            self._hand_out(queue)
            for unit, value in finished:
                yield unit, value
                done += unit.rows
                self._gauges.note(1, progress.rate)
            if done != before:
                progress.update(done, self.note)
        progress.close()
        queue.require_all(self.what)

    def values(self, units: Iterable[Unit]) -> dict[str, Any]:
        """The result of every unit by its key; errors as `results`."""
        return {unit.key: value for unit, value in self.results(units)}

    def _hand_out(self, queue: Queue) -> None:
        self._hands.grow(len(queue.waiting))
        while queue.waiting and self._hands.free:
            self._hands.begin(queue.take())

    def _sorted_out(self, units: list[Unit]) -> tuple[list[tuple[Unit, str]], list[Unit]]:
        """(the units that are done, with their places; those that are left)."""
        assert len({unit.key for unit in units}) == len(units), f"{self.what}: a key occurs twice"
        if not self.folder:
            return [], units
        names = {name for name, _, _ in files.list_dir(self.folder)}
        places = [file_of(self.folder, unit) for unit in units]
        with ThreadPoolExecutor(READERS) as readers:
            whole = list(readers.map(lambda p: files.base_name(p) in names and is_whole(p), places))
        there = [(u, p) for u, p, known in zip(units, places, whole, strict=True) if known]
        return there, [unit for unit, known in zip(units, whole, strict=True) if not known]


def is_whole(place: str) -> bool:
    """Whether a table is there; a damaged one is named."""
    try:
        files.read_table(place)
    except FileNotFoundError:
        return False
    except DamagedError as error:
        print_damage([str(error)])
        return False
    return True
