"""A second stage that grades an eye by both eyes of its patient.

Both eyes of a patient tend to have one grade, so what a network says of the fellow eye is evidence
on this one (Huang et al., Identifying the key components in ResNet-50 for diabetic retinopathy
grading from fundus images, 2023, who fuse the features of both eyes). Here the fusion is linear:
2 K weights on the class probabilities of the eye and of its fellow, then thresholds.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fundusray.errors import InputError
from fundusray.models.heads import border_class_logits, fit_thresholds

RIDGE = 1e-3
"""Weight of the squared weights beside the mean squared error of the grade."""


@dataclass(frozen=True)
class SecondStage:
    """A fitted second stage."""

    weights: tuple[float, ...]
    """Of the K probabilities of the eye, then of the K of its fellow."""
    constant: float
    thresholds: tuple[float, ...]
    """[K - 1] between the grades."""

    def class_logits(self, own: np.ndarray, fellow: np.ndarray) -> np.ndarray:
        """[N, K] class logits of eyes from probabilities [N, K] of them and of their fellows."""
        scores = np.hstack([own, fellow]) @ np.array(self.weights) + self.constant
        steps = torch.from_numpy(scores)[:, None] - torch.tensor(self.thresholds)
        return border_class_logits(steps.float()).numpy()


def fit_second_stage(own: np.ndarray, fellow: np.ndarray, targets: np.ndarray) -> SecondStage:
    """Least squares of the grades [N] on the probabilities [N, K] of eyes and of their fellows,
    with a ridge, cut where quadratic kappa is best on the same eyes.

    Raises:
        InputError: fewer than two grades among them.
    """
    classes = own.shape[1]
    if len(np.unique(targets)) < 2:
        raise InputError(
            f"a second stage needs eyes of two grades or more to be fitted on, got {len(targets)} "
            "of one; fit it on another side (fit=train or fit=val)"
        )
    seen = np.hstack([own, fellow]).astype(np.float64)
    middle, mean = seen.mean(axis=0), targets.mean()
    about = seen - middle
    square = about.T @ about / len(targets) + RIDGE * np.eye(2 * classes)
    weights = np.linalg.solve(square, about.T @ (targets - mean) / len(targets))
    constant = float(mean - middle @ weights)
    thresholds = fit_thresholds(seen @ weights + constant, targets, classes)
    return SecondStage(tuple(weights.tolist()), constant, tuple(thresholds.tolist()))


def fellow_probabilities(
    probabilities: np.ndarray, patients: Sequence[str], eyes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """([N, K] what a network says of each photograph's fellow eye, [N] whether there is one).

    The mean over all photographs of the other eye of the same patient; of two photographs of a
    patient whose eyes are not told apart, each is the other's. Without one, the eye's own.
    """
    of_patient: dict[str, list[int]] = defaultdict(list)
    for row, patient in enumerate(patients):
        of_patient[patient].append(row)
    fellow, paired = probabilities.copy(), np.zeros(len(probabilities), bool)
    for rows in of_patient.values():
        unknown = not any(eyes[row] for row in rows)
        for row in rows:
            others = [
                other
                for other in rows
                if (unknown and len(rows) == 2 and other != row)
                or (eyes[row] and eyes[other] and eyes[other] != eyes[row])
            ]
            if others:
                fellow[row], paired[row] = probabilities[others].mean(axis=0), True
    return fellow, paired
