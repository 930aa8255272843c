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
def small() -> Recipe:
    """A recipe that trains in seconds, pinned so that it repeats to the bit."""
    return override(
        Recipe(name="small"),
        {
            "data.num_images": 48,
            "data.size": 32,
            "data.fractions": (0.5, 0.25, 0.25),
            "model.name": "resnet18",
            "model.dropout": 0.25,
            "train.epochs": 3,
            "train.batch": 8,
            "train.keep_checkpoints": True,
            "train.precision": "fp32",
            "train.layout": "contiguous",
            "cluster.cpus": 1,
        },
    )


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
