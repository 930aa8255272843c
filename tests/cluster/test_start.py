"""Ray is started once, joined where asked, and left as it was found."""

import json
import os
import socket
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest
import ray

from fundusray.cluster.runtime import start
from fundusray.cluster.runtime.addresses import VARIABLES, unproxied_environment
from fundusray.cluster.runtime.demand import require_room, require_writable
from fundusray.config import Recipe, override
from fundusray.errors import InputError


@pytest.mark.ray
def test_starting_twice_is_starting_once(cluster: None) -> None:
    before = start.cluster_resources()
    start.start_ray(cpus=1)
    assert start.cluster_resources() == before == {"CPU": 2.0, "GPU": 0.0}
    assert start.live_nodes() == [before]
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
    monkeypatch.setattr(start, "live_nodes", lambda: nodes)
    assert start.cpus_each(workers, 8, gpus) == expected


def test_five_workers_of_a_fifth_fit_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "live_nodes", lambda: [node(16, 1), node(3), node(2)])
    assert start.workers_that_fit(1, 0.2) == 5
    assert (
        start.workers_that_fit(3) == 6
        and start.workers_that_fit(4) == 4
        and start.workers_that_fit(17) == 0
    )


@pytest.mark.ray
def test_a_submitted_job_may_bring_settings_of_ours(cluster: None) -> None:
    name = start.START_TIMEOUT
    program = (
        "import os, ray; from fundusray.cluster.runtime import start; start.start_ray(); "
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
    with socket.create_server(("", 0)) as everywhere:
        port = everywhere.getsockname()[1]
        for name in ("127.0.0.1", "localhost"):
            assert start._from_elsewhere(f"{name}:{port}") == f"{here}:{port}"
    with socket.create_server(("127.0.0.1", 0)) as alone:
        address = f"127.0.0.1:{alone.getsockname()[1]}"
        assert start._from_elsewhere(address) == address


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "127.0.0.1:1"])
def test_a_cluster_that_cannot_be_joined_is_named(address: str) -> None:
    program = "from fundusray.cluster.runtime import start; start.start_ray()"
    environment = os.environ | {"RAY_ADDRESS": address}
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert told.returncode != 0
    assert f"InputError: RAY_ADDRESS={address}: cannot join" in told.stderr


@pytest.mark.ray
def test_a_ray_that_was_there_stays(cluster: None) -> None:
    with start.left_as_found():
        start.start_ray()
    assert ray.is_initialized()


SECOND = """
import os, pathlib, ray
from fundusray.cluster.runtime import start

@ray.remote(num_cpus=0)
class Asked:
    def state(self):
        from ray.util.state import get_actor
        return get_actor(ray.get_runtime_context().get_actor_id(), timeout=30).state

def family():
    '''This process and all that it began.'''
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except FileNotFoundError:
            pass
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found

def sockets(pids):
    found = set()
    for pid in pids:
        for link in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
            try:
                found.add(os.readlink(link))
            except FileNotFoundError:
                pass
    return found

def listening():
    '''Addresses, in the kernel's hexadecimal, at which this Ray listens.'''
    mine, found = sockets(family()), set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in mine:
                found.add(fields[1].split(":")[0])
    return sorted(found)

assert "RAY_ADDRESS" not in os.environ
with start.left_as_found():
    start.start_ray(cpus=1)
    assert "RAY_ADDRESS" not in os.environ
    print(ray.get(Asked.remote().state.remote()))
    print(listening())
assert not ray.is_initialized()
print("last")
"""


def asked_of(proxy: socket.socket) -> list[str]:
    """All requests that a proxy was sent."""
    found = []
    while True:
        try:
            caller, _ = proxy.accept()
        except TimeoutError:
            return found
        with caller:
            caller.settimeout(1)
            found.append(caller.recv(4096).decode(errors="replace"))


@pytest.mark.ray
def test_each_of_two_clusters_on_a_machine_knows_its_own(cluster: None, tmp_path: Path) -> None:
    """Ray Train asks for its controller this way, and ends a run whose controller is unknown.

    The request carries Ray's token: it goes by no proxy. And nobody else reaches such a Ray.
    """
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.1)
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        alone = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", *VARIABLES)}
        told = subprocess.run(
            [sys.executable, "-c", SECOND],
            env=alone | {"http_proxy": url, "HTTP_PROXY": url},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert told.returncode == 0, told.stderr
        # Ray asks where clouds tell of their machines, without its token.
        for request in asked_of(proxy):
            assert "169.254.169.254" in request or "metadata" in request
            assert "authorization" not in request.lower() and "127.0.0.1" not in request
    state, addresses, last = told.stdout.splitlines()[-3:]
    assert (state, last) == ("ALIVE", "last")
    # 127.0.0.1, also as an address of version 6.
    assert set(literal_eval(addresses)) <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert literal_eval(addresses)


def test_hosts_that_no_proxy_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "clinic.example, 10.0.0.0/8")
    assert unproxied_environment("10.1.2.3") == dict.fromkeys(
        VARIABLES, "clinic.example,10.0.0.0/8,localhost,127.0.0.1,::1,10.1.2.3"
    )


def test_a_home_that_cannot_be_written_is_said_before_ray_starts(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    program = "from fundusray.cluster.runtime import start; start.start_ray()"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode != 0
    assert f"InputError: HOME={tmp_path}/home: Ray keeps its token" in told.stderr


def test_a_ray_that_does_not_start_is_tried_again_and_explained() -> None:
    program = "from fundusray.cluster.runtime import start; start.start_ray()"
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"RAY_TMPDIR": "/proc/nowhere"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode != 0
    assert "trying again" in told.stderr
    assert "RayStartError: Ray did not start, 2 times" in told.stderr
    assert "RAY_TMPDIR" in told.stderr


def test_a_storage_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"run.storage=.*nothing can be written there"):
        require_writable(str(tmp_path / "file" / "runs"))
    require_writable(str(tmp_path / "runs"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.ray
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cluster.gpus": "1"}, r"cluster.workers=1 with .* cluster.gpus=1 each, but there are 2"),
        ({"cluster.cpus": "16"}, r"cluster.workers=1 with cluster.cpus=16 each, but there are 2"),
        ({"cluster.workers": "3", "cluster.cpus": "1"}, r"cluster.workers=3 with cluster.cpus=1"),
    ],
)
def test_what_this_machine_never_has_is_refused_at_once(
    cluster: None, changes: dict, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        require_room(override(Recipe(), changes))
    require_room(Recipe())
