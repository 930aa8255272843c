"""One signal saves and stops, a second one stops at once; the same command goes on, bit for bit."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.harness import Command, assert_kept, ends, step_of

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
SAVED = 5.0
"""Seconds from the signal to the checkpoint."""


def saved_and_stopped(command: Command, number: int, group: bool) -> int:
    """Sends a signal once; the exit code, after the promise has been looked at."""
    before = step_of(command.folder)
    sent, send = time.time(), os.killpg if group else os.kill
    send(command.pid, number)
    code = command.end(60)
    assert "saving and stopping; once more to stop at once" in command.text
    last = sorted((command.folder / "checkpoints").iterdir())[-1]
    assert step_of(command.folder) >= before
    assert (last / "MANIFEST.json").stat().st_mtime - sent < SAVED
    assert not (command.folder / "lock").exists() and not (command.folder / "stop.json").exists()
    assert "RESULT {" in command.text.splitlines()[-1]
    return code


def finish(command: Command, ready: Path) -> None:
    """The same command goes on where it stood and ends as if nothing had been."""
    assert command.end() == 0, command.text
    assert "resuming from step" in command.text
    assert ends(command.folder) == ends(next(ready.glob("demo-*")))
    assert_kept(command.folder)


@pytest.mark.parametrize(
    ("number", "group", "code"),
    [
        pytest.param(signal.SIGTERM, False, 143, id="terminated"),
        # A terminal sends Ctrl-C to every process that it has started, Ray's among them.
        pytest.param(signal.SIGINT, True, 130, id="ctrl-c"),
    ],
)
def test_one_signal_saves_and_the_same_command_goes_on(
    start: Callable[..., Command], ready: Path, number: int, group: bool, code: int
) -> None:
    # Between its own checkpoints: what is on disk afterwards is there because of the signal.
    seldom = {"train__checkpoint_seconds": "1000"}
    command = start(**seldom)
    command.reach(3)
    assert saved_and_stopped(command, number, group) == code
    assert command.left_over() == []
    finish(start(**seldom), ready)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_stops_at_once(
    start: Callable[..., Command], ready: Path, number: int, code: int
) -> None:
    command = start()
    command.reach(3)
    os.killpg(command.pid, number) if number == signal.SIGINT else os.kill(command.pid, number)
    time.sleep(0.6)
    began = time.monotonic()
    if command.process.poll() is None:
        os.kill(command.pid, number)
    assert command.end(30) == code, command.text
    assert time.monotonic() - began < 20
    assert command.left_over() == []
    finish(start(), ready)
