"""Silence is measured on one clock, and only a process that does nothing counts as hung."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

import pytest
import ray

from fundusray.cluster.runtime import watchdog
from fundusray.cluster.runtime.watchdog import Heartbeat, HeartbeatBoard, LastHeartbeat, Watchdog


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def beat(rank: int, step: int = 0, pid: int = 1) -> dict:
    return asdict(LastHeartbeat(rank, step, pid, "7", "node", "10.0.0.1"))


def wait(board: HeartbeatBoard, clock: Clock, seconds: float) -> list[int]:
    """Ranks that a driver looking every two seconds finds silent for 45 s at the end."""
    late: list[dict] = []
    for _ in range(round(seconds / 2)):
        clock.now += 2
        late = board.silent(45)
    return [found["rank"] for found in late]


def test_silence_is_counted_from_when_a_worker_was_heard() -> None:
    clock = Clock()
    board = HeartbeatBoard(clock)
    board.note(beat(0))
    board.note(beat(1, step=812))
    assert wait(board, clock, 30) == []
    board.note(beat(0, step=3))
    assert wait(board, clock, 14) == []
    assert wait(board, clock, 4) == [1]
    assert board.silent(45) == [beat(1, step=812)]
    board.note(beat(1, step=813))
    assert wait(board, clock, 2) == []


def test_who_leaves_is_forgotten_but_not_its_replacement() -> None:
    clock = Clock()
    board = HeartbeatBoard(clock)
    board.note(beat(0, pid=1))
    board.leave(0, 1)
    board.leave(0, 1)
    assert wait(board, clock, 60) == []
    board.note(beat(0, pid=2))
    board.leave(0, 1)
    assert wait(board, clock, 60) == [0]


def test_a_sleep_of_the_watcher_itself_is_nobody_else_s() -> None:
    clock = Clock()
    board = HeartbeatBoard(clock)
    board.note(beat(0))
    wait(board, clock, 40)
    clock.now += 3600
    assert board.silent(45) == []
    assert wait(board, clock, 44) == []
    assert wait(board, clock, 4) == [0]


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen]:
    started = subprocess.Popen([sys.executable, "-c", request.param])
    time.sleep(0.3)
    yield started
    started.kill()
    started.wait()


BUSY = "while True: pass"
ASLEEP = "import time; time.sleep(60)"


@pytest.mark.parametrize(
    ("process", "stopped", "verdict"),
    [
        (BUSY, False, "busy"),
        (BUSY, True, "stopped by a signal"),
        (ASLEEP, False, "no work done in 0.3 s"),
    ],
    indirect=["process"],
)
def test_only_a_process_that_does_nothing_is_ended(
    process: subprocess.Popen, stopped: bool, verdict: str
) -> None:
    born = watchdog.silent_worker_report(process.pid)[0]
    if stopped:
        os.kill(process.pid, signal.SIGSTOP)
        limit = time.monotonic() + 10
        while watchdog.silent_worker_report(process.pid)[1] != "T" and time.monotonic() < limit:
            time.sleep(0.05)
    assert watchdog.end_if_hung(process.pid, born, seconds=0.3) == verdict
    if verdict == "busy":
        assert process.poll() is None
    else:
        assert process.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("process", [ASLEEP], indirect=True)
def test_a_number_given_to_another_process_is_not_touched(process: subprocess.Popen) -> None:
    assert watchdog.end_if_hung(process.pid, "12345", seconds=0.05) == "gone"
    assert watchdog.end_if_hung(process.pid, "", seconds=0.05) == "gone"
    assert process.poll() is None
    born = watchdog.silent_worker_report(process.pid)[0]
    process.kill()
    time.sleep(0.1)  # dead, and not yet waited for: a zombie
    assert watchdog.end_if_hung(process.pid, born, seconds=0.05) == "gone"


class Worker:
    """A worker that trains a little and can be made to compute without letting threads run."""

    def begin(self, attempt: str, rank: int) -> int:
        self.pulse = Heartbeat(attempt, rank)
        self.pulse.__enter__()
        self.pulse.step = 812
        return os.getpid()

    def hold(self, seconds: float) -> None:
        """Computes in one C call that keeps the interpreter to itself."""
        threads = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sum(range(1_000_000))
        sys.setswitchinterval(threads)

    def end(self) -> None:
        self.pulse.__exit__()


@pytest.mark.ray
def test_a_stopped_worker_is_named_and_ended_and_no_other(
    cluster: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(watchdog, "PERIOD", 0.5)
    with Watchdog("attempt", silence=3.0):
        workers = [ray.remote(Worker).options(num_cpus=0).remote() for _ in range(3)]
        pids = ray.get([w.begin.remote("attempt", rank) for rank, w in enumerate(workers)])
        computing = workers[0].hold.remote(7.0)
        time.sleep(1.5)
        os.kill(pids[1], signal.SIGSTOP)
        ray.get(workers[2].end.remote())
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(workers[1].end.remote(), timeout=12)
        ray.get(computing)
        ray.get(workers[0].end.remote())
    said = capfd.readouterr().err
    named = f"rank 1 stopped answering at step 812 (process {pids[1]} on node "
    assert said.count("stopped answering") == 1 and named in said
    assert "stopped by a signal" in said
    assert f"rank 0 (process {pids[0]} on node " in said and "but computes" in said
    assert "rank 2" not in said
    for worker in workers:
        ray.kill(worker)
    assert not [t for t in threading.enumerate() if t.name == "monitor"]
    with pytest.raises(ValueError, match="pulse-attempt"):
        ray.get_actor("pulse-attempt")
