"""An unbroken run to compare with, and commands that leave no process behind."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from fundusray.cluster.prepare import prepare_set
from fundusray.cluster.runtime.start import start_ray
from fundusray.cluster.train import train_recipe
from tests.chaos.harness import ENVIRONMENT, Command, recipe
from tests.chaos.heads import Head


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A local Ray with two CPUs in this process."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    start_ray(cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def ready(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder with the prepared set and a finished, unbroken run."""
    storage = tmp_path_factory.mktemp("unbroken") / "runs"
    asked = recipe()
    train_recipe(asked, prepare_set(asked, str(storage)), str(storage))
    return storage


@pytest.fixture
def storage(ready: Path, tmp_path: Path) -> Path:
    """A storage folder with the prepared set, and no run."""
    target = tmp_path / "runs"
    shutil.copytree(ready, target, ignore=shutil.ignore_patterns("demo-*"))
    return target


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """begin(storage, key__of__a__setting="value") -> the command, running."""
    commands: list[Command] = []

    def begun(where: Path, **changes: str) -> Command:
        # Beside the storage: where a test fills a disk, the log must go on.
        commands.append(Command(where, tmp_path / f"{len(commands)}.log", **changes))
        return commands[-1]

    yield begun
    for command in commands:
        command.kill()


@pytest.fixture
def start(storage: Path, begin: Callable[..., Command]) -> Callable[..., Command]:
    """As `begin`, in a storage folder that holds the prepared set."""
    return lambda where=storage, **changes: begin(where, **changes)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Head]]:
    """head(cpus) -> a cluster of one node; gone after the test."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    begun: list[Head] = []

    def begin(cpus: int) -> Head:
        begun.append(Head(cpus))
        return begun[-1]

    yield begin
    for one in begun:
        one.kill()
