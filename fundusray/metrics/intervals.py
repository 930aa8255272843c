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
- Any other metric: `by_patient`.
- One answer for every eye has a balanced accuracy and a kappa that no draw of patients can change:
  both ends are the value.

Where there are fewer patients than FEW (per class; FEW_OF_A_CLASS for the mean of classes), there
is no interval but a reason.
"""

import math

import numpy as np

from fundusray.metrics import by_patient
from fundusray.metrics.jackknife import PatientFigures
from fundusray.metrics.registered import METRICS
from fundusray.metrics.spread import (
    FEW,
    Spread,
    jackknife,
    logistic,
    share_spread,
    sum_of_squares,
    t_quantile,
    too_few,
    wilson_interval,
    z_quantile,
)

FEW_OF_A_CLASS = 3
"""Patients of each class that the mean of the recalls needs."""


def figure_spreads(side: PatientFigures) -> dict[str, Spread]:
    """Of each figure its value and its chance."""
    found = {}
    for name, value in side.values.items():
        if name not in side.standard:
            facts = METRICS.facts(name)
            found[name] = by_patient.spread(
                METRICS.find(name),
                side.rows,
                side.rows.patient,
                span=facts.span,
                smooth=facts.smooth,
            )
            continue
        if not math.isfinite(value):
            found[name] = Spread(value, np.zeros(side.num_patients), None, "not defined here")
        elif name == "balanced_accuracy":
            found[name] = _balanced(side, value)
        elif name.endswith("kappa"):
            found[name] = _kappa(side, name, value)
        elif name == "auc_referable":
            found[name] = _auc(side, value)
        else:
            found[name] = share_spread(*_parts(side, name))
    return found


def _parts(side: PatientFigures, name: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Hits and eyes of each patient [P] that a share is of, and whose patients these are."""
    counts = side.counts
    if name == "accuracy":
        return counts.trace(axis1=1, axis2=2), counts.sum(axis=(1, 2)), ""
    if name == "sensitivity":
        return counts[:, 1:, 1:].sum(axis=(1, 2)), counts[:, 1:].sum(axis=(1, 2)), " with disease"
    k = 0 if name == "specificity" else int(name.removeprefix("recall_"))
    return counts[:, k, k], counts[:, k].sum(axis=1), f" of class {k}"


def _balanced(side: PatientFigures, value: float) -> Spread:
    classes = np.flatnonzero(side.confusion.sum(axis=1))
    shares = [share_spread(*_parts(side, f"recall_{k}"), FEW_OF_A_CLASS) for k in classes]
    parts = np.stack([share.influence for share in shares], axis=1) / len(classes)
    influence = parts.sum(axis=1)
    why = next((share.why for share in shares if share.why), "")
    if why:
        return Spread(value, influence, None, why)
    if (side.confusion.sum(axis=0) > 0).sum() == 1:
        return Spread(value, influence, lambda level: (value, value))
    apart = sum_of_squares(parts)
    factor = math.sqrt(max(sum_of_squares(influence) / apart, 1.0)) if apart else 1.0

    def ends(level: float) -> tuple[float, float]:
        bounds = [(share.value, *share.ends(level)) for share in shares if share.ends]
        down = math.sqrt(sum((r - low) ** 2 for r, low, _ in bounds)) / len(bounds)
        up = math.sqrt(sum((high - r) ** 2 for r, _, high in bounds)) / len(bounds)
        return max(value - factor * down, 0.0), min(value + factor * up, 1.0)

    return Spread(value, influence, ends)


def _kappa(side: PatientFigures, name: str, value: float) -> Spread:
    influence, error = jackknife(side.left_out[name])
    most = int(side.confusion.sum(axis=1).argmax())
    others = np.delete(side.counts, most, axis=1).sum(axis=(1, 2)) > 0
    num = int(others.sum())
    if num < FEW:
        whose = f" with an eye outside class {most}"
        return Spread(value, np.nan_to_num(influence), None, too_few(num, whose, FEW))
    if abs(value) >= 1:
        return Spread(value, influence, lambda level: _certain(value, num, level))
    if not error:
        return Spread(value, influence, lambda level: (value, value))
    kurtosis = side.num_patients * sum_of_squares(influence**2) / sum_of_squares(influence) ** 2
    freedom = min(2 * side.num_patients / max(kurtosis - 1, 1e-9), side.num_patients - 1)
    middle, scaled = math.atanh(value), error / (1 - value**2)

    def ends(level: float) -> tuple[float, float]:
        reach = t_quantile(level, freedom) * scaled
        return math.tanh(middle - reach), math.tanh(middle + reach)

    return Spread(value, influence, ends)


def _certain(value: float, num: int, level: float) -> tuple[float, float]:
    """Of a kappa of 1 or -1."""
    near, far = wilson_interval(1.0, num, z_quantile(level))
    return (near, far) if value > 0 else (-far, -near)


def _auc(side: PatientFigures, value: float) -> Spread:
    influence, error = jackknife(side.left_out["auc_referable"])
    nums = [int(kind.sum()) for kind in side.referable]
    if min(nums) < FEW or not math.isfinite(error):
        whose = " with a referable eye" if nums[0] <= nums[1] else " with an eye not referable"
        return Spread(value, np.nan_to_num(influence), None, too_few(min(nums), whose, FEW))
    if not 0 < value < 1 or not error:
        return Spread(
            value, influence, lambda level: wilson_interval(value, min(nums), z_quantile(level))
        )
    first = side.referable[0]
    parts = [(sum_of_squares(influence[g]), int(g.sum())) for g in (first, ~first) if g.any()]
    freedom = sum(v for v, _ in parts) ** 2 / sum(v**2 / max(n - 1, 1) for v, n in parts)
    middle, scaled = math.log(value / (1 - value)), error / (value * (1 - value))

    def ends(level: float) -> tuple[float, float]:
        reach = t_quantile(level, freedom) * scaled
        return logistic(middle - reach), logistic(middle + reach)

    return Spread(value, influence, ends)
