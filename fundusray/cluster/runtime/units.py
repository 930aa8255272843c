"""Units of work and what becomes of them; knows nothing of Ray.

A unit is a piece of work that may be done twice without harm, on any machine, in any order. Its key
says what it computes, all of it: two units of one key have one result.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fundusray import files
from fundusray.errors import FundusError

TRIES = 3
NAMED = 5
"""Units that an error names."""


@dataclass(frozen=True)
class Unit:
    """One piece of work."""

    key: str
    """What is computed, and the name of its file where results are files."""
    arguments: tuple[Any, ...] = ()
    """Of the pool's function, after what the worker holds."""
    rows: int = 1
    """How many things it does, for progress and rate."""
    name: str = ""
    """What people call it: its first and last photograph."""
    tries: int = TRIES
    """Workers that may die of it."""


Lost = Callable[[Unit, str], Iterable[Unit]]
"""(unit whose workers died as often as they may, why) -> the units to do in its place."""


class UnitsLostError(FundusError):
    """Units whose workers died as often as they may; all others are done."""


def unit_key(*parts: Any) -> str:
    """A key of plain values that decide a result: the bundle's hash, rows, the condition."""
    return files.hash_json(list(parts), 16)


class Queue:
    """The units of one call that still wait, and those that nobody could do.

    A unit whose worker died goes to the end of the queue: it is tried elsewhere, and those that
    harm nobody are done first.
    """

    def __init__(self, units: Iterable[Unit], lost: Lost | None = None) -> None:
        self.waiting = deque(units)
        self.failed: list[tuple[Unit, str]] = []
        self._lost, self._deaths = lost, Counter[str]()

    def take(self) -> Unit:
        """The next unit."""
        return self.waiting.popleft()

    def died(self, unit: Unit, why: str, counts: bool = True) -> int:
        """Notes that a worker died of a unit; how many rows are thereby given up.

        Args:
            counts: False where it was not the unit's doing.
        """
        self._deaths[unit.key] += counts
        if self._deaths[unit.key] < unit.tries:
            self.waiting.append(unit)
            return 0
        if self._lost is None:
            self.failed.append((unit, why))
            return unit.rows
        instead = list(self._lost(unit, why))
        self.waiting.extend(instead)
        return unit.rows - sum(other.rows for other in instead)

    def require_all(self, what: str) -> None:
        """Refuses to go on as though every unit had been done.

        Raises:
            UnitsLostError: some were not; names them.
        """
        if not self.failed:
            return
        named = [f"{unit.name or unit.key} ({why})" for unit, why in self.failed[:NAMED]]
        more = len(self.failed) - len(named)
        rest = f" and {more:,} more" if more else ""
        raise UnitsLostError(
            f"{what}: {'; '.join(named)}{rest}: tried {self.failed[0][0].tries} times, and each "
            "time its worker died. Look for an odd file among them, or for too little memory, and "
            "give the command again: what is done stays"
        )
