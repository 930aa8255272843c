"""Ray is started once, joined where asked, and left as it was found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from fundusray.cluster import start


@pytest.mark.ray
def test_starting_twice_is_starting_once(cluster: None) -> None:
    before = start.resources()
    start.start(cpus=1)
    assert start.resources() == before == {"CPU": 2.0, "GPU": 0.0}
    assert not start.in_submitted_job()
    token = Path(start.TOKEN).expanduser()
    assert not token.exists() or not token.stat().st_mode & 0o077


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "127.0.0.1:1"])
def test_a_cluster_that_cannot_be_joined_is_named(address: str) -> None:
    program = "from fundusray.cluster import start; start.start()"
    environment = os.environ | {"RAY_ADDRESS": address}
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert told.returncode != 0
    assert f"InputError: RAY_ADDRESS={address}: cannot join" in told.stderr


@pytest.mark.ray
def test_a_ray_that_was_there_stays(cluster: None) -> None:
    with start.left_as_found():
        start.start()
    assert ray.is_initialized()


SECOND = """
import os, ray
from fundusray.cluster import start

@ray.remote(num_cpus=0)
class Asked:
    def state(self):
        from ray.util.state import get_actor
        return get_actor(ray.get_runtime_context().get_actor_id(), timeout=30).state

assert "RAY_ADDRESS" not in os.environ
with start.left_as_found():
    start.start(cpus=1)
    assert "RAY_ADDRESS" not in os.environ
    print(ray.get(Asked.remote().state.remote()))
assert not ray.is_initialized()
print("last")
"""


@pytest.mark.ray
def test_each_of_two_clusters_on_a_machine_knows_its_own(cluster: None, tmp_path: Path) -> None:
    """Ray Train asks for its controller this way, and ends a run whose controller is unknown."""
    alone = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    told = subprocess.run(
        [sys.executable, "-c", SECOND], env=alone, capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-2:] == ["ALIVE", "last"]
