"""What each photograph of a set is, before anything is learned from it.

A scanned photograph is one row of EXAMINED. Rows are kept in parts as they come, and a row that is
there is not examined again: it is known by its data set, its id, its path and its size, and holds
for as long as its files hold what they did.
"""

import faulthandler
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from fundusray import files, sealed
from fundusray.config import Data
from fundusray.data.duplicates.fingerprint import LENGTH, fingerprint
from fundusray.data.photographs.decode import BadImage, DecodedPhotograph, decode_photograph
from fundusray.data.photographs.digests import row_digests
from fundusray.data.photographs.quality import quality_flags
from fundusray.data.photographs.read import PhotographMasks, read_photo
from fundusray.data.prepared.preprocess import PREPROCESS, preprocess_photograph
from fundusray.errors import DamagedError, InputError

VERSION = 2
"""Goes up when rows of EXAMINED mean something else: older parts are then not used."""
FLAGS = ("black", "tiny", "no_fundus", "torn", "dark", "bright", "grey", "masks")
IDENTITY_COLUMNS = ("dataset", "image_id", "path", "listed_bytes")
EXAMINED_COLUMNS = pa.schema(
    [
        ("dataset", pa.string()),
        ("image_id", pa.string()),
        ("path", pa.string()),  # "" where ids are keyed: a name may tell whose it is
        ("listed_bytes", pa.int64()),  # as the source's listing has it
        ("num_bytes", pa.int64()),  # as it was read
        ("sha256", pa.string()),
        ("masks_sha256", pa.string()),  # of all its masks together; "" without any
        ("status", pa.string()),  # ok, repaired, refused: what prepare will do with it
        ("reason", pa.string()),  # of what is not ok
        ("again", pa.bool_()),  # worth a new try by the next run: it could not be read
        ("recovered", pa.float64()),  # share of the rows that are there
        ("width", pa.int32()),  # of the upright original; 0 where it does not decode
        ("height", pa.int32()),
        ("flags", pa.list_(pa.string())),  # of FLAGS
        ("mask_faults", pa.string()),
        ("fingerprint", pa.binary(LENGTH)),  # null of what is refused
    ]
)
GLANCE = 64
"""Side at which a photograph is prepared to see whether prepare will: none is refused for it."""
NOTHING: dict[str, Any] = {
    "num_bytes": 0, "sha256": "", "masks_sha256": "",
    "status": "refused", "reason": "", "again": False,
    "recovered": 0.0, "width": 0, "height": 0, "flags": [], "mask_faults": "", "fingerprint": None,
}  # fmt: skip
"""What stands in a row of a photograph that gave nothing."""


def examine_photographs(
    rows: pa.Table, data: Data, roots: dict[str, str], limit: float = 0.0
) -> pa.Table:
    """Photographs of the manifest looked at one after the other, as EXAMINED.

    A file that gives no picture is a row with a reason, never an exception. Memory: two files and
    the pixels of one photograph.

    Args:
        roots: dataset -> where its paths begin.
        limit: above 0, the process ends when one photograph takes longer, seconds.

    Raises:
        InputError: a path leads out of its root, or an archive cannot be read.
    """
    examined = []
    for row, content in _read(rows.to_pylist(), roots):
        if limit:
            # A thread of C's own watches: Python's would wait for a decoder that never returns.
            faulthandler.dump_traceback_later(limit, exit=True, file=2)
        try:
            examined.append(_row(row, data, _examine(row, content, data, roots)))
        finally:
            if limit:
                faulthandler.cancel_dump_traceback_later()
    return pa.Table.from_pylist(examined, EXAMINED_COLUMNS)


def refused_photograph(row: pa.Table, data: Data, reason: str) -> pa.Table:
    """One photograph of the manifest, refused for a reason found elsewhere, as EXAMINED."""
    found = {"reason": reason, "again": True}
    rows = [_row(each, data, found) for each in row.to_pylist()]
    return pa.Table.from_pylist(rows, EXAMINED_COLUMNS)


def row_identity(row: dict[str, Any], data: Data) -> tuple[Any, ...]:
    """What a photograph of the manifest is known by among those examined: KNOWN_BY."""
    path = "" if data.id_key else row["path"]
    return row["dataset"], row["image_id"], path, row["num_bytes"]


def _row(row: dict[str, Any], data: Data, found: dict[str, Any]) -> dict[str, Any]:
    return NOTHING | dict(zip(IDENTITY_COLUMNS, row_identity(row, data), strict=True)) | found


def _read(
    rows: list[dict[str, Any]], roots: dict[str, str]
) -> Iterator[tuple[dict[str, Any], bytes | OSError]]:
    """Each row with its file's bytes, or why there are none; one file ahead of its use."""

    def read(row: dict[str, Any]) -> bytes | OSError:
        try:
            return read_photo(roots[row["dataset"]], row["path"])
        except OSError as error:
            return error

    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(read, row) for row in rows[:1]]
        for index, row in enumerate(rows):
            content = ahead.pop().result()
            ahead = [pool.submit(read, following) for following in rows[index + 1 : index + 2]]
            yield row, content


def _examine(
    row: dict[str, Any], content: bytes | OSError, data: Data, roots: dict[str, str]
) -> dict[str, Any]:
    """What is found of one photograph: columns of EXAMINED."""
    if isinstance(content, OSError):
        told = os.strerror(content.errno) if content.errno else type(content).__name__
        return {"reason": f"cannot be read: {told}", "again": True}
    own, masks = row_digests(row, roots, content)
    found: dict[str, Any] = {"num_bytes": len(content), "sha256": own, "masks_sha256": masks}
    try:
        decoded = decode_photograph(content, PREPROCESS.find(data.preprocess).min_side(data.size))
    except BadImage as error:
        return found | {"reason": str(error), "flags": [error.flag] if error.flag else []}
    flags = _flags(decoded, data.size)
    found |= {"width": decoded.width, "height": decoded.height, "recovered": decoded.recovered}
    if row["masks"]:
        masks = PhotographMasks(roots[row["dataset"]], row["masks"], named=not data.id_key)
        found["mask_faults"] = _mask_faults(row, decoded, masks)
        flags += ["masks"] if found["mask_faults"] else []
    try:
        preprocess_photograph(replace(data, size=min(data.size, GLANCE)), decoded.pixels)
    except BadImage as error:
        return found | {"reason": str(error), "flags": _ordered({*flags, "no_fundus"})}
    return found | {
        "status": "repaired" if decoded.repaired else "ok",
        "reason": decoded.note,
        "flags": _ordered(set(flags)),
        "fingerprint": fingerprint(decoded.pixels).tobytes(),
    }


def _flags(decoded: DecodedPhotograph, size: int) -> list[str]:
    flags = list(quality_flags(decoded.pixels))
    if decoded.recovered < 1 and "no_fundus" in flags:
        flags.remove("no_fundus")  # what is left of it need not look like one
    return flags + ["tiny"] * (min(decoded.width, decoded.height) < size / 2)


def _ordered(flags: set[str]) -> list[str]:
    return [flag for flag in FLAGS if flag in flags]


def _mask_faults(row: dict[str, Any], decoded: DecodedPhotograph, masks: PhotographMasks) -> str:
    """Which masks are not of the photograph's size or cannot be read; "" when all are sound."""
    faults = []
    for structure, _ in row["masks"]:
        try:
            height, width = masks.read(structure).shape
        except BadImage as error:
            faults.append(f"{structure}: {error}")
        except (OSError, InputError) as error:
            faults.append(f"{structure}: cannot be read ({type(error).__name__})")
        else:
            if (width, height) != (decoded.width, decoded.height):
                size = f"{width}x{height} pixels"
                faults.append(f"{structure}: {size}, not {decoded.width}x{decoded.height}")
    return "; ".join(faults)


def write_part(folder: str, examined: pa.Table) -> None:
    """Keeps some examined rows in a file of its own, which is named by its content."""
    content = sealed.table_to_bytes(examined)
    files.write_bytes(files.join(folder, f"{files.sha256(content)[:32]}.parquet"), content)


def read_parts(folder: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """All examined rows that are kept, by KNOWN_BY; a damaged part is removed.

    There are several rows of a photograph that was changed, or could not be read at first.
    """
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for name, _, _ in files.list_dir(folder):
        location = files.join(folder, name)
        try:
            part = files.read_table(location)
        except DamagedError:
            files.remove(location)
            continue
        for row in part.to_pylist():
            rows.setdefault(tuple(row[name] for name in IDENTITY_COLUMNS), []).append(row)
    return rows


def current_rows(
    parts: dict[tuple[Any, ...], list[dict[str, Any]]], keys: list[tuple[Any, ...]], held: pa.Table
) -> list[dict[str, Any] | None]:
    """The examined row of each photograph as it is now; None where there is none yet.

    Args:
        keys: of each photograph, of `row_identity`.
        held: what is in its files, of `data.photographs.digests`; only looked at where a row is
        kept.
    """
    found = []
    own, masks = (held[name].to_pylist() for name in ("sha256", "masks"))
    for key, *now in zip(keys, own, masks, strict=True):
        rows = [row for row in parts.get(key, []) if not row["again"]]
        same = [row for row in rows if [row["sha256"], row["masks_sha256"]] == now]
        found.append(same[0] if same else None)
    return found


def thumbnails(
    table: pa.Table, image_ids: set[str], roots: dict[str, str], side: int
) -> dict[str, np.ndarray]:
    """Photographs that are known to decode, by their ids, uint8 [H, W, 3], `side` at most."""
    wanted = table.filter(pc.is_in(table["image_id"], pa.array(sorted(image_ids), pa.string())))
    small = {}
    for row, content in _read(wanted.to_pylist(), roots):
        if isinstance(content, OSError):
            raise InputError(f"{row['image_id']} can no longer be read: {content}; scan again")
        image = Image.fromarray(decode_photograph(content, side).pixels)
        image.thumbnail((side, side), Image.Resampling.BOX)
        small[row["image_id"]] = np.asarray(image)
    return small
