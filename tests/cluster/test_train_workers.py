"""A run on Ray's workers: how long it waits for room, what is noted, what is told at its end."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray.train
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.exceptions import (
    InsufficientClusterResourcesError,
    WorkerGroupStartupTimeoutError,
)

from fundusray import files
from fundusray.cluster import worker
from fundusray.cluster.runtime import entry, start, train_workers
from fundusray.cluster.runtime.train_workers import RunFailedError
from fundusray.config import Recipe, override
from fundusray.errors import BadInputsError, FundusError, InputError
from fundusray.training.job import Job
from fundusray.training.supervision import StoppedError


def job_in(folder: Path, attempt: str = "now") -> SimpleNamespace:
    return SimpleNamespace(folder=str(folder), threads=2, attempt=attempt)


def test_a_run_waits_for_a_node_to_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own minute, a few times in a run's life, is less than a node takes."""
    assert float(start.DEFAULTS[start.START_TIMEOUT]) >= 1800
    monkeypatch.setenv(start.START_TIMEOUT, start.DEFAULTS[start.START_TIMEOUT])
    assert get_env_vars_to_propagate()[start.START_TIMEOUT] == "1800"
    seen = []
    trainer = SimpleNamespace(fit=lambda: seen.append(os.environ[start.START_TIMEOUT]))
    train_workers._fit(trainer, elastic=False)
    train_workers._fit(trainer, elastic=True)
    train_workers._fit(trainer, elastic=False)
    assert seen == ["1800", train_workers.ELASTIC_TIMEOUT, "1800"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ray.train.ControllerError(WorkerGroupStartupTimeoutError(3)),
            r"no room in the cluster, waiting in vain for 3 workers of 2 CPUs and 1 GPUs each; its "
            r"nodes have 8 CPUs and 0 GPUs.*cluster\.workers.*same command",
        ),
        (
            ray.train.ControllerError(InsufficientClusterResourcesError("no")),
            r"no room in the cluster, it can never hold 3 workers",
        ),
        (ray.train.ControllerError(OSError("gone")), r"Ray could not run .*OSError: gone"),
        (
            ray.train.WorkerGroupError("rank 1", {1: RuntimeError("x")}),
            r"failed 4 times: .*rank 1.*The same command begins anew, as nothing was saved yet",
        ),
    ],
)
def test_no_room_and_dead_workers_are_told_apart(
    error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_workers, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 0.0})
    recipe = override(Recipe(), {"cluster.max_failures": 3})
    text = train_workers.failure_reason(error, recipe, job_in(tmp_path), (3,), 1.0)
    with pytest.raises(RunFailedError, match=f"(?s){told}"):
        raise RunFailedError(text)
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    text = train_workers.failure_reason(error, recipe, job_in(tmp_path), (3,), 1.0)
    assert text.endswith("goes on from the last checkpoint.")


def test_what_a_killed_driver_left_and_nobody_goes_on_from_is_removed(tmp_path: Path) -> None:
    for left in ("ray/demo-1a2b/state", f"{files.TEMPORARY}half-result.json", "checkpoints/step"):
        (tmp_path / left).mkdir(parents=True)
    train_workers.remove_leftovers(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_what_no_retry_cures_is_noted(tmp_path: Path) -> None:
    job, tries = Job("{}", "", str(tmp_path), "k", "", threads=1, attempt="now"), []

    def fail() -> None:
        tries.append(1)
        raise BadInputsError("too many bad images")

    with pytest.raises(BadInputsError):
        worker.noting_faults(job, fail)
    with pytest.raises(RunFailedError, match="too many bad images") as caught:
        train_workers._raise_noted(str(tmp_path), "now")
    assert caught.value.exit_code == BadInputsError.exit_code
    # Its replacement leaves at once.
    worker.noting_faults(job, fail)
    assert len(tries) == 1


def test_a_run_that_was_asked_to_stop_notes_nothing(tmp_path: Path) -> None:
    job = Job("{}", "", str(tmp_path), "k", "", threads=1, attempt="now")

    def stop() -> None:
        raise StoppedError

    worker.noting_faults(job, stop)
    assert not train_workers.failure_noted(job)


def test_the_first_note_of_an_attempt_counts(tmp_path: Path) -> None:
    train_workers.note_failure(job_in(tmp_path, "before"), InputError("old"))
    assert not train_workers.failure_noted(job_in(tmp_path))
    train_workers.note_failure(job_in(tmp_path), BadInputsError("first"))
    train_workers.note_failure(job_in(tmp_path), FundusError("what it made of others"))
    assert train_workers.failure_noted(job_in(tmp_path))
    with pytest.raises(RunFailedError, match="first"):
        train_workers._raise_noted(str(tmp_path), "now")


def test_a_note_that_cannot_be_written_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(place: str, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    train_workers.note_failure(job_in(tmp_path), InputError("the reason"))
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.ray
def test_a_run_without_room_says_so(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(start.START_TIMEOUT, "1")
    with pytest.raises(RunFailedError, match="no room in the cluster, waiting in vain for 2 work"):
        train_workers.run_train_workers(entry.work, Recipe(), job_in(tmp_path), "roomless", (2,))
    assert not (tmp_path / "ray").exists()
