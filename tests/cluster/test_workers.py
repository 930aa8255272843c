"""The result of a run does not depend on how many workers there were, also when that changes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

SCRIPT = Path(__file__).with_name("many_workers.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = str(tmp_path_factory.mktemp("workers"))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), folder], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stderr.count("stopped with") == 2, "the run was to be stopped twice under way"
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    return json.loads(line.removeprefix("FOUND "))


@pytest.mark.parametrize("workers", ["2", "4", "changing"])
def test_figures_and_weights_are_those_of_one_worker(found: dict, workers: str) -> None:
    """A row shown twice, or left out, at any resize would move the losses by far more."""
    one, other = found["1"], found[workers]
    for name, value in one["metrics"].items():
        assert other["metrics"][name] == pytest.approx(value, abs=1e-6), name
    for mine, theirs in zip(one["losses"], other["losses"], strict=True):
        assert theirs == pytest.approx(mine, abs=1e-5)
    assert other["distance"] < 1e-5
