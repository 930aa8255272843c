"""Train, val and test: stratified, by patient or by image, the same for any order of rows.

Patients who share a photograph, or near-duplicates of one, are one: some people are in a set under
two ids. A photograph whose patient is not known is its own. Which side a patient falls on depends
on the seed and the patients in the table alone.
Within one class, patients are ordered by a keyed hash; counts come from the largest remainder, and
what rounding owes one stratum is carried to the next, so that shares hold for the whole table.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fundusray import files
from fundusray.errors import InputError

SPLITS = ("train", "val", "test")
UNLINKED = "\0"
"""Before the name of a photograph without a patient: no patient is called so."""


class _Units(NamedTuple):
    """What is assigned as a whole: patients, or single images."""

    of_row: np.ndarray
    """Unit of each row, int64 [N]."""
    grade: np.ndarray
    """Worst grade of each unit, [U]."""
    size: np.ndarray
    """Rows of each unit, [U]."""
    order: np.ndarray
    """Units by their keyed hash, [U]."""


def stratified_split(
    table: pa.Table, how: str, fractions: Sequence[float], seed: int
) -> np.ndarray:
    """ "train", "val" or "test" for each row, [N].

    Args:
        table: with image_id, patient_id, twin and target.
        how: "patient": all images of a patient, and their near-duplicates, fall on one side,
            stratified by the patient's highest target. "image": stratified by target; a patient's
            two eyes may straddle.
        fractions: shares of train, val and test that sum to 1.
        seed: another seed gives another split.

    Raises:
        InputError: an unknown `how`, or a share above 0 that would get no rows.
    """
    if how not in ("patient", "image"):
        raise InputError(f"data.split: patient or image, got {how!r}")
    of_row, names = linked_groups(table) if how == "patient" else coded(table, "image_id")
    units = _units(of_row, names, table["target"].to_numpy(), seed)
    shares = np.asarray(fractions, np.float64)
    sides = np.full(len(units.grade), -1)
    owed = np.zeros(len(SPLITS))
    # Rare grades first: what they owe is then evened out within the frequent ones.
    grades, times = np.unique(units.grade, return_counts=True)
    for grade in grades[np.argsort(times, kind="stable")]:
        members = units.order[units.grade[units.order] == grade]
        owed = _assign_grade(members, units.size, shares, owed, sides)
    _fill_train(table["target"].to_numpy(), units, sides)
    _check_filled(sides, shares, how)
    return np.array(SPLITS)[sides[units.of_row]]


def linked_groups(table: pa.Table) -> tuple[np.ndarray, list[str]]:
    """Which rows must stay together: (group of each row int64 [N], name of each group).

    Rows of one patient, and rows that are near-duplicates, are in one group; it bears the name of
    its first patient by the alphabet. A row without a patient is its own, by its image_id.
    """
    patient, names = _owners(table)
    twin, twins = coded(table, "twin")
    linked = np.flatnonzero(np.array([bool(name) for name in twins])[twin])
    # Patients ranked by name: the smallest rank of a group becomes its name.
    order = np.argsort(np.array(names))
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    rank = rank[patient]
    while len(linked):
        least = np.full(len(twins), len(names))
        np.minimum.at(least, twin[linked], rank[linked])
        joined = rank.copy()
        joined[linked] = least[twin[linked]]
        by_patient = np.full(len(names), len(names))
        np.minimum.at(by_patient, patient, joined)
        if np.array_equal(by_patient[patient], rank):
            break
        rank = by_patient[patient]
    first, of_row = np.unique(rank, return_inverse=True)
    return of_row, [names[order[r]].removeprefix(UNLINKED) for r in first]


def rows_by_side(sides: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of each side, train, val, test, of the side of every row [N]."""
    return {name: np.flatnonzero(sides == name) for name in SPLITS}


def reported_split(rows: dict[str, np.ndarray]) -> str:
    """The side whose figures are reported: test, or val where the recipe has no test rows."""
    return "test" if len(rows["test"]) else "val"


def halves(table: pa.Table, rows: np.ndarray, seed: int) -> np.ndarray:
    """0 or 1 for each of some rows: two halves of their patients, near-duplicates together.

    Patients are ordered by a keyed hash and dealt out in turn, so that halves are of equal size.
    """
    group, names = linked_groups(table)
    present = np.unique(group[rows])
    order = sorted(present, key=lambda g: files.sha256(f"{seed}/half/{names[g]}".encode()))
    of_group = {g: place % 2 for place, g in enumerate(order)}
    return np.array([of_group[g] for g in group[rows]], np.int64)


def _owners(table: pa.Table) -> tuple[np.ndarray, list[str]]:
    """The patient of each row, or the row itself where it has none."""
    patients = table["patient_id"].combine_chunks()
    alone = pc.binary_join_element_wise(UNLINKED, table["image_id"].combine_chunks(), "")
    return encoded(pc.if_else(pc.equal(patients, ""), alone, patients))


def coded(table: pa.Table, column: str) -> tuple[np.ndarray, list[str]]:
    """(number of each row's text int64 [N], the different texts of a column by their number)."""
    return encoded(table[column].combine_chunks())


def encoded(values: pa.Array) -> tuple[np.ndarray, list[str]]:
    """(number of each text int64 [N], the different texts by their number)."""
    encoded = pc.dictionary_encode(values)
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _units(of_row: np.ndarray, names: list[str], targets: np.ndarray, seed: int) -> _Units:
    grade = np.full(len(names), -1)
    np.maximum.at(grade, of_row, targets)
    salt = str(seed).encode()
    digests = [hashlib.blake2b(n.encode(), digest_size=8, key=salt).digest() for n in names]
    keys = np.frombuffer(b"".join(digests), "<u8")
    size = np.bincount(of_row, minlength=len(names))
    return _Units(of_row, grade, size, np.argsort(keys, kind="stable"))


def _assign_grade(
    members: np.ndarray, sizes: np.ndarray, shares: np.ndarray, owed: np.ndarray, sides: np.ndarray
) -> np.ndarray:
    """Fills `sides` for the units of one grade; returns the rows still owed to each side [3]."""
    # Large patients first: the small ones then even out what those leave.
    for size in np.unique(sizes[members])[::-1]:
        group = members[sizes[members] == size]
        want = shares * len(group) + owed / size
        counts = largest_remainder(want, len(group), shares > 0)
        sides[group] = np.repeat(np.arange(len(SPLITS)), counts)
        owed = (want - counts) * size
    wanting = np.flatnonzero(shares > 0)
    for side in sorted(wanting, key=lambda s: (s != 0, -shares[s])):
        held = np.bincount(sides[members], minlength=len(SPLITS))
        giver = held.argmax()
        # Train must hold the grade; the others are only given what is not the giver's last.
        if held[side] == 0 and (held[giver] >= 2 or side == 0):
            moved = members[sides[members] == giver][-1]
            sides[moved] = side
            owed[giver] += sizes[moved]
            owed[side] -= sizes[moved]
    return owed


def largest_remainder(want: np.ndarray, total: int, allowed: np.ndarray) -> np.ndarray:
    """Whole numbers >= 0 that sum to `total` and are nearest to `want`, 0 where not allowed.

    Hamilton's method; on a tie the first gets the seat.
    """
    counts = np.floor(np.maximum(want, 0) + 1e-9).astype(np.int64) * allowed
    while counts.sum() < total:
        counts[np.where(allowed, want - counts, -np.inf).argmax()] += 1
    while counts.sum() > total:
        counts[np.where(counts > 0, want - counts, np.inf).argmin()] -= 1
    return counts


def _fill_train(grades: np.ndarray, units: _Units, sides: np.ndarray) -> None:
    """Moves one unit to train for each grade that only the other sides hold.

    It happens where a grade occurs only as the better eye of patients.
    """
    for grade in np.unique(grades):
        holders = np.unique(units.of_row[grades == grade])
        if not (sides[holders] == 0).any():
            rank = np.empty(len(units.order), np.int64)
            rank[units.order] = np.arange(len(units.order))
            sides[holders[rank[holders].argmin()]] = 0


def _check_filled(sides: np.ndarray, shares: np.ndarray, how: str) -> None:
    held = np.bincount(sides, minlength=len(SPLITS))
    for name, share, units in zip(SPLITS, shares, held, strict=True):
        if share > 0 and units == 0:
            raise InputError(
                f"data.fractions: a share of {share:g} of {len(sides)} {how}s leaves {name} "
                f"empty; give more {how}s or a larger share"
            )
