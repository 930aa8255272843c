"""Progress of long work: a bar on a terminal, one line every few seconds in a log."""

import sys
import time

LOG_SECONDS = 5.0
BAR_SECONDS = 0.2


class Progress:
    """Says how far `what` is; `done` of `total` things."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, max(total, 1)
        self.terminal = sys.stderr.isatty()
        self.start = time.monotonic()
        self.said = self.start if not self.terminal else 0.0
        self.last = ""

    def update(self, done: int, note: str = "") -> None:
        """Tells the state, at most as often as a reader wants it."""
        share = min(done / self.total, 1.0)
        taken = time.monotonic() - self.start
        left = f", about {taken / share - taken:.0f} s left" if 0 < share < 1 and taken > 2 else ""
        text = f"{self.what}: {done}/{self.total}{left}{'; ' + note if note else ''}"
        self.last = text
        wait = BAR_SECONDS if self.terminal else LOG_SECONDS
        if time.monotonic() - self.said >= wait:
            self._say(text, share)

    def _say(self, text: str, share: float) -> None:
        self.said = time.monotonic()
        if self.terminal:
            bar = "#" * round(20 * share)
            print(f"\r[{bar:<20}] {text}\x1b[K", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Tells the last state and the time taken."""
        if self.last:
            self._say(f"{self.last} ({time.monotonic() - self.start:.1f} s)", 1.0)
            if self.terminal:
                print(file=sys.stderr)
