"""The result of a run on Ray is the same for any number of workers, also when that changes.

The trainer's part of it is in tests/training/test_ranks.py.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

SCRIPT = Path(__file__).with_name("many_workers.py")


@pytest.mark.chaos
@pytest.mark.parametrize("plans", [["2", "4", "2-1-2"]], ids="/".join)
def test_figures_and_weights_are_those_of_one_worker(tmp_path: Path, plans: list[str]) -> None:
    """A row shown twice, or left out, at any resize would move the losses by far more."""
    command = [sys.executable, str(SCRIPT), str(tmp_path), "1", *plans]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    stops = sum(plan.count("-") for plan in plans)
    assert done.stderr.count("stopped with") == stops, "the run was to be stopped under way"
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    found = json.loads(line.removeprefix("FOUND "))
    one = found.pop("1")
    assert list(found) == plans
    for plan, other in found.items():
        for name, value in one["metrics"].items():
            assert other["metrics"][name] == pytest.approx(value, abs=1e-6), (plan, name)
        for mine, theirs in zip(one["losses"], other["losses"], strict=True):
            assert theirs == pytest.approx(mine, abs=1e-5), plan
        assert other["distance"] < 1e-5, plan
