"""Splits that were made elsewhere: the publisher's own, or a file (image_id,split)."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.config import Data
from fundusray.data.reading.csv_files import read_csv
from fundusray.data.split import assign_sides
from fundusray.errors import InputError

NAMES = ("train", "val", "test", "none")
MOST_NAMED = 20


def assign_split(table: pa.Table, data: Data, seed: int) -> np.ndarray:
    """ "train", "val", "test", or "" (left out) for each row [N], as the recipe has it.

    Raises:
        InputError: a split file that does not fit the rows, or no publisher's split; what
            `assign_sides.stratified_split` refuses.
    """
    if data.split_file:
        return _from_file(table, data.split_file)
    if data.split == "given":
        return _published(table, data.fractions, seed)
    return assign_sides.stratified_split(table, data.split, data.fractions, seed)


def assignment_digest(table: pa.Table, sides: np.ndarray) -> str:
    """A hash of who is where, the same for any order of rows."""
    lines = sorted(f"{i}\0{side}" for i, side in zip(_ids(table), sides, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write_split_file(location: str, table: pa.Table, sides: np.ndarray) -> None:
    """Writes a split file that gives this very split again."""
    rows = zip(_ids(table), sides, strict=True)
    lines = [f"{_cell(image_id)},{side or 'none'}\r\n" for image_id, side in rows]
    files.write_bytes(location, "".join(["image_id,split\r\n", *lines]).encode())


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"') else text


def _ids(table: pa.Table) -> list[str]:
    return table["image_id"].to_pylist()


def _from_file(table: pa.Table, location: str) -> np.ndarray:
    if not files.exists(location):
        raise InputError(f"data.split_file={location}: no such file; it holds image_id,split")
    name = files.base_name(location)
    sides: dict[str, str] = {}
    faults = []
    for line, image_id, side in read_csv(name, files.read_bytes(location), ("image_id", "split")):
        if side not in NAMES:
            faults.append(f"{name}:{line}: split {side!r}, expected {', '.join(NAMES)}")
        elif image_id in sides:
            faults.append(f"{name}:{line}: image {image_id!r} again; keep one line for each")
        sides[image_id] = side
    ids = _ids(table)
    lacking = [image_id for image_id in ids if image_id not in sides]
    faults += [f"{name}: no line for image {i!r}; give it a split or none" for i in lacking]
    if faults:
        raise InputError(_told(f"{len(faults):,} faults in data.split_file={location}:", faults))
    return np.array(["" if sides[i] == "none" else sides[i] for i in ids])


def _told(head: str, faults: list[str]) -> str:
    more = [f"  and {len(faults) - MOST_NAMED:,} more"] if len(faults) > MOST_NAMED else []
    return "\n".join([head, *(f"  {fault}" for fault in faults[:MOST_NAMED]), *more])


def _published(table: pa.Table, fractions: Sequence[float], seed: int) -> np.ndarray:
    """The publisher's split. What has none is split by patient; a val side that is missing is
    taken from the train side by patient, as large a part of it as `fractions` have it."""
    sides = np.array(table["split"].to_pylist())
    held = set(sides.tolist()) - {""}
    if "train" not in held or len(held) < 2:
        raise InputError(
            "data.split=given: the photographs come without a split of their own "
            f"({', '.join(sorted(held)) or 'none'} only); set data.split=patient"
        )
    open_rows = np.flatnonzero(sides == "")
    if len(open_rows):
        sides[open_rows] = assign_sides.stratified_split(
            table.take(open_rows), "patient", fractions, seed
        )
    if "val" not in held and not (sides == "val").any():
        rows = np.flatnonzero(sides == "train")
        part = fractions[1] / (fractions[0] + fractions[1])
        sides[rows] = assign_sides.stratified_split(
            table.take(rows), "patient", (1 - part, part, 0.0), seed
        )
    return sides
