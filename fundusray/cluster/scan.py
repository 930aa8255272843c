"""Scans a set on the cluster: every photograph looked at once, none of them able to stop it."""

from functools import partial
from typing import Any

import PIL
import pyarrow as pa

from fundusray import files
from fundusray.cluster.prepare import data_root
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.units import Unit
from fundusray.config import Data, Recipe
from fundusray.data.manifest import build as manifests
from fundusray.data.manifest.build import Manifest
from fundusray.data.photographs import digests
from fundusray.data.prepared.preprocess import PREPROCESS, check_preprocess_args
from fundusray.data.scan.examine import (
    VERSION,
    current_rows,
    examine_photographs,
    read_parts,
    refused_photograph,
    row_identity,
    write_part,
)
from fundusray.data.scan.findings import Findings, conclude_scan
from fundusray.lock import locked
from fundusray.settings.deciding import SCHEMA, differing

MOST, LEAST, PARTS = 64, 4, 64
"""Photographs of one unit at most and at least, and units a small set is cut into at most."""
CHUNK_TRIES, ROW_TRIES = 1, 2
"""Workers that may die of several photographs together, and of one alone after that."""
DECIDING = (
    "source", "target", "keywords", "table", "columns", "classes", "map", "ungradable", "images",
    "patient_pattern", "size", "preprocess", "preprocess_args",
)  # fmt: skip
"""Settings of the data that decide what a scan finds."""
LIMIT = 120.0
"""Seconds in which one photograph must be done; the largest that are read take five."""
DIED = "the decoder died on it, or was not done in {limit:g} s; prepare would stop there"


def scan_folder(recipe: Recipe, root: str, storage: str) -> str:
    """Where a scan lives: its name tells what of, its hash exactly what and how."""
    data = recipe.data
    # Photographs in the storage are known by where they are in there: it may be moved.
    places = [files.relative(place, storage, storage) for place in root.split(",")]
    how = [SCHEMA, VERSION, PIL.__version__, PREPROCESS[data.preprocess].version]
    key = files.hash_json([*how, differing(data, DECIDING), places, bool(data.id_key)], 8)
    name = "+".join(source.strip() for source in data.source.split(","))
    return files.join(storage, f"{name}-scan-{key}")


def scan_set(recipe: Recipe, storage: str, limit: float = LIMIT) -> tuple[str, Manifest, Findings]:
    """The folder of a scan with its tables, what was scanned, and what was found.

    A second call goes on where the first stopped, and examines only what is new or has changed
    since, be it in place and to the same size. A photograph that is not done in `limit` seconds, or
    kills its decoder, is refused by name.

    Raises:
        InputError: the source's tables are wrong, or settings that cannot be.
        LockedError: another process scans the same set.
        DiskError: the disk is full.
    """
    data = recipe.data
    check_preprocess_args(data.preprocess, data.preprocess_args)
    root = data_root(recipe, storage)
    manifest = manifests.build_manifest(data, root, recipe.split_seed, labelled=False)
    folder = scan_folder(recipe, root, storage)
    with locked(folder):
        parts = files.join(folder, "parts")
        files.sweep(folder)
        files.sweep(parts)
        examined = _examined(folder, parts, manifest, data, limit)
        findings = conclude_scan(manifest, examined, data)
        files.write_table(files.join(folder, "scan.parquet"), findings.table)
        files.write_table(files.join(folder, "duplicates.parquet"), findings.pairs)
    return folder, manifest, findings


def _examined(
    folder: str, parts: str, manifest: Manifest, data: Data, limit: float
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The row of every photograph as it is now, by what it is known by."""
    table, roots = manifest.table, manifest.roots
    keys = [row_identity(row, data) for row in table.to_pylist()]
    known, before = read_parts(parts), digests.read_contents(folder, len(keys))
    # Of a photograph that was never examined, examining it tells what is in its file.
    wanted = [key in known for key in keys]
    earlier = [] if before is None else [before]
    held = digests.content_table(table, roots, earlier, wanted)
    found = current_rows(known, keys, held)
    left = [i for i, row in enumerate(found) if row is None]
    if left:
        _examine(parts, manifest, left, data, limit)
        now = read_parts(parts)
        for i in left:
            # What was written just now comes after what was there.
            new = [row for row in now[keys[i]] if row not in known.get(keys[i], [])]
            found[i] = (new or [row for row in now[keys[i]] if row["again"]])[-1]
    answers = [[row[name] for row in found] for name in ("sha256", "masks_sha256")]
    held = digests.as_table(held["stamp"].to_pylist(), *answers)
    files.write_table(files.join(folder, digests.NAME), held)
    return dict(zip(keys, found, strict=True))


def _examine(parts: str, manifest: Manifest, left: list[int], data: Data, limit: float) -> None:
    """Examines the rows `left` of the manifest.

    Of a chunk on which a worker dies every photograph becomes a unit of its own; the one on which a
    worker dies twice more is refused by name.
    """
    length = min(MOST, max(LEAST, -(-len(left) // PARTS)))
    chunks = [left[start : start + length] for start in range(0, len(left), length)]
    units = [
        Unit(str(i), (manifest.table.take(rows),), len(rows), tries=CHUNK_TRIES)
        for i, rows in enumerate(chunks)
    ]
    refused = 0

    def died(unit: Unit, why: str) -> list[Unit]:
        (chunk,) = unit.arguments
        if unit.tries == CHUNK_TRIES:
            alone = [chunk.slice(i, 1) for i in range(len(chunk))]
            return [Unit(f"{unit.key}.{i}", (r,), 1, tries=ROW_TRIES) for i, r in enumerate(alone)]
        write_part(parts, refused_photograph(chunk, data, DIED.format(limit=limit)))
        note(1)
        return []

    def note(more: int) -> None:
        nonlocal refused
        refused += more
        pool.note = f"{refused} refused" if refused else ""

    with Pool("scanning", partial(_part, parts, data, manifest.roots, limit)) as pool:
        for _, found in pool.results(units, died):
            note(found)


def _part(parts: str, data: Data, roots: dict[str, str], limit: float, chunk: pa.Table) -> int:
    """Examines some photographs and keeps the rows; how many are refused."""
    examined = examine_photographs(chunk, data, roots, limit)
    write_part(parts, examined)
    return examined["status"].to_pylist().count("refused")
