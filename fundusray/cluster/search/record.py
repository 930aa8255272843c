"""What a search remembers, so that it goes on whatever became of Ray Tune's own files.

`search.json` says what is searched; `trials/0003.json` what the fourth trial proposed, how its
epochs went and how it ended. Each is written whole and vouches for itself. A trial's file is also
left in the trial's run folder, under the search's name, from where a damaged one is taken again.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fundusray import files
from fundusray.cluster.search.study import Proposal
from fundusray.errors import DamagedError
from fundusray.terminal import tell

HEAD = "search.json"
STATES = ("running", "finished", "stopped early", "failed")
ENDED = ("finished", "stopped early")
"""States in which a trial has said what it will ever say."""


@dataclass(frozen=True)
class TrialEntry:
    """One trial of a search."""

    number: int
    """From 0, in the order of proposing."""
    settings: dict[str, Any]
    """What it varies: dotted key -> value."""
    ranges: dict[str, str]
    """What the space could have drawn; see Proposal."""
    state: str = "running"
    """One of STATES; running also means cut off."""
    epochs: list[list[float]] = field(default_factory=list)
    """[epoch, validation value] in order, of its first training."""
    values: list[float] = field(default_factory=list)
    """Of each of its trainings that ended, the best epoch's validation value."""
    reason: str = ""
    """Why it failed."""
    objectives: list[float] = field(default_factory=list)
    """What it reached in each objective of a search that has several, the mean over its trainings;
    none where it has not ended."""

    @property
    def proposal(self) -> Proposal:
        return Proposal(self.settings, self.ranges)

    @property
    def value(self) -> float | None:
        """What it is worth: the best epoch's validation value, the mean over its trainings; None
        of one that failed or has not ended."""
        if self.state not in ENDED:
            return None
        if self.values:
            return math.fsum(self.values) / len(self.values)
        return max((value for _, value in self.epochs), default=None)


def winning_trial(entries: list[TrialEntry]) -> TrialEntry | None:
    """The trial that validation rows choose; of equal ones the one proposed first."""
    able = [entry for entry in entries if entry.value is not None]
    return max(able, key=lambda entry: (entry.value, -entry.number), default=None)


class SearchRecord:
    """The trials of one search, in memory as on disk. One process writes it."""

    def __init__(self, folder: str, run_folder: Callable[[dict[str, Any]], str]) -> None:
        """
        Args:
            folder: the search's.
            run_folder: from a trial's settings to the folder of its (first) training.
        """
        self.folder, self.run_folder = folder, run_folder
        self.copies: dict[int, str] = {}
        """Where each trial's second file is."""
        self.entries: dict[int, TrialEntry] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles whom it calls, and of that nothing is ever read back."""
        return {}

    def read(self, total: int) -> None:
        """Reads the trials that were proposed, of at most so many. What is damaged or missing is
        named, and taken from the run folders; where they do not have it either, it will be proposed
        again."""
        faults: dict[int, str] = {}
        missing = []
        for number in range(total):
            location = self._location(number)
            try:
                self.entries[number] = _entry(location, number)
            except FileNotFoundError:
                missing.append(number)
                faults[number] = f"{location}: missing"
            except DamagedError as error:
                faults[number] = str(error)
        copies = self._copies() if faults else {}
        last = max([*self.entries, *copies], default=-1)
        for number, fault in faults.items():
            if number in copies:
                self.write(copies[number])
                cure = f"taken again from {self.copies[number]}"
            elif number in missing and number > last:
                continue  # never proposed
            else:
                cure = "proposed again; a training that is there is not run again"
            tell(f"search record: {fault}; {cure}")

    def _location(self, number: int) -> str:
        return files.join(self.folder, "trials", f"{number:04d}.json")

    def _copy(self, run_folder: str) -> str:
        return files.join(run_folder, f"{files.base_name(self.folder)}.json")

    def _copies(self) -> dict[int, TrialEntry]:
        """The trials of this search that lie in run folders."""
        storage = self.folder.rstrip("/").rpartition("/")[0]
        copies = {}
        for name, is_folder, _ in files.list_dir(storage):
            location = self._copy(files.join(storage, name))
            if is_folder and files.exists(location):
                try:
                    entry = _entry(location)
                except DamagedError as error:
                    tell(f"search record: {error}; left out")
                    continue
                copies[entry.number] = entry
        return copies

    def write(self, entry: TrialEntry) -> None:
        """Keeps a trial as it stands, in both places."""
        content = asdict(entry)
        files.write_json(self._location(entry.number), content)
        if entry.number not in self.copies:
            self.copies[entry.number] = self._copy(self.run_folder(entry.settings))
        files.write_json(self.copies[entry.number], content)
        self.entries[entry.number] = entry

    def propose(self, number: int, proposal: Proposal) -> None:
        """A new trial."""
        self.write(TrialEntry(number, proposal.settings, proposal.ranges))

    def again(self, number: int) -> None:
        """A trial that was cut off or failed begins again, with the epochs it had."""
        begun = {"state": "running", "reason": "", "values": [], "objectives": []}
        self.write(replace(self.entries[number], **begun))

    def epoch(self, number: int, epoch: int, value: float | None, stopped: bool) -> None:
        """A trial's epoch, and whether the search stops it there: in one write, so that no kill can
        come between the figure and the decision."""
        entry = self.entries[number]
        kept = [row for row in entry.epochs if row[0] != epoch] + _rows([[epoch, value]])
        state = "stopped early" if stopped else "running"
        self.write(replace(entry, epochs=sorted(kept), state=state))

    def finish(
        self,
        number: int,
        values: list[float | None],
        epochs: list[list[Any]],
        objectives: list[list[float | None]] | None = None,
    ) -> None:
        """A trial that ran to its end: the best values of its trainings, the first one's epochs,
        and of each training what it reached in each objective of a search that has several."""
        good = [float(value) for value in values if _finite(value)]
        reached = [list(column) for column in zip(*(objectives or []), strict=True)]
        whole = bool(reached) and all(_finite(value) for column in reached for value in column)
        means = [math.fsum(column) / len(column) for column in reached] if whole else []
        ended = {"state": "finished", "values": good, "epochs": _rows(epochs), "objectives": means}
        self.write(replace(self.entries[number], **ended))

    def fail(self, number: int, reason: str) -> None:
        self.write(replace(self.entries[number], state="failed", reason=reason))

    def before(self, number: int, several: bool = False) -> list[tuple[Proposal, list[float]]]:
        """The trials proposed before that one, with what they are worth by now: their value, or
        what they reached in each of `several` objectives; nothing of those not known yet."""
        earlier = [self.entries[n] for n in sorted(self.entries) if n < number]
        return [
            (entry.proposal, entry.objectives if several else _listed(entry.value))
            for entry in earlier
        ]

    def left(self, total: int) -> list[int]:
        """The trials still to run, of so many: those begun first, then those to be proposed."""
        begun = [n for n, entry in sorted(self.entries.items()) if entry.state not in ENDED]
        return begun + [n for n in range(total) if n not in self.entries]

    @property
    def trials(self) -> list[TrialEntry]:
        """All of them, in the order of proposing."""
        return [self.entries[number] for number in sorted(self.entries)]


def _entry(location: str, number: int | None = None) -> TrialEntry:
    try:
        entry = TrialEntry(**files.read_json(location))
    except TypeError as error:
        raise DamagedError(f"{location}: not a trial of this version ({error})") from error
    if number is not None and entry.number != number:
        raise DamagedError(f"{location}: holds trial {entry.number}")
    return entry


def _listed(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _rows(epochs: list[list[Any]]) -> list[list[float]]:
    return [[int(epoch), float(value)] for epoch, value in epochs if _finite(value)]


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
