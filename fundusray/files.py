"""Files on a local disk or an object store: written whole or not at all, hashed, listed.

A location is an absolute local path or a URI that pyarrow knows (`s3://`, `gs://`, `file://`).
A local write goes to a temporary name, is synced and renamed; an object store's put is already
atomic. Nothing else in the package opens a file of a run, so this holds everywhere.

JSON and tables that we write are sealed (`fundusray.sealed`): a flipped bit is damage by name and
never another figure. What others wrote is read by `read_plain_json`, or as bytes.
"""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import posixpath
import secrets
import shutil
import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from fundusray import sealed
from fundusray.errors import DiskError, InputError

TEMPORARY = ".tmp-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What an error says when there is no room: of the disk, of a quota, of a file's limit."""


def is_uri(location: str) -> bool:
    """Whether the location names a remote store rather than a local path."""
    return "://" in location


def absolute(location: str, base: str | None = None) -> str:
    """The location as an absolute path (against `base` or the working directory) or URI.

    Raises:
        InputError: a URI with options in it.
    """
    if is_uri(location):
        _refuse_options(location)
        return location.rstrip("/")
    return os.path.abspath(os.path.join(base or os.getcwd(), os.path.expanduser(location)))


def join(location: str, *parts: str) -> str:
    """The location of something inside a folder."""
    return "/".join([location.rstrip("/"), *parts])


def relative(location: str, folder: str, root: str) -> str:
    """A location inside `root` as seen from `folder`, beginning with a dot; any other as it is.

    What is kept inside a storage is kept so, and the storage can be moved and copied.
    """
    inside = location == root or location.startswith(root.rstrip("/") + "/")
    if not location or not inside:
        return location
    path = posixpath.relpath(location, folder)
    return path if path.startswith(".") else f"./{path}"


def resolve(location: str, folder: str) -> str:
    """The location that `relative` made seen from a folder; any other as it is."""
    if location.split("/")[0] not in (".", ".."):
        return location
    scheme, mark, path = folder.rpartition("://")
    return scheme + mark + posixpath.normpath(posixpath.join(path, location))


def base_name(location: str) -> str:
    """The last part of a location."""
    return location.rstrip("/").rsplit("/", 1)[-1]


def _refuse_options(location: str) -> None:
    """A path that is joined to a URI would become part of its options' values."""
    if "?" in location:
        raise InputError(
            f"{location}: a URI takes no options after a ?; give {location.partition('?')[0]} and "
            "say the rest in the environment, e.g. AWS_REGION=eu-west-1 or AWS_ENDPOINT_URL_S3"
        )


def _filesystem(location: str) -> tuple[pafs.FileSystem, str]:
    if not is_uri(location):
        return pafs.LocalFileSystem(), location
    _refuse_options(location)
    try:
        return pafs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"cannot use {location}: {error}; give a local path or s3://, gs://"
        ) from error


def exists(location: str) -> bool:
    """Whether a file or folder is there."""
    filesystem, path = _filesystem(location)
    return filesystem.get_file_info(path).type != pafs.FileType.NotFound


def is_dir(location: str) -> bool:
    """Whether a folder is there."""
    filesystem, path = _filesystem(location)
    return filesystem.get_file_info(path).type == pafs.FileType.Directory


def size(location: str) -> int:
    """Bytes in a file.

    Raises:
        FileNotFoundError: there is none.
    """
    filesystem, path = _filesystem(location)
    info = filesystem.get_file_info(path)
    if info.type != pafs.FileType.File:
        raise FileNotFoundError(location)
    return info.size


def stamp(location: str, latest: int) -> str:
    """What the system says of a file that changes with its content: size, times, inode.

    "" where there is no such file, nothing is said of times, or one is later than `latest`
    (nanoseconds since 1970).
    """
    filesystem, path = _filesystem(location)
    if isinstance(filesystem, pafs.LocalFileSystem):
        try:
            status = os.stat(path)
        except OSError:
            return ""
        # The second cannot be set back, as copying programs do with the first.
        times = (status.st_mtime_ns, status.st_ctime_ns)
        found = (status.st_size, *times, status.st_ino)
    else:
        info = filesystem.get_file_info(path)
        times = (info.mtime_ns or 0,)
        found = (info.size, *times)
    return "" if not min(times) or max(times) > latest else ":".join(map(str, found))


def list_dir(location: str) -> list[tuple[str, bool, int]]:
    """(name, is a folder, bytes) of everything in a folder, sorted; temporaries are left out."""
    filesystem, path = _filesystem(location)
    found = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    rows = [(f.base_name, f.type == pafs.FileType.Directory, f.size or 0) for f in found]
    return sorted(row for row in rows if not row[0].startswith(TEMPORARY))


def _require_content(location: str) -> None:
    """Refuses a pipe, socket or device, whose reading might never end.

    Raises:
        InputError: it is one.
    """
    if is_uri(location) or not os.path.exists(location):
        return
    mode = os.stat(location).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{location} is a pipe, socket or device; give a plain file")


def read_bytes(location: str) -> bytes:
    """A whole file.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is a pipe, a socket or a device.
    """
    _require_content(location)
    filesystem, path = _filesystem(location)
    with filesystem.open_input_stream(path) as stream:
        return stream.read()


def write_bytes(location: str, content: bytes) -> None:
    """Writes a whole file or nothing.

    Raises:
        DiskError: the disk is full; what was there before is untouched.
    """
    filesystem, path = _filesystem(location)
    if not isinstance(filesystem, pafs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)
        return
    target = Path(path)
    temporary = target.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{target.name}")
    try:
        make_dir(str(target.parent))
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        _sync_dir(target.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _disk_error(error, path, len(content)) from error


def _sync_dir(folder: Path) -> None:
    """Makes a rename outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disk_error(error: OSError, path: str, needed: int) -> Exception:
    if error.errno not in FULL:
        return error
    parent = next(p for p in Path(path).parents if p.exists())
    free = shutil.disk_usage(parent).free
    return DiskError(
        f"{path}: needs {needed:,} bytes, {free:,} free; free some space and run again"
    )


def make_dir(location: str) -> None:
    """Makes a folder and its parents; a folder that is there is fine."""
    filesystem, path = _filesystem(location)
    if isinstance(filesystem, pafs.LocalFileSystem):
        os.makedirs(path, mode=0o750, exist_ok=True)
    else:
        filesystem.create_dir(path, recursive=True)


def remove(location: str) -> None:
    """Removes a file or a whole folder; one that is not there is fine."""
    filesystem, path = _filesystem(location)
    kind = filesystem.get_file_info(path).type
    if kind == pafs.FileType.Directory:
        filesystem.delete_dir(path)
    elif kind == pafs.FileType.File:
        filesystem.delete_file(path)


def sweep(location: str) -> None:
    """Removes what interrupted writes left in a local folder."""
    if not is_uri(location) and os.path.isdir(location):
        for entry in os.scandir(location):
            if entry.name.startswith(TEMPORARY):
                with contextlib.suppress(FileNotFoundError):  # its writer lives, and is done
                    shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)


def read_json(location: str) -> dict[str, Any]:
    """What `write_json` wrote, whole.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not what was written, or nobody vouches for it.
    """
    return sealed.json_from_bytes(read_bytes(location), location)


def read_plain_json(location: str) -> Any:
    """The value of a JSON file that another program or a person wrote; nothing vouches for it."""
    return json.loads(read_bytes(location))


def write_json(location: str, value: dict[str, Any]) -> None:
    """Writes a JSON object, indented and sealed; NaN is refused, since JSON has none."""
    write_bytes(location, sealed.json_to_bytes(value))


def read_table(location: str) -> pa.Table:
    """The table that `write_table` wrote, whole.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not what was written, or nobody vouches for it.
    """
    return sealed.table_from_bytes(read_bytes(location), location)


def write_table(location: str, table: pa.Table) -> None:
    """Writes a table as Parquet, which any reader of Parquet reads, and seals it."""
    write_bytes(location, sealed.table_to_bytes(table))


def write_csv(location: str, rows: list[dict[str, Any]]) -> None:
    """Writes rows of equal keys as CSV; text that a spreadsheet would run gets a quote first."""
    sink = io.StringIO()
    # Ends of line as RFC 4180 has them; a carriage return in a cell is then quoted.
    writer = csv.DictWriter(sink, list(rows[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows([{key: _inert(value) for key, value in row.items()} for row in rows])
    write_bytes(location, sink.getvalue().encode())


def _inert(value: Any) -> Any:
    dangerous = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return "'" + value if dangerous else value


def sha256(content: bytes | memoryview) -> str:
    """The hex digest of some bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(location: str) -> str:
    """The hex digest of a file, read in pieces.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is a pipe, a socket or a device.
    """
    _require_content(location)
    filesystem, path = _filesystem(location)
    digest = hashlib.sha256()
    with filesystem.open_input_stream(path) as stream:
        while piece := stream.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def hash_json(value: Any, length: int = 12) -> str:
    """A short digest of a JSON value that does not depend on the order of keys."""
    return sha256(json.dumps(value, sort_keys=True).encode())[:length]


def local_copy(location: str, cache: str) -> str:
    """A local path with the folder's files: itself, or a copy of a remote folder in `cache`.

    Files that are there with the same size are not fetched again; the caller checks their hashes.
    """
    if not is_uri(location):
        return location
    target = os.path.join(cache, sha256(location.encode())[:16])
    for name, folder, num_bytes in list_dir(location):
        copy = os.path.join(target, name)
        if folder or (os.path.exists(copy) and os.path.getsize(copy) == num_bytes):
            continue
        write_bytes(copy, read_bytes(join(location, name)))
    return target
