"""Photographs in a NumPy archive (.npz), as MedMNIST publishes them; nothing in it is trusted.

An archive may hold <part>_images uint8 [N, H, W, 3] and <part>_labels [N, 1] for the parts train,
val and test. Headers are judged before memory is taken: an array must be as large as its header
says, and everything together at most LIMIT. Pickled objects are never read.
"""

import io
import math
import os
import threading
import zipfile
import zlib
from functools import lru_cache
from typing import IO, Any

import numpy as np

from fundusray import files
from fundusray.errors import InputError

PARTS = ("train", "val", "test")
LIMIT = 2 * 1024**3
"""Bytes of all arrays together; the largest published archive of retinas holds 241 MB."""
LONGEST_HEADER = 10_000
_lock = threading.Lock()


def read_shapes(location: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the images and labels of each part that is there, judged by headers alone.

    Raises:
        InputError: no archive of photographs and labels, or one whose sizes cannot be.
    """
    try:
        with _open(location) as content, zipfile.ZipFile(content) as archive:
            infos = [info for info in archive.infolist() if _is_wanted(info.filename)]
            held = {info.filename.removesuffix(".npy"): info for info in infos}
            if len(held) < len(infos):
                raise InputError(f"{location}: an array is there twice; fetch the archive again")
            total = sum(info.file_size for info in infos)
            if total > LIMIT:
                limit = f"at most {LIMIT / 1e9:.1f} GB are read"
                raise InputError(f"{location}: its arrays need {total / 1e9:,.1f} GB; {limit}")
            shapes = {name: _shape(location, archive, info) for name, info in held.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{location}: not a sound .npz archive: {error}") from error
    _check_parts(location, shapes)
    return shapes


def _is_wanted(name: str) -> bool:
    part, _, kind = name.partition("_")
    return part in PARTS and kind in ("images.npy", "labels.npy")


def _open(location: str) -> IO[bytes]:
    if files.is_uri(location):
        return io.BytesIO(files.read_bytes(location))
    return open(location, "rb")


def _shape(location: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...]:
    """The shape that an array's header gives, which must agree with its size in the archive."""
    if info.flag_bits & 1:
        raise InputError(f"{location}: {info.filename} is encrypted")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise InputError(f"{location}: {info.filename} has format {version}, expected 1.0")
        reader = "read_array_header_1_0" if version == (1, 0) else "read_array_header_2_0"
        header: Any = getattr(np.lib.format, reader)(member, max_header_size=LONGEST_HEADER)
        shape, _, dtype = header
        num_bytes = member.tell() + math.prod(shape) * dtype.itemsize
    kinds = "u" if info.filename.endswith("images.npy") else "iu"
    if dtype.kind not in kinds or (kinds == "u" and dtype.itemsize != 1):
        raise InputError(f"{location}: {info.filename} holds {dtype}, expected uint8")
    if min(shape, default=0) < 1 or num_bytes != info.file_size:
        got = f"{shape} of {dtype} in {info.file_size:,} bytes"
        raise InputError(f"{location}: {info.filename} says {got}, which cannot be")
    return tuple(shape)


def _check_parts(location: str, shapes: dict[str, tuple[int, ...]]) -> None:
    if "train_images" not in shapes:
        need = "train_images, train_labels and the like of val and test"
        raise InputError(f"{location}: no train_images; expected {need}")
    for part in PARTS:
        images, labels = (shapes.get(f"{part}_{kind}") for kind in ("images", "labels"))
        if images is None and labels is None:
            continue
        good = images is not None and len(images) == 4 and images[3] == 3
        if not good or labels not in ((images[0], 1), (images[0],)):
            got = f"{part}_images {images}, {part}_labels {labels}"
            raise InputError(f"{location}: {got}; expected [N, H, W, 3] and [N, 1]")


def read_array(location: str, name: str) -> np.ndarray:
    """An array of an archive; the last two are kept in memory, until the file changes.

    Raises:
        InputError: as `read_shapes`; no such array; or it is damaged.
    """
    stamp = (0, 0)
    if not files.is_uri(location):
        status = os.stat(location)
        stamp = (status.st_mtime_ns, status.st_size)
    # Threads that ask at the same time must not load it twice.
    with _lock:
        return _load(location, stamp, name)


@lru_cache(maxsize=2)
def _load(location: str, stamp: tuple[int, int], name: str) -> np.ndarray:
    shapes = read_shapes(location)
    if name not in shapes:
        raise InputError(f"{location}: no array {name}; it holds {', '.join(sorted(shapes))}")
    try:
        with (
            _open(location) as content,
            zipfile.ZipFile(content) as archive,
            archive.open(f"{name}.npy") as member,
        ):
            array = np.lib.format.read_array(member, allow_pickle=False)
            member.read(1)  # at its end the checksum is compared
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise InputError(f"{location}: {name} is damaged ({error}); fetch it again") from error
    array.flags.writeable = False
    return array
