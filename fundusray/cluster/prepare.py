"""Prepares a set on the cluster: the photographs in chunks, a unit each, none of them twice."""

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.units import Unit
from fundusray.config import Data, Recipe
from fundusray.data.labels.class_names import order_unknown
from fundusray.data.labels.mask_targets import is_mask_target
from fundusray.data.manifest import build as manifests
from fundusray.data.manifest.build import Manifest
from fundusray.data.manifest.leftovers import by_reason
from fundusray.data.manifest.patients import OFFER, unknown_patients_caveat
from fundusray.data.photographs import digests
from fundusray.data.prepared.frames import framed_data, stored_data
from fundusray.data.prepared.masks import mask_kinds
from fundusray.data.prepared.prepared_set import (
    assemble_set,
    set_damage,
    set_description,
    set_folder,
    write_shard,
)
from fundusray.errors import DamagedError, InputError, LockedError
from fundusray.harmless import printable_text
from fundusray.lock import locked

MOST = 128
"""Photographs of one unit; in a large set."""
LEAST = 8
PARTS = 64
"""Units a small set is cut into at most, so that every CPU has some. The cut must not depend on the
cluster, or another one could not go on with the units that are there."""
LARGEST = 128 << 20
"""Bytes of a raw unit, which its worker holds in memory."""
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


class WantedSet(NamedTuple):
    """The set that a command wants."""

    folder: str
    inside: str
    """A summary of what is in the photographs; "" where it is found out by preparing them."""
    done: bool
    """Whether it is there and whole."""
    faults: tuple[str, ...] = ()
    """What is damaged in it."""


def prepare_set(recipe: Recipe, storage: str, frames: bool = False) -> str:
    """The folder of the recipe's prepared set, which is made unless it is there.

    A set is of these very photographs: with one changed in place it is another set. A second call,
    also after a kill, goes on with the units that are missing or damaged. Two processes that want
    the same set do not disturb each other: the later one waits.

    Args:
        frames: of the photographs before their light is evened, for damage that comes before it;
            a recipe with data.corrupt wants no other.

    Raises:
        InputError: the source's tables are wrong.
        BadInputsError: too many photographs are unusable.
        DiskError: the disk is full.
    """
    data = framed_data(recipe.data) if frames else stored_data(recipe.data)
    root = data_root(recipe, storage)
    manifest = manifests.build_manifest(data, root, recipe.split_seed)
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
        after = digests.file_stamps(manifest.table, manifest.roots)
        # What changed under way is read again next time.
        stamps = [was if was == now else "" for was, now in zip(before, after, strict=True)]
        assemble_set(folder, data, manifest, units, stamps, target.inside)
        _say(folder, manifest, data, f"{time.monotonic() - began:.1f} s")
    return folder


def _our_turn(base: str, manifest: Manifest, stack: ExitStack) -> WantedSet:
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


def _target(base: str, look: Callable[[], tuple[str, pa.Table]]) -> WantedSet:
    """The set of these photographs as it stands.

    The first set of some rows has the name that their table gives; it is prepared without being
    read before. One of the same rows with other photographs has a name of its own beside it.
    """
    info, fault = set_description(base)
    if info is None:
        return WantedSet(base, "", False, (fault,) if fault else ())
    inside, held = look()
    for folder in (base, f"{base}-{inside[:8]}"):
        info, _ = set_description(folder)
        if info and info["contents"] == inside:
            faults = () if files.is_uri(folder) else tuple(set_damage(folder, info))
            _remember(folder, held)
            return WantedSet(folder, inside, not faults, faults)
    return WantedSet(f"{base}-{inside[:8]}", inside, False)


def _inside(base: str, manifest: Manifest) -> tuple[str, pa.Table]:
    """What is in the photographs; those are read that no set of these rows has seen as they are."""
    name, beside = files.base_name(base), base.rpartition("/")[0]
    sets = [n for n, _, _ in files.list_dir(beside) if n == name or n.startswith(f"{name}-")]
    rows = manifest.table.num_rows
    known = [digests.read_contents(files.join(beside, other), rows) for other in sets]
    held = digests.content_table(
        manifest.table, manifest.roots, [k for k in known if k is not None]
    )
    return digests.content_summary(held), held


def _remember(folder: str, held: pa.Table) -> None:
    """Keeps the answers of now, so that what was only touched is not read each time."""
    place = files.join(folder, digests.NAME)
    try:
        if files.read_table(place).equals(held):
            return
    except (FileNotFoundError, DamagedError):
        pass  # said when it was looked at
    files.write_table(place, held)


def _looked_at(folder: str, manifest: Manifest) -> tuple[list[str], np.ndarray]:
    """(stamps of every row's files, which rows [N] a unit that is there can still be of)."""
    now = digests.file_stamps(manifest.table, manifest.roots)
    before = digests.read_contents(folder, manifest.table.num_rows)
    if before is None:
        nothing = [""] * len(now)
        files.write_table(files.join(folder, digests.NAME), digests.as_table(now, nothing, nothing))
        return now, np.zeros(len(now), bool)
    return now, digests.unchanged_rows(now, before)


def unit_chunks(manifest: Manifest, data: Data) -> list[pa.Table]:
    """The manifest's rows in chunks of one unit each."""
    rows = manifest.table.num_rows
    length = min(MOST, max(LEAST, -(-rows // PARTS)))
    if data.encoding == "raw":
        length = max(1, min(length, LARGEST // (3 * data.size**2)))
    return [manifest.table.slice(start, length) for start in range(0, rows, length)]


def _make_units(
    folder: str, manifest: Manifest, data: Data, still: np.ndarray
) -> list[dict[str, Any]]:
    """What became of every chunk.

    Raises:
        FundusError: our own, as a task raised it.
        UnitsLostError: workers keep dying of a chunk; names it.
    """
    units = [_unit(i, chunk, data) for i, chunk in enumerate(unit_chunks(manifest, data))]
    stills = np.split(still, np.cumsum([unit.rows for unit in units])[:-1])
    wanted = [
        replace(unit, arguments=(*unit.arguments, part.tolist()))
        for unit, part in zip(units, stills, strict=True)
    ]
    made: dict[str, dict[str, Any]] = {}
    skipped = 0
    with Pool("preparing", partial(_made, folder, data, manifest.roots)) as pool:
        for unit, told in pool.results(wanted):
            made[unit.key] = told
            skipped += len(told["skipped"])
            pool.note = f"{skipped} skipped" if skipped else ""
    return [made[unit.key] for unit in units]


def _unit(index: int, chunk: pa.Table, data: Data) -> Unit:
    """The unit of one chunk, named by its photographs."""
    names = chunk["image_id" if data.id_key else "path"]
    name = f"{names[0].as_py()} to {names[-1].as_py()}"
    # A slice travels with its whole table unless it is copied.
    copied = chunk.take(list(range(chunk.num_rows)))
    return Unit(str(index), (index, copied), chunk.num_rows, name)


def _made(
    folder: str,
    data: Data,
    roots: dict[str, str],
    index: int,
    chunk: pa.Table,
    still: list[bool],
) -> dict[str, Any]:
    return write_shard(folder, index, chunk, data, roots, still)


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
        f"{info['num_skipped']:,} skipped{apart}; {twins}; {note}; {folder}\n"
        f"{_classes_said(info, kept, data)}",
        flush=True,
    )
    if unknown := unknown_patients_caveat(kept):
        print(f"{unknown}; {OFFER}", flush=True)
    if "csv" in data.source and not data.id_key:
        print(f"  photographs lie in {_places_said(manifest)}")
    for line in by_reason(manifest.skipped.to_pylist()):
        print(f"  {printable_text(line)}", flush=True)


def _places_said(manifest: Manifest) -> str:
    """The folders of the root that hold the photographs, the fullest first."""
    paths = manifest.table["path"].to_pylist()
    tops = Counter(path.rpartition("/")[0].split("/")[0] or "." for path in paths)
    said = ", ".join(f"{name} ({num:,})" for name, num in tops.most_common(FOLDERS))
    more = f" and {len(tops) - FOLDERS:,} more folders" if len(tops) > FOLDERS else ""
    return printable_text(said) + more


def _classes_said(info: dict[str, Any], kept: pa.Table, data: Data) -> str:
    """The classes with their photographs, and whether their order is known; of masks the kinds with
    the photographs that have one."""
    if is_mask_target(data.target):
        times = Counter(kind for masks in kept["masks"].to_pylist() for kind, _ in masks)
        return f"masks: {', '.join(f'{kind} {times[kind]:,}' for kind in info['classes'][1:])}"
    if not sum(info["counts"]):
        return "photographs without a label, for a network to answer"
    pairs = zip(info["classes"], info["counts"], strict=True)
    counted = ", ".join(f"{name} {num:,}" for name, num in pairs)
    if info["ordered"]:
        return f"classes, in their order: {counted}"
    return f"classes: {counted}. {order_unknown(info['classes'])}"
