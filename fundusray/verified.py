"""Folders that are whole or refused: every byte is vouched for by a MANIFEST written last.

One flipped bit in a weights file loads without complaint in every format, so each file's size and
sha256 stand in MANIFEST.json, and the MANIFEST vouches for itself. Locally a folder appears under
its name only complete (temporary folder, sync, rename). An object store has no rename: there the
old MANIFEST goes first and the new one comes last, so a torn write reads as damaged, never as half
old and half new.
"""

import json
import os
import secrets
from pathlib import PurePosixPath
from typing import Any

from fundusray import files
from fundusray.errors import DamagedError as DamagedError

MANIFEST = "MANIFEST.json"
ASIDE = ".old-"
"""What a folder is called for the moment between moving it away and moving the new one in."""


def write_verified(folder: str, content: dict[str, bytes], info: dict[str, Any]) -> None:
    """Writes a folder of files and its MANIFEST whole; one that is there is replaced.

    `info` is any JSON value without NaN and comes back from `read_verified`. What an interrupted
    write of the same folder left is removed first. One writer at a time per folder.

    Raises:
        DiskError: the disk is full; what was there before is untouched.
    """
    assert all(_is_plain(name) for name in content), f"not plain file names: {list(content)}"
    manifest = _manifest(
        {name: [len(data), files.sha256(data)] for name, data in content.items()}, info
    )
    if files.is_uri(folder):
        files.make_dir(folder)
        files.remove(files.join(folder, MANIFEST))
        for name, data in [*content.items(), (MANIFEST, manifest)]:
            files.write_bytes(files.join(folder, name), data)
        return
    folder = files.absolute(folder)
    _settle(folder)
    parent, name = os.path.split(folder)
    temporary = os.path.join(parent, f"{files.TEMPORARY}{secrets.token_hex(6)}-{name}")
    try:
        for part, data in [*content.items(), (MANIFEST, manifest)]:
            files.write_bytes(os.path.join(temporary, part), data)
    except BaseException:
        files.remove(temporary)
        raise
    aside = _aside(folder)
    if os.path.isdir(folder):
        os.rename(folder, aside)
    os.rename(temporary, folder)
    _sync(parent)
    files.remove(aside)


def read_verified(folder: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """(content by file name, info) of a folder; files the MANIFEST does not name are ignored.

    Raises:
        DamagedError: a file is missing, of another size or other bytes, or the MANIFEST is.
    """
    folder = files.absolute(folder)
    if not files.is_uri(folder) and not os.path.isdir(folder) and os.path.isdir(_aside(folder)):
        folder = _aside(folder)
    listed, info = _read_manifest(folder)
    return {name: _whole(folder, name, *listed[name]) for name in listed}, info


def read_part(folder: str, name: str) -> bytes | None:
    """One file of a folder, without reading the others; None where the MANIFEST has none such.

    Raises:
        DamagedError: as `read_verified`.
    """
    listed, _ = _read_manifest(files.absolute(folder))
    return _whole(files.absolute(folder), name, *listed[name]) if name in listed else None


def read_info(folder: str) -> dict[str, Any]:
    """What a folder was written with beside its files, which are not read.

    Raises:
        DamagedError: the MANIFEST is missing or not what was written.
    """
    return _read_manifest(files.absolute(folder))[1]


def _whole(folder: str, name: str, num_bytes: int, digest: str) -> bytes:
    """A file's content, which is what was written."""
    data = _read(folder, name)
    if len(data) != num_bytes:
        raise _damaged(folder, name, f"has {len(data):,} bytes, {num_bytes:,} were written")
    if files.sha256(data) != digest:
        raise _damaged(folder, name, "other bytes than were written (sha256 differs)")
    return data


def _manifest(listed: dict[str, list], info: dict[str, Any]) -> bytes:
    body = {"files": listed, "info": info}
    text = json.dumps(body, sort_keys=True, allow_nan=False)
    body["digest"] = files.sha256(text.encode())
    return (json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _read_manifest(folder: str) -> tuple[dict[str, list], dict[str, Any]]:
    raw = _read(folder, MANIFEST)
    try:
        body = json.loads(raw)
        listed, info = body["files"], body["info"]
        # Written again it must be the same text: no flipped bit hides in a number or a name.
        whole = _manifest(listed, info) == raw and all(_is_plain(name) for name in listed)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder, MANIFEST, f"unreadable ({type(error).__name__})") from error
    if not whole:
        raise _damaged(folder, MANIFEST, "other bytes than were written")
    return listed, info


def _read(folder: str, name: str) -> bytes:
    try:
        return files.read_bytes(files.join(folder, name))
    except FileNotFoundError as error:
        raise _damaged(folder, name, "missing") from error


def _damaged(folder: str, name: str, reason: str) -> DamagedError:
    return DamagedError(f"{files.join(folder, name)}: {reason}; use an intact copy of the folder")


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file in the folder itself, whatever a MANIFEST claims."""
    plain = PurePosixPath(name).name == name and "\\" not in name
    return plain and name not in ("", "..", MANIFEST)


def _aside(folder: str) -> str:
    parent, name = os.path.split(folder)
    return os.path.join(parent, ASIDE + name)


def _settle(folder: str) -> None:
    """Clears up after a write of this folder that was cut off at any moment."""
    parent, name = os.path.split(folder)
    if not os.path.isdir(parent):
        return
    aside = _aside(folder)
    if os.path.isdir(aside):
        # Cut off between the two renames: the old folder is the last whole one.
        files.remove(aside) if os.path.isdir(folder) else os.rename(aside, folder)
    for entry in os.listdir(parent):
        _, _, of = entry.removeprefix(files.TEMPORARY).partition("-")
        if entry.startswith(files.TEMPORARY) and of == name:
            files.remove(os.path.join(parent, entry))


def _sync(parent: str) -> None:
    """Makes the renames outlive a power cut."""
    handle = os.open(parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
