"""What stands on two sides of a split although it must not: patients, and near-duplicates."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

SHOWN = 5
SIDES = ("train", "val", "test")


class Leaks(NamedTuple):
    """Patients and groups of near-duplicates that are on more than one side of a split."""

    patients: list[str]
    twins: list[str]
    """The first photograph of each group."""
    judged: dict[str, tuple[int, int]]
    """val, test -> (rows whose patient or near-duplicate is on the train side, all rows)."""
    unknown: int = 0
    """Rows whose patient is not known: there may be more leaks than were found."""

    def __bool__(self) -> bool:
        return bool(self.patients or self.twins)


def find_leaks(table: pa.Table, sides: np.ndarray) -> Leaks:
    """The leaks of a split [N] of "train", "val", "test", or "" for rows that are left out.

    Args:
        table: with patient_id and twin.
    """
    patients = np.array(table["patient_id"].to_pylist(), dtype=object)
    twins = np.array(table["twin"].to_pylist(), dtype=object)
    judged = {}
    for side in SIDES[1:]:
        rows = sides == side
        if rows.any():
            known = _also_in(patients, rows, sides == "train") | _also_in(
                twins, rows, sides == "train"
            )
            judged[side] = (int(known.sum()), int(rows.sum()))
    unknown = int(((patients == "") & (sides != "")).sum())
    return Leaks(_straddling(patients, sides), _straddling(twins, sides), judged, unknown)


def _straddling(names: np.ndarray, sides: np.ndarray) -> list[str]:
    """Names, but for "", that occur on more than one side; sorted."""
    first: dict[str, str] = {}
    found: set[str] = set()
    for name, side in zip(names, sides, strict=True):
        if name and side and first.setdefault(name, side) != side:
            found.add(name)
    return sorted(found)


def _also_in(names: np.ndarray, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the chosen rows bear a name, but for "", that one of the others bears."""
    there = set(names[others]) - {""}
    return np.array([name in there for name in names[rows]], bool)


def told(leaks: Leaks) -> str:
    """The leaks in one sentence for a table's caption; empty without any."""
    if not leaks:
        return ""
    least = "at least " if leaks.unknown else ""
    parts = [
        f"{least}{known:,} of {total:,} {side} images show a patient or a near-duplicate of the "
        "train side"
        for side, (known, total) in leaks.judged.items()
        if known
    ] or ["patients or near-duplicates are on both val and test"]
    return f"LEAK ALLOWED (data.allow_leak=true): {'; '.join(parts)}: figures are flattered"


def refusal(leaks: Leaks) -> str:
    """Why this split is not trained on, with the first names and what to do."""
    lines = ["the split leaks, its figures would be too good:"]
    for names, what in (
        (leaks.patients, "patients are on more than one side"),
        (leaks.twins, "groups of near-duplicates are on more than one side"),
    ):
        if names:
            more = f", and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
            lines.append(f"  {len(names):,} {what}: {', '.join(names[:SHOWN])}{more}")
    lines.append(
        "set data.split=patient (default), mend the split file, or go on with "
        "data.allow_leak=true, which every table will say"
    )
    return "\n".join(lines)
