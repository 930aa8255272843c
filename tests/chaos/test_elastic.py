"""Workers come and go with their nodes; every row is shown once per epoch all the same."""

import json
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("elastic.py")


@pytest.mark.ray
@pytest.mark.chaos
def test_a_lost_and_a_new_node_change_nothing(tmp_path: Path) -> None:
    """A row left out, or shown twice, would move the losses by far more than rounding does."""
    quick = os.environ | {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=1200,
        env=quick,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-5000:]
    assert "node lost" in told and "node added" in told
    worlds = [line for line in told.splitlines() if "world_size=" in line and "rank=0" in line]
    sizes = [int(line.split("world_size=")[1].split("]")[0].split(",")[0]) for line in worlds]
    # One worker all along; then two, one after the loss, two again after the gain.
    assert [size for size, _ in groupby(sizes)] == [1, 2, 1, 2], sizes
    found = json.loads(told.split("FOUND ")[1].splitlines()[0])
    one, many = found["losses"]
    assert many == pytest.approx(one, abs=1e-4)
    assert found["distance"] < 1e-4
