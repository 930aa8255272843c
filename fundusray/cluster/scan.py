"""Scans a set on the cluster: every photograph looked at once, none of them able to stop it."""

from typing import Any

import PIL
import pyarrow as pa
import ray
import torch

from fundusray import files
from fundusray.cluster.prepare import data_root
from fundusray.cluster.start import resources
from fundusray.cluster.tasks import WorkerLostError, result_of
from fundusray.config import Data, Recipe
from fundusray.data import contents
from fundusray.data import manifest as manifests
from fundusray.data.findings import Findings, conclude
from fundusray.data.manifest import Manifest
from fundusray.data.preprocess import PREPROCESS, check_args
from fundusray.data.scan import (
    VERSION,
    examine,
    holding,
    known_by,
    lost,
    read_parts,
    write_part,
)
from fundusray.lock import locked
from fundusray.progress import Progress
from fundusray.settings.deciding import SCHEMA, differing

MOST, LEAST, PARTS = 64, 4, 64
"""Photographs of one task at most and at least, and tasks a small set is cut into at most."""
DECIDING = (
    "source", "target", "keywords", "table", "columns", "classes", "map", "ungradable", "images",
    "patient_pattern", "size", "preprocess", "preprocess_args",
)  # fmt: skip
"""Settings of the data that decide what a scan finds."""
LIMIT = 120.0
"""Seconds in which one photograph must be done; the largest that are read take five."""
DIED = f"the decoder died on it, or was not done in {LIMIT:.0f} s; prepare would stop there"


def scan_folder(recipe: Recipe, root: str, storage: str) -> str:
    """Where a scan lives: its name tells what of, its hash exactly what and how."""
    data = recipe.data
    # Photographs in the storage are known by where they are in there: it may be moved.
    places = [files.relative(place, storage, storage) for place in root.split(",")]
    how = [SCHEMA, VERSION, PIL.__version__, PREPROCESS[data.preprocess].version]
    key = files.hash_json([*how, differing(data, DECIDING), places, bool(data.id_key)], 8)
    name = "+".join(source.strip() for source in data.source.split(","))
    return files.join(storage, f"{name}-scan-{key}")


def scan(recipe: Recipe, storage: str) -> tuple[str, Manifest, Findings]:
    """The folder of a scan with its tables, what was scanned, and what was found.

    A second call goes on where the first stopped, and examines only what is new or has changed
    since, be it in place and to the same size.

    Raises:
        InputError: the source's tables are wrong, or settings that cannot be.
        LockedError: another process scans the same set.
        DiskError: the disk is full.
    """
    data = recipe.data
    check_args(data.preprocess, data.preprocess_args)
    root = data_root(recipe, storage)
    manifest = manifests.build(data, root, recipe.split_seed, labelled=False)
    folder = scan_folder(recipe, root, storage)
    with locked(folder):
        parts = files.join(folder, "parts")
        files.sweep(folder)
        files.sweep(parts)
        examined = _examined(folder, parts, manifest, data)
        findings = conclude(manifest, examined, data)
        files.write_table(files.join(folder, "scan.parquet"), findings.table)
        files.write_table(files.join(folder, "duplicates.parquet"), findings.pairs)
    return folder, manifest, findings


def _examined(
    folder: str, parts: str, manifest: Manifest, data: Data
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The row of every photograph as it is now, by what it is known by."""
    table, roots = manifest.table, manifest.roots
    keys = [known_by(row, data) for row in table.to_pylist()]
    known, before = read_parts(parts), contents.read(folder, len(keys))
    # Of a photograph that was never examined, examining it tells what is in its file.
    wanted = [key in known for key in keys]
    earlier = [] if before is None else [before]
    held = contents.contents(table, roots, earlier, wanted)
    found = holding(known, keys, held)
    left = [i for i, row in enumerate(found) if row is None]
    if left:
        _examine(parts, manifest, left, data)
        now = read_parts(parts)
        for i in left:
            # What was written just now comes after what was there.
            new = [row for row in now[keys[i]] if row not in known.get(keys[i], [])]
            found[i] = (new or [row for row in now[keys[i]] if row["again"]])[-1]
    answers = [[row[name] for row in found] for name in ("sha256", "masks_sha256")]
    held = contents.as_table(held["stamp"].to_pylist(), *answers)
    files.write_table(files.join(folder, contents.NAME), held)
    return dict(zip(keys, found, strict=True))


@ray.remote(num_cpus=1)
def _part(parts: str, chunk: pa.Table, data: Data, roots: dict[str, str]) -> tuple[int, int]:
    """Examines some photographs and keeps the rows; how many there are and are refused."""
    torch.set_num_threads(1)
    examined = examine(chunk, data, roots, LIMIT)
    write_part(parts, examined)
    return len(examined), examined["status"].to_pylist().count("refused")


def _examine(parts: str, manifest: Manifest, left: list[int], data: Data) -> None:
    """Examines the rows `left` of the manifest; as many tasks wait as run.

    Of a chunk on which a worker dies every photograph gets a task of its own; the one on which a
    worker dies twice more is refused by name.
    """
    length = min(MOST, max(LEAST, -(-len(left) // PARTS)))
    waiting = [left[start : start + length] for start in range(0, len(left), length)][::-1]
    most = 2 * max(1, int(resources()["CPU"]))
    progress = Progress("scanning", len(left))
    running: dict[ray.ObjectRef, list[int]] = {}
    done = refused = 0
    while waiting or running:
        while waiting and len(running) < most:
            rows = waiting.pop()
            task = _part.options(max_retries=int(len(rows) == 1))
            running[task.remote(parts, manifest.table.take(rows), data, manifest.roots)] = rows
        (ready,), _ = ray.wait(list(running), num_returns=1)
        rows = running.pop(ready)
        counts = _result(ready)
        if counts is None and len(rows) > 1:
            waiting += [[row] for row in reversed(rows)]
            continue
        if counts is None:
            write_part(parts, lost(manifest.table.take(rows), data, DIED))
            counts = (1, 1)
        done, refused = done + counts[0], refused + counts[1]
        progress.update(done, f"{refused} refused" if refused else "")
    progress.close()


def _result(ready: ray.ObjectRef) -> tuple[int, int] | None:
    """A task's result; None when its worker died.

    Raises:
        FundusError: our own, as the task raised it.
    """
    try:
        return result_of(ready)
    except WorkerLostError:
        return None
