"""A cluster begun by hand, as on a machine of its own: a head, further nodes, submitted jobs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from ray.job_submission import JobSubmissionClient
from ray.util.state import list_actors, list_nodes
from ray.util.state.exception import ServerUnavailable

from tests.chaos.harness import clean, processes, until

RAY = str(Path(sys.executable).with_name("ray"))
TOKEN = {"RAY_AUTH_MODE": "token"}
AGENT = ("--dashboard-agent-listen-port",)
"""What takes jobs: on a port of its own, as a second Ray on a machine cannot have the usual one."""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Head:
    """`ray start --head`, and nodes that join it; each in a session of its own."""

    def __init__(self, cpus: int) -> None:
        self.port, self.dashboard = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://127.0.0.1:{self.dashboard}"
        options = ["--head", "--port", str(self.port), "--dashboard-port", str(self.dashboard)]
        self.sessions: list[subprocess.Popen] = []
        self.joined: dict[str, subprocess.Popen] = {}
        self.begin(*options, "--node-ip-address", "127.0.0.1", "--num-cpus", str(cpus))
        try:
            until(lambda: len(self.nodes()) == 1, "the head answers")
        except BaseException:
            self.kill()
            raise

    def begin(self, *options: str) -> subprocess.Popen:
        """`ray start` with these options, left running."""
        node = subprocess.Popen(
            [RAY, "start", *options, *AGENT, str(free_port()), "--block", "--disable-usage-stats"],
            env=clean() | TOKEN,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.sessions.append(node)
        return node

    def join(self, cpus: int) -> str:
        """The id of one more node, once it is there; Ray gives up one that takes 30 s to come."""
        before = set(self.nodes())
        options = ("--address", self.address, "--num-cpus", str(cpus))
        node = self.begin(*options)

        def there() -> bool:
            nonlocal node
            if node.poll() is not None:
                node = self.begin(*options)
            return bool(set(self.nodes()) - before)

        until(there, "the node has joined")
        found = (set(self.nodes()) - before).pop()
        self.joined[found] = node
        return found

    def submit(self, line: str, environment: dict[str, str]) -> str:
        """The id of a job with that command line; a fresh head needs a while to take one."""
        found = ""

        def taken() -> bool:
            nonlocal found
            with contextlib.suppress(RuntimeError):
                env = {"env_vars": environment}
                found = self.jobs.submit_job(entrypoint=line, runtime_env=env)
            return bool(found)

        until(taken, "the head takes a job", 60)
        return found

    def drain(self, node: str, seconds: int) -> None:
        """Tells the cluster that a node will be taken away so soon."""
        options = ["--address", self.address, "--node-id", node, "--reason-message", "spot"]
        options += ["--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        options += ["--deadline-remaining-seconds", str(seconds)]
        subprocess.run([RAY, "drain-node", *options], env=clean() | TOKEN, check=True)

    def take_away(self, node: str) -> None:
        """Ends a node that has joined, as a machine is switched off."""
        end(self.joined[node])

    def trains_on(self) -> str:
        """The id of the node on which a training worker lives."""
        named = [("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]
        return list_actors(self.url, filters=named)[0].node_id

    def nodes(self) -> dict[str, float]:
        """Id -> CPUs of every node that lives; none while the cluster does not answer."""
        with contextlib.suppress(ServerUnavailable, ConnectionError):
            listed = list_nodes(self.url, filters=[("state", "=", "ALIVE")])
            return {node.node_id: node.resources_total.get("CPU", 0) for node in listed}
        return {}

    @property
    def jobs(self) -> JobSubmissionClient:
        """What submits, stops and shows jobs here."""
        return JobSubmissionClient(self.url)

    def kill_gcs(self) -> None:
        """SIGKILL for the process that is the head: it holds all that the cluster knows."""
        (pid,) = [
            pid
            for pid, _, _, line in processes()
            if "gcs_server" in line and f"--gcs_server_port={self.port}" in line
        ]
        os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Ends every process of the cluster, jobs and workers included."""
        for session in self.sessions:
            end(session)


def end(session: subprocess.Popen) -> None:
    """SIGKILL for every process of a session."""
    for pid in [pid for pid, _, of, _ in processes() if of == session.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    session.wait(30)
