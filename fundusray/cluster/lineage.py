"""What a network knows of a set: what its run learned from, and the runs whose networks it went on
from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import config, files
from fundusray.data.splits import kin
from fundusray.models.bundle import read_about, read_recipe
from fundusray.models.weights import bundle_folder
from fundusray.verified import MANIFEST

SEEN = ("sha256", "split")
"""What is read of a run's manifest."""


@dataclass(frozen=True)
class Known:
    """Rows of a set, each with all others of its patient and with near-duplicates."""

    trained: np.ndarray
    """Which rows [N] were learned from."""
    chosen: np.ndarray
    """Which rows [N] an epoch was chosen by."""
    unasked: list[str]
    """Networks of which it cannot be told: no manifest.parquet of their run is beside them."""


def run_of(place: str) -> str:
    """The folder of the run that a bundle lies in."""
    return place.rstrip("/").rpartition("/")[0]


def start_of(model: config.Model) -> str:
    """The bundle that a run starts from; "" where it starts at random or from weights alone."""
    given = model.init_from or model.weights
    if not given or config.fetched(given):
        return ""
    place = bundle_folder(given)
    return place if model.init_from or files.exists(files.join(place, MANIFEST)) else ""


def known(table: pa.Table, places: Iterable[str]) -> Known:
    """What the networks at these places know of a set, found by the sha256 of its files.

    Args:
        table: of the set, with sha256, patient_id and twin.

    Raises:
        DamagedError: what a network learned from is no longer what was written.
    """
    hashes: dict[str, set[str]] = {"train": set(), "val": set()}
    unasked = []
    for place in _line(places):
        location = files.join(run_of(place), "manifest.parquet")
        if files.exists(location):
            theirs = files.read_table(location)
            for digest, side in zip(*(theirs[key].to_pylist() for key in SEEN), strict=True):
                if side in hashes:
                    hashes[side].add(digest)
        elif "pretrained" not in _info(place):
            unasked.append(place)
    ours, (group, _) = np.array(table["sha256"].to_pylist(), dtype=object), kin(table)
    found = [np.isin(ours, list(hashes[side] - {""})) for side in ("train", "val")]
    trained, chosen = (np.isin(group, group[rows]) for rows in found)
    return Known(trained, chosen, unasked)


def start_leak(model: config.Model, table: pa.Table, sides: np.ndarray) -> str:
    """Which judged images the network that a run starts from knows, in words; "" if none.

    That its epoch was chosen by the images that choose this run's is no leak; where these are
    judged, too, `start_chosen` counts them.

    Args:
        sides: of each row [N]: train, val, test or "".
    """
    place = start_of(model)
    if not place:
        return ""
    found = known(table, [place])
    parts = []
    for side, theirs in (("val", found.trained), ("test", found.trained | found.chosen)):
        rows = sides == side
        if shared := int((rows & theirs).sum()):
            parts.append(f"{shared:,} of {int(rows.sum()):,} {side} images")
    if not parts:
        return ""
    return (
        f"the start {place} knows {' and '.join(parts)}: it was trained on them, on others of "
        "their patients or on near-duplicates, or chose its epoch by them"
    )


def start_unasked(model: config.Model, table: pa.Table) -> list[str]:
    """Of which networks behind the start it cannot be told what they know, a sentence each."""
    place = start_of(model)
    return [not_known(one) for one in known(table, [place]).unasked] if place else []


def not_known(place: str) -> str:
    """That it cannot be told what a network learned from, in words."""
    return (
        f"{place} was trained on other photographs, and no manifest.parquet of its run is beside "
        "it: whether some of them are judged here is not known"
    )


def start_chosen(model: config.Model, table: pa.Table, judged: np.ndarray) -> int:
    """How many judged images chose the epoch of the network that a run starts from.

    Their run's own epoch may be chosen by others; what it began from was not.

    Args:
        judged: which rows [N], as a mask or as numbers.
    """
    place = start_of(model)
    return int(known(table, [place]).chosen[judged].sum()) if place else 0


def _line(places: Iterable[str]) -> Iterator[str]:
    """These networks, what they are the mean of, what they went on from, and so on."""
    todo, seen = list(places), set()
    while todo:
        place = bundle_folder(todo.pop(0))
        if place in seen:
            continue
        seen.add(place)
        info = _info(place)
        if "members" in info:
            todo += info["members"]  # a mean knows what they know, and has no run of its own
        else:
            yield place
        recipe = read_recipe(place) if _is_there(place) else None
        if recipe is not None:
            start = start_of(recipe.model)
            todo += [start] if start else []


def _info(place: str) -> dict[str, Any]:
    """What a bundle says of itself; nothing where there is none any more."""
    # A checkpoint may be given as weights, too; it has a MANIFEST and says nothing of itself.
    return read_about(place) if _is_there(place) else {}


def _is_there(place: str) -> bool:
    return files.exists(files.join(place, MANIFEST))
