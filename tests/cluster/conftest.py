"""One local Ray for all tests that need it, and a small prepared set of drawn eyes."""

from collections.abc import Iterator

import pytest
import ray

from fundusray.cluster import prepare
from fundusray.cluster.runtime import start
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A local Ray with two CPUs."""
    start.start_ray(cpus=2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def small(small: Recipe) -> Recipe:
    """The small recipe for a worker of one CPU; its checkpoints stay."""
    return override(small, {"train.epochs": 3, "train.keep_checkpoints": True, "cluster.cpus": 1})


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="session")
def prepared(cluster: None, small: Recipe, storage: str) -> str:
    return prepare.prepare_set(small, storage)


@pytest.fixture(scope="session")
def unbroken(small: Recipe, prepared: str, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The result of a training that nobody disturbed."""
    return train_recipe(small, prepared, str(tmp_path_factory.mktemp("unbroken")))
