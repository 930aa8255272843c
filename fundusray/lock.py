"""One process at a time in a run's folder.

The file `lock` in it says who works there. It appears with its content or not at all, and a thread
of the holder touches it every few seconds. Whether the holder still lives is asked of the system
where it can know: on the same machine since the same start, by when the process began, since a pid
is given again. Of any other holder (another host of a shared disk, another container) only the
touching tells; it is watched for, so no two clocks are compared.
"""

import errno
import fcntl
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fundusray import files
from fundusray.errors import DamagedError, LockedError

BEAT = 5.0
"""Seconds between two touches of the holder."""
SILENCE = 60.0
"""Seconds without a touch after which a holder elsewhere counts as dead: longer than a share may
keep an old look at a file."""
LOOK = 0.5
"""Seconds between looks at another's lock."""
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What a file system says that has no second names for a file."""


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds the folder while the block runs; the lock of a dead process is taken over.

    Where only its silence can tell that a holder is dead, this waits for up to SILENCE seconds. A
    remote folder is not locked: an object store has no exclusive create that all of them share.

    Raises:
        LockedError: a live process holds it; names the process and the cure.
    """
    if files.is_uri(folder):
        yield
        return
    path = os.path.join(folder, "lock")
    mine = _ourselves()
    while not _take(path, mine):
        holder = _holder(path)
        if holder is not None and _alive(path, holder):
            raise LockedError(
                f"{folder} is in use by process {holder.get('pid')} on {holder.get('host')}; wait "
                f"for it, or give another run.name; once you know that it is gone, delete {path}"
            )
        _clear(path, holder)
    ended = threading.Event()
    thread = threading.Thread(target=_touch, args=(path, ended), name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if _holder(path) == mine:
            files.remove(path)


def _ourselves() -> dict[str, Any]:
    """What a lock says of this process."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "machine": _machine(),
        "born": _born(os.getpid()),
        "token": secrets.token_hex(8),
    }


def _machine() -> str:
    """Names this start of this machine and this space of pids; "" where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process of this machine began, in ticks since its start; "" where none is seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name before the last ")" may hold anything; see proc(5) for the fields after it.
    fields = text.rsplit(")", 1)[1].split()
    return "ended" if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    """Whether there is such a process, be it another user's that /proc does not show."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _take(path: str, mine: dict[str, Any]) -> bool:
    """Puts our lock in place unless there is one; whether it is ours now."""
    folder, name = os.path.split(path)
    whole = os.path.join(folder, f"{files.TEMPORARY}{mine['token']}-{name}")
    try:
        files.write_json(whole, mine)
        os.link(whole, path)
    except FileExistsError:
        # A share may say so of a link that it has just made.
        return (_holder(path) or {}).get("token") == mine["token"]
    except FileNotFoundError:
        return False  # whoever holds the folder swept it meanwhile
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _create(path, Path(whole).read_bytes())
    finally:
        files.remove(whole)
    return True


def _create(path: str, content: bytes) -> bool:
    """Puts our lock in place where there are no links: all but at once."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    except FileExistsError:
        return False
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    return True


def _holder(path: str) -> dict[str, Any] | None:
    """What the lock says; {} where it is not readable, None where there is none."""
    try:
        return files.read_json(path)
    except FileNotFoundError:
        return None
    except DamagedError:
        return {}


def _alive(path: str, holder: dict[str, Any]) -> bool:
    """Whether the holder still works, as the system or its touches tell."""
    if holder.get("machine") and holder["machine"] == _machine():
        born = _born(holder["pid"])
        if born or not _exists(holder["pid"]):
            return born == holder["born"]
    seen, began = _touched(path), time.monotonic()
    who = f"process {holder.get('pid')} on {holder.get('host')}"
    print(f"{path}: looking whether {who} still works", file=sys.stderr, flush=True)
    while time.monotonic() - began < SILENCE:
        time.sleep(LOOK)
        if _touched(path) != seen:
            # Gone, or another's: the next try finds out; else the holder lives.
            return _holder(path) == holder
    return False


def _touched(path: str) -> int:
    """When the lock was touched last, by the clock of its disk; 0 where there is none."""
    try:
        # Opening it makes a share ask its server again.
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        return os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)


def _touch(path: str, ended: threading.Event) -> None:
    """Shows until the end that the holder lives."""
    while not ended.wait(BEAT):
        try:
            os.utime(path)
        except FileNotFoundError:
            return  # somebody took it away who knows better
        except OSError as error:
            # A share that is away for a moment; the next touch comes well within SILENCE.
            print(f"cannot touch {path}: {error}", file=sys.stderr, flush=True)


def _clear(path: str, holder: dict[str, Any] | None) -> None:
    """Removes a dead holder's lock; one that another process has put there since stays."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        # Of several that found the same dead holder one is here at a time; the others then see
        # that the file they opened is the lock no more.
        with suppress(OSError):  # a share without it: then two at the same moment may collide
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.samestat(os.fstat(handle), os.stat(path)) and _holder(path) == holder:
            os.unlink(path)
    except FileNotFoundError:
        return
    finally:
        os.close(handle)
