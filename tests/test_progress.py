"""Progress says what is left when it can be known, and nothing before."""

import re

import pytest

from fundusray.progress import Progress


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def played(
    progress: Progress, clock: Clock, events: list[tuple[float, int]]
) -> list[tuple[float, int, tuple[float, float] | None]]:
    """(when, done, what is said to be left) at each event (when, done)."""
    told = []
    for when, done in events:
        clock.now = when
        progress.update(done)
        told.append((when, done, progress.left()))
    return told


def units(workers: int, unit: int, seconds: float, starting: float, total: int):
    """(when, done) of workers that need `starting` seconds each before their first unit."""
    times = [starting + seconds * (1 + k) + w * 0.05 for k in range(total) for w in range(workers)]
    return [(when, unit * (i + 1)) for i, when in enumerate(sorted(times)[: total // unit])]


@pytest.mark.parametrize(
    ("workers", "unit", "seconds", "starting", "total"),
    [
        (2, 8, 1.0, 12.0, 400),  # the workers start longer than they work
        (2, 8, 1.0, 0.0, 400),
        (40, 4, 60.0, 20.0, 4000),  # many workers give their first result at once
        (1, 1, 0.01, 0.0, 3000),
    ],
)
def test_what_is_said_to_be_left_is_true(workers, unit, seconds, starting, total) -> None:
    clock = Clock()
    events = units(workers, unit, seconds, starting, total)
    told = played(Progress("preparing", total, clock), clock, events)
    end = events[-1][0]
    said = [(when, left) for when, done, left in told if left and done < total]
    assert said, "an estimate is given in the end"
    for when, (least, most) in said:
        assert least / 1.3 - seconds <= end - when <= most * 1.3 + seconds
    assert told[0][2] is None and told[-1][2] is None


def test_the_first_results_say_nothing_yet() -> None:
    """Eight of 400 after 17 s of starting were once said to leave 854 s."""
    clock = Clock()
    told = played(Progress("preparing", 400, clock), clock, [(17.4, 8), (17.5, 16), (19.0, 24)])
    assert [left for *_, left in told] == [None] * 3


def test_lines_of_a_log(capsys: pytest.CaptureFixture) -> None:
    clock = Clock()
    progress = Progress("scanning", 400, clock)
    for step in range(1, 41):
        clock.now = float(step)
        progress.update(10 * step, "1 refused")
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8 and lines[-1] == "scanning: 400/400; 1 refused (40 s)"
    assert sum("400/400" in line for line in lines) == 1
    assert lines[1] == "scanning: 100/400, 10/s, about 30 s left; 1 refused"
    assert not [line for line in lines if re.search(r"\d{3} s left|inf|nan", line)]


def test_slow_work_has_seconds_for_each() -> None:
    clock = Clock()
    progress = Progress("attacking", 10, clock)
    played(progress, clock, [(40.0 * (i + 1), i + 1) for i in range(6)])
    assert progress.last == "attacking: 6/10, 40 s each, about 3 min left"


def test_what_never_began_says_nothing(capsys: pytest.CaptureFixture) -> None:
    Progress("drawing", 0).close()
    assert capsys.readouterr().err == ""
