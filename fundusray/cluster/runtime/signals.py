"""One signal saves and stops a run, a second one stops it at once.

Ray has handlers of its own: `ray.init` takes SIGTERM and ends everything under the workers' feet,
`TorchTrainer.fit` takes SIGINT where it runs in the main thread. So the driver takes both signals
after Ray has started, and gives `fit` to another thread, where Ray leaves signals alone. The
workers learn of it from a file in the run's folder, which is where they can all look.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from fundusray import files
from fundusray.errors import DamagedError
from fundusray.terminal import tell

T = TypeVar("T")

SAME = 0.5
"""Seconds within which signals are one: `timeout` sends its signal to a program twice."""
WAIT = 0.2
"""Seconds between looks of the driver's main thread."""
LOOK = 0.5
"""Seconds between looks of a worker."""
SHARE = 0.02
"""Of a worker's time at most this much goes into looking, however slow the storage."""


class StopSignals:
    """Takes SIGINT and SIGTERM while a run is under way, in the main thread.

        with Stop(folder, attempt) as stop:
            stop.run(trainer.fit, working)
        stop.raise_if_stopped()

    While no worker has begun, there is nothing to save, and the first signal ends it. In another
    thread (the trials of a search) it does nothing: who started the search stops it.
    """

    def __init__(self, folder: str, attempt: str) -> None:
        self.place, self.attempt = stop_file(folder), attempt
        self._taken: dict[int, Any] = {}
        self._first: tuple[int, float] | None = None
        self._told = False

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._taken[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._taken.items():
            signal.signal(number, handler)
        if self._told:
            files.remove(self.place)

    def run(self, work: Callable[[], T], working: Callable[[], bool] = lambda: True) -> T:
        """What `work` returns or raises; it runs in a thread while this one takes the signals.

        Args:
            working: whether there is a worker that could save.

        Raises:
            KeyboardInterrupt: a second Ctrl-C, or the first where nothing works yet.
            SystemExit: with 143, SIGTERM likewise.
        """
        if not self._taken:
            return work()
        ended: list[Callable[[], T]] = []

        def go() -> None:
            try:
                result = work()
            except BaseException as error:
                ended.append(_raiser(error))
            else:
                ended.append(lambda: result)

        thread = threading.Thread(target=go, name="fit", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(WAIT)
            if self._first and not self._told:
                if not working():
                    print("no worker has begun, so there is nothing to save", file=sys.stderr)
                    _end(self._first[0])
                self._tell(*self._first)
        return ended[0]()

    def raise_if_stopped(self) -> None:
        """Ends the command as its signal asks: 130 for Ctrl-C, 143 for SIGTERM."""
        if self._first:
            _end(self._first[0])

    def _note(self, number: int, frame: FrameType | None) -> None:
        # No file and no print in here: the thread may be in the middle of either.
        now = time.monotonic()
        if self._first is None:
            self._first = number, now
        elif now - self._first[1] > SAME:
            _end(number)

    def _tell(self, number: int, since: float) -> None:
        self._told = True
        tell("saving and stopping; once more to stop at once")
        told = {"attempt": self.attempt, "signal": signal.Signals(number).name}
        # Another host's monotonic clock says nothing, so the time of day is what is written.
        when = time.time() - (time.monotonic() - since)
        files.write_json(self.place, told | {"time": when, "pid": os.getpid()})


def stop_file(folder: str) -> str:
    """Where a run's folder holds the wish to stop."""
    return files.join(folder, "stop.json")


def _raiser(error: BaseException) -> Callable[[], Any]:
    def throw() -> Any:
        raise error

    return throw


def _end(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


class StopWatcher:
    """A worker's eye on whether it should save, and whether it should stop; for rank 0 alone.

    Ranks must agree, so what rank 0 sees goes to the others with the sum of the losses.
    """

    def __init__(self, folder: str, attempt: str) -> None:
        self.place, self.attempt = stop_file(folder), attempt
        self._asked = False
        self._next = 0.0
        self._leaving: list[str] = []

    def asked(self) -> bool:
        """Whether the run is to save and stop; cheap enough for every step.

        A wish of an earlier attempt, left behind by a killed driver, does not count.
        """
        now = time.monotonic()
        if self._asked or now < self._next:
            return self._asked
        self._asked = self._look()
        taken = time.monotonic() - now
        self._next = now + taken + max(LOOK, taken / SHARE)
        return self._asked

    def _look(self) -> bool:
        try:
            return files.read_json(self.place)["attempt"] == self.attempt
        except (OSError, DamagedError):
            # Not there, or not to be had this time (an object store throttles, a share is away for
            # a moment, half of it is here): a look that fails is none, and the next one is due.
            return False

    def leaving(self) -> bool:
        """Whether a node of this run is about to be taken away; true once for each such notice.

        The right answer is to save and go on: Ray starts the workers elsewhere once it is gone.
        """
        nodes = draining_nodes()
        new = set(nodes) - set(self._leaving)
        self._leaving = nodes
        if new:
            named = ", ".join(sorted(new))
            tell(f"node {named} is about to be taken away: saving")
        return bool(new)


def draining_nodes() -> list[str]:
    """Ids of this run's nodes that the cluster takes away, as Ray has told this worker."""
    # `ray.train.get_preemption_info` is a barrier over all workers, too dear for every step; what
    # it broadcasts is what rank 0 holds. Ray before 2.60 has neither.
    from ray.train.v2._internal.execution.context import get_train_context

    held = getattr(get_train_context(), "preemption_context", None)
    info = held.preemption_info if held else None
    return info.preempted_node_ids if info else []
