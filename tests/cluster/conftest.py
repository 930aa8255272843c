"""One local Ray for all tests that need it, and a small prepared set of drawn eyes."""

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from fundusray import recipes
from fundusray.cluster import prepare
from fundusray.cluster.runtime import start
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override

ROOT = Path(__file__).parent.parent.parent


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


@pytest.fixture(scope="session")
def segmented(cluster: None, storage: str) -> str:
    """The bundle of a U-Net that learned the lesions of drawn photographs, for one epoch."""
    changes = {"data.source": "synthetic", "data.num_images": 24, "data.size": 32}
    changes |= {"data.fractions": (0.5, 0.2, 0.3), "model.name": "unet", "model.weights": ""}
    changes |= {"train.epochs": 1, "train.precision": "fp32", "train.layout": "contiguous"}
    changes |= {"cluster.cpus": 1}
    recipe = override(recipes.find_recipe("avramidis.table1.original"), changes)
    return train_recipe(recipe, prepare.prepare_set(recipe, storage), storage)["bundle"]


@pytest.fixture
def run(
    cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, dict, str]]:
    """Runs a job in the Ray of this process: (exit code, RESULT, output)."""
    monkeypatch.chdir(tmp_path)

    def go(job: str, *arguments: str) -> tuple[int, dict, str]:
        monkeypatch.setattr(sys, "argv", [f"jobs/{job}", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "jobs" / job), run_name="__main__")
        told = capsys.readouterr()
        # Not always the last line: the test's own Ray goes on, and speaks when it likes.
        (line,) = [line for line in told.out.splitlines() if line.startswith("RESULT ")]
        result = json.loads(line.removeprefix("RESULT "))
        return int(ended.value.code or 0), result, told.out + told.err

    return go
