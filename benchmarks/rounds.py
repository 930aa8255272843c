"""Two ways of doing the same work, timed in turn in one process; only their ratio counts."""

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(
    name: str,
    peer: Callable[[], object],
    ours: Callable[[], object],
    rounds: int = 5,
    *,
    items: int = 1,
    unit: str = "calls",
) -> float:
    """How many times faster `ours` is than `peer`: the median over rounds of the paired ratio.

    The rounds alternate (peer, ours, peer, ours, ...) after one unmeasured call of each, so that a
    machine that slows down slows both. `items` is how many units one call handles, for printing.
    """
    peer()
    ours()
    pairs = [(seconds(peer), seconds(ours)) for _ in range(rounds)]
    ratio = statistics.median(theirs / mine for theirs, mine in pairs)
    theirs = statistics.median(pair[0] for pair in pairs)
    mine = statistics.median(pair[1] for pair in pairs)
    print(
        f"{name:<34} peer {items / theirs:>10,.1f} {unit}/s   ours {items / mine:>10,.1f} {unit}/s"
        f"   ratio {ratio:.2f}   ({rounds} rounds)",
        flush=True,
    )
    return ratio


def conclude(ratios: dict[str, tuple[float, float]]) -> None:
    """Prints the last lines, one per ratio: `RATIO <name> <value> (needs >= <least>): reached`."""
    for name, (value, least) in ratios.items():
        verdict = "reached" if value >= least else "not reached"
        print(f"RATIO {name} {value:.2f} (needs >= {least:g}): {verdict}", flush=True)
