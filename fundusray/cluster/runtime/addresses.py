"""Who can reach a Ray that this program starts, and that what is said to it goes by no proxy."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import ray_constants

LOOPBACK = "127.0.0.1"
UNPROXIED_HOSTS = ("localhost", LOOPBACK, "::1")
"""Hosts that no proxy is asked for: requests to Ray's dashboard carry its token."""
VARIABLES = ("no_proxy", "NO_PROXY")
LOOPBACK_SWITCH = {getattr(ray_constants, "ENABLE_RAY_CLUSTERS_ENV_VAR", "RAY_ENABLE_CLUSTER"): "0"}
"""By this, Ray's processes listen at the loopback alone; its default on macOS and Windows."""


@contextmanager
def loopback_only() -> Iterator[None]:
    """A Ray that is started inside is for this machine alone: nothing of it listens elsewhere.

    Ray reads the variable when it is imported, which has long happened here, so its constant is set
    as well; its processes, which are new ones, read the variable (`LOOPBACK_SWITCH`).
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def unproxied_environment(*hosts: str) -> dict[str, str]:
    """The environment in which requests to these hosts, and to this machine, go straight there.

    Where `http_proxy` is set, Ray's own requests to its dashboard would go to the proxy, with the
    token that lets whoever reads it run code on the cluster.
    """
    given = [part.strip() for name in VARIABLES for part in os.environ.get(name, "").split(",")]
    wanted = dict.fromkeys(part for part in [*given, *UNPROXIED_HOSTS, *hosts] if part)
    return dict.fromkeys(VARIABLES, ",".join(wanted))
