"""A worker that hangs is noticed, named and replaced: heartbeats, and a watchdog that hears them.

Ray sees a process that died within a second, and one that hangs (stopped, deadlocked, stuck in a
driver) after ten minutes; the other workers wait for it in a collective meanwhile. So a thread of
each worker says once a second where its training stands, to a small actor beside the driver.

An actor and not files in the run's folder: these may be on an object store, where a write per
second and worker costs money and a listing is late, and on a full disk every worker would fall
silent. Its clock is one clock: how long a worker has been silent is told by when it was heard, and
clocks of different machines are never compared.

Slow is not hung. The thread runs while the training computes, whatever a step takes. Where one is
silent all the same, its node is asked about the process: only one that is stopped, or has used no
processor time at all, is ended.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fundusray.terminal import tell

EVERY = 1.0
"""Seconds between two notes of a worker."""
PERIOD = 2.0
"""Seconds between two looks of the driver."""
SILENCE = 45.0
"""Seconds without a note after which a worker is examined."""
EXAMINE_SECONDS = 3.0
"""Seconds over which a process must have used the processor to count as alive."""
AGAIN = 15.0
"""Seconds until a silent worker that computes is examined again."""
ASLEEP = 10.0
"""A gap between two looks that says the driver or the board slept itself, not the workers."""
ANSWER = 30.0
"""Seconds in which the board must answer."""
VERDICT = 120.0
"""Seconds in which a node must tell of a process; a loaded one starts the task for it late, and a
worker that was ended must not go unnamed."""
COLLECTIVE_TIMEOUT = 600
"""Seconds after which a collective that waits for another rank gives up (TorchConfig.timeout_s;
half an hour by default): longer than a rank may be busy alone (rank 0 writes checkpoints), and the
last resort where a worker lives but never comes."""


@dataclass(frozen=True)
class LastHeartbeat:
    """What a worker says of itself."""

    rank: int
    step: int
    pid: int
    born: str
    """When the process began, in its node's own ticks: a pid may be given again."""
    node: str
    """Ray's id of the node."""
    address: str
    """Its IP address."""

    def told(self) -> str:
        """The worker in words."""
        return f"rank {self.rank} (process {self.pid} on node {self.address})"


class HeartbeatBoard:
    """Who was heard when. Runs as an actor; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[int, LastHeartbeat] = {}
        self._heard: dict[int, float] = {}
        self._looked = clock()

    def note(self, beat: dict[str, Any]) -> None:
        """Takes down a worker's note; a replacement takes its predecessor's place."""
        found = LastHeartbeat(**beat)
        self._beats[found.rank], self._heard[found.rank] = found, self._clock()

    def working(self) -> bool:
        """Whether any worker has begun and not left."""
        return bool(self._beats)

    def leave(self, rank: int, pid: int) -> None:
        """Forgets a worker, unless another process has taken its place."""
        if rank in self._beats and self._beats[rank].pid == pid:
            del self._beats[rank], self._heard[rank]

    def silent(self, seconds: float) -> list[dict[str, Any]]:
        """The last notes of those not heard for so long, by rank.

        After a gap between two looks (the machine slept, the driver was stopped) everybody gets
        the whole time again: their notes may still be on their way.
        """
        now = self._clock()
        if now - self._looked > ASLEEP:
            self._heard = dict.fromkeys(self._heard, now)
        self._looked = now
        late = sorted(rank for rank, heard in self._heard.items() if now - heard > seconds)
        return [asdict(self._beats[rank]) for rank in late]


def name_of(attempt: str) -> str:
    """The board's name, by which the workers of an attempt find it."""
    return f"pulse-{attempt}"


class Heartbeat:
    """A worker's side: while it is open, a thread notes `step` once a second."""

    def __init__(self, attempt: str, rank: int) -> None:
        self.step = 0
        """Where the training stands; set it at every step."""
        self._rank, self._board = rank, ray.get_actor(name_of(attempt))
        context = ray.get_runtime_context()
        self._node, self._address = context.get_node_id(), ray.util.get_node_ip_address()
        self._born = silent_worker_report(os.getpid())[0]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._ended.set()
        self._thread.join()
        self._board.leave.remote(self._rank, os.getpid())

    def _beat(self) -> None:
        while True:
            said = LastHeartbeat(
                self._rank, self.step, os.getpid(), self._born, self._node, self._address
            )
            self._board.note.remote(asdict(said))
            if self._ended.wait(EVERY):
                return


class Watchdog:
    """The driver's side: while it is open, workers that hang are named and ended.

    Ray replaces what died, and the run goes on from its last checkpoint.
    """

    def __init__(self, attempt: str, silence: float = SILENCE) -> None:
        self.attempt, self.silence = attempt, silence
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)
        self._busy: dict[tuple[int, int], float] = {}

    def __enter__(self) -> "Watchdog":
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        board = ray.remote(HeartbeatBoard).options(
            name=name_of(self.attempt), num_cpus=0, max_restarts=-1, scheduling_strategy=here
        )
        self._board = board.remote()
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._ended.set()
        self._thread.join(ANSWER)
        ray.kill(self._board)

    def working(self) -> bool:
        """Whether any worker has begun; True, too, where the board does not answer in time: a
        worker that could have saved must not be ended unasked."""
        try:
            return ray.get(self._board.working.remote(), timeout=PERIOD)
        except (RayError, GetTimeoutError):
            return True

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD):
            try:
                late = ray.get(self._board.silent.remote(self.silence), timeout=ANSWER)
                for beat in late:
                    self._judge(LastHeartbeat(**beat))
            except (RayError, GetTimeoutError) as error:
                if self._ended.is_set():
                    return
                tell(f"cannot watch the workers for the moment: {type(error).__name__}: {error}")

    def _judge(self, beat: LastHeartbeat) -> None:
        now, known = time.monotonic(), (beat.rank, beat.pid)
        if now < self._busy.get(known, 0.0):
            return
        verdict = examine_worker(beat)
        if verdict == "busy":
            if known not in self._busy:
                tell(f"{beat.told()} is silent at step {beat.step}, but computes; waiting for it")
            self._busy[known] = now + AGAIN
            return
        if verdict != "gone":
            tell(
                f"rank {beat.rank} stopped answering at step {beat.step} (process {beat.pid} on "
                f"node {beat.address}, {verdict}); ended, the run goes on from its last checkpoint"
            )
        ray.get(self._board.leave.remote(beat.rank, beat.pid), timeout=ANSWER)


def examine_worker(beat: LastHeartbeat) -> str:
    """What became of a silent worker, as its node sees it; one that hangs is ended.

    "busy": it computes; "gone": Ray has noticed, or is about to; otherwise how it hung.
    """
    there = NodeAffinitySchedulingStrategy(beat.node, soft=False)
    task = ray.remote(end_if_hung).options(
        num_cpus=0, max_retries=0, scheduling_strategy=there, name=f"examine rank {beat.rank}"
    )
    try:
        return ray.get(task.remote(beat.pid, beat.born), timeout=VERDICT)
    except ray.exceptions.TaskUnschedulableError:
        return "gone"  # with its node


def end_if_hung(pid: int, born: str, seconds: float = EXAMINE_SECONDS) -> str:
    """Looks at a process of this machine for so long; SIGKILLs it if it hangs: see
    `examine_worker`."""
    before = silent_worker_report(pid)
    time.sleep(seconds)
    after = silent_worker_report(pid)
    if not after[0] or before[0] != born or after[0] != born:
        return "gone"
    stopped = before[1] == after[1] == "T"
    if not stopped and after[2] > before[2]:
        return "busy"
    os.kill(pid, signal.SIGKILL)
    return "stopped by a signal" if stopped else f"no work done in {seconds:g} s"


def silent_worker_report(pid: int) -> tuple[str, str, int]:
    """(when it began, state, ticks of processor time) of a process of this machine.

    ("", "", 0) where there is none, or where the system has no /proc to tell.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", "", 0
    # The name before the last ")" may hold anything; see proc(5) for the fields after it.
    fields = text.rsplit(")", 1)[1].split()
    if fields[0] in "ZX":
        return "", "", 0
    return fields[19], fields[0], int(fields[11]) + int(fields[12])
