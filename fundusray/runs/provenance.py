"""What a network knows of a set: what its run learned from and the runs whose networks it went on
from, and so which rows are new to it, which alone it can be judged on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import config, files
from fundusray.config import Data
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.split import split_files
from fundusray.data.split.assign_sides import linked_groups, reported_split, rows_by_side
from fundusray.errors import InputError
from fundusray.models.bundle import Bundle, read_about, read_recipe
from fundusray.models.load_weights import bundle_folder
from fundusray.verified import MANIFEST

SEEN = ("sha256", "split")
"""What is read of a run's manifest."""
PIXELS = ("preprocess", "preprocess_args", "size")
"""Settings of the data that decide what a network gets to see."""
BY_BYTES = (
    "what the network learned from is recognised by the bytes of its files: photographs saved "
    "anew, and others of the same people, are not, and may be among those judged"
)
RANDOM, SEVERAL = "random", "several"
"""What a network began with that has no name of its own: no weights; of a mean, different ones."""
SIDES_APART = {"test": ("train", "val"), "val": ("train",), "all": ("known",)}
"""Of each side that is judged: the sides it must not share a row with."""


@dataclass(frozen=True)
class KnownRows:
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
    named = model.init_from or model.weights
    if not named or config.is_published(named):
        return ""
    place = bundle_folder(named)
    return place if model.init_from or files.exists(files.join(place, MANIFEST)) else ""


def rows_known_to(table: pa.Table, places: Iterable[str]) -> KnownRows:
    """What the networks at these places know of a set, found by the sha256 of its files.

    Args:
        table: of the set, with sha256, patient_id and twin.

    Raises:
        DamagedError: what a network learned from is no longer what was written.
    """
    hashes: dict[str, set[str]] = {"train": set(), "val": set()}
    unasked = []
    for place in _line(places):
        theirs = _photographs(place)
        if theirs is None:
            unasked.append(place)
        else:
            hashes = {side: digests | theirs.get(side, set()) for side, digests in hashes.items()}
    ours, (group, _) = np.array(table["sha256"].to_pylist(), dtype=object), linked_groups(table)
    found = [np.isin(ours, list(hashes[side] - {""})) for side in ("train", "val")]
    trained, chosen = (np.isin(group, group[rows]) for rows in found)
    return KnownRows(trained, chosen, unasked)


def learned_photographs(place: str) -> set[str] | None:
    """sha256 of the files that the network at a place learned from, those of the networks it went
    on from among them; None where that is not known of one of them.

    Raises:
        DamagedError: what a network learned from is no longer what was written.
    """
    learned = set[str]()
    for one in _line([place]):
        theirs = _photographs(one)
        if theirs is None:
            return None
        learned |= theirs.get("train", set())
    return learned - {""}


def first_weights(place: str) -> str:
    """What the network at a place began with, in a word: `random`; published weights or a file by
    their name; of one that went on from another network what that one began with, or, where that
    is nothing, its run; `several` of a mean of networks that began with different weights.
    """
    about = _info(place)
    if "members" in about:
        starts = {first_weights(bundle_folder(one)) for one in about["members"]}
        return starts.pop() if len(starts) == 1 else SEVERAL
    recipe = read_recipe(place) if _is_there(place) else None
    if recipe is None:
        return files.base_name(run_of(place))
    before, weights = start_of(recipe.model), recipe.model.weights
    if not before:
        return weights if config.is_published(weights) else files.base_name(weights) or RANDOM
    first = first_weights(before)
    return files.base_name(run_of(before)) if first == RANDOM else first


def _photographs(place: str) -> dict[str, set[str]] | None:
    """Side -> sha256 of the files that are on it in the run that a bundle lies in; None where no
    manifest is beside it. Drawn photographs are nobody's."""
    location = files.join(run_of(place), "manifest.parquet")
    if not files.exists(location):
        return {} if "pretrained" in _info(place) else None
    table = files.read_table(location)
    digests = dict[str, set[str]]()
    for digest, side in zip(*(table[key].to_pylist() for key in SEEN), strict=True):
        digests.setdefault(side, set()).add(digest)
    return digests


@dataclass(frozen=True)
class Start:
    """What a run starts from, as far as the rows of its set are concerned."""

    place: str
    """Of the bundle; empty: it starts at random or from weights alone, and knows nothing."""
    knows: KnownRows

    def leak(self, sides: np.ndarray) -> str:
        """Which judged images the start knows, in words; "" if none.

        That its epoch was chosen by the images that choose this run's is no leak; where these are
        judged, too, `chosen` counts them.

        Args:
            sides: of each row [N]: train, val, test or "".
        """
        trained, parts = self.knows.trained, []
        for side, theirs in (("val", trained), ("test", trained | self.knows.chosen)):
            rows = sides == side
            if shared := int((rows & theirs).sum()):
                parts.append(f"{shared:,} of {int(rows.sum()):,} {side} images")
        if not parts:
            return ""
        return (
            f"the start {self.place} knows {' and '.join(parts)}: it was trained on them, on "
            "others of their patients or on near-duplicates, or chose its epoch by them"
        )

    def chosen(self, judged: np.ndarray) -> int:
        """How many judged images chose the epoch of the start.

        Their run's own epoch may be chosen by others; what it began from was not.

        Args:
            judged: which rows [N], as a mask or as numbers.
        """
        return int(self.knows.chosen[judged].sum())

    @property
    def unasked(self) -> list[str]:
        """Of which networks behind the start it cannot be told what they know, a sentence each."""
        return [not_known(place) for place in self.knows.unasked]


def start_on(model: config.Model, table: pa.Table) -> Start:
    """What a run of this model starts from, as far as the rows of a set are concerned.

    Raises:
        DamagedError: what a network learned from is no longer what was written.
    """
    place = start_of(model)
    if place:
        return Start(place, rows_known_to(table, [place]))
    none = np.zeros(len(table), bool)
    return Start("", KnownRows(none, none, []))


def not_known(place: str) -> str:
    """That it cannot be told what a network learned from, in words."""
    return (
        f"{place} was trained on other photographs, and no manifest.parquet of its run is beside "
        "it: whether some of them are judged here is not known"
    )


@dataclass(frozen=True)
class UnseenRows:
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
    def learned(self) -> np.ndarray:
        """Which rows [N] the network learned from or chose its epoch by, as far as is known."""
        return np.isin(self.sides, SIDES_APART[self.side])


def unseen_rows(data: PreparedSet, place: str, bundle: Bundle) -> UnseenRows:
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
        leak = start_on(bundle.recipe.model, data.table).leak(sides)
        return UnseenRows(sides, reported_split(rows_by_side(sides)), [leak] if leak else [])
    if "pretrained" in bundle.info:
        note = f"{place} was pretrained {bundle.info['pretrained']}: none of these was learned from"
        return UnseenRows(np.full(len(data.table), "all"), "all", [note])
    start = start_of(bundle.recipe.model)
    # The mean of several networks knows what any of them does.
    places = [*bundle.info.get("members", [place]), *([start] if start else [])]
    found = rows_known_to(data.table, places)
    theirs = found.trained | found.chosen
    notes = [not_known(one) for one in found.unasked]
    if theirs.any():
        notes.append(
            f"{theirs.sum():,} of {len(theirs):,} photographs are left out: {place}, or a network "
            "it went on from, was trained on them or chose its epoch by them, or by others of the "
            "same patients, or by their near-duplicates"
        )
    return UnseenRows(np.where(theirs, "known", "all"), "all", [*notes, BY_BYTES])


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
        return split_files.assign_split(data.table, bundle.recipe.data, bundle.recipe.split_seed)
    # The file that the recipe names may have been changed since, or be gone.
    theirs = files.read_table(beside)
    sides = dict(zip(*(theirs[name].to_pylist() for name in ("image_id", "split")), strict=True))
    ids = data.table["image_id"].to_pylist()
    if not sides.keys() >= set(ids):
        raise InputError(f"{beside} is of other photographs than {place} was trained on")
    return np.array([sides[image_id] for image_id in ids])


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
