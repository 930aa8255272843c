"""Every command is killed all along its life: given again it goes on, and nothing is another."""

import contextlib
import csv
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fundusray import files
from tests.chaos.harness import ENDED, Command, until

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
SHORT = {"train__epochs": "2", "train__keep_checkpoints": "false"}
"""Six steps, a checkpoint after each; what a finished run needs no more goes, as for users."""
VARYING = ("seconds", "core_hours", "images_per_second", "wait_share")
VARYING += ("folder", "bundle", "predictions", "files", "seal")
"""Keys of what is of the clock, of places, or of files with such figures in them."""
SAID = r"preparing: \d+/\d+|there already|training on \d+|resuming from step \d+|made again"
SAID += r"|going on: \d+ trials have ended|training \d+ of \d+|looked at \w+"
"""What of an output tells how a command went on."""


class Moment(NamedTuple):
    """When to kill: so many more files of a pattern are there, and up to so many seconds later."""

    files: str
    """Without a pattern, `more` is the share of an unbroken command's time."""
    more: float
    later: float = 0.0


class Case(NamedTuple):
    """A command and its kills."""

    after: str
    """The case in whose unbroken storage it begins; "" for an empty one."""
    words: dict[str, str]
    """Of `harness.words`."""
    moments: tuple[Moment, ...]
    again: bool = False
    """It has been given before and only reports anew."""


TRAIN = {"job": "train.py"}
TUNE = {"job": "tune_balancing.py", "tune__trials": "3", "tune__grace": "2"}
TUNE |= {"tune__concurrent": "1"}
TABLE = {"job": "table.py", "named": "wu.table5", "scale": "tiny"}
TABLE |= {"rows": "baseline,focal_gamma2", "model__name": "resnet18"}
CASES = {
    "prepare": Case(
        "",
        {"job": "prepare.py"},
        (
            Moment("", 0.3, 1.0),
            Moment("synthetic/*/train/*.jpeg", 10),
            Moment("prepared/*/unit-*.json", 2),
            Moment("prepared/*/set.json", 1, 0.2),
        ),
    ),
    "train": Case(
        "prepare",
        TRAIN,
        (
            Moment("demo-*/recipe.json", 1, 3.0),
            Moment("demo-*/checkpoints/step-00000002", 1, 0.5),
            Moment("demo-*/checkpoints/step-00000005", 1, 0.5),
            Moment("demo-*/outcome.json", 1, 0.2),
        ),
    ),
    "evaluate": Case(
        "train",
        {"job": "evaluate.py"},
        (
            Moment("", 0.3, 1.0),
            Moment("", 0.6, 1.0),
            Moment("*-evaluation-*/predictions-*.parquet", 1, 0.3),
        ),
    ),
    "tune": Case(
        "prepare",
        TUNE,
        (
            Moment("demo-search-*/trials/0000.json", 1, 6.0),
            Moment("demo-search-*/trials/0001.json", 1, 6.0),
            Moment("demo-*/result.json", 3, 0.2),
        ),
    ),
    "table": Case(
        "",
        TABLE,
        (
            Moment("wu.table5.*/recipe.json", 1, 4.0),
            Moment("wu.table5.*/result.json", 1, 4.0),
            Moment("wu.table5.*/result.json", 2, 0.2),
        ),
    ),
    "report of train": Case("train", TRAIN, (Moment("looks/*/*", 1, 0.8),), again=True),
    "report of tune": Case("tune", TUNE, (Moment("looks/*/*", 1, 1.5),), again=True),
    "report of table": Case("table", TABLE, (Moment("looks/*/*", 1),), again=True),
}
KILLS = [(name, number) for name, case in CASES.items() for number in range(len(case.moments))]


def count(storage: Path, pattern: str) -> int:
    return len(list(storage.glob(pattern)))


def words_of(case: Case, storage: Path) -> dict[str, str]:
    """The command's words; an evaluation is of the bundle that is in the storage."""
    judged = case.words["job"] == "evaluate.py"
    named = {"named": str(next(storage.glob("demo-*/bundle")))} if judged else {}
    return SHORT | named | case.words


def figures(value: Any) -> Any:
    """The value without what is of the clock, and places."""
    if isinstance(value, dict):
        return {key: figures(part) for key, part in value.items() if key not in VARYING}
    return [figures(part) for part in value] if isinstance(value, list) else value


def fingerprint(path: Path) -> Any:
    """What must be equal of a file."""
    exact = (".arrow", ".prints", ".safetensors", ".jpeg")
    exact += ("predictions.parquet", "manifest.parquet", "twins.parquet", "split.csv")
    if path.name.endswith(exact) or path.name.startswith("predictions-"):
        return files.sha256_file(str(path))
    if path.name in ("leaderboard.csv", "table.csv"):
        with path.open(newline="") as rows:
            return figures(list(csv.DictReader(rows)))
    if path.name in ("result.json", "metrics.json") or path.parent.name == "trials":
        return figures(files.read_json(str(path)))
    return path.name != "report.html" or path.read_text().rstrip().endswith("</html>")


def ends(storage: Path) -> dict[str, Any]:
    """Every file of a storage -> its fingerprint; also of one that should not be there."""
    found = {
        str(path.relative_to(storage)): fingerprint(path)
        for path in sorted(storage.rglob("*"))
        if path.is_file()
    }
    # Each command that shows figures of test rows leaves one look more.
    return {name: value for name, value in found.items() if not name.startswith("looks/")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, float]]:
    """whole(case) -> (the storage of a command that nobody killed, the seconds it took)."""
    done: dict[str, tuple[Path, float]] = {}

    def of(name: str) -> tuple[Path, float]:
        if name not in done:
            case, place = CASES[name], tmp_path_factory.mktemp("whole")
            if case.after:
                shutil.copytree(of(case.after)[0], place / "runs")
            began = time.monotonic()
            command = Command(place / "runs", place / "log", **words_of(case, place / "runs"))
            try:
                assert command.end() == 0, command.text
            finally:
                command.kill()
            done[name] = place / "runs", time.monotonic() - began
        return done[name]

    return of


class Ending(threading.Thread):
    """Measures how long all that a killed command had started takes to end by itself."""

    def __init__(self, command: Command) -> None:
        super().__init__(daemon=True)
        self.command, self.seconds = command, 0.0
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        while self.command.left_over():
            time.sleep(0.5)
        self.seconds = time.monotonic() - began


@pytest.fixture(scope="module")
def endings() -> Iterator[list[Ending]]:
    """Of every killed command, in the order of the kills."""
    found: list[Ending] = []
    yield found
    for ending in found:
        ending.command.kill()


def kill_at(command: Command, moment: Moment, before: int, unbroken: float, rest: float) -> None:
    """Kills the driver in the middle of what it does, and nothing else."""

    def come() -> bool:
        assert command.process.poll() is None, command.text
        return count(command.storage, moment.files) >= before + moment.more

    if moment.files:
        until(come, f"{moment}: {command.text[-2000:]}")
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.process.wait(rest + (0 if moment.files else moment.more * unbroken))
    assert command.process.poll() is None, f"it had ended by then: {command.text}"
    os.kill(command.pid, signal.SIGKILL)
    command.end()


@pytest.mark.parametrize(("name", "number"), KILLS)
def test_a_killed_command_goes_on_to_the_same_end(
    whole: Callable[[str], tuple[Path, float]],
    begin: Callable[..., Command],
    endings: list[Ending],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    name: str,
    number: int,
) -> None:
    case, storage = CASES[name], tmp_path / "runs"
    if case.after:
        shutil.copytree(whole(case.after)[0], storage)
    expected, unbroken = whole(case.after if case.again else name)
    moment, words = case.moments[number], words_of(case, storage)
    rest = random.Random(f"{name} {number}").uniform(moment.later / 3, moment.later)
    before = count(storage, moment.files) if moment.files else 0
    command = Command(storage, tmp_path / "killed.log", **words)
    try:
        kill_at(command, moment, before, unbroken, rest)
    finally:
        endings.append(Ending(command))
    again = begin(storage, **words)
    code = again.end()
    until(lambda: not again.left_over(), "all of the second command has ended", 30)
    found, wanted = ends(storage), ends(expected)
    other = sorted(key for key in found | wanted if found.get(key) != wanted.get(key))
    where = f"{moment.more:g} more {moment.files}" if moment.files else f"{moment.more:.0%} of it"
    said = "; ".join(dict.fromkeys(re.findall(SAID, again.text)))
    equal = f"NOT EQUAL: {', '.join(other)}" if other else "equal"
    with capsys.disabled():
        print(f"\n{name:15} | {where} + {rest:.1f} s | exit {code}: {said} | {equal}", flush=True)
    assert code == 0, again.text
    assert not other
    assert '"status": "finished"' in again.text.splitlines()[-1]


def test_of_no_killed_command_a_process_is_left(
    endings: list[Ending], capsys: pytest.CaptureFixture
) -> None:
    assert endings, "nothing was killed before"
    for ending in endings:
        ending.join(ENDED)
    with capsys.disabled():
        print("\nall ended, s:", ", ".join(f"{ending.seconds:.0f}" for ending in endings))
    assert [ending.command.left_over() for ending in endings] == [[]] * len(endings)
