"""Which rows of a prepared set a trained network is judged on: those that are new to it."""

from dataclasses import dataclass

import numpy as np

from fundusray import files
from fundusray.cluster import lineage
from fundusray.cluster.lineage import run_of, start_leak, start_of
from fundusray.config import Data
from fundusray.data import given
from fundusray.data.leaks import SIDES
from fundusray.data.shards import PreparedSet
from fundusray.data.splits import reported_split
from fundusray.errors import InputError
from fundusray.models.bundle import Bundle

PIXELS = ("preprocess", "preprocess_args", "size")
"""Settings of the data that decide what a network gets to see."""
BY_BYTES = (
    "what the network learned from is recognised by the bytes of its files: photographs saved "
    "anew, and others of the same people, are not, and may be among those judged"
)
KNOWN = {"test": ("train", "val"), "val": ("train",), "all": ("known",)}
"""Of each side that is judged: the sides it must not share a row with."""


@dataclass(frozen=True)
class Unseen:
    """The rows of a set as one network sees them."""

    sides: np.ndarray
    """Of each row [N]. Where it is the set the network was trained on, the side of the network's
    own split, "" where that leaves the row out; of any other set, "all" or "known"."""
    side: str
    """The side that is judged: test, or val where its run has no test rows; "all" of other sets."""
    notes: list[str]
    """What was left out and what could not be made sure of, in sentences."""

    @property
    def rows(self) -> np.ndarray:
        """The rows that are judged."""
        return np.flatnonzero(self.sides == self.side)

    @property
    def known(self) -> np.ndarray:
        """Which rows [N] the network learned from or chose its epoch by, as far as is known."""
        return np.isin(self.sides, KNOWN[self.side])


def unseen(data: PreparedSet, place: str, bundle: Bundle) -> Unseen:
    """What of a set is new to the network at `place`.

    Of the set it was trained on, the side its run reports on: by the manifest.parquet beside the
    bundle, or, without one, by its recipe. Of any other, all but the photographs that its run, or
    one that it went on from, trained on or chose its epoch by, and but their patients and
    near-duplicates.

    Raises:
        InputError: the network's own split does not fit the set, or its file is gone.
        DamagedError: what it learned from is no longer what was written.
    """
    manifest = bundle.info.get("manifest")
    if manifest is not None and manifest == data.info["manifest"]:
        sides = _own_sides(data, place, bundle)
        rows = {name: np.flatnonzero(sides == name) for name in SIDES}
        leak = start_leak(bundle.recipe.model, data.table, sides)
        return Unseen(sides, reported_split(rows), [leak] if leak else [])
    if "pretrained" in bundle.info:
        note = f"{place} was pretrained {bundle.info['pretrained']}: none of these was learned from"
        return Unseen(np.full(len(data.table), "all"), "all", [note])
    start = start_of(bundle.recipe.model)
    # The mean of several networks knows what any of them does.
    places = [*bundle.info.get("members", [place]), *([start] if start else [])]
    found = lineage.known(data.table, places)
    known = found.trained | found.chosen
    notes = [lineage.not_known(one) for one in found.unasked]
    if known.any():
        notes.append(
            f"{known.sum():,} of {len(known):,} photographs are left out: {place}, or a network it "
            "went on from, was trained on them or chose its epoch by them, or by others of the "
            "same patients, or by their near-duplicates"
        )
    return Unseen(np.where(known, "known", "all"), "all", [*notes, BY_BYTES])


def require_pixels(place: str, trained: Data, asked: Data) -> None:
    """Refuses photographs that are prepared otherwise than those a network was trained on.

    Raises:
        InputError: the setting, and both its values.
    """
    for key in PIXELS:
        theirs, ours = getattr(trained, key), getattr(asked, key)
        if theirs != ours:
            raise InputError(
                f"{place} was trained with data.{key}={theirs}, here it would be judged with "
                f"{ours}: on pixels it never saw; leave data.{key} as the network has it"
            )


def _own_sides(data: PreparedSet, place: str, bundle: Bundle) -> np.ndarray:
    """The side of each row [N] in the split the network was trained under."""
    beside = files.join(run_of(place), "manifest.parquet")
    if not files.exists(beside):
        return given.assign(data.table, bundle.recipe.data, bundle.recipe.split_seed)
    # The file that the recipe names may have been changed since, or be gone.
    theirs = files.read_table(beside)
    sides = dict(zip(*(theirs[name].to_pylist() for name in ("image_id", "split")), strict=True))
    ids = data.table["image_id"].to_pylist()
    if not sides.keys() >= set(ids):
        raise InputError(f"{beside} is of other photographs than {place} was trained on")
    return np.array([sides[image_id] for image_id in ids])
