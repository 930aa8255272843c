"""Prepares a set on the cluster: the photographs in chunks, one task each, none of them twice."""

import time
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import ray
import torch

from fundusray import files
from fundusray.cluster.start import resources
from fundusray.cluster.tasks import WorkerLostError, result_of
from fundusray.config import Data, Recipe
from fundusray.data import manifest as manifests
from fundusray.data.class_names import order_unknown
from fundusray.data.manifest import Manifest
from fundusray.data.patients import OFFER, caveat
from fundusray.data.shards import finish, is_complete, set_folder, write_shard
from fundusray.errors import FundusError, InputError, LockedError
from fundusray.lock import locked
from fundusray.progress import Progress

MOST = 128
"""Photographs of one task; in a large set."""
LEAST = 8
PARTS = 64
"""Tasks a small set is cut into at most, so that every CPU has some. The cut must not depend on the
cluster, or another one could not go on with the units that are there."""
LARGEST = 128 << 20
"""Bytes of a raw unit, which its task holds in memory."""
RETRIES = 3
WAIT = 2.0
"""Seconds between looks at a folder that another process works in."""


def data_root(recipe: Recipe, storage: str) -> str:
    """Where a recipe's photographs are, a root for every source with commas between them.

    data.root has those of all but synthetic, which draws into the storage.

    Raises:
        InputError: data.root has another number of roots than there are such sources.
    """
    data = recipe.data
    sources = [name.strip() for name in data.source.split(",")]
    if "synthetic" not in sources:
        return data.root
    given = [root for root in data.root.split(",") if root]
    wanting = [name for name in sources if name != "synthetic"]
    if len(given) != len(wanting):
        raise InputError(
            f"data.source={data.source} needs {len(wanting)} roots in data.root (synthetic draws "
            f"its own photographs), got {len(given)}: {data.root!r}"
        )
    drawn = files.join(storage, "synthetic", f"{data.num_images}-{recipe.split_seed}")
    left = iter(given)
    return ",".join(drawn if name == "synthetic" else next(left) for name in sources)


def prepare(recipe: Recipe, storage: str) -> str:
    """The folder of the recipe's prepared set, which is made unless it is there.

    A second call, also after a kill, goes on with the units that are missing. Two processes that
    want the same set do not disturb each other: the later one waits.

    Raises:
        InputError: the source's tables are wrong.
        BadInputsError: too many photographs are unusable.
        DiskError: the disk is full.
    """
    data = recipe.data
    root = data_root(recipe, storage)
    manifest = manifests.build(data, root, recipe.split_seed)
    for note in manifest.notes:
        print(note, flush=True)
    folder = set_folder(storage, data, manifest)
    with ExitStack() as stack:
        if not _our_turn(folder, stack):
            _say(folder, "there already")
            return folder
        files.sweep(folder)
        began = time.monotonic()
        units = _make_units(folder, manifest, data)
        finish(folder, data, manifest, units)
        _say(folder, f"{time.monotonic() - began:.1f} s")
    return folder


def _our_turn(folder: str, stack: ExitStack) -> bool:
    """True with the folder locked for us; False once the set is complete, by whomever."""
    told = False
    while not is_complete(folder):
        try:
            stack.enter_context(locked(folder))
        except LockedError as error:
            if not told:
                print(f"waiting: {error}")
            told = True
            time.sleep(WAIT)
        else:
            return not is_complete(folder)
    return False


def cut(manifest: Manifest, data: Data) -> list[pa.Table]:
    """The manifest's rows in chunks of one task each."""
    rows = manifest.table.num_rows
    length = min(MOST, max(LEAST, -(-rows // PARTS)))
    if data.encoding == "raw":
        length = max(1, min(length, LARGEST // (3 * data.size**2)))
    return [manifest.table.slice(start, length) for start in range(0, rows, length)]


@ray.remote(num_cpus=1, max_retries=RETRIES)
def _unit(
    folder: str, index: int, chunk: pa.Table, data: Data, roots: dict[str, str]
) -> dict[str, Any]:
    torch.set_num_threads(1)
    return write_shard(folder, index, chunk, data, roots)


def _make_units(folder: str, manifest: Manifest, data: Data) -> list[dict[str, Any]]:
    """What became of every chunk; as many tasks wait as run, so that memory is bounded."""
    chunks = cut(manifest, data)
    most = 2 * max(1, int(resources()["CPU"]))
    progress = Progress("preparing", manifest.table.num_rows)
    units: dict[int, dict[str, Any]] = {}
    running: dict[ray.ObjectRef, int] = {}
    waiting = list(range(len(chunks)))[::-1]
    while waiting or running:
        while waiting and len(running) < most:
            index = waiting.pop()
            # A slice travels with its whole table unless it is copied.
            chunk = chunks[index].take(list(range(chunks[index].num_rows)))
            running[_unit.remote(folder, index, chunk, data, manifest.roots)] = index
        (ready,), _ = ray.wait(list(running), num_returns=1)
        index = running.pop(ready)
        units[index] = _result(ready, chunks[index], data)
        skipped = sum(len(unit["skipped"]) for unit in units.values())
        done = sum(unit["chunk_rows"] for unit in units.values())
        progress.update(done, f"{skipped} skipped" if skipped else "")
    progress.close()
    return [units[index] for index in range(len(chunks))]


def _result(ready: ray.ObjectRef, chunk: pa.Table, data: Data) -> dict[str, Any]:
    """A task's result.

    Raises:
        FundusError: our own, as the task raised it; or that workers keep dying of this chunk.
    """
    try:
        return result_of(ready)
    except WorkerLostError as error:
        names = chunk["image_id" if data.id_key else "path"]
        first, last = names[0].as_py(), names[-1].as_py()
        raise FundusError(
            f"preparing {first} to {last} was tried {RETRIES + 1} times ({error}); "
            "look for an odd file among them, or for too little memory, and run again: what is "
            "done stays"
        ) from error


def _say(folder: str, note: str) -> None:
    """One line on what the set holds."""
    kept = files.read_table(files.join(folder, "manifest.parquet"))
    repaired = sum(kept["repaired"].to_pylist())
    info = files.read_json(files.join(folder, "set.json"))
    twins = f"{info['num_twins']:,} pairs of near-duplicates"
    if info["num_conflicts"]:
        twins += f" ({info['num_conflicts']:,} with different labels)"
    unlabelled, ungradable = info["num_unlabelled"], info["num_ungradable"]
    apart = f", {unlabelled:,} without a label left out" if unlabelled else ""
    apart += f" ({ungradable:,} of them ungradable)" if ungradable else ""
    print(
        f"prepared set: {kept.num_rows:,} images kept ({repaired:,} of them repaired), "
        f"{info['num_skipped']:,} skipped{apart}; {twins}; {note}; {folder}\n{_classes_said(info)}",
        flush=True,
    )
    if unknown := caveat(kept):
        print(f"{unknown}; {OFFER}", flush=True)


def _classes_said(info: dict[str, Any]) -> str:
    """The classes with their photographs, and whether their order is known."""
    if not sum(info["counts"]):
        return "photographs without a label, for a network to answer"
    pairs = zip(info["classes"], info["counts"], strict=True)
    counted = ", ".join(f"{name} {num:,}" for name, num in pairs)
    if info["ordered"]:
        return f"classes, in their order: {counted}"
    return f"classes: {counted}. {order_unknown(info['classes'])}"
