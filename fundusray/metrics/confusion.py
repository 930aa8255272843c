"""Figures of confusion matrices, many at once.

With C the matrix (rows truth, columns prediction), r_k = C_kk / sum_j C_kj and N = sum C:

- accuracy: trace C / N; balanced accuracy: mean of r_k over the classes that have rows;
- kappa: 1 - sum(W * C) / sum(W * E), W_ij = (i - j)^2 over all K grades, E the outer product of the
  margins over N (Cohen 1968, quadratic weights);
- sensitivity and specificity of any disease: grade 0 is none, every other is some; cohen_kappa: the
  kappa without weights, W_ij = 1 for i != j (Cohen 1960).
"""

import numpy as np


def confusion_cells(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The cell of each row in a matrix laid out in one line, K * target + answer, [N]."""
    return targets * logits.shape[1] + logits.argmax(axis=1)


def confusion_counts(targets: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """[K, K] counts, rows truth and columns prediction."""
    classes = logits.shape[1]
    flat = np.bincount(confusion_cells(targets, logits), minlength=classes**2)
    return flat.reshape(classes, classes)


def confusion_figures(counts: np.ndarray) -> dict[str, np.ndarray]:
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
        by_chance = ((truth @ penalty) * guess).sum(axis=1) / total
        luck = (truth * guess).sum(axis=1) / total
        values = {
            "accuracy": hits.sum(axis=1) / total,
            "balanced_accuracy": np.nansum(recall, axis=1) / present,
            "kappa": 1 - (counts * penalty).sum(axis=(1, 2)) / by_chance,
            "cohen_kappa": (hits.sum(axis=1) - luck) / (total - luck),
            "sensitivity": counts[:, 1:, 1:].sum(axis=(1, 2)) / truth[:, 1:].sum(axis=1),
            "specificity": recall[:, 0],
        }
    # 0 / 0 (every row one class, all hit) is undefined; so is x / 0, which cannot happen.
    return values | {f"recall_{k}": recall[:, k] for k in grades}


def from_confusion(counts: np.ndarray) -> dict[str, float | None]:
    """accuracy, balanced_accuracy, kappa, sensitivity, ... and recall_<k> of one [K, K] matrix."""
    return {
        name: float_or_none(value[0])
        for name, value in confusion_figures(np.asarray(counts)[None]).items()
    }


def float_or_none(value: float) -> float | None:
    """A float, or None where it is undefined."""
    return float(value) if np.isfinite(value) else None
