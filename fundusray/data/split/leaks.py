"""What stands on two sides of a split although it must not: patients, and near-duplicates."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fundusray.data.split.assign_sides import coded, encoded

MOST_NAMED = 5
SIDES = ("train", "val", "test")


class SplitLeaks(NamedTuple):
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


def find_leaks(table: pa.Table, sides: np.ndarray) -> SplitLeaks:
    """The leaks of a split [N] of "train", "val", "test", or "" for rows that are left out.

    Args:
        table: with patient_id and twin.
    """
    of_row, present = encoded(pa.array(sides, pa.string()))
    number = {side: place for place, side in enumerate(present)}
    of_row = np.where(of_row == number.get("", -1), -1, of_row)
    columns = [coded(table, name) for name in ("patient_id", "twin")]
    held = [_held(of, of_row, names, len(present)) for of, names in columns]
    straddling = [
        sorted(names[place] for place in np.flatnonzero(found.sum(axis=1) > 1))
        for (_, names), found in zip(columns, held, strict=True)
    ]
    known = np.zeros(len(of_row), bool)
    if "train" in number:
        for (of, _), found in zip(columns, held, strict=True):
            known |= found[of, number["train"]]
    judged = {}
    for side in SIDES[1:]:
        rows = of_row == number.get(side, len(present))
        if rows.any():
            judged[side] = (int(known[rows].sum()), int(rows.sum()))
    patient, names = columns[0]
    unknown = np.array([not name for name in names], bool)[patient] & (of_row >= 0)
    return SplitLeaks(*straddling, judged, int(unknown.sum()))


def _held(of: np.ndarray, side: np.ndarray, names: list[str], sides: int) -> np.ndarray:
    """Which sides hold a row of each name, bool [names, sides]; "" is no name and on no side.

    Args:
        of: number of each row's name [N].
        side: number of each row's side [N], -1 where it is left out.
    """
    held = np.zeros((len(names), sides), bool)
    rows = side >= 0
    held[of[rows], side[rows]] = True
    held[[place for place, name in enumerate(names) if not name]] = False
    return held


def leak_sentence(leaks: SplitLeaks) -> str:
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


def leak_refusal(leaks: SplitLeaks) -> str:
    """Why this split is not trained on, with the first names and what to do."""
    lines = ["the split leaks, its figures would be too good:"]
    for names, what in (
        (leaks.patients, "patients are on more than one side"),
        (leaks.twins, "groups of near-duplicates are on more than one side"),
    ):
        if names:
            more = f", and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
            lines.append(f"  {len(names):,} {what}: {', '.join(names[:MOST_NAMED])}{more}")
    lines.append(
        "set data.split=patient (default), mend the split file, or go on with "
        "data.allow_leak=true, which every table will say"
    )
    return "\n".join(lines)
