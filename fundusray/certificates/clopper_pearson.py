"""The exact lower bound of a share (Clopper and Pearson 1934)."""

import numpy as np

HALVINGS = 60
"""Of [0, 1]: what is left is less than float64 tells apart."""


def lower_bound(hits: int, num: int, alpha: float) -> float:
    """The least share of which `hits` or more of `num` independent trials are not rarer than alpha.

    A true share is below it with a probability of alpha at most, whatever it is.
    """
    if hits == 0:
        return 0.0
    log_ways = _log_binomials(num)[hits:]
    successes = np.arange(hits, num + 1)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        if _log_tail(log_ways, successes, num, share) < np.log(alpha):
            low = share
        else:
            high = share
    # The lower end: what rounding leaves errs to the safe side.
    return low


def _log_binomials(num: int) -> np.ndarray:
    """log of "num over k" for k from 0 to num."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, num + 1)))])
    return factorials[-1] - factorials - factorials[::-1]


def _log_tail(log_ways: np.ndarray, successes: np.ndarray, num: int, share: float) -> float:
    """log P(as many successes as the first or more)."""
    if share >= 1:
        return 0.0
    terms = log_ways + successes * np.log(share) + (num - successes) * np.log1p(-share)
    return float(np.logaddexp.reduce(terms))
