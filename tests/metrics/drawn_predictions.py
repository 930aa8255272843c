"""Predictions of networks that know something, drawn."""

import numpy as np

from fundusray.metrics import predictions_table


def drawn(seed, n=300, classes=5, skill=1.5):
    """Targets and logits of a network that knows something."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.6, 0.1, 0.15, 0.1, 0.05])[:classes]
    targets = rng.choice(classes, n, p=shares / shares.sum())
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), targets] += skill
    return targets, logits


def table(targets, logits, per_patient=2):
    """Their table; eyes that follow each other are of one patient."""
    ids = [f"image{i:05d}" for i in range(len(targets))]
    patients = [f"patient{i // per_patient:05d}" for i in range(len(targets))]
    return predictions_table(ids, patients, targets, logits)
