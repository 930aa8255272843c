"""Who does a pool's units: Ray's own workers, or actors that hold what is costly to open."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import ray
import torch

from fundusray import files
from fundusray.cluster.runtime.start import cluster_resources, joins_cluster, workers_that_fit
from fundusray.cluster.runtime.tasks import WorkerLostError, result_of
from fundusray.cluster.runtime.units import TRIES, Unit
from fundusray.errors import InputError
from fundusray.terminal import tell

LOOK = 2.0
"""Seconds between looks at how many nodes there are."""
LATE = 60.0
"""Seconds without any worker after which it is said what is waited for."""
AHEAD = 2
"""Times the room of the cluster for which units, or actors where it can grow, are asked for: what
waits makes an autoscaler add nodes, and nobody idles until the next unit comes."""


@dataclass(frozen=True)
class Workers:
    """What a pool's workers have."""

    opened: Callable[[], Any] | None = None
    """Opens what a worker holds, once in each; None: nothing is held."""
    cpus: float = 1.0
    gpus: float = 0.0


class Ended(NamedTuple):
    """A unit whose result is there, or whose worker died."""

    unit: Unit
    value: Any
    died: WorkerLostError | None


class Call(NamedTuple):
    """What a worker is told of a unit."""

    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    location: str
    """Where its table belongs; "" where its value comes back."""
    threads: int

    def __call__(self, *held: Any) -> Any:
        """The unit's value, or where its table is."""
        torch.set_num_threads(self.threads)
        value = self.work(*held, *self.arguments)
        if not self.location:
            return value
        files.write_table(self.location, value)
        return self.location


def _alone(opened: Callable[[], Any] | None, call: Call) -> Any:
    """A unit done by whom it is the only one."""
    return call(opened()) if opened else call()


# Ray's own retries would try a unit that kills its workers without our hearing of it, and are used
# up before Ray knows that a node is gone.
_task = ray.remote(max_retries=0)(_alone)


@ray.remote(max_restarts=0, max_task_retries=0)
class PoolWorker:
    """A process that opens what is costly once, and then does one unit after the other."""

    def open(self, opened: Callable[[], Any], threads: int) -> None:
        torch.set_num_threads(threads)
        self.held = opened()

    def work(self, call: Call) -> Any:
        return call(self.held)


class _Hands:
    """What tasks and actors have in common: how many there may be, and who is to blame."""

    def __init__(self, what: str, work: Callable[..., Any], workers: Workers, results: str) -> None:
        self.what, self.work, self.workers, self.folder = what, work, workers, results
        self.running: dict[ray.ObjectRef, Unit] = {}
        self.most = float("inf")
        """Units at a time that memory was found to hold."""
        self.threads = max(1, int(workers.cpus))
        self._room, self._looked = 0, -LOOK
        self._asked, self._told = time.monotonic(), False
        if not joins_cluster() and not workers_that_fit(workers.cpus, workers.gpus):
            raise InputError(
                f"{what} needs workers of {workers.cpus:g} CPUs and {workers.gpus:g} GPUs, and "
                f"this machine has {cluster_resources()}"
            )

    @property
    def options(self) -> dict[str, Any]:
        """Of a task or actor, for Ray."""
        return {"num_cpus": self.workers.cpus, "num_gpus": self.workers.gpus}

    def room(self) -> int:
        """Workers that fit on the nodes there are, at least one."""
        if time.monotonic() - self._looked >= LOOK:
            self._room = max(1, workers_that_fit(self.workers.cpus, self.workers.gpus))
            self._looked = time.monotonic()
        return self._room

    def blames(self, died: WorkerLostError) -> bool:
        """Whether a worker's death counts against its unit.

        Memory is shared: where it was full, the next ones are fewer at a time, and only a unit that
        was alone has itself to blame.
        """
        if not died.memory or not self.running:
            return True
        together = 1 + min(len(self.running), self.room())
        self.most = max(1, min(self.most, together) - 1)
        return False

    def tell_if_late(self) -> None:
        """Says once that no worker has come yet."""
        if self._told or time.monotonic() - self._asked < LATE:
            return
        self._told = True
        tell(
            f"{self.what} waits for workers of {self.workers.cpus:g} CPUs and "
            f"{self.workers.gpus:g} GPUs: others are at work, or nodes are still to come",
        )

    def call(self, unit: Unit) -> Call:
        """What a worker is told of the unit."""
        location = file_of(self.folder, unit) if self.folder else ""
        return Call(self.work, unit.arguments, location, self.threads)


class Tasks(_Hands):
    """Units as Ray tasks: Ray starts workers where there is room and keeps them warm."""

    def __init__(self, what: str, work: Callable[..., Any], workers: Workers, results: str) -> None:
        super().__init__(what, work, workers, results)
        # A task does not say whether it waits; where there is room at first, it does not.
        rest = ray.available_resources()
        self._waits = rest.get("CPU", 0) < workers.cpus or rest.get("GPU", 0) < workers.gpus

    def grow(self, left: int) -> None:
        """Ray does it: what waits is what it starts workers for."""
        if self._waits:
            self.tell_if_late()

    @property
    def free(self) -> bool:
        """Whether another unit may begin."""
        return len(self.running) < min(AHEAD * self.room(), self.most)

    def begin(self, unit: Unit) -> None:
        task = _task.options(name=self.what, **self.options)
        self.running[task.remote(self.workers.opened, self.call(unit))] = unit

    def ended(self) -> Iterator[Ended]:
        """What has come to its end; waits for a while if nothing has."""
        for ref in _ready(list(self.running)):
            unit, self._waits = self.running.pop(ref), False
            yield Ended(unit, *_outcome(ref))

    def close(self) -> None:
        for ref in self.running:
            ray.cancel(ref)
        self.running.clear()


class Actors(_Hands):
    """Units done by actors of our own, one at a time each."""

    def __init__(self, what: str, work: Callable[..., Any], workers: Workers, results: str) -> None:
        super().__init__(what, work, workers, results)
        self._opening: dict[ray.ObjectRef, Any] = {}
        self._busy: dict[ray.ObjectRef, Any] = {}
        self._idle: list[Any] = []
        self._unopened = 0
        """Workers in a row that died while they opened."""

    @property
    def alive(self) -> int:
        return len(self._opening) + len(self._busy) + len(self._idle)

    def grow(self, left: int) -> None:
        """Starts as many actors as the units that are left and the cluster can use."""
        fitting = self.room() * (AHEAD if joins_cluster() else 1)
        wanted = min(left + len(self.running), fitting, self.most)
        if not self._idle and not self._busy:
            self.tell_if_late()
        while self.alive < wanted:
            actor = PoolWorker.options(**self.options).remote()
            self._opening[actor.open.remote(self.workers.opened, self.threads)] = actor

    @property
    def free(self) -> bool:
        """Whether another unit may begin."""
        return bool(self._idle)

    def begin(self, unit: Unit) -> None:
        actor = self._idle.pop()
        ref = actor.work.remote(self.call(unit))
        self.running[ref], self._busy[ref] = unit, actor

    def ended(self) -> Iterator[Ended]:
        """What has come to its end; waits for a while if nothing has."""
        for ref in _ready([*self._opening, *self.running]):
            if ref in self._opening:
                self._opened(self._opening.pop(ref), ref)
                continue
            unit, actor = self.running.pop(ref), self._busy.pop(ref)
            value, died = _outcome(ref)
            if died is None:
                self._idle.append(actor)
            else:
                ray.kill(actor)  # one that was only out of reach must not go on
            yield Ended(unit, value, died)

    def _opened(self, actor: Any, ref: ray.ObjectRef) -> None:
        """Takes an actor that is ready among the idle.

        Raises:
            WorkerLostError: workers die while they open, and there is no other one.
        """
        _, died = _outcome(ref)
        if died is None:
            self._unopened = 0
            self._idle.append(actor)
            return
        ray.kill(actor)
        self._unopened += 1
        if self._unopened < TRIES:
            return
        if not self._idle and not self._busy:
            raise WorkerLostError(
                f"{self.what}: {self._unopened} workers one after the other died while they opened "
                f"what they need ({died.why}); too little memory for it?"
            )
        self.most = max(1, len(self._idle) + len(self._busy))

    def close(self) -> None:
        for actor in [*self._opening.values(), *self._busy.values(), *self._idle]:
            ray.kill(actor)
        self._opening.clear(), self._busy.clear(), self._idle.clear(), self.running.clear()


def file_of(folder: str, unit: Unit) -> str:
    """Where a unit's result is a file."""
    return files.join(folder, f"{unit.key}.parquet")


def _ready(refs: list[ray.ObjectRef]) -> list[ray.ObjectRef]:
    """Those that have come to their end, after LOOK seconds at most."""
    first, _ = ray.wait(refs, num_returns=1, timeout=LOOK)
    if not first:
        return []
    return ray.wait(refs, num_returns=len(refs), timeout=0)[0]


def _outcome(ref: ray.ObjectRef) -> tuple[Any, WorkerLostError | None]:
    """(the value, None), or (None, that its worker died); other errors are raised."""
    try:
        return result_of(ref), None
    except WorkerLostError as died:
        return None, died
