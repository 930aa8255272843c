"""One process at a time in a run's folder."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from fundusray import files
from fundusray.errors import LockedError


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds the folder while the block runs; the lock of a dead process is taken over.

    A remote folder is not locked: an object store has no exclusive create that all of them share.

    Raises:
        LockedError: a live process holds it; names the process and the cure.
    """
    if files.is_uri(folder):
        yield
        return
    files.make_dir(folder)
    path = os.path.join(folder, "lock")
    while not _take(path):
        holder = _holder(path)
        if holder and _alive(holder):
            raise LockedError(
                f"{folder} is in use by process {holder['pid']} on {holder['host']}; "
                "wait for it, or give another run.name"
            )
        files.remove(path)
    try:
        yield
    finally:
        files.remove(path)


def _take(path: str) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as stream:
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, stream)
    return True


def _holder(path: str) -> dict | None:
    try:
        return files.read_json(path)
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _alive(holder: dict) -> bool:
    """Whether the holder may still work; on another host nobody can tell, so it counts as alive."""
    if holder["host"] != socket.gethostname():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
