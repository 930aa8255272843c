"""What a search remembers: there and back, damaged in every way, rebuilt from the run folders."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from fundusray import files
from fundusray.cluster.search.record import SearchRecord, TrialEntry, winning_trial
from fundusray.cluster.search.study import Proposal
from fundusray.verified import DamagedError

RANGES = {"model.dropout": '{"name": "FloatDistribution", "attributes": {}}'}


def record(storage: Path) -> SearchRecord:
    return SearchRecord(
        str(storage / "demo-search-1"),
        lambda given: str(storage / f"demo-{given['model.dropout']}"),
    )


def propose(kept: SearchRecord, number: int) -> None:
    kept.propose(number, Proposal({"model.dropout": number / 10}, RANGES))


@pytest.fixture
def four(tmp_path: Path) -> SearchRecord:
    """A search of four trials: finished, stopped early, failed, cut off."""
    kept = record(tmp_path)
    for number in range(4):
        propose(kept, number)
        kept.epoch(number, 1, 0.1 * number, stopped=False)
    kept.finish(0, [0.5, 0.7], [[1, 0.0], [2, 0.5]])
    kept.epoch(1, 2, 0.05, stopped=True)
    kept.fail(2, "out of memory")
    return kept


def again(storage: Path, total: int = 6) -> SearchRecord:
    kept = record(storage)
    kept.read(total)
    return kept


def test_what_is_written_comes_back(four: SearchRecord, tmp_path: Path) -> None:
    kept = again(tmp_path)
    assert kept.trials == four.trials
    assert [entry.state for entry in kept.trials] == [
        "finished",
        "stopped early",
        "failed",
        "running",
    ]
    assert [entry.value for entry in kept.trials] == [0.6, 0.1, None, None]
    # Begun ones first, in their order, then those that are still to be proposed.
    assert kept.left(6) == [2, 3, 4, 5]
    kept.again(2)
    assert kept.entries[2].epochs == [[1, 0.2]] and not kept.entries[2].reason


def test_the_winner_is_the_best_on_validation_rows_and_never_one_that_failed() -> None:
    def entry(number: int, state: str, *values: float) -> TrialEntry:
        return TrialEntry(number, {}, {}, state, [[1, 0.4]], list(values))

    tied = [entry(0, "finished", 0.3), entry(1, "finished", 0.6), entry(2, "finished", 0.5, 0.7)]
    assert winning_trial(tied).number == 1
    assert winning_trial([*tied, entry(3, "failed", 0.9), entry(4, "running", 0.9)]).number == 1
    assert winning_trial([tied[0], entry(5, "stopped early")]).number == 5
    assert winning_trial([entry(0, "failed")]) is None


DAMAGES: dict[str, Any] = {
    "empty": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "without its end": lambda raw: raw[:-3],
    "another value": lambda raw: raw.replace(b"0.5", b"0.8"),
    "no text": lambda raw: bytes(random.Random(0).randbytes(200)),
    "gone": None,
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("number", range(4))
def test_a_damaged_trial_is_named_and_taken_from_its_run_folder(
    four: SearchRecord, tmp_path: Path, capsys: pytest.CaptureFixture, number: int, kind: str
) -> None:
    path = tmp_path / "demo-search-1" / "trials" / f"{number:04d}.json"
    good = path.read_bytes()
    if kind == "gone":
        path.unlink()
    else:
        path.write_bytes(DAMAGES[kind](good))
        assume = path.read_bytes() != good
        if not assume:  # this trial has no 0.5 in it
            return
    kept = again(tmp_path)
    said = capsys.readouterr().err
    assert kept.trials == four.trials
    assert str(path) in said and f"demo-{number / 10}/demo-search-1.json" in said
    assert path.read_bytes() == good
    again(tmp_path)
    assert not capsys.readouterr().err


def test_every_flipped_bit_is_noticed(four: SearchRecord, tmp_path: Path) -> None:
    path = tmp_path / "demo-search-1" / "trials" / "0000.json"
    good, draw = path.read_bytes(), random.Random(0)
    for _ in range(300):
        content = bytearray(good)
        content[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        with pytest.raises(DamagedError, match=r"0000\.json: "):
            files.read_json(str(path))


def test_a_trial_that_is_damaged_in_both_places_is_proposed_again(
    four: SearchRecord, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for path in (tmp_path / "demo-search-1" / "trials" / "0001.json", *tmp_path.glob("demo-0.1/*")):
        path.write_bytes(b"")
    kept = again(tmp_path)
    assert sorted(kept.entries) == [0, 2, 3] and kept.left(4) == [2, 3, 1]
    assert re.search(r"0001\.json: not readable.*proposed again", capsys.readouterr().err)
    # Another trial's file under this one's name is as bad as none.
    swapped = tmp_path / "demo-search-1" / "trials" / "0000.json"
    swapped.write_bytes((tmp_path / "demo-search-1" / "trials" / "0002.json").read_bytes())
    assert again(tmp_path).entries[0] == four.entries[0]
    assert "holds trial 2" in capsys.readouterr().err


def test_all_files_gone_but_the_run_folders(four: SearchRecord, tmp_path: Path) -> None:
    for path in (tmp_path / "demo-search-1" / "trials").iterdir():
        path.unlink()
    assert again(tmp_path).trials == four.trials


def test_what_never_was_is_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    kept = record(tmp_path)
    propose(kept, 0)
    assert again(tmp_path).left(3) == [0, 1, 2]
    assert not capsys.readouterr().err


def test_a_trial_without_epochs_is_worth_nothing() -> None:
    kept = TrialEntry(0, {}, {}, "finished", [], [])
    assert kept.value is None
