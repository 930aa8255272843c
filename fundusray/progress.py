"""Progress of long work: a bar on a terminal, one line every few seconds in a log."""

import sys
import time
from collections.abc import Callable

from fundusray.terminal import tell

LOG_SECONDS = 5.0
BAR_SECONDS = 0.2
LEAST_SECONDS = 2.0
"""Seconds after the first results before which nothing is said of the rate."""
LEAST_UPDATES = 4
"""Results after the first ones before which nothing is said of the rate."""
APART = 2.0
"""Estimates that differ by more than this factor are not worth saying."""


class Progress:
    """Says how far `what` is; `done` of `total` things.

    The time that is left lies between two estimates. Counted from the start, the time that starting
    takes (workers, networks) makes the rate too small; counted from the first results, it is too
    large while the workers have each given as little as one result. They meet as the work goes on;
    until they are within a factor of two of each other neither is said.
    """

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.what, self.total, self.clock = what, max(total, 1), clock
        self.terminal = sys.stderr.isatty()
        self.start = clock()
        self.said = self.start if not self.terminal else 0.0
        self.last = ""
        self.done, self.now = 0, self.start
        self._first: tuple[int, float] | None = None
        self._updates = 0

    def update(self, done: int, note: str = "") -> None:
        """Tells the state, at most as often as a reader wants it; in a log, the last of it is told
        once, by `close`."""
        self.now = self.clock()
        if done > self.done:
            self._updates += self._first is not None
            self._first = self._first or (done, self.now)
        self.done = done
        text = f"{self.what}: {done}/{self.total}{self._pace()}{'; ' + note if note else ''}"
        self.last = text
        wait = BAR_SECONDS if self.terminal else LOG_SECONDS
        if self.now - self.said >= wait and (self.terminal or done < self.total):
            self._say(text, min(done / self.total, 1.0))

    @property
    def rate(self) -> float:
        """Things per second since the first were done; 0 while too few are to say."""
        if self._first is None or self._updates < LEAST_UPDATES:
            return 0.0
        done, since = self._first
        taken = self.now - since
        return (self.done - done) / taken if taken >= LEAST_SECONDS else 0.0

    def left(self) -> tuple[float, float] | None:
        """Seconds that are left, at least and at most; None while nothing honest can be said."""
        todo = self.total - self.done
        if todo <= 0 or not self.rate:
            return None
        from_first, from_start = todo / self.rate, todo * (self.now - self.start) / self.done
        least, most = sorted((from_first, from_start))
        return (least, most) if most <= APART * least else None

    def _pace(self) -> str:
        """The rate and what is left, as far as either can be said."""
        left = self.left()
        if left is None:
            return ""
        least, most = (_duration(seconds) for seconds in left)
        between = least if least == most else f"{least} to {most}"
        return f", {_rate(self.rate)}, about {between} left"

    def _say(self, text: str, share: float) -> None:
        self.said = self.clock()
        if self.terminal:
            bar = "#" * round(20 * share)
            print(f"\r[{bar:<20}] {text}\x1b[K", end="", file=sys.stderr, flush=True)
        else:
            tell(text)

    def close(self) -> None:
        """Tells the last state and the time taken."""
        if self.last:
            self._say(f"{self.last} ({_duration(self.clock() - self.start)})", 1.0)
            if self.terminal:
                print(file=sys.stderr)


def _rate(rate: float) -> str:
    return f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each"


def _duration(seconds: float) -> str:
    """Seconds with as many digits as anybody wants of them: 3.2 s, 45 s, 12 min, 3.5 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
