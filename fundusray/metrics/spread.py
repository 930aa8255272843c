"""A figure with its chance, and what every interval is made of: Wilson, Student, the jackknife."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LEVEL = 0.05
"""One interval in twenty may miss."""
FEW = 5
"""Patients below which nothing is said of a share, a kappa or an AUC."""

Ends = Callable[[float], tuple[float, float]]
"""The interval that misses with a probability, by that probability."""


@dataclass(frozen=True)
class Spread:
    """A figure with its chance."""

    value: float
    influence: np.ndarray
    """[P] how much each patient moves the figure; only ratios and signs count."""
    ends: Ends | None
    """None where there are too few patients."""
    why: str = ""
    """The reason where there is no interval."""
    draws: np.ndarray | None = None
    """The figure on each resample of the patients, where its interval is drawn; the same ones for
    every network on the same rows."""


def too_few(num: int, whose: str, needed: int) -> str:
    """Why there is no interval, in words."""
    return f"{num} patient{'' if num == 1 else 's'}{whose}, at least {needed} are needed"


def share_spread(hits: np.ndarray, eyes: np.ndarray, whose: str, needed: int = FEW) -> Spread:
    """A share of eyes, from hits and eyes of each patient [P]; `whose` patients, in words."""
    total, num = float(eyes.sum()), int((eyes > 0).sum())
    value = float(hits.sum() / total)
    influence = (hits - value * eyes) / total
    if num < needed:
        return Spread(value, influence, None, too_few(num, whose, needed))
    most, effect = sum_of_squares(eyes) / total, math.inf
    if 0 < value < 1:
        variance = num / (num - 1) * sum_of_squares(influence)
        effect = max(variance / (value * (1 - value) / total), 1.0)

    def ends(level: float) -> tuple[float, float]:
        quantile = z_quantile(level)
        # What is above 1 is an estimate from few patients; but no patient is less than one eye.
        wider = 1 + (effect - 1) * (t_quantile(level, num - 1) / quantile) ** 2
        return wilson_interval(value, total / min(wider, most), quantile)

    return Spread(value, influence, ends)


def sum_of_squares(values: np.ndarray) -> float:
    """The sum of squares; not by BLAS, whose threads sum in any order."""
    return float((values * values).sum())


def wilson_interval(share: float, num: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a share of `num` independent trials."""
    spare = quantile**2 / num
    middle = (share + spare / 2) / (1 + spare)
    reach = quantile / (1 + spare) * math.sqrt(share * (1 - share) / num + spare / (4 * num))
    return max(middle - reach, 0.0) if share > 0 else 0.0, min(middle + reach, 1.0)


def jackknife(left_out: np.ndarray) -> tuple[np.ndarray, float]:
    """(influence of each patient [P], standard error) from the figure without each one."""
    num = len(left_out)
    influence = (left_out.mean() - left_out) * (num - 1) / num
    return influence, math.sqrt(num / max(num - 1, 1) * sum_of_squares(influence))


def logistic(x: float) -> float:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def z_quantile(level: float) -> float:
    """What a standard normal variable exceeds in size with probability `level`."""
    return -NormalDist().inv_cdf(level / 2)


def t_quantile(level: float, freedom: float) -> float:
    """What a t variable exceeds in size with probability `level` (Hill 1970, algorithm 396).

    To within 0.1 % of the value for 2 degrees of freedom or more.
    """
    n = max(freedom, 1.0)
    if n == 1:
        return 1 / math.tan(level * math.pi / 2)
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y = (d * level) ** (2 / n)
    if y <= 0.05 + a:
        inner = ((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3
        y = ((1 / inner + 0.5 / (n + 4)) * y - 1) * (n + 1) / (n + 2) + 1 / y
        return math.sqrt(n * y)
    x = -z_quantile(level)
    y = x**2
    if n < 5:
        c += 0.3 * (n - 4.5) * (x + 0.6)
    c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
    y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
    return math.sqrt(n * math.expm1(a * y**2))


def student(value: float, error: float, freedom: float, span: tuple[float, float]) -> Ends:
    """Student's t around a value inside a span, on the span's logit scale.

    Of (-1, 1) that is Fisher's z.
    """
    low, high = span
    share = (value - low) / (high - low)
    middle, scaled = math.log(share / (1 - share)), error / (high - low) / share / (1 - share)

    def ends(level: float) -> tuple[float, float]:
        reach = t_quantile(level, freedom) * scaled
        left, right = logistic(middle - reach), logistic(middle + reach)
        return low + (high - low) * left, low + (high - low) * right

    return ends


def drawn_ends(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Percentiles of resamples; without end for a level that so many cannot tell."""
    number = len(draws)
    beyond = level / 2 * (number + 1)
    if beyond < 1:
        return -math.inf, math.inf
    low, high = np.interp([beyond - 1, number - beyond], np.arange(number), np.sort(draws))
    return float(low), float(high)
