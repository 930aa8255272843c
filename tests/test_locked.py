"""A run's folder has one process at a time, whoever died in it and wherever."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fundusray import files, lock
from fundusray.errors import LockedError
from fundusray.lock import locked

HOLDER = """
import sys, time
from fundusray.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a minute takes a second."""
    for name, value in (("BEAT", 0.1), ("SILENCE", 1.0), ("LOOK", 0.05)):
        monkeypatch.setattr(lock, name, value)


def left(folder: Path, **changes: object) -> None:
    """A lock that is there, like ours but for these."""
    folder.mkdir(exist_ok=True)
    files.write_json(str(folder / "lock"), lock._ourselves() | changes)


def holds(folder: Path) -> bool:
    """Whether we get the folder, and leave nothing there."""
    try:
        with locked(str(folder)):
            assert json.loads((folder / "lock").read_text())["pid"] == os.getpid()
    except LockedError:
        return False
    assert os.listdir(folder) == []
    return True


def test_held_by_a_live_process_it_says_by_whom_and_what_to_delete(tmp_path: Path) -> None:
    told = rf"in use by process {os.getpid()} on .*delete {tmp_path}/lock$"
    with locked(str(tmp_path)), pytest.raises(LockedError, match=told), locked(str(tmp_path)):
        raise AssertionError("two at once")
    assert holds(tmp_path)


def test_a_killed_process_leaves_no_lock_for_ever(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    assert not holds(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert holds(tmp_path)


@pytest.mark.parametrize("pid", [os.getpid(), os.getppid()], ids=["our own", "another"])
def test_a_pid_that_was_given_again_is_another_process(tmp_path: Path, pid: int) -> None:
    """Our own, as in a container, or anybody's."""
    left(tmp_path, pid=pid, born="17")
    assert holds(tmp_path)


def test_a_process_elsewhere_is_told_by_its_silence(tmp_path: Path) -> None:
    left(tmp_path, host="elsewhere", machine="of another start", pid=1)
    assert holds(tmp_path)


def test_a_process_elsewhere_that_shows_itself_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SILENCE", 60.0)
    with locked(str(tmp_path)):
        # Seen from another host; the thread of this one goes on touching it.
        monkeypatch.setattr(lock, "_machine", lambda: "of another start")
        assert not holds(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": 1, "host": "x"}'])
def test_what_is_no_lock_holds_nobody_up(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    assert holds(tmp_path)


def test_the_lock_is_there_with_its_content_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    link = os.link

    def linked(source: str, target: str) -> None:
        assert not os.path.exists(target)
        link(source, target)
        seen.append(json.loads(Path(target).read_text()))

    monkeypatch.setattr(os, "link", linked)
    assert holds(tmp_path)
    assert seen[0]["pid"] == os.getpid() and seen[0]["born"]


def test_a_file_system_without_links_has_locks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with locked(str(tmp_path)):
        assert not holds(tmp_path)
    assert holds(tmp_path)


def test_who_comes_late_to_a_dead_lock_leaves_the_fresh_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two see the same dead holder; one has taken over by the time the other acts on it."""
    left(tmp_path, born="17")
    clear, quicker = lock._clear, threading.Event()
    monkeypatch.setattr(lock, "_machine", lambda: "here")
    left(tmp_path, born="17")

    def late(path: str, holder: dict) -> None:
        if not quicker.is_set():
            quicker.set()
            clear(path, holder)
            left(tmp_path, born=lock._born(os.getppid()), pid=os.getppid())
        clear(path, holder)

    monkeypatch.setattr(lock, "_clear", late)
    assert not holds(tmp_path)
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getppid()


def compete(folder: str, log: str, rounds: int) -> None:
    for _ in range(rounds):
        try:
            with locked(folder):
                handle = os.open(log, os.O_CREAT | os.O_EXCL)  # fails where another is inside
                os.close(handle)
                os.unlink(log)
                if os.getpid() % 2:
                    # As a kill would leave it: of a process that is no more.
                    dead = Path(folder) / f"dead-{os.getpid()}"
                    dead.write_text(json.dumps(lock._ourselves() | {"born": "17"}))
                    dead.rename(Path(folder) / "lock")
        except LockedError:
            continue


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder whose files need no disk, where there is one: more meet there in less time."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def test_many_at_once_are_never_two_inside(in_memory: Path) -> None:
    folder, log = str(in_memory / "run"), str(in_memory / "inside")
    context = multiprocessing.get_context("fork")
    crowd = [context.Process(target=compete, args=(folder, log, 40)) for _ in range(4)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert [one.exitcode for one in crowd] == [0] * 4


def test_a_lock_that_was_taken_away_and_given_to_another_stays(tmp_path: Path) -> None:
    with locked(str(tmp_path)):
        left(tmp_path, pid=os.getppid())
    assert (tmp_path / "lock").exists()


def test_a_remote_folder_is_not_locked(tmp_path: Path) -> None:
    with locked(f"file://{tmp_path}"), locked(f"file://{tmp_path}"):
        assert os.listdir(tmp_path) == []
