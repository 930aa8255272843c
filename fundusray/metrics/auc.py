"""AUC: the share of pairs of one referable and one other image that the score puts in order.

Ties count half (Mann-Whitney). Referable is grade >= 2, or class 1 of two; the score is the summed
softmax probability of those classes, as log odds: the same order, and it does not saturate at 1.

Scores of two networks have no common scale. Where several networks predicted a part of the rows
each, a pair counts only within a part: the AUC is the mean of the parts' AUCs weighted by their
numbers of pairs, and a part that holds one kind only adds nothing. Pooled, scores of two networks
would be ranked against each other, which lowers the figure.
"""

import numpy as np


def first_referable(num_classes: int) -> int:
    """The first class that is referable disease: grade 2, or class 1 of two."""
    return 2 if num_classes > 2 else 1


def referable_scores(logits: np.ndarray) -> tuple[np.ndarray, int]:
    """(log odds of referable [N], the first referable class)."""
    first = first_referable(logits.shape[1])
    score = np.logaddexp.reduce(logits[:, first:], axis=1)
    # Rounded, so that the last bits of a sum do not order two equal images.
    return np.round(score - np.logaddexp.reduce(logits[:, :first], axis=1), 12), first


class OrderedPairs:
    """The ordered pairs that each image is in, found once: [N] of the rows."""

    def __init__(self, targets: np.ndarray, logits: np.ndarray, part: np.ndarray) -> None:
        score, first = referable_scores(logits)
        self.positive = targets >= first
        self.part = part
        self.order = np.unique(score, return_inverse=True)[1].astype(np.int64)
        self.wins = _wins(self.order, self.positive, part)

    def auc(self) -> float:
        """NaN where no part holds both kinds."""
        pairs = self._pairs(np.zeros(len(self.part), np.int64), 1).sum()
        with np.errstate(invalid="ignore"):
            return float(np.float64(self.wins[self.positive].sum()) / pairs)

    def left_out(self, patient: np.ndarray, num: int) -> np.ndarray:
        """The AUC without each patient [P]; NaN where it leaves no pair."""
        both = patient * (self.part.max() + 1) + self.part
        within = _wins(self.order, self.positive, both)
        lost = np.bincount(patient, self.wins, num)
        lost -= np.bincount(patient[self.positive], within[self.positive], num)
        total = self.wins[self.positive].sum()
        positives, negatives = self._per_part(patient, num)
        left = (positives.sum(axis=0) - positives) * (negatives.sum(axis=0) - negatives)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (total - lost) / left.sum(axis=1)

    def _per_part(self, group: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Referable and other images of each group in each part, [G, parts] each."""
        parts = int(self.part.max()) + 1
        flat = group * parts + self.part
        return tuple(
            np.bincount(flat[kind], minlength=num * parts).reshape(num, parts).astype(np.float64)
            for kind in (self.positive, ~self.positive)
        )

    def _pairs(self, group: np.ndarray, num: int) -> np.ndarray:
        positives, negatives = self._per_part(group, num)
        return (positives * negatives).sum(axis=1)


def _wins(order: np.ndarray, positive: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Of each image the pairs within its group that are in order, ties half, [N]."""
    width = int(order.max()) + 1
    key = group * width + order
    found = np.zeros(len(order))
    for kind in (positive, ~positive):
        others = np.sort(key[~kind])
        start = group[kind] * width
        edge = np.searchsorted(others, key[kind], "left") + np.searchsorted(
            others, key[kind], "right"
        )
        begin = np.searchsorted(others, start, "left")
        end = np.searchsorted(others, start + width, "left")
        below = edge / 2 - begin
        found[kind] = below if kind is positive else end - begin - below
    return found
