"""Starts Ray, or joins the cluster this process was sent to."""

import json
import logging
import os
import re
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import ray
from ray.exceptions import RayError

from fundusray import plugins, terminal
from fundusray.cluster.runtime.addresses import (
    LOOPBACK,
    LOOPBACK_SWITCH,
    loopback_only,
    unproxied_environment,
)
from fundusray.cluster.runtime.worker_lines import print_own_lines_only
from fundusray.errors import FundusError, InputError

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""Ray Train's name for how long a run waits until there is room for all of its workers."""
DEFAULTS = {
    # A node takes minutes to come up, and another job may be on the only GPU; Ray itself gives up
    # after a minute, and a run ends for good once that has happened a few times in its life.
    START_TIMEOUT: "1800",
    # Ray Train takes up a report, and notices a dead worker, once per this interval; its own 2 s
    # would lose that much more work.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # Ray Train would print every line of a worker twice.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Nor are its own remarks on every report wanted among ours.
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    # Shows runs by name on the dashboard.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    # Tune's table of trials is left to our own lines.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ctrl-C ends a search; Tune would go on to a table of half-trained trials.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A clinic's cluster reports to nobody.
    "RAY_USAGE_STATS_ENABLED": "0",
}
LOCAL = {
    # One machine has nobody who could take it away; the watcher would only be an actor more a run.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""What Ray's job supervisor sets for the driver of a submitted job, and only for it."""
TOKEN = "~/.ray/auth_token"
TOKEN_LOGGER = "ray._private.authentication.authentication_token_setup"
CONNECT = 10.0
"""Seconds in which a cluster must answer."""
STARTS = 2
"""Times a Ray of this machine alone is started: on a loaded one its processes may come too late."""


class RayStartError(FundusError):
    """Ray could not be started."""


def in_submitted_job() -> bool:
    """Whether `ray job submit` started this process, in its copy of the working directory."""
    return JOB_VARIABLE in os.environ


def joins_cluster() -> bool:
    """Whether this process joins a cluster that is there, which may grow, instead of its own."""
    return bool(os.environ.get("RAY_ADDRESS")) or in_submitted_job()


def start_ray(cpus: int | None = None) -> None:
    """Connects this process to Ray; once connected it does nothing.

    RAY_ADDRESS (which a submitted job always has) names the cluster to join. Without it a cluster
    of this machine alone is started, which nobody else can reach and which ends with the process.

    Args:
        cpus: of a cluster started here; all of the machine's unless given.

    Raises:
        InputError: the cluster of RAY_ADDRESS cannot be joined, or HOME cannot be written.
        RayStartError: Ray does not start; why, as far as it says.
    """
    if ray.is_initialized():
        return
    # That a token is asked for is as it should be.
    logging.getLogger(TOKEN_LOGGER).setLevel(logging.ERROR)
    joined = joins_cluster()
    settings = DEFAULTS if joined else DEFAULTS | LOCAL
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if joined:
        own = {plugins.VARIABLE} & set(os.environ)
        _join({name: os.environ[name] for name in {*settings, *own}} | {terminal.VARIABLE: "1"})
        print_own_lines_only()
        return
    os.environ.update(unproxied_environment())
    _require_home()
    for attempt in range(1, STARTS + 1):
        try:
            own = _place() | LOOPBACK_SWITCH | {terminal.VARIABLE: "1"}
            with temporary_environment(own), loopback_only():
                _start_local(cpus)
            break
        except (RayError, RuntimeError, OSError, ValueError) as error:
            ray.shutdown()
            if attempt == STARTS:
                raise RayStartError(
                    f"Ray did not start, {STARTS} times ({type(error).__name__}: {error}). It "
                    "needs some 2 GB of free memory and of /dev/shm, and a temporary folder it can "
                    "write (RAY_TMPDIR, /tmp/ray); its own logs are in session_latest/logs there"
                ) from error
            print(f"Ray did not start ({error}); trying again", file=sys.stderr, flush=True)
    _close_token()
    print_own_lines_only()


def _start_local(cpus: int | None) -> None:
    # Without its dashboard, Ray lets a stopped trial keep its resources for ever.
    ray.init(address="local", num_cpus=cpus, include_dashboard=True, logging_level=logging.WARNING)


def _require_home() -> None:
    """Refuses a home in which Ray cannot keep its token, before it fails in its own words.

    Raises:
        InputError: the reason the system gives.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = os.path.expanduser(TOKEN)
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        reason = error.strerror
    else:
        # Ray only reads a token that is there.
        if os.path.exists(path) or os.access(folder, os.W_OK | os.X_OK):
            return
        reason = "no permission"
    raise InputError(
        f"HOME={os.path.expanduser('~')}: Ray keeps its token in {folder}, which cannot be written "
        f"({reason}); set HOME to a folder of your own, or RAY_AUTH_TOKEN_PATH to a token's file"
    )


def _place() -> dict[str, str]:
    """Settings by which a cluster begins at a known address, and all of its processes know it.

    Ray's own helpers (what ends the leftovers of a dead run, what shows runs on the dashboard) ask
    "the" cluster of the machine about it. Beside a second one they would ask a wrong one, hear of
    no such run, and end it.
    """
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    return {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"{LOOPBACK}:{port}"}


@contextmanager
def temporary_environment(settings: dict[str, str]) -> Iterator[None]:
    """Environment variables for what is started inside; this process has them only meanwhile."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def left_as_found() -> Iterator[None]:
    """Leaves the Ray that was started or joined inside; one that was there before stays.

    Ray prints what its processes say for as long as this one is connected, so that only what comes
    after is sure to be the last on the screen.
    """
    before = ray.is_initialized()
    try:
        yield
    finally:
        if not before:
            ray.shutdown()


def _join(told: dict[str, str]) -> None:
    """Joins the cluster of RAY_ADDRESS; its nodes were started by somebody else, so the job's own
    processes are told the settings."""
    given = os.environ.get("RAY_ADDRESS", "auto")
    spared, alone = unproxied_environment(), False
    try:
        # Ray itself goes on trying a wrong address for minutes.
        if address := re.fullmatch(r"\[?([^/]+?)\]?:(\d+)", given):
            socket.create_connection((address[1], int(address[2])), CONNECT).close()
            spared = unproxied_environment(address[1], _from_elsewhere(given).rpartition(":")[0])
            # As in `_place`: where there are several clusters, helpers would ask a wrong one.
            told = told | {"RAY_ADDRESS": _from_elsewhere(given)}
            alone = told["RAY_ADDRESS"].startswith(f"{LOOPBACK}:")
        os.environ.update(spared)
        told = told | spared
        given_too = _told_by_job()
        environment = {"env_vars": {k: v for k, v in told.items() if k not in given_too}}
        # A Ray that listens at the loopback alone knows this machine by that address only.
        with loopback_only() if alone else nullcontext():
            ray.init(address="auto", logging_level=logging.WARNING, runtime_env=environment)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"RAY_ADDRESS={given}: cannot join this cluster ({error}); a program joins at "
            "<host>:6379, only `ray job submit` uses http://<host>:8265; where the cluster asks "
            "for a token, set RAY_AUTH_MODE=token; unset RAY_ADDRESS to use this machine alone"
        ) from error


def _told_by_job() -> set[str]:
    """Names of the variables that a submitted job brings along; Ray takes each from one place."""
    job = json.loads(os.environ.get(JOB_VARIABLE, "{}"))
    return set((job.get("runtime_env") or {}).get("env_vars") or {})


def _from_elsewhere(address: str) -> str:
    """The address as other machines know it; of a cluster that only this machine reaches, as it
    is."""
    elsewhere = re.sub(r"^(localhost|127\.[\d.]+)(?=:)", ray.util.get_node_ip_address(), address)
    host, _, port = elsewhere.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
    except OSError:
        return address
    return elsewhere


def _close_token() -> None:
    """Takes the reading of Ray's token from other users; a local start writes it for all to read,
    and whoever holds it can run code as this user."""
    path = os.path.expanduser(TOKEN)
    if os.path.exists(path) and stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        os.chmod(path, 0o600)


def cluster_resources() -> dict[str, float]:
    """What the whole cluster has: {"CPU": ..., "GPU": ...}."""
    total = ray.cluster_resources()
    return {kind: float(total.get(kind, 0.0)) for kind in ("CPU", "GPU")}


def live_nodes() -> list[dict[str, float]]:
    """What each live node has: {"CPU": ..., "GPU": ...}."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{kind: float(node.get(kind, 0.0)) for kind in ("CPU", "GPU")} for node in alive]


def workers_that_fit(cpus: float, gpus: float = 0.0) -> int:
    """How many workers of so many CPUs and GPUs fit on the live nodes, each whole on one."""
    return sum(_fitting(node, cpus, gpus) for node in live_nodes())


def _fitting(node: dict[str, float], cpus: float, gpus: float) -> int:
    shares = [node["CPU"] / cpus] + ([node["GPU"] / gpus] if gpus else [])
    return int(min(shares) + 1e-9)  # five workers of 0.2 GPUs fit on one


def cpus_each(workers: int, most: int, gpus: float = 0.0) -> int:
    """The most CPUs, up to `most`, that each of so many workers with `gpus` each can have.

    Where they do not all fit (nodes are still to come, or runs take turns), as many as the nodes
    that could take one have over the workers, and never more than the largest of these: a new node
    is taken to be like those that are there.
    """
    for cpus in range(most, 0, -1):
        if workers_that_fit(cpus, gpus) >= workers:
            return cpus
    known = live_nodes()
    able = [node for node in known if node["GPU"] >= gpus]
    largest = max((int(node["CPU"]) for node in able or known), default=1)
    shared = sum(int(node["CPU"]) for node in able) // workers if able else largest
    return max(1, min(most, largest, shared))
