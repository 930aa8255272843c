"""Ray is started once, joined where asked, and left as it was found."""

import json
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
    assert start.nodes() == [before]
    assert not start.in_submitted_job()
    token = Path(start.TOKEN).expanduser()
    assert not token.exists() or not token.stat().st_mode & 0o077


def node(cpus: float, gpus: float = 0.0) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus}


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "expected"),
    [
        ([node(16)], 1, 0, 8),
        ([node(8)], 3, 0, 2),
        # Never more than one node has, nor a cut that leaves the last worker without a place.
        ([node(4), node(4)], 1, 0, 4),
        ([node(4), node(4)], 3, 0, 2),
        ([node(3), node(3), node(3)], 4, 0, 1),
        # Those with a GPU are who can take one that needs it.
        ([node(8), node(4, 1)], 1, 1, 4),
        ([node(8), node(6, 2)], 2, 1, 3),
        ([node(1, 1)], 5, 0.2, 1),
        # More workers than there is room for: runs take turns, or nodes are still to come.
        ([node(2)], 4, 0, 1),
        ([node(8), node(8, 1)], 4, 1, 2),
        ([node(8)], 8, 1, 8),
        ([], 1, 0, 1),
    ],
)
def test_a_worker_gets_no_more_cpus_than_a_node_has(
    nodes: list[dict], workers: int, gpus: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "nodes", lambda: nodes)
    assert start.cpus_each(workers, 8, gpus) == expected


def test_five_workers_of_a_fifth_fit_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "nodes", lambda: [node(16, 1), node(3), node(2)])
    assert start.room(1, 0.2) == 5
    assert start.room(3) == 6 and start.room(4) == 4 and start.room(17) == 0


@pytest.mark.ray
def test_a_submitted_job_may_bring_settings_of_ours(cluster: None) -> None:
    name = start.START_TIMEOUT
    program = (
        "import os, ray; from fundusray.cluster import start; start.start(); "
        f"print(ray.get(ray.remote(lambda: os.environ['{name}']).remote()))"
    )
    job = {start.JOB_VARIABLE: json.dumps({"runtime_env": {"env_vars": {name: "77"}}})}
    address = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, name: "77"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | job | address, capture_output=True
    )
    assert done.stdout.split() == [b"77"], done.stderr.decode()


def test_an_address_holds_on_other_machines() -> None:
    here = ray.util.get_node_ip_address()
    assert start._from_elsewhere("127.0.0.1:6379") == f"{here}:6379"
    assert start._from_elsewhere("localhost:1") == f"{here}:1"
    assert start._from_elsewhere("10.1.2.3:6379") == "10.1.2.3:6379"


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
