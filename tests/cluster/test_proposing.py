"""Who proposes, who stops, who prints: with nothing of their own that a kill could lose."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fundusray.cluster.search.callbacks import (
    BEST,
    EPOCHS,
    OBJECTIVES,
    SuccessiveHalving,
    TrialPrinter,
    TrialProposer,
)
from fundusray.cluster.search.record import SearchRecord
from fundusray.cluster.search.study import Proposal

POINT = {"loss.name": "focal", "loss.args.gamma": 2.0}
METRIC = "val_kappa"


@pytest.fixture
def kept(tmp_path: Path) -> SearchRecord:
    return SearchRecord(str(tmp_path / "search"), lambda settings: str(tmp_path / "run"))


def settings_of(number: int) -> dict[str, Any]:
    return {"loss.name": "cross_entropy", "model.dropout": number / 10}


def trial(kept: SearchRecord, number: int, settings: dict[str, Any] | None = None) -> Any:
    """A trial as Tune hands it over; under another name of Tune's every time."""
    settings = settings or settings_of(number)
    if number not in kept.entries:
        kept.propose(number, Proposal(settings, {}))
    return SimpleNamespace(trial_id=object(), config={"number": number, "settings": settings})


def halving(kept: SearchRecord, epochs: int = 9) -> SuccessiveHalving:
    return SuccessiveHalving(kept, [POINT], epochs, 1, METRIC)


def offer(scheduler: SuccessiveHalving, which: Any, value: float | None, epoch: int) -> str:
    return scheduler.on_trial_result(None, which, {"epoch": epoch, METRIC: value})


def test_named_points_run_whole_and_weak_proposals_stop(kept: SearchRecord) -> None:
    scheduler = halving(kept)
    for number, value in enumerate((0.9, 0.8, 0.7)):
        offer(scheduler, trial(kept, number), value, 1)
    weak = offer(scheduler, trial(kept, 3), 0.0, 1)
    named = offer(scheduler, trial(kept, 4, POINT | {"model.dropout": 0.0}), 0.0, 1)
    assert (weak, named) == (SuccessiveHalving.STOP, SuccessiveHalving.CONTINUE)
    assert offer(scheduler, trial(kept, 0), 0.0, 9) == SuccessiveHalving.CONTINUE
    # The decision and the figure it came from are kept in one write.
    assert [kept.entries[n].state for n in (0, 3, 4)] == ["running", "stopped early", "running"]
    assert kept.entries[3].epochs == [[1, 0.0]]


VALUES = [[0.1, 0.2, 0.3, 0.3], [0.5, 0.1, 0.2, 0.6], [0.3, 0.4, 0.5, 0.4], [0.0] * 4, [0.6] * 4]


def search(kept: SearchRecord, stop_at: int = 10**6) -> None:
    """Trials one after the other, each to its end or to where it is stopped; cut off for good
    after so many reports, wherever that falls. Goes on from what the record holds."""
    scheduler, reports = halving(kept, epochs=4), 0
    waiting = kept.left(len(VALUES))
    for number in waiting:
        which = trial(kept, number)
        kept.again(number)
        begun = len(kept.entries[number].epochs)
        values = VALUES[number]
        for epoch in range(begun + 1, len(values) + 1):
            if reports == stop_at:
                return
            reports += 1
            if offer(scheduler, which, values[epoch - 1], epoch) == SuccessiveHalving.STOP:
                break
        else:
            last = {"epoch": 4, METRIC: max(values), BEST: [max(values)], OBJECTIVES: [[]]}
            last[EPOCHS] = [[n, value] for n, value in enumerate(values, 1)]
            for _ in range(2):  # Tune repeats the last report
                assert scheduler.on_trial_result(None, which, last) == SuccessiveHalving.CONTINUE


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_search_that_is_cut_off_anywhere_decides_as_one_that_is_not(
    kept: SearchRecord, tmp_path: Path, cut: int
) -> None:
    search(kept)
    assert [entry.state for entry in kept.trials].count("stopped early") >= 1
    broken = SearchRecord(str(tmp_path / "other"), kept.run_folder)
    search(broken, stop_at=cut)
    fresh = SearchRecord(str(tmp_path / "other"), kept.run_folder)
    fresh.read(len(VALUES))
    search(fresh)
    assert fresh.trials == kept.trials


def test_a_trial_whose_epochs_were_done_says_them_with_its_last_report(kept: SearchRecord) -> None:
    """A driver killed between a trial's last epoch and its judging: nothing is trained any more."""
    scheduler = halving(kept, epochs=3)
    last = {"epoch": 3, METRIC: 0.7, BEST: [0.7, 0.5], EPOCHS: [[1, 0.1], [2, 0.7], [3, 0.6]]}
    last[OBJECTIVES] = [[0.7, 0.2], [0.5, 0.4]]
    assert scheduler.on_trial_result(None, trial(kept, 0), last) == SuccessiveHalving.CONTINUE
    assert kept.entries[0].value == pytest.approx(0.6)
    assert kept.entries[0].epochs == [[1, 0.1], [2, 0.7], [3, 0.6]]
    assert kept.entries[0].objectives == pytest.approx([0.6, 0.3])
    # They count for who comes after.
    assert offer(scheduler, trial(kept, 1), 0.0, 1) == SuccessiveHalving.STOP


def test_a_metric_that_is_not_defined_stops_nobody(kept: SearchRecord) -> None:
    scheduler = halving(kept)
    offer(scheduler, trial(kept, 0), 0.9, 1)
    assert offer(scheduler, trial(kept, 1), None, 1) == SuccessiveHalving.CONTINUE
    assert kept.entries[1].epochs == []


def test_trials_that_were_cut_off_are_handed_out_first(kept: SearchRecord) -> None:
    for number in range(3):
        trial(kept, number)
    kept.finish(1, [0.5], [[1, 0.5]])
    kept.fail(2, "no room")
    asked = []

    def propose(number: int) -> Proposal:
        asked.append(number)
        return Proposal(settings_of(number), {})

    proposer = TrialProposer(kept, 5, propose)
    given = []
    while isinstance(found := proposer.suggest("any"), dict):
        given.append(found["number"])
        assert found["settings"] == settings_of(found["number"])
        # It is remembered before anything runs.
        assert kept.entries[found["number"]].state == "running"
    assert found == TrialProposer.FINISHED
    assert (given, asked) == ([0, 2, 3, 4], [3, 4])


def test_lines_say_which_trial_ended_with_what_and_how_many_have(
    kept: SearchRecord, capsys: pytest.CaptureFixture
) -> None:
    teller = TrialPrinter(kept, lambda settings: "a method", METRIC, 4)
    which = trial(kept, 1)
    kept.finish(1, [0.25], [])
    teller.on_trial_complete(1, [], which)
    kept.finish(1, [], [])
    teller.on_trial_complete(1, [], which)
    which.get_pickled_error = lambda: None
    which.get_error = lambda: "Traceback\n  a line\nOutOfMemoryError: the card is full\n"
    teller.on_trial_error(1, [], which)
    assert capsys.readouterr().out.splitlines() == [
        "trial 2 a method: ended at val_kappa 0.250 (1/4)",
        "trial 2 a method: ended (1/4)",
        "trial 2 a method: FAILED (1/4)",
    ]
    assert kept.entries[1].reason == "OutOfMemoryError: the card is full"
