"""Average precision from histograms of 8-bit scores: the area under a precision-recall curve, as
IDRiD's first sub-challenge judges lesions, over the pixels of all images together."""

import numpy as np


def average_precision(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """sum over scores of (recall gained there) x (precision there), [...]; NaN without positives.

    What `sklearn.metrics.average_precision_score` gives of the pixels themselves.

    Args:
        positives, negatives: [..., 256] pixels of each score.
    """
    gained = positives[..., ::-1].astype(np.float64)
    right = gained.cumsum(axis=-1)
    called = right + negatives[..., ::-1].cumsum(axis=-1)
    precision = right / np.maximum(called, 1)
    total = right[..., -1]
    area = (gained * precision).sum(axis=-1) / np.maximum(total, 1)
    return np.where(total > 0, area, np.nan)


def pooled_average_precision(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """The same of several networks, each judged on a part of the images, [..., K] from
    [..., parts, K, 256].

    Scores of two networks have no common scale, so each part's is its own; the mean is weighted by
    their positives, and a part without any adds nothing.
    """
    weight = positives.sum(axis=-1).astype(np.float64)
    each = np.nan_to_num(average_precision(positives, negatives))
    total = weight.sum(axis=-2)
    return np.where(total > 0, (each * weight).sum(axis=-2) / np.maximum(total, 1), np.nan)


def precision_recall(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recall, precision) at each score that occurs, the highest first, of histograms [256];
    nothing without positives."""
    right, wrong = positives[::-1].cumsum(), negatives[::-1].cumsum()
    occurs = (positives + negatives)[::-1] > 0
    if not right[-1]:
        return np.zeros(0), np.zeros(0)
    right, wrong = right[occurs], wrong[occurs]
    return right / right[-1], right / (right + wrong)
