"""What one change for all images does to a network, beside noise of the same length."""

from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.robustness import share_difference, share_interval

ANSWERS = {
    "as they are": "clean_prediction",
    "noise": "noise_prediction",
    "universal": "prediction",
}
"""What is added to the images -> the column of what the network then answers."""


def universal_figures(rows: pa.Table, goal: int | None = None) -> list[dict[str, Any]]:
    """A row for each of ANSWERS, of a table of images that the perturbation was not learned from.

    Each has added, n, num_patients, majority_accuracy, and with _low and _high of each:

    accuracy: right, of all;
    changed_rate: answered otherwise than as they are, of all: the fooling rate (Moosavi-Dezfooli
        et al. 2017);
    success_rate: wrong now, of those that were right as they are;
    goal_rate: answered as the class `goal`, of all; only with one.
    """
    target, clean, patients = _columns(rows)
    right, every = clean == target, np.ones(len(target), bool)
    figures = []
    for added, column in ANSWERS.items():
        now = rows[column].to_numpy()
        shares = {
            "accuracy": (now == target, every),
            "changed_rate": (now != clean, every),
            "success_rate": (right & (now != target), right),
        }
        if goal is not None:
            shares["goal_rate"] = (now == goal, every)
        row: dict[str, Any] = {
            "added": added,
            "n": len(target),
            "num_patients": len({name or place for place, name in enumerate(patients)}),
            "majority_accuracy": float(np.bincount(target).max() / len(target)),
        }
        for name, (hits, counted) in shares.items():
            share = share_interval(hits, counted, patients)
            row |= {f"{name}{end}": share[key] for end, key in ENDS.items()}
        figures.append(row)
    return figures


ENDS = {"": "value", "_low": "low", "_high": "high"}


def more_than_noise(rows: pa.Table, goal: int | None = None) -> dict[str, dict[str, Any]]:
    """By how much more than noise of the same length the perturbation changes answers
    (changed_rate), and with a class `goal` leads to it (goal_rate): difference, low, high, p,
    verdict and why, see `robustness.share_difference`."""
    _, clean, patients = _columns(rows)
    universal, noise = (rows[ANSWERS[added]].to_numpy() for added in ("universal", "noise"))
    found = {"changed_rate": share_difference(universal != clean, noise != clean, patients)}
    if goal is not None:
        found["goal_rate"] = share_difference(universal == goal, noise == goal, patients)
    return found


def _columns(rows: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(class, answer as they are, patient) of each image [N]."""
    target, clean = (rows[name].to_numpy() for name in ("target", "clean_prediction"))
    return target, clean, np.array(rows["patient_id"].to_pylist(), dtype=object)
