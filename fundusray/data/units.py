"""One unit of a prepared set: some photographs, prepared, in one Arrow file.

Beside `unit-00000.arrow` (image_id, image) lies `unit-00000.json`, written after it: which rows
were kept, what is known of them, which were skipped and why, and the file's digest.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa

from fundusray import files
from fundusray.config import Data
from fundusray.data.images import BadImage, decode, encode_jpeg
from fundusray.data.preprocess import PREPROCESS, Preprocess

FORMAT = 1
"""Goes up when older sets can no longer be read."""
QUALITY = 95
THREADS = 2
"""Photographs of a unit in work at a time; Pillow decodes without holding the interpreter."""
BATCH = 64
"""Rows of an Arrow record batch."""
IMAGES = pa.schema([("image_id", pa.string()), ("image", pa.large_binary())])
COLUMNS = ("width", "height", "repaired", "sha256")
"""What is first known of a photograph when it is decoded; columns of the manifest."""


class _Prepared(NamedTuple):
    """What became of one photograph."""

    image: bytes = b""
    width: int = 0
    height: int = 0
    repaired: bool = False
    sha256: str = ""
    reason: str = ""
    """Not empty: it is skipped."""
    again: bool = False
    """It could not be read, which may be mended by the next run."""


def write_shard(folder: str, index: int, chunk: pa.Table, data: Data, root: str) -> dict[str, Any]:
    """Prepares some rows of a manifest as one unit; what became of them, as JSON values.

    A photograph that gives no picture is a row of `skipped`, never an exception. Memory: the
    encoded results of the chunk and the pixels of THREADS photographs.

    Raises:
        DiskError: the disk is full.
    """
    name = f"unit-{index:05d}"
    key = _chunk_key(chunk, data)
    known = _existing(folder, name, key)
    if known is not None:
        return known
    rows = chunk.select(["image_id", "path"]).to_pylist()
    step = PREPROCESS.find(data.preprocess)
    with ThreadPoolExecutor(THREADS) as pool:
        done = list(pool.map(lambda row: _prepare(row["path"], root, step, data.size), rows))
    kept = [i for i, one in enumerate(done) if not one.reason]
    content = _arrow_file([(rows[i]["image_id"], done[i].image) for i in kept])
    unit = {
        "name": f"{name}.arrow",
        "chunk": key,
        "chunk_rows": len(rows),
        "kept": kept,
        "rows": len(kept),
        "bytes": len(content),
        "sha256": files.sha256(content),
        "columns": {name: [getattr(done[i], name) for i in kept] for name in COLUMNS},
        "skipped": [
            {"image_id": row["image_id"], "where": row["path"]}
            | {"reason": one.reason, "again": one.again}
            for row, one in zip(rows, done, strict=True)
            if one.reason
        ],
    }
    files.write_bytes(files.join(folder, f"{name}.arrow"), content)
    files.write_json(files.join(folder, f"{name}.json"), unit)
    return unit


def _chunk_key(chunk: pa.Table, data: Data) -> str:
    """A digest of which photographs a unit holds, so that no unit is taken for another."""
    columns = [chunk[name].to_pylist() for name in ("image_id", "path", "num_bytes")]
    return files.hash_json([FORMAT, QUALITY, data.size, data.preprocess, columns])


def _existing(folder: str, name: str, key: str) -> dict[str, Any] | None:
    """The unit's record if it is there, whole, of these rows, and nothing is worth a new try."""
    try:
        unit = files.read_json(files.join(folder, f"{name}.json"))
        whole = files.sha256_file(files.join(folder, f"{name}.arrow")) == unit["sha256"]
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None
    if not whole or unit["chunk"] != key or any(row["again"] for row in unit["skipped"]):
        return None
    return unit


def _prepare(path: str, root: str, step: Preprocess, size: int) -> _Prepared:
    """One photograph from file to prepared JPEG."""
    try:
        content = files.read_bytes(files.join(root, path))
    except OSError as error:
        return _Prepared(reason=f"cannot be read: {error.strerror or error}", again=True)
    try:
        decoded = decode(content, step.min_side(size))
        pixels = step.function(decoded.pixels, size)
    except BadImage as error:
        return _Prepared(reason=str(error))
    image = encode_jpeg(pixels, QUALITY)
    digest = files.sha256(content)
    return _Prepared(image, decoded.width, decoded.height, decoded.repaired, digest)


def _arrow_file(rows: list[tuple[str, bytes]]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, IMAGES) as writer:
        for start in range(0, len(rows), BATCH):
            columns = zip(*rows[start : start + BATCH], strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, IMAGES, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=IMAGES))
    return sink.getvalue().to_pybytes()
