"""What is in the files of a set: digests of photographs and masks, read again only when they must.

A file whose size, times and inode are what they were holds what it held; that is asked of the
system, one call a file. Only a file that is new, was touched or moved is read again. One that was
written within the last seconds could be written once more within the same tick of its disk's
clock, so nothing is concluded from its times (as git does with its index).
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.data.photographs.mask_paths import mask_part, parse_mask_path
from fundusray.data.photographs.read import photograph_location, read_photo
from fundusray.errors import DamagedError, InputError

NAME = "contents.parquet"
SCHEMA = pa.schema(
    [
        ("stamp", pa.string()),  # of the photograph and its masks; "" where none can be relied on
        ("sha256", pa.string()),  # of the photograph; "" where it could not be read
        ("masks", pa.string()),  # of its masks together; "" without any
    ]
)
FRESH = 5.0
"""Seconds for which the times of a file that was written say nothing; two is the coarsest clock."""
READERS = 16


def file_stamps(table: pa.Table, roots: dict[str, str]) -> list[str]:
    """What the system says of each row's files, as a short text; "" where that proves nothing.

    Args:
        table: rows of a manifest.
        roots: dataset -> where its paths begin.
    """
    latest = time.time_ns() - int(FRESH * 1e9)
    asked: dict[str, str] = {}  # an archive holds many photographs

    def of(row: dict[str, Any]) -> str:
        root = roots[row["dataset"]]
        masks = [path for _, path in row.get("masks") or []]
        held = list(dict.fromkeys(parse_mask_path(path).file for path in masks))
        found = []
        for place in (photograph_location(root, path) for path in (row["path"], *held)):
            if place not in asked:
                asked[place] = files.stamp(place, latest)
            found.append(asked[place])
        parts = list(filter(None, map(mask_part, masks)))
        return files.hash_json(found + parts, 16) if all(found) else ""

    rows = _rows(table)
    if not any(files.is_uri(root) for root in roots.values()):
        return [of(row) for row in rows]
    with ThreadPoolExecutor(READERS) as pool:  # a store answers in milliseconds
        return list(pool.map(of, rows))


def row_digests(
    row: dict[str, Any], roots: dict[str, str], content: bytes | None = None
) -> list[str]:
    """(sha256 of the photograph, of its masks together) of a manifest's row, read now.

    A file that holds several masks is read once; which part of it is which mask counts, too.

    Args:
        content: the photograph's file, where it has been read already.
    """
    root = roots[row["dataset"]]
    paths = [(kind, path, parse_mask_path(path).file) for kind, path in row.get("masks") or []]
    held = {file: _digest(root, file) for file in dict.fromkeys(file for _, _, file in paths)}
    masks = [[kind, held[file], *filter(None, [mask_part(path)])] for kind, path, file in paths]
    own = _digest(root, row["path"]) if content is None else files.sha256(content)
    return [own, files.hash_json(masks, 64) if masks else ""]


def _digest(root: str, path: str) -> str:
    try:
        return files.sha256(read_photo(root, path))
    except (OSError, InputError):  # whoever uses it says so
        return ""


def content_table(
    table: pa.Table, roots: dict[str, str], known: Sequence[pa.Table], wanted: Sequence[bool] = ()
) -> pa.Table:
    """The digests of every row's files, as SCHEMA.

    Args:
        known: earlier answers for the same rows; those whose stamp still holds are taken.
        wanted: which rows are to be read where no answer holds; all unless given.
    """
    now = file_stamps(table, roots)
    found: list[list[str] | None] = [None] * len(now)
    for earlier in known:
        columns = (earlier[name].to_pylist() for name in SCHEMA.names)
        for index, (stamp, *answer) in enumerate(zip(*columns, strict=True)):
            if stamp and stamp == now[index] and answer[0]:
                found[index] = answer
    rows = _rows(table)
    todo = [i for i, answer in enumerate(found) if answer is None and (not wanted or wanted[i])]
    with ThreadPoolExecutor(READERS) as pool:
        for i, answer in zip(
            todo, pool.map(lambda i: row_digests(rows[i], roots), todo), strict=True
        ):
            found[i] = answer
    answers = [answer or ["", ""] for answer in found]
    return as_table(now, [a[0] for a in answers], [a[1] for a in answers])


def as_table(stamp: Sequence[str], sha256: Sequence[str], masks: Sequence[str]) -> pa.Table:
    """The answers as SCHEMA."""
    columns = [pa.array(column, pa.string()) for column in (stamp, sha256, masks)]
    return pa.table(columns, schema=SCHEMA)


def content_summary(found: pa.Table) -> str:
    """One digest of what is in all files; stamps do not count."""
    return files.hash_json([found[name].to_pylist() for name in ("sha256", "masks")], 16)


def read_contents(folder: str, num_rows: int) -> pa.Table | None:
    """The answers kept in a folder; None where there are none that can be used."""
    place = files.join(folder, NAME)
    try:
        found = files.read_table(place)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        said = f"{str(error).partition(';')[0]}: the photographs are read again"
        print(said, file=sys.stderr, flush=True)
        return None
    return found if found.num_rows == num_rows and found.schema.equals(SCHEMA) else None


def unchanged_rows(now: Sequence[str], before: pa.Table) -> np.ndarray:
    """Which rows' [N] files are certainly what they were when `before` was taken."""
    stamp, then = np.array(now), np.array(before["stamp"].to_pylist())
    return (stamp == then) & (stamp != "")


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    names = [n for n in ("image_id", "dataset", "path", "masks") if n in table.column_names]
    return table.select(names).to_pylist()
