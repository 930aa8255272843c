"""How far a figure can be trusted: 95 % intervals that know that eyes of one patient go together.

- A share p of eyes (accuracy, sensitivity, specificity, recall): Wilson's score interval (Wilson
  1927; Brown, Cai and DasGupta 2001) for n / deff eyes. deff, the design effect (Kish 1965), is the
  variance of the share with patients as units (ratio estimator, linearised) over p (1 - p) / n.
  What it has above 1 is an estimate from m patients and is multiplied by (t_{m-1} / z)^2 (Korn and
  Graubard 1998); it lies between 1 (eyes of a patient as unlike as any) and sum(n_i^2) / n (all
  eyes of a patient as one), which is taken where every eye is a hit, or none.
- Balanced accuracy, a mean of shares: the distances from each recall to the ends of its interval,
  added as squares (MOVER, Zou and Donner 2008), times what recalls of one patient vary together.
- Kappas: each patient left out once (jackknife, Efron and Stein 1981), on Fisher's z scale, t with
  the degrees of freedom that the influences' kurtosis leaves (Satterthwaite 1946): few patients
  with rare grades carry most of the variance.
- AUC: the same on the logit scale, Welch's degrees of freedom (1947) from patients with referable
  images and the others.
- A kappa or an AUC of 1 has no spread to measure: Wilson's interval of m successes in m, with the m
  patients who could have been missed (those with an eye outside the most frequent class; those of
  the rarer kind).
- One answer for every eye has a balanced accuracy and a kappa that no draw of patients can change:
  both ends are the value.

Where there are fewer patients than FEW (per class; FEW_OF_A_CLASS for the mean of classes), there
is no interval but a reason.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from fundusray.metrics.patients import Patients

LEVEL = 0.05
"""One interval in twenty may miss."""
FEW = 5
"""Patients below which nothing is said of a share, a kappa or an AUC."""
FEW_OF_A_CLASS = 3
"""Patients of each class that the mean of the recalls needs."""

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


def spreads(side: Patients) -> dict[str, Spread]:
    """Of each figure its value and its chance."""
    found = {}
    for name, value in side.values.items():
        if not math.isfinite(value):
            found[name] = Spread(value, np.zeros(side.num_patients), None, "not defined here")
        elif name == "balanced_accuracy":
            found[name] = _balanced(side, value)
        elif name.endswith("kappa"):
            found[name] = _kappa(side, name, value)
        elif name == "auc_referable":
            found[name] = _auc(side, value)
        else:
            found[name] = _share(*_parts(side, name))
    return found


def _parts(side: Patients, name: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Hits and eyes of each patient [P] that a share is of, and whose patients these are."""
    counts = side.counts
    if name == "accuracy":
        return counts.trace(axis1=1, axis2=2), counts.sum(axis=(1, 2)), ""
    if name == "sensitivity":
        return counts[:, 1:, 1:].sum(axis=(1, 2)), counts[:, 1:].sum(axis=(1, 2)), " with disease"
    k = 0 if name == "specificity" else int(name.removeprefix("recall_"))
    return counts[:, k, k], counts[:, k].sum(axis=1), f" of class {k}"


def _few(num: int, whose: str, needed: int) -> str:
    return f"{num} patient{'' if num == 1 else 's'}{whose}, at least {needed} are needed"


def _share(hits: np.ndarray, eyes: np.ndarray, whose: str, needed: int = FEW) -> Spread:
    """A share of eyes, from hits and eyes of each patient [P]."""
    total, num = float(eyes.sum()), int((eyes > 0).sum())
    value = float(hits.sum() / total)
    influence = (hits - value * eyes) / total
    if num < needed:
        return Spread(value, influence, None, _few(num, whose, needed))
    most, effect = squares(eyes) / total, math.inf
    if 0 < value < 1:
        variance = num / (num - 1) * squares(influence)
        effect = max(variance / (value * (1 - value) / total), 1.0)

    def ends(level: float) -> tuple[float, float]:
        quantile = z_quantile(level)
        # What is above 1 is an estimate from few patients; but no patient is less than one eye.
        wider = 1 + (effect - 1) * (t_quantile(level, num - 1) / quantile) ** 2
        return wilson(value, total / min(wider, most), quantile)

    return Spread(value, influence, ends)


def squares(values: np.ndarray) -> float:
    """The sum of squares; not by BLAS, whose threads sum in any order."""
    return float((values * values).sum())


def wilson(share: float, num: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a share of `num` independent trials."""
    spare = quantile**2 / num
    middle = (share + spare / 2) / (1 + spare)
    reach = quantile / (1 + spare) * math.sqrt(share * (1 - share) / num + spare / (4 * num))
    return max(middle - reach, 0.0) if share > 0 else 0.0, min(middle + reach, 1.0)


def _balanced(side: Patients, value: float) -> Spread:
    classes = np.flatnonzero(side.confusion.sum(axis=1))
    shares = [_share(*_parts(side, f"recall_{k}"), FEW_OF_A_CLASS) for k in classes]
    parts = np.stack([share.influence for share in shares], axis=1) / len(classes)
    influence = parts.sum(axis=1)
    why = next((share.why for share in shares if share.why), "")
    if why:
        return Spread(value, influence, None, why)
    if (side.confusion.sum(axis=0) > 0).sum() == 1:
        return Spread(value, influence, lambda level: (value, value))
    apart = squares(parts)
    factor = math.sqrt(max(squares(influence) / apart, 1.0)) if apart else 1.0

    def ends(level: float) -> tuple[float, float]:
        bounds = [(share.value, *share.ends(level)) for share in shares if share.ends]
        down = math.sqrt(sum((r - low) ** 2 for r, low, _ in bounds)) / len(bounds)
        up = math.sqrt(sum((high - r) ** 2 for r, _, high in bounds)) / len(bounds)
        return max(value - factor * down, 0.0), min(value + factor * up, 1.0)

    return Spread(value, influence, ends)


def _jackknife(left_out: np.ndarray) -> tuple[np.ndarray, float]:
    """(influence of each patient [P], standard error) from the figure without each one."""
    num = len(left_out)
    influence = (left_out.mean() - left_out) * (num - 1) / num
    return influence, math.sqrt(num / max(num - 1, 1) * squares(influence))


def _kappa(side: Patients, name: str, value: float) -> Spread:
    influence, error = _jackknife(side.left_out[name])
    most = int(side.confusion.sum(axis=1).argmax())
    others = np.delete(side.counts, most, axis=1).sum(axis=(1, 2)) > 0
    num = int(others.sum())
    if num < FEW:
        whose = f" with an eye outside class {most}"
        return Spread(value, np.nan_to_num(influence), None, _few(num, whose, FEW))
    if abs(value) >= 1:
        return Spread(value, influence, lambda level: _certain(value, num, level))
    if not error:
        return Spread(value, influence, lambda level: (value, value))
    kurtosis = side.num_patients * squares(influence**2) / squares(influence) ** 2
    freedom = min(2 * side.num_patients / max(kurtosis - 1, 1e-9), side.num_patients - 1)
    middle, scaled = math.atanh(value), error / (1 - value**2)

    def ends(level: float) -> tuple[float, float]:
        reach = t_quantile(level, freedom) * scaled
        return math.tanh(middle - reach), math.tanh(middle + reach)

    return Spread(value, influence, ends)


def _certain(value: float, num: int, level: float) -> tuple[float, float]:
    """Of a kappa of 1 or -1."""
    near, far = wilson(1.0, num, z_quantile(level))
    return (near, far) if value > 0 else (-far, -near)


def _auc(side: Patients, value: float) -> Spread:
    influence, error = _jackknife(side.left_out["auc_referable"])
    nums = [int(kind.sum()) for kind in side.referable]
    if min(nums) < FEW or not math.isfinite(error):
        whose = " with a referable eye" if nums[0] <= nums[1] else " with an eye not referable"
        return Spread(value, np.nan_to_num(influence), None, _few(min(nums), whose, FEW))
    if not 0 < value < 1 or not error:
        return Spread(value, influence, lambda level: wilson(value, min(nums), z_quantile(level)))
    first = side.referable[0]
    parts = [(squares(influence[g]), int(g.sum())) for g in (first, ~first) if g.any()]
    freedom = sum(v for v, _ in parts) ** 2 / sum(v**2 / max(n - 1, 1) for v, n in parts)
    middle, scaled = math.log(value / (1 - value)), error / (value * (1 - value))

    def ends(level: float) -> tuple[float, float]:
        reach = t_quantile(level, freedom) * scaled
        return _logistic(middle - reach), _logistic(middle + reach)

    return Spread(value, influence, ends)


def _logistic(x: float) -> float:
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
