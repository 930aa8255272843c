"""One unit of a prepared set: some photographs, prepared, in one file.

It is `unit-00000.arrow` (image_id, image as JPEG) or, of a raw set, `unit-00000.u8` (uint8
[n, S, S, 3] and nothing else); where masks are kept, they are in `unit-00000.masks` (image_id,
masks as compressed bit planes). Beside it lie `unit-00000.prints` (int8 [n, LENGTH], by which
near-duplicates are found) and, written last, `unit-00000.json`: which rows were kept, what is
known of them, which were skipped and why, what was in every file that was read, and the digests
of the unit's own files.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.config import Data
from fundusray.data.duplicates.fingerprint import LENGTH, fingerprint
from fundusray.data.photographs.decode import BadImage, decode_photograph, encode_jpeg
from fundusray.data.photographs.digests import row_digests
from fundusray.data.photographs.read import read_photo
from fundusray.data.prepared.geometry import Geometry
from fundusray.data.prepared.masks import EVERY, compressed_planes, read_planes
from fundusray.data.prepared.preprocess import PREPROCESS, preprocess_photograph
from fundusray.errors import DamagedError, InputError

FORMAT = 3
"""Goes up when older sets can no longer be read."""
QUALITY = 95
THREADS = 2
"""Photographs of a unit in work at a time; Pillow decodes without holding the interpreter."""
BATCH = 64
"""Rows of an Arrow record batch."""
ENDINGS = {"jpeg": "arrow", "raw": "u8"}
"""Encoding -> how the name of a unit's file ends."""
IMAGES = pa.schema([("image_id", pa.string()), ("image", pa.large_binary())])
MASKS = pa.schema([("image_id", pa.string()), ("masks", pa.large_binary())])
COLUMNS = ("width", "height", "repaired", "sha256")
"""What is first known of a photograph when it is decoded; columns of the manifest."""
CROP = ("crop_left", "crop_top", "crop_width", "crop_height")
"""The rectangle of the upright photograph that its prepared image shows, pixels; columns that a
prepared set has beside the manifest's."""
SEEN = ("seen_left", "seen_top", "seen_right", "seen_bottom")
"""What of the prepared image the photograph covers, its pixels; such columns, too."""


class _Prepared(NamedTuple):
    """What became of one photograph."""

    image: bytes = b""
    """Empty in a raw set, whose pixels are in their place already."""
    masks: bytes = b""
    """Empty where none are kept."""
    prints: bytes = b""
    """The fingerprint of the photograph as it was decoded."""
    width: int = 0
    height: int = 0
    repaired: bool = False
    crop: tuple[float, ...] = ()
    """The values of CROP."""
    seen: tuple[int, ...] = ()
    """The values of SEEN."""
    sha256: str = ""
    """Of the file; empty where it could not be read."""
    masks_sha256: str = ""
    """Of the files of its masks together."""
    reason: str = ""
    """Not empty: it is skipped."""
    again: bool = False
    """It could not be read, which may be mended by the next run."""


def masks_file(name: str) -> str:
    """The file of the masks of a unit, of which the file of the images is called so."""
    return name.rpartition(".")[0] + ".masks"


def write_shard(
    folder: str,
    index: int,
    chunk: pa.Table,
    data: Data,
    roots: dict[str, str],
    still: Sequence[bool] = (),
) -> dict[str, Any]:
    """Prepares some rows of a manifest as one unit; what became of them, as JSON values.

    A photograph that gives no picture is a row of `skipped`, never an exception. Memory: the
    results of the chunk, once, and the pixels of THREADS photographs.

    Args:
        data: its `masks` are kinds, and not "all".
        roots: dataset -> where its paths begin.
        still: rows whose files are certainly what they were when the unit was made, should it be
            there; the other rows' are read and compared.

    Raises:
        InputError: a path leads out of its root, or an archive cannot be read.
        DiskError: the disk is full.
    """
    name = f"unit-{index:05d}"
    image_file = f"{name}.{ENDINGS[data.encoding]}"
    key = _chunk_key(chunk, data)
    names = [n for n in ("image_id", "dataset", "path", "masks") if n in chunk.column_names]
    rows = chunk.select(names).to_pylist()
    known = _existing(folder, name, key, data)
    if known is not None and _holds(known, rows, roots, still):
        return known
    done, content = _prepare_all(rows, data, roots)
    kept = [i for i, one in enumerate(done) if not one.reason]
    fields = {f"{name}.prints": b"".join(done[i].prints for i in kept)}
    if data.masks:
        masks = [(rows[i]["image_id"], done[i].masks) for i in kept]
        fields[masks_file(image_file)] = arrow_file(masks, MASKS)
    unit = {
        "name": image_file,
        "chunk": key,
        "chunk_rows": len(rows),
        "kept": kept,
        "rows": len(kept),
        "bytes": len(content),
        "sha256": files.sha256(content),
        "fields": {file: files.sha256(content) for file, content in fields.items()},
        "contents": [one.sha256 for one in done],
        "masks": [one.masks_sha256 for one in done],
        "columns": {name: [getattr(done[i], name) for i in kept] for name in COLUMNS}
        | {name: [done[i].crop[place] for i in kept] for place, name in enumerate(CROP)}
        | {name: [done[i].seen[place] for i in kept] for place, name in enumerate(SEEN)},
        "skipped": _skipped(rows, done, data),
    }
    files.write_bytes(files.join(folder, image_file), content)
    for file, field in fields.items():
        files.write_bytes(files.join(folder, file), field)
    files.write_json(files.join(folder, f"{name}.json"), unit)
    return unit


def _skipped(rows: list[dict[str, str]], done: list[_Prepared], data: Data) -> list[dict[str, Any]]:
    """What is said of the rows that are not kept."""
    return [
        {"image_id": row["image_id"], "where": row["image_id" if data.id_key else "path"]}
        | {"reason": one.reason, "again": one.again}
        for row, one in zip(rows, done, strict=True)
        if one.reason
    ]


def _prepare_all(
    rows: list[dict[str, str]], data: Data, roots: dict[str, str]
) -> tuple[list[_Prepared], bytes | memoryview]:
    """What became of each row, and the file of those that are kept."""
    raw = data.encoding == "raw"
    # Pixels are written where they stay: no second copy of a unit is ever held.
    places = np.empty((len(rows) if raw else 0, data.size, data.size, 3), np.uint8)
    with ThreadPoolExecutor(THREADS) as pool:
        work = zip(rows, places if raw else [None] * len(rows), strict=True)
        done = list(pool.map(lambda one: _prepare(one[0], data, roots, one[1]), work))
    kept = [i for i, one in enumerate(done) if not one.reason]
    if raw:
        return done, _close_up(places, kept)
    return done, arrow_file([(rows[i]["image_id"], done[i].image) for i in kept], IMAGES)


def read_prints(folder: str, unit: dict[str, Any]) -> np.ndarray:
    """The fingerprints of a unit's rows, int8 [n, LENGTH].

    Raises:
        InputError: they are not what was written.
    """
    name = unit["name"].rpartition(".")[0] + ".prints"
    location = files.join(folder, name)
    content = files.read_bytes(location)
    if files.sha256(content) != unit["fields"][name]:
        raise InputError(f"{location} is damaged; run again: only this unit is then made again")
    return np.frombuffer(content, np.int8).reshape(-1, LENGTH)


def _chunk_key(chunk: pa.Table, data: Data) -> str:
    """A digest of which photographs a unit holds, so that no unit is taken for another."""
    # No path: whoever guesses the name of a photograph whose id is keyed could prove it by this.
    # The folder of a set is named by the whole manifest, paths and all.
    columns = [chunk[name].to_pylist() for name in ("image_id", "dataset", "num_bytes")]
    how = [data.size, data.preprocess, data.preprocess_args, data.encoding, *CROP, *SEEN]
    if data.masks:
        assert EVERY not in data.masks, "kinds of masks are worked out from the whole manifest"
        kinds = [[kind for kind, _ in masks] for masks in chunk["masks"].to_pylist()]
        how += [list(data.masks), kinds]
    return files.hash_json([FORMAT, QUALITY, *how, columns])


def _existing(folder: str, name: str, key: str, data: Data) -> dict[str, Any] | None:
    """The unit's record if it is there, whole, of these rows, and nothing is worth a new try."""
    try:
        unit = files.read_json(files.join(folder, f"{name}.json"))
        expected = {f"{name}.{ENDINGS[data.encoding]}": unit["sha256"]} | unit["fields"]
        whole = all(
            files.sha256_file(files.join(folder, file)) == digest
            for file, digest in expected.items()
        )
    except (FileNotFoundError, DamagedError, KeyError):
        return None  # missing, not what was written, or of another version
    if not whole or unit["chunk"] != key or any(row["again"] for row in unit["skipped"]):
        return None
    return unit


def _holds(
    unit: dict[str, Any], rows: list[dict[str, Any]], roots: dict[str, str], still: Sequence[bool]
) -> bool:
    """Whether the files of a unit's rows are what they were when it was made."""
    then = zip(unit["contents"], unit["masks"], strict=True)
    with ThreadPoolExecutor(THREADS) as pool:
        left = [i for i in range(len(rows)) if not still or not still[i]]
        now = dict(zip(left, pool.map(lambda i: row_digests(rows[i], roots), left), strict=True))
    return all(now.get(i, [*was]) == [*was] for i, was in enumerate(then))


def _prepare(
    row: dict[str, str], data: Data, roots: dict[str, str], place: np.ndarray | None
) -> _Prepared:
    """One photograph from file to prepared JPEG, or to its place in a raw unit."""
    try:
        content = read_photo(roots[row["dataset"]], row["path"])
    except OSError as error:
        return _Prepared(reason=f"cannot be read: {_told(error, data)}", again=True)
    digest, masks = row_digests(row, roots, content)
    try:
        decoded = decode_photograph(content, PREPROCESS.find(data.preprocess).min_side(data.size))
        pixels, geometry, seen = preprocess_photograph(data, decoded.pixels)
        whole = (decoded.height, decoded.width)
        geometry = geometry.scaled(decoded.scale, decoded.margin, whole)
        kept = _masks(row, roots[row["dataset"]], data, geometry)
    except (BadImage, _Unread) as error:
        again = isinstance(error, _Unread)
        return _Prepared(reason=str(error), again=again, sha256=digest, masks_sha256=masks)
    image = b""
    if place is None:
        image = encode_jpeg(pixels, QUALITY)
    else:
        place[:] = pixels
    return _Prepared(
        image,
        kept,
        fingerprint(decoded.pixels).tobytes(),
        decoded.width,
        decoded.height,
        decoded.repaired,
        (geometry.left, geometry.top, geometry.width, geometry.height),
        tuple(seen),
        digest,
        masks,
    )


class _Unread(Exception):
    """A mask that could not be read."""


def _masks(row: dict[str, Any], root: str, data: Data, geometry: Geometry) -> bytes:
    """The masks of a prepared photograph that are kept, compressed; empty where none are."""
    if not data.masks:
        return b""
    try:
        planes = read_planes(row, root, data.masks, geometry, named=not data.id_key)
        return compressed_planes(planes)
    except OSError as error:
        raise _Unread(f"a mask cannot be read: {_told(error, data)}") from error


def _told(error: OSError, data: Data) -> str:
    """What a failed read says; where ids are keyed without the name of the file."""
    if data.id_key:
        return os.strerror(error.errno) if error.errno else type(error).__name__
    return error.strerror or str(error)


def _close_up(places: np.ndarray, kept: list[int]) -> memoryview:
    """The kept rows moved together to the front, as their bytes; in place."""
    for to, row in enumerate(kept):
        if to != row:
            places[to] = places[row]
    return places[: len(kept)].reshape(-1).data


def arrow_file(rows: list[tuple[str, bytes]], schema: pa.Schema) -> bytes:
    """The Arrow file of rows of ids and contents."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, len(rows), BATCH):
            columns = zip(*rows[start : start + BATCH], strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    return sink.getvalue().to_pybytes()
