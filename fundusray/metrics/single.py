"""Every figure from rows: one line per image with its target and logits.

With C the confusion matrix (rows truth, columns prediction), r_k = C_kk / sum_j C_kj and N = sum C:

- accuracy: trace C / N; balanced accuracy: mean of r_k over the classes that have rows;
- kappa: 1 - sum(W * C) / sum(W * E), W_ij = (i - j)^2 over all K grades, E the outer product of the
  margins over N (Cohen 1968, quadratic weights);
- sensitivity and specificity of any disease: grade 0 is none, every other is some; cohen_kappa: the
  kappa without weights, W_ij = 1 for i != j (Cohen 1960);
- auc_referable: share of (referable, not referable) pairs that the score puts in order, ties count
  half (Mann-Whitney). Referable is grade >= 2, or class 1 of two; the score is the summed softmax
  probability of those classes, as log odds: the same order, and it does not saturate at 1;
- majority accuracy: what always answering the most frequent grade would reach.

Both eyes of a patient fail together, so intervals resample patients, not images (cluster
bootstrap, Field and Welsh 2007): as many patients as there are, with replacement, each with all
their images; the interval is between the 2.5 % and 97.5 % quantiles. A resample in which a metric
is undefined is dropped for that metric and counted in `<metric>_dropped`. The same patients are
drawn for both sides of a paired comparison.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.errors import InputError

METRICS = ("accuracy", "balanced_accuracy", "kappa", "auc_referable")
INTERVAL = (2.5, 97.5)
"""Quantiles, in percent, between which a 95 % interval lies."""
CHUNK = 1_000_000
"""Patients (or images, if more) times resamples held at a time: some 50 MB."""


def predictions_table(
    image_ids: Sequence[str],
    patient_ids: Sequence[str],
    targets: np.ndarray,
    logits: np.ndarray,
) -> pa.Table:
    """One row per image: image_id, patient_id, target, logit_0 ... logit_{K-1} (float64).

    An image without a patient is its own patient.

    Raises:
        InputError: an image twice, a logit that is not finite, a target that is no class.
    """
    logits = np.asarray(logits, np.float64)
    targets = np.asarray(targets, np.int64)
    if len(set(image_ids)) != len(image_ids):
        raise InputError("predictions: an image_id occurs twice; one row per image is needed")
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise InputError(
            f"predictions: the network's output is not finite for {len(broken)} of {len(logits)} "
            f"images, first {image_ids[broken[0]]!r}; it diverged: lower train.lr"
        )
    if len(targets) and not (targets.min() >= 0 and targets.max() < logits.shape[1]):
        raise InputError(f"predictions: targets must be 0 to {logits.shape[1] - 1}")
    patients = [patient or image for patient, image in zip(patient_ids, image_ids, strict=True)]
    columns: dict[str, Any] = {
        "image_id": pa.array(image_ids, pa.string()),
        "patient_id": pa.array(patients, pa.string()),
        "target": pa.array(targets, pa.int32()),
    }
    columns |= {f"logit_{k}": pa.array(column) for k, column in enumerate(logits.T)}
    return pa.table(columns)


def point(targets: np.ndarray, logits: np.ndarray) -> dict[str, float | None]:
    """METRICS of some rows; None where undefined (the AUC of one class, say)."""
    targets, logits = np.asarray(targets), np.asarray(logits, np.float64)
    counts = _confusions(targets, logits)[None]
    ranks = _Ranks(targets, logits)
    ones = np.ones((1, len(targets)))
    values = _from_confusion(counts) | {"auc_referable": ranks.auc(ones)}
    return {name: _plain(values[name][0]) for name in METRICS}


def confusion(predictions: pa.Table) -> np.ndarray:
    """[K, K] counts, rows truth and columns prediction; those of two tables add up."""
    targets, logits = _read(predictions)
    return _confusions(targets, logits)


def from_confusion(counts: np.ndarray) -> dict[str, float | None]:
    """accuracy, balanced_accuracy, kappa, sensitivity, ... and recall_<k> of one [K, K] matrix."""
    return {name: _plain(value[0]) for name, value in _from_confusion(counts[None]).items()}


def summary(predictions: pa.Table, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """n, num_patients, majority_accuracy and, of each metric and recall_<k>, value and interval.

    `<m>` is the value on all rows, `<m>_low` and `<m>_high` its 95 % interval, `<m>_dropped` the
    resamples without a value. None where undefined, intervals also below two patients.

    Raises:
        InputError: no rows.
    """
    sides = [_Side(predictions)]
    counts = sides[0].confusion
    result: dict[str, Any] = {
        "n": int(counts.sum()),
        "num_patients": sides[0].num_patients,
        "resamples": resamples,
        "majority_accuracy": float(counts.sum(axis=1).max() / counts.sum()),
    }
    ones = np.ones((1, sides[0].num_patients))
    whole = sides[0].metrics(ones)
    draws = _resampled(sides, resamples, seed)[0]
    for name, value in whole.items():
        low, high, dropped = _interval(draws[name])
        result[name] = _plain(value[0])
        result |= {f"{name}_low": low, f"{name}_high": high, f"{name}_dropped": dropped}
    return result


def paired(
    a: pa.Table, b: pa.Table, *, resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Of each metric and recall_<k>: difference (a - b), low, high, dropped, verdict.

    The verdict on a is "better" or "worse" where the 95 % interval leaves 0 out, else "undecided".

    Raises:
        InputError: the tables do not hold the same images with the same targets and patients.
    """
    a, b = same_rows(a, b)
    sides = [_Side(a), _Side(b)]
    ones = np.ones((1, sides[0].num_patients))
    whole_a, whole_b = (side.metrics(ones) for side in sides)
    draws_a, draws_b = _resampled(sides, resamples, seed)
    result = {}
    for name in whole_a:
        low, high, dropped = _interval(draws_a[name] - draws_b[name])
        verdict = "undecided"
        if low is not None and high is not None and (low > 0 or high < 0):
            verdict = "better" if low > 0 else "worse"
        difference = _plain((whole_a[name] - whole_b[name])[0])
        result[name] = {
            "difference": difference,
            "low": low,
            "high": high,
            "dropped": dropped,
            "verdict": verdict,
        }
    return result


def same_rows(a: pa.Table, b: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Both tables sorted by image.

    Raises:
        InputError: they do not hold the same images with the same targets and patients.
    """
    if a.column_names != b.column_names:
        raise InputError(f"cannot compare {a.column_names} with {b.column_names}: other classes")
    a, b = a.sort_by("image_id"), b.sort_by("image_id")
    for column in ("image_id", "target", "patient_id"):
        if not a[column].equals(b[column]):
            raise InputError(
                f"a paired comparison needs the same rows, but {column} differs "
                f"({a.num_rows} and {b.num_rows} rows); evaluate both on the same split"
            )
    return a, b


def under_resamples(
    tables: Sequence[pa.Table], resamples: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """Each table's metrics [resamples] under the same resamples of patients, NaN where undefined;
    nothing below two patients. Tables may share all patients, some or none."""
    sides = [_Side(table) for table in tables]
    named = [np.unique(table["patient_id"].to_numpy()) for table in tables]
    everyone = np.unique(np.concatenate(named))
    if len(everyone) < 2:
        return _resampled(sides, resamples, seed)
    places = [np.searchsorted(everyone, names) for names in named]
    chunk = max(1, CHUNK // max(side.num_rows for side in sides))
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in sides]
    for weights in _weights(len(everyone), resamples, seed, chunk):
        for side, place, part in zip(sides, places, parts, strict=True):
            part.append(side.metrics(weights[:, place]))
    return [
        {name: np.concatenate([piece[name] for piece in part]) for name in part[0]}
        for part in parts
    ]


class _Side:
    """One table, ready to be weighted: per-patient confusion matrices and ranked scores."""

    def __init__(self, predictions: pa.Table) -> None:
        targets, logits = _read(predictions)
        names, self.patient = np.unique(predictions["patient_id"].to_numpy(), return_inverse=True)
        self.num_patients, self.num_rows = len(names), len(targets)
        self.num_classes = logits.shape[1]
        cells = self.num_classes**2
        flat = self.patient * cells + _cells(targets, logits)
        per_patient = np.bincount(flat, minlength=self.num_patients * cells)
        self.per_patient = per_patient.reshape(self.num_patients, cells).astype(np.float64)
        self.confusion = self.per_patient.sum(axis=0).reshape(self.num_classes, -1)
        self.ranks = _Ranks(targets, logits)

    def metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric [R] under patient weights [R, P]; NaN where undefined."""
        counts = weights @ self.per_patient
        values = _from_confusion(counts.reshape(len(weights), self.num_classes, -1))
        auc = self.ranks.auc(weights, self.patient)
        return {name: auc if name == "auc_referable" else values[name] for name in METRICS} | {
            name: value for name, value in values.items() if name not in METRICS
        }


class _Ranks:
    """Where each referable image's score falls among the others', found once."""

    def __init__(self, targets: np.ndarray, logits: np.ndarray) -> None:
        first = 2 if logits.shape[1] > 2 else 1
        score = np.logaddexp.reduce(logits[:, first:], axis=1)
        # Rounded, so that the last bits of a sum do not order two equal images.
        score = np.round(score - np.logaddexp.reduce(logits[:, :first], axis=1), 12)
        self.positive = np.flatnonzero(targets >= first)
        negative = np.flatnonzero(targets < first)
        self.negative = negative[np.argsort(score[negative], kind="stable")]
        ordered = score[self.negative]
        self.below = np.searchsorted(ordered, score[self.positive], "left")
        self.not_above = np.searchsorted(ordered, score[self.positive], "right")

    def auc(self, weights: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
        """[R] weighted AUC; weights [R, N], or [R, P] with the group [N] of each row."""
        positive = self.positive if group is None else group[self.positive]
        negative = self.negative if group is None else group[self.negative]
        up = np.zeros((len(weights), len(negative) + 1))
        np.cumsum(weights[:, negative], axis=1, out=up[:, 1:])
        share = weights[:, positive]
        pairs = np.einsum("rp,rp->r", share, up[:, self.below])
        pairs += np.einsum("rp,rp->r", share, up[:, self.not_above])
        with np.errstate(invalid="ignore"):
            return pairs / (2 * share.sum(axis=1) * up[:, -1])


def _from_confusion(counts: np.ndarray) -> dict[str, np.ndarray]:
    """accuracy, balanced_accuracy, kappa, cohen_kappa, sensitivity, specificity and recall_<k> of
    [R, K, K], each [R]; NaN: undefined."""
    counts = np.asarray(counts, np.float64)
    truth, guess, total = counts.sum(axis=2), counts.sum(axis=1), counts.sum(axis=(1, 2))
    hits = np.diagonal(counts, axis1=1, axis2=2)
    grades = np.arange(counts.shape[1])
    penalty = ((grades[:, None] - grades[None, :]) ** 2).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / truth
        present = (truth > 0).sum(axis=1)
        by_chance = np.einsum("ri,ij,rj->r", truth, penalty, guess) / total
        luck = (truth * guess).sum(axis=1) / total
        values = {
            "accuracy": hits.sum(axis=1) / total,
            "balanced_accuracy": np.nansum(recall, axis=1) / present,
            "kappa": 1 - np.einsum("rij,ij->r", counts, penalty) / by_chance,
            "cohen_kappa": (hits.sum(axis=1) - luck) / (total - luck),
            "sensitivity": counts[:, 1:, 1:].sum(axis=(1, 2)) / truth[:, 1:].sum(axis=1),
            "specificity": recall[:, 0],
        }
    # 0 / 0 (every row one class, all hit) is undefined; so is x / 0, which cannot happen.
    return values | {f"recall_{k}": recall[:, k] for k in grades}


def _cells(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return targets * logits.shape[1] + logits.argmax(axis=1)


def _confusions(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    classes = logits.shape[1]
    flat = np.bincount(_cells(targets, logits), minlength=classes**2)
    return flat.reshape(classes, classes)


def _read(predictions: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """targets [N] and logits [N, K] of a table."""
    if not predictions.num_rows:
        raise InputError("no predictions to measure: the split is empty; raise its data.fractions")
    names = [name for name in predictions.column_names if name.startswith("logit_")]
    logits = np.stack([predictions[f"logit_{k}"].to_numpy() for k in range(len(names))], axis=1)
    return predictions["target"].to_numpy().astype(np.int64), logits


def _weights(num_patients: int, resamples: int, seed: int, chunk: int) -> Iterator[np.ndarray]:
    """Chunks [r, P] of how often each patient is drawn; the draws do not depend on the chunk."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(num_patients, size=(rows, num_patients))
        drawn += np.arange(rows)[:, None] * num_patients
        times = np.bincount(drawn.ravel(), minlength=rows * num_patients)
        yield times.reshape(rows, num_patients).astype(np.float64)


def _resampled(sides: list[_Side], resamples: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Each side's metrics [resamples] under the same draws of patients."""
    if sides[0].num_patients < 2:
        return [{name: np.empty(0) for name in side.metrics(np.ones((1, 1)))} for side in sides]
    chunk = max(1, CHUNK // sides[0].num_rows)
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in sides]
    for weights in _weights(sides[0].num_patients, resamples, seed, chunk):
        for side, part in zip(sides, parts, strict=True):
            part.append(side.metrics(weights))
    return [
        {name: np.concatenate([piece[name] for piece in part]) for name in part[0]}
        for part in parts
    ]


def _interval(draws: np.ndarray) -> tuple[float | None, float | None, int]:
    """low and high (None without a draw), and how many draws were undefined."""
    kept = draws[np.isfinite(draws)]
    if not len(kept):
        return None, None, len(draws)
    low, high = np.percentile(kept, INTERVAL)
    return float(low), float(high), len(draws) - len(kept)


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
