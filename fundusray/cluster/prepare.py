"""Prepares a set on the cluster: the photographs in chunks, one task each, none of them twice."""

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import torch

from fundusray import files
from fundusray.cluster.start import resources
from fundusray.cluster.tasks import WorkerLostError, result_of
from fundusray.config import Data, Recipe
from fundusray.data import contents
from fundusray.data import manifest as manifests
from fundusray.data.class_names import order_unknown
from fundusray.data.leftovers import by_reason
from fundusray.data.manifest import Manifest
from fundusray.data.patients import OFFER, caveat
from fundusray.data.prepared.masks import mask_kinds
from fundusray.data.shards import damage, described, finish, set_folder, write_shard
from fundusray.errors import DamagedError, FundusError, InputError, LockedError
from fundusray.harmless import printable
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
FOLDERS = 5
"""Folders that are named as those of the photographs."""
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


class Target(NamedTuple):
    """The set that a command wants."""

    folder: str
    inside: str
    """A summary of what is in the photographs; "" where it is found out by preparing them."""
    done: bool
    """Whether it is there and whole."""
    faults: tuple[str, ...] = ()
    """What is damaged in it."""


def prepare(recipe: Recipe, storage: str) -> str:
    """The folder of the recipe's prepared set, which is made unless it is there.

    A set is of these very photographs: with one changed in place it is another set. A second call,
    also after a kill, goes on with the units that are missing or damaged. Two processes that want
    the same set do not disturb each other: the later one waits.

    Raises:
        InputError: the source's tables are wrong.
        BadInputsError: too many photographs are unusable.
        DiskError: the disk is full.
    """
    data = recipe.data
    root = data_root(recipe, storage)
    manifest = manifests.build(data, root, recipe.split_seed)
    data = dataclasses.replace(data, masks=mask_kinds(data, manifest.table))
    for note in manifest.notes:
        print(note, flush=True)
    with ExitStack() as stack:
        target = _our_turn(set_folder(storage, data, manifest), manifest, stack)
        folder = target.folder
        if target.done:
            _say(folder, manifest, data, "there already")
            return folder
        for fault in target.faults:
            print(f"{fault}: made again", file=sys.stderr, flush=True)
        files.sweep(folder)
        began = time.monotonic()
        before, still = _looked_at(folder, manifest)
        units = _make_units(folder, manifest, data, still)
        after = contents.stamps(manifest.table, manifest.roots)
        # What changed under way is read again next time.
        stamps = [was if was == now else "" for was, now in zip(before, after, strict=True)]
        finish(folder, data, manifest, units, stamps, target.inside)
        _say(folder, manifest, data, f"{time.monotonic() - began:.1f} s")
    return folder


def _our_turn(base: str, manifest: Manifest, stack: ExitStack) -> Target:
    """The set, made by whomever, or its folder locked for us to make it."""
    look = lru_cache(maxsize=1)(lambda: _inside(base, manifest))
    told = False
    while not (target := _target(base, look)).done:
        try:
            with ExitStack() as mine:
                mine.enter_context(locked(target.folder))
                if _target(base, look) == target:  # not made by another just now
                    stack.push(mine.pop_all())
                    return target
        except LockedError as error:
            if not told:
                print(f"waiting: {error}")
            told = True
            time.sleep(WAIT)
    return target


def _target(base: str, look: Callable[[], tuple[str, pa.Table]]) -> Target:
    """The set of these photographs as it stands.

    The first set of some rows has the name that their table gives; it is prepared without being
    read before. One of the same rows with other photographs has a name of its own beside it.
    """
    info, fault = described(base)
    if info is None:
        return Target(base, "", False, (fault,) if fault else ())
    inside, held = look()
    for folder in (base, f"{base}-{inside[:8]}"):
        info, _ = described(folder)
        if info and info["contents"] == inside:
            faults = () if files.is_uri(folder) else tuple(damage(folder, info))
            _remember(folder, held)
            return Target(folder, inside, not faults, faults)
    return Target(f"{base}-{inside[:8]}", inside, False)


def _inside(base: str, manifest: Manifest) -> tuple[str, pa.Table]:
    """What is in the photographs; those are read that no set of these rows has seen as they are."""
    name, beside = files.base_name(base), base.rpartition("/")[0]
    sets = [n for n, _, _ in files.list_dir(beside) if n == name or n.startswith(f"{name}-")]
    rows = manifest.table.num_rows
    known = [contents.read(files.join(beside, other), rows) for other in sets]
    held = contents.contents(manifest.table, manifest.roots, [k for k in known if k is not None])
    return contents.summary(held), held


def _remember(folder: str, held: pa.Table) -> None:
    """Keeps the answers of now, so that what was only touched is not read each time."""
    place = files.join(folder, contents.NAME)
    try:
        if files.read_table(place).equals(held):
            return
    except (FileNotFoundError, DamagedError):
        pass  # said when it was looked at
    files.write_table(place, held)


def _looked_at(folder: str, manifest: Manifest) -> tuple[list[str], np.ndarray]:
    """(stamps of every row's files, which rows [N] a unit that is there can still be of)."""
    now = contents.stamps(manifest.table, manifest.roots)
    before = contents.read(folder, manifest.table.num_rows)
    if before is None:
        nothing = [""] * len(now)
        files.write_table(
            files.join(folder, contents.NAME), contents.as_table(now, nothing, nothing)
        )
        return now, np.zeros(len(now), bool)
    return now, contents.still(now, before)


def cut(manifest: Manifest, data: Data) -> list[pa.Table]:
    """The manifest's rows in chunks of one task each."""
    rows = manifest.table.num_rows
    length = min(MOST, max(LEAST, -(-rows // PARTS)))
    if data.encoding == "raw":
        length = max(1, min(length, LARGEST // (3 * data.size**2)))
    return [manifest.table.slice(start, length) for start in range(0, rows, length)]


@ray.remote(num_cpus=1, max_retries=RETRIES)
def _unit(
    folder: str, index: int, chunk: pa.Table, data: Data, roots: dict[str, str], still: list[bool]
) -> dict[str, Any]:
    torch.set_num_threads(1)
    return write_shard(folder, index, chunk, data, roots, still)


def _make_units(
    folder: str, manifest: Manifest, data: Data, still: np.ndarray
) -> list[dict[str, Any]]:
    """What became of every chunk; as many tasks wait as run, so that memory is bounded."""
    chunks = cut(manifest, data)
    ends = np.cumsum([chunk.num_rows for chunk in chunks])
    stills = [part.tolist() for part in np.split(still, ends[:-1])]
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
            task = _unit.remote(folder, index, chunk, data, manifest.roots, stills[index])
            running[task] = index
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


def _say(folder: str, manifest: Manifest, data: Data, note: str) -> None:
    """One line on what the set holds, and one on each reason why photographs are not in it."""
    kept = files.read_table(files.join(folder, "manifest.parquet"))
    repaired = sum(kept["repaired"].to_pylist())
    info = files.read_json(files.join(folder, "set.json"))
    twins = f"{info['num_twins']:,} pairs of near-duplicates"
    if info["num_conflicts"]:
        twins += f" ({info['num_conflicts']:,} with different labels)"
    unlabelled, ungradable = info["num_unlabelled"], info["num_ungradable"]
    apart = f", {unlabelled:,} without a label of {data.target} left out" if unlabelled else ""
    apart += f" ({ungradable:,} of them ungradable)" if ungradable else ""
    print(
        f"prepared set: {kept.num_rows:,} images kept ({repaired:,} of them repaired), "
        f"{info['num_skipped']:,} skipped{apart}; {twins}; {note}; {folder}\n{_classes_said(info)}",
        flush=True,
    )
    if unknown := caveat(kept):
        print(f"{unknown}; {OFFER}", flush=True)
    if "csv" in data.source and not data.id_key:
        print(f"  photographs lie in {_places_said(manifest)}")
    for line in by_reason(manifest.skipped.to_pylist()):
        print(f"  {printable(line)}", flush=True)


def _places_said(manifest: Manifest) -> str:
    """The folders of the root that hold the photographs, the fullest first."""
    paths = manifest.table["path"].to_pylist()
    tops = Counter(path.rpartition("/")[0].split("/")[0] or "." for path in paths)
    said = ", ".join(f"{name} ({num:,})" for name, num in tops.most_common(FOLDERS))
    more = f" and {len(tops) - FOLDERS:,} more folders" if len(tops) > FOLDERS else ""
    return printable(said) + more


def _classes_said(info: dict[str, Any]) -> str:
    """The classes with their photographs, and whether their order is known."""
    if not sum(info["counts"]):
        return "photographs without a label, for a network to answer"
    pairs = zip(info["classes"], info["counts"], strict=True)
    counted = ", ".join(f"{name} {num:,}" for name, num in pairs)
    if info["ordered"]:
        return f"classes, in their order: {counted}"
    return f"classes: {counted}. {order_unknown(info['classes'])}"
