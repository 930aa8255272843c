"""Prepared sets: every photograph preprocessed once, kept as JPEG in memory-mapped Arrow files.

A set is a folder, local or in a store: `unit-00000.arrow` (image_id, image) with what is known of
it beside it in `unit-00000.json`, `manifest.parquet` (row i is position i), `skipped.parquet`, and
`set.json`, which is written last: with it the set is complete. Units are made independently and in
any order; one that is there and whole is not made again.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import PIL
import pyarrow as pa
import torch

import fundusray
from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest import SKIPPED, Manifest, counts
from fundusray.data.preprocess import PREPROCESS
from fundusray.data.units import COLUMNS, FORMAT, QUALITY, write_shard
from fundusray.errors import BadInputsError, InputError

__all__ = ["PreparedSet", "finish", "is_complete", "open_set", "set_folder", "write_shard"]

SHOWN = 20
CACHE = "~/.cache/fundusray"
NEEDED = {"classes", "fill", "manifest", "shards", "size", "tables"}


def settings(data: Data, manifest: Manifest) -> dict[str, Any]:
    """Everything that decides what is in a prepared set."""
    return {
        "format": FORMAT,
        "manifest": manifest.hash,
        "classes": list(manifest.classes),
        "source": data.source,
        "preprocess": data.preprocess,
        "preprocess_version": PREPROCESS.find(data.preprocess).version,
        "size": data.size,
        "quality": QUALITY,
        "num_images": data.num_images if data.source == "synthetic" else None,
    }


def set_folder(storage: str, data: Data, manifest: Manifest) -> str:
    """Where a prepared set lives: its name tells what it is, its hash exactly what."""
    key = files.hash_json(settings(data, manifest))
    return files.join(storage, "prepared", f"{data.source}-{data.preprocess}-{data.size}-{key}")


def is_complete(folder: str) -> bool:
    """Whether the set was finished."""
    return files.exists(files.join(folder, "set.json"))


def finish(folder: str, data: Data, manifest: Manifest, units: list[dict[str, Any]]) -> None:
    """Joins the units, in the order of the manifest, and declares the set complete.

    Raises:
        BadInputsError: more photographs were skipped than data.max_bad allows; units stay.
        InputError: fewer than two classes are left.
    """
    ends = np.cumsum([unit["chunk_rows"] for unit in units])
    assert ends[-1] == manifest.table.num_rows, "the units do not cover the manifest"
    begun = [(end - unit["chunk_rows"], unit) for end, unit in zip(ends, units, strict=True)]
    kept = np.concatenate([start + np.array(unit["kept"], np.int64) for start, unit in begun])
    skipped = manifest.skipped.to_pylist()
    skipped += [{k: row[k] for k in SKIPPED.names} for unit in units for row in unit["skipped"]]
    _check_share(data, skipped, len(kept))
    table = manifest.table.take(kept)
    for name in COLUMNS:
        table = _filled(table, name, [v for unit in units for v in unit["columns"][name]])
    present = counts(table, len(manifest.classes))
    if np.count_nonzero(present) < 2:
        raise InputError(f"all {len(kept):,} usable images are of one class; two are needed")
    aside = pa.Table.from_pylist(skipped, SKIPPED)
    tables = {"manifest.parquet": table, "skipped.parquet": aside}
    for name, content in tables.items():
        files.write_table(files.join(folder, name), content)
    shards = [{key: unit[key] for key in ("name", "rows", "sha256", "bytes")} for unit in units]
    described = settings(data, manifest) | {
        "counts": present.tolist(),
        "fill": PREPROCESS.find(data.preprocess).fill,
        "num_skipped": len(skipped),
        "shards": shards,
        "tables": {name: files.sha256_file(files.join(folder, name)) for name in tables},
        "versions": {
            "fundusray": fundusray.__version__,
            "pillow": PIL.__version__,
            "torch": torch.__version__,
        },
    }
    files.write_json(files.join(folder, "set.json"), described)


def _filled(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """The table with one column's values replaced."""
    column = table.schema.field(name)
    place = table.schema.get_field_index(name)
    return table.set_column(place, column, pa.array(values, column.type))


def _check_share(data: Data, skipped: list[dict[str, str]], kept: int) -> None:
    share = len(skipped) / max(1, len(skipped) + kept)
    if share <= data.max_bad and kept:
        return
    lines = [
        f"{len(skipped):,} of {len(skipped) + kept:,} images cannot be used"
        f" ({share:.1%}; data.max_bad allows {data.max_bad:.1%}):",
        *(f"  {row['where']}: {row['reason']}" for row in skipped[:SHOWN]),
    ]
    if len(skipped) > SHOWN:
        lines.append(f"  and {len(skipped) - SHOWN:,} more")
    enough = np.ceil(share * 1000) / 1000
    cure = f"restore them, or set data.max_bad={enough:g} to go on without them; what is done stays"
    lines.append(cure if kept else "no image is left; restore them")
    raise BadInputsError("\n".join(lines))


@dataclass(frozen=True)
class PreparedSet:
    """An opened set; its images stay on disk until they are asked for."""

    folder: str
    """Where its files are on this machine."""
    info: dict[str, Any]
    """What set.json holds."""
    table: pa.Table
    """The manifest's rows; row i is position i."""
    _parts: list[np.ndarray] = field(repr=False)
    """uint8 views of the images of one record batch each, all in a row."""
    _places: np.ndarray = field(repr=False)
    """int64 [N, 3]: part, begin and end of each row's image."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a target is a position in it."""
        return tuple(self.info["classes"])

    @property
    def size(self) -> int:
        """Side of every image, pixels."""
        return self.info["size"]

    @property
    def fill(self) -> float:
        """Value outside the fundus, in [0, 1]."""
        return self.info["fill"]

    def __len__(self) -> int:
        return len(self._places)

    def encoded(self, rows: np.ndarray) -> list[np.ndarray]:
        """The JPEG bytes of some rows, uint8 1-D, read-only views of the mapped files."""
        places = self._places[np.asarray(rows, np.int64)].tolist()
        return [self._parts[part][begin:end] for part, begin, end in places]

    def targets(self) -> np.ndarray:
        """The class of every row, int64 [N]."""
        return self.table["grade"].to_numpy().astype(np.int64)

    def patients(self) -> list[str]:
        """The patient of every row."""
        return self.table["patient_id"].to_pylist()

    def image_ids(self) -> list[str]:
        """The id of every row."""
        return self.table["image_id"].to_pylist()


def open_set(folder: str, cache: str | None = None) -> PreparedSet:
    """A prepared set, every file of which is what set.json says; a remote one is copied first.

    Args:
        cache: where copies of remote sets are kept; a folder of the home directory unless given.

    Raises:
        InputError: it is not there, of another version, or damaged; names the file and the cure.
    """
    if not is_complete(folder):
        raise InputError(f"{folder} holds no finished prepared set; run jobs/prepare.py first")
    local = files.local_copy(folder, cache or os.path.expanduser(CACHE))
    info = _read_info(folder, local)
    expected = {shard["name"]: shard["sha256"] for shard in info["shards"]} | info["tables"]
    sizes = {shard["name"]: shard["bytes"] for shard in info["shards"]}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: _fault(local, name, expected[name], sizes), expected)
    for name, fault in zip(expected, found, strict=True):
        if fault:
            raise _damaged(folder, local, name, fault)
    table = files.read_table(files.join(local, "manifest.parquet"))
    parts: list[np.ndarray] = []
    places = [np.zeros((0, 3), np.int64)]
    for shard in info["shards"]:
        for images, edges in _map_images(files.join(local, shard["name"])):
            part = np.full(len(edges) - 1, len(parts))
            places.append(np.stack([part, edges[:-1], edges[1:]], axis=1))
            parts.append(images)
    positions = np.concatenate(places)
    if len(positions) != table.num_rows:
        fault = f"{table.num_rows} rows, but there are {len(positions)} images"
        raise _damaged(folder, local, "manifest.parquet", fault)
    return PreparedSet(local, info, table, parts, positions)


def _read_info(folder: str, local: str) -> dict[str, Any]:
    try:
        info = files.read_json(files.join(local, "set.json"))
        found = info["format"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise _damaged(folder, local, "set.json", f"not readable ({error})") from error
    if found != FORMAT:
        raise InputError(
            f"{folder} has format {found}, this version reads {FORMAT}; delete the folder and "
            "prepare it again"
        )
    if missing := NEEDED - set(info):
        raise _damaged(folder, local, "set.json", f"it lacks {', '.join(sorted(missing))}")
    return info


def _fault(local: str, name: str, sha256: str, sizes: dict[str, int]) -> str:
    """What is wrong with a file; empty when nothing is."""
    path = files.join(local, name)
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return "it is missing"
    if name in sizes and stat.st_size != sizes[name]:
        return f"it has {stat.st_size:,} bytes, {sizes[name]:,} were written"
    if _digest(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) != sha256:
        return "its content has changed (sha256)"
    return ""


@lru_cache(maxsize=65536)
def _digest(path: str, num_bytes: int, changed_ns: int, inode: int) -> str:
    """A file's sha256; computed once in a process for as long as the file is not touched."""
    return files.sha256_file(path)


def _damaged(folder: str, local: str, name: str, fault: str) -> InputError:
    if local == folder:
        cure = f"delete {files.join(folder, 'set.json')}: only what is damaged is then made again"
    else:
        cure = f"delete {local}, this machine's copy of {folder}"
    return InputError(f"{files.join(local, name)} is damaged: {fault}; {cure}, and run again")


def _map_images(path: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(uint8 view of the images in a row, int64 [n + 1] their edges in it) per record batch."""
    reader = pa.ipc.open_file(pa.memory_map(path))
    for i in range(reader.num_record_batches):
        column = reader.get_batch(i)["image"]
        _, offsets, content = column.buffers()
        edges = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
        yield np.frombuffer(content, np.uint8), edges
