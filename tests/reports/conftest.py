"""Small real predictions and the trials that point at them."""

from collections.abc import Callable

import numpy as np
import pytest

from fundusray import files, metrics
from fundusray.reports.trials import ReportTrial

NUM_EYES = 120
CLASSES = ["No DR", "Mild", "Moderate", "Severe", "Proliferative"]


def draw_targets(num_classes: int = 5) -> np.ndarray:
    """Grades of 120 eyes, the first class in half of them."""
    rng = np.random.default_rng(1)
    return np.where(rng.random(NUM_EYES) < 0.5, 0, rng.integers(0, num_classes, NUM_EYES))


def draw_logits(targets: np.ndarray, hit: float, num_classes: int = 5) -> np.ndarray:
    """Logits [N, K] that name the right grade for about a share `hit` of the eyes."""
    rng = np.random.default_rng(2)
    guesses = np.where(
        rng.random(len(targets)) < hit, targets, rng.integers(0, num_classes, len(targets))
    )
    return 3.0 * np.eye(num_classes)[guesses] + 0.1 * rng.random((len(targets), num_classes))


@pytest.fixture
def make_trial(tmp_path) -> Callable[..., ReportTrial]:
    """(method, share of hits or None, ...) -> a trial with its predictions on disk; `having` of its
    eyes have a patient."""

    def make(
        method: str, hit: float | None = 0.7, prefix: str = "eye", having: int = NUM_EYES, **changes
    ) -> ReportTrial:
        location = ""
        if hit is not None:
            targets = draw_targets()
            ids = [f"{prefix}{i}" for i in range(NUM_EYES)]
            patients = [f"patient{i // 2}" if i < having else "" for i in range(NUM_EYES)]
            table = metrics.predictions_table(ids, patients, targets, draw_logits(targets, hit))
            location = str(tmp_path / f"predictions-{len(list(tmp_path.iterdir()))}.parquet")
            files.write_table(location, table)
        history = [
            {"epoch": e, "train_loss": 1 / e, "val_kappa": 0.1 * e, "images_per_second": 90.0}
            for e in (1, 2, 3)
        ]
        settings = {
            "method": method, "loss": "cross_entropy", "sampler": "natural", "batch": 48,
            "epochs_run": 3, "epochs_asked": 3, "best_epoch": 3, "selected_by": "kappa",
            "optimistic": False, "seconds": 754.0, "weight_ratio": 1.0, "history": history,
            "bundle": "runs/x/bundle", "predictions": location,
        }  # fmt: skip
        return ReportTrial(**(settings | changes))

    return make


@pytest.fixture
def about() -> dict:
    """What a search of a paper's table says around its figures."""
    return {
        "title": "Losses against imbalance",
        "command": "python jobs/tune_balancing.py demo",
        "recipe": "demo",
        "splits": {"test": {"n": 120, "patients": 60, "counts": [70, 12, 13, 12, 13]}},
        "split": "split by patient: no patient or near-duplicate is on two sides",
        "classes": CLASSES,
        "seed": 0,
        "mode": {"precision": "fp32"},
        "prepared": {"kept": 119, "repaired": 1, "skipped": []},
    }
