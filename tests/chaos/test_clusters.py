"""On a cluster begun by hand: its head dies, a job is stopped, a node is taken away."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from fundusray.cluster.train import train_recipe
from tests.chaos.harness import (
    ENVIRONMENT,
    Command,
    assert_kept,
    ends,
    recipe,
    step_of,
    until,
    words,
)
from tests.chaos.heads import Head

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
SAVED = 5.0
"""Seconds from the signal to the checkpoint."""


def test_on_a_fresh_head_the_same_command_goes_on(
    start: Callable[..., Command], head: Callable[[int], Head], ready: Path
) -> None:
    lost = head(2)
    command = start(address=lost.address)
    command.reach(4)
    lost.kill_gcs()
    assert command.end(300) == 1, command.text
    assert "the same command goes on from the last checkpoint" in command.text
    lost.kill()
    again = start(address=head(2).address)
    assert again.end() == 0, again.text
    assert "resuming from step" in again.text
    assert ends(again.folder) == ends(next(ready.glob("demo-*")))
    assert_kept(again.folder)


def test_a_stopped_job_has_saved_and_the_same_job_goes_on(
    head: Callable[[int], Head], storage: Path, ready: Path
) -> None:
    cluster = head(2)
    jobs = cluster.jobs
    line = shlex.join(words(storage, train__checkpoint_seconds="1000"))

    def folder() -> Path:
        return next(storage.glob("demo-*"), storage / "none")

    first = cluster.submit(line, ENVIRONMENT)
    until(lambda: step_of(folder()) >= 3, "step 3")
    asked = time.time()
    jobs.stop_job(first)
    until(lambda: jobs.get_job_status(first).is_terminal(), "the job has stopped")
    assert jobs.get_job_status(first) == JobStatus.STOPPED
    last = sorted((folder() / "checkpoints").iterdir())[-1]
    assert asked < (last / "MANIFEST.json").stat().st_mtime < asked + SAVED
    second = cluster.submit(line, ENVIRONMENT)
    until(lambda: jobs.get_job_status(second).is_terminal(), "the job has ended", 600)
    told = jobs.get_job_logs(second)
    assert jobs.get_job_status(second) == JobStatus.SUCCEEDED, told
    assert "resuming from step" in told
    assert ends(folder()) == ends(next(ready.glob("demo-*")))
    assert_kept(folder())


def test_a_node_that_is_taken_away_is_left_with_a_checkpoint(
    start: Callable[..., Command], head: Callable[[int], Head], ready: Path, tmp_path: Path
) -> None:
    """As a spot instance goes: a notice, and soon after the node."""
    cluster = head(0)
    cluster.join(1)
    cluster.join(1)
    longer = {"train__epochs": "60", "train__checkpoint_seconds": "1000"}
    command = start(address=cluster.address, **longer)
    command.reach(6)
    spot = cluster.trains_on()
    cluster.drain(spot, seconds=30)
    until(lambda: "is about to be taken away: saving" in command.text, "the notice", 20)
    noted = time.time()
    until(lambda: saved_since(command.folder, noted - SAVED), "a checkpoint", SAVED)
    cluster.take_away(spot)
    assert command.end() == 0, command.text
    prepared = str(next(ready.rglob("set.json")).parent)
    whole = train_recipe(recipe(**longer), prepared, str(tmp_path / "whole"))
    assert ends(command.folder) == ends(Path(whole["folder"]))


def saved_since(folder: Path, when: float) -> bool:
    """Whether a checkpoint was finished since then."""
    return any(
        path.stat().st_mtime > when for path in (folder / "checkpoints").glob("*/MANIFEST.json")
    )
