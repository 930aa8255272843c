"""One signal is a wish that workers read, a second one ends; handlers come back as they were."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fundusray import files
from fundusray.cluster.runtime import signals
from fundusray.cluster.runtime.signals import StopSignals, StopWatcher


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Whatever a test does, the signals of this process are as before."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    after = {n: signal.getsignal(n) for n in before}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


def until_told(folder: Path) -> dict:
    """The wish, once it is written; its reader ends as a worker would."""
    limit = time.monotonic() + 5
    while not (folder / "stop.json").exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    return files.read_json(str(folder / "stop.json"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_the_work_end_by_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture, number: int, code: int
) -> None:
    def work() -> dict:
        os.kill(os.getpid(), number)
        return until_told(tmp_path)

    with StopSignals(str(tmp_path), "now") as stop:
        told = stop.run(work)
    assert told["attempt"] == "now" and told["signal"] == signal.Signals(number).name
    assert abs(told["time"] - time.time()) < 5
    assert capfd.readouterr().err == "saving and stopping; once more to stop at once\n"
    assert not (tmp_path / "stop.json").exists()
    with pytest.raises((KeyboardInterrupt, SystemExit)) as ended:
        stop.raise_if_stopped()
    assert (130 if ended.type is KeyboardInterrupt else ended.value.code) == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_does_not_wait(tmp_path: Path, number: int) -> None:
    go_on = threading.Event()
    waited_for: list[bool] = []

    def work() -> None:
        os.kill(os.getpid(), number)
        time.sleep(signals.SAME + 0.1)
        os.kill(os.getpid(), number)
        waited_for.append(go_on.wait(60))

    with (
        pytest.raises((KeyboardInterrupt, SystemExit)) as ended,
        StopSignals(str(tmp_path), "now") as stop,
    ):
        stop.run(work)
    assert not waited_for
    assert ended.type is KeyboardInterrupt or ended.value.code == 143
    go_on.set()


def test_the_first_signal_ends_what_has_no_worker_yet(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    go_on = threading.Event()

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        go_on.wait(60)

    with pytest.raises(KeyboardInterrupt), StopSignals(str(tmp_path), "now") as stop:
        stop.run(work, lambda: False)
    assert "nothing to save" in capfd.readouterr().err
    assert not (tmp_path / "stop.json").exists()
    go_on.set()


def test_a_signal_sent_twice_at_once_is_one(tmp_path: Path) -> None:
    def work() -> str:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        until_told(tmp_path)
        return "done"

    with StopSignals(str(tmp_path), "now") as stop:
        assert stop.run(work) == "done"


def test_results_and_errors_come_through(tmp_path: Path) -> None:
    def fail() -> None:
        raise LookupError("by itself")

    with StopSignals(str(tmp_path), "now") as stop:
        assert stop.run(lambda: 7) == 7
        with pytest.raises(LookupError, match="by itself"):
            stop.run(fail)
    stop.raise_if_stopped()
    assert list(tmp_path.iterdir()) == []


def test_in_a_thread_signals_are_left_alone(tmp_path: Path) -> None:
    found: list[object] = []

    def elsewhere() -> None:
        with StopSignals(str(tmp_path), "now") as stop:
            handler = signal.getsignal(signal.SIGTERM)
            found.extend([handler, stop.run(threading.get_ident), threading.get_ident()])

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found[0] == before and found[1] == found[2]


def test_a_watcher_sees_the_wish_of_its_own_attempt_alone(tmp_path: Path) -> None:
    watcher = StopWatcher(str(tmp_path), "now")
    assert not watcher.asked()
    files.write_json(str(tmp_path / "stop.json"), {"attempt": "before"})
    watcher._next = 0.0
    assert not watcher.asked()
    files.write_json(str(tmp_path / "stop.json"), {"attempt": "now"})
    assert not watcher.asked()  # it has just looked
    watcher._next = 0.0
    assert watcher.asked()
    (tmp_path / "stop.json").unlink()
    assert watcher.asked()


def test_a_look_that_fails_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def throttled(place: str) -> dict:
        raise OSError("AWS Error SLOW_DOWN during GetObject operation")

    watcher = StopWatcher(str(tmp_path), "now")
    (tmp_path / "stop.json").write_text('{"attempt": "no')
    assert not watcher.asked()
    watcher._next = 0.0
    with monkeypatch.context() as patched:
        patched.setattr(files, "read_json", throttled)
        assert not watcher.asked()
    files.write_json(str(tmp_path / "stop.json"), {"attempt": "now"})
    watcher._next = 0.0
    assert watcher.asked()


def test_looking_is_cheap_however_slow_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def slow(place: str) -> dict:
        looks.append(place)
        time.sleep(0.05)
        raise FileNotFoundError(place)

    monkeypatch.setattr(files, "read_json", slow)
    watcher = StopWatcher(str(tmp_path), "now")
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        assert not watcher.asked()
    # 50 ms a look: at 2 % of the time, the next one is due after 2.5 s.
    assert len(looks) == 1


def test_a_node_that_leaves_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.train.v2._internal.execution import context
    from ray.train.v2._internal.execution.preemption import PreemptionContext
    from ray.train.v2.api.preemption import PreemptionInfo

    held = PreemptionContext()
    train_context = SimpleNamespace(preemption_context=held)
    monkeypatch.setattr(context, "get_train_context", lambda: train_context)
    watcher = StopWatcher(str(tmp_path), "now")
    assert not watcher.leaving()
    held.preemption_info = PreemptionInfo(None, {"a": [0]})
    assert watcher.leaving() and not watcher.leaving()
    held.preemption_info = PreemptionInfo(None, {"a": [0], "b": [1]})
    assert watcher.leaving() and not watcher.leaving()
    # Ray before 2.60 holds no such thing.
    monkeypatch.setattr(context, "get_train_context", lambda: SimpleNamespace())
    assert not StopWatcher(str(tmp_path), "now").leaving()
