"""The AUC of rows that two networks predicted a half each."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fundusray.metrics import METRICS, figure_summary, paired_differences, predictions_table


def table(targets, score, half=None):
    """Two classes, two eyes a patient."""
    num = len(targets)
    logits = np.stack([np.zeros(num), score], axis=1)
    patients = [f"patient{i // 2:05d}" for i in range(num)]
    return predictions_table([f"eye{i:05d}" for i in range(num)], patients, targets, logits, half)


def test_pairs_count_within_a_half_only() -> None:
    rng = np.random.default_rng(0)
    targets, half = rng.integers(2, size=90), np.arange(90) // 2 % 2
    score = np.round(targets + rng.normal(size=90), 1)
    parts = [roc_auc_score(targets[half == k], score[half == k]) for k in (0, 1)]
    pairs = [(targets[half == k] == 1).sum() * (targets[half == k] == 0).sum() for k in (0, 1)]
    expected = np.average(parts, weights=pairs)
    # Scores of one network are shifted and stretched: no half's own order changes.
    for other in (score, np.where(half, 100 + 3 * score, score)):
        whole = figure_summary(table(targets, other, half))
        assert whole["auc_referable"] == pytest.approx(expected, abs=1e-12)
        assert whole["auc_referable_low"] < expected < whole["auc_referable_high"]
        assert whole["num_networks"] == 2
    together = figure_summary(table(targets, np.where(half, 100 + 3 * score, score)))
    assert together["auc_referable"] < expected - 0.1 and together["num_networks"] == 1


def test_a_half_without_one_kind_adds_nothing() -> None:
    targets = np.array([0, 0, 0, 0, 0, 1, 0, 1])
    half = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    score = np.array([9.0, 9, 9, 9, 0, 2, 1, 0.5])
    assert figure_summary(table(targets, score, half))["auc_referable"] == pytest.approx(0.75)
    alone = figure_summary(
        table(np.repeat([0, 1, 0, 1], (8, 8, 16, 8)), np.arange(40.0), np.arange(40) // 16)
    )
    assert alone["auc_referable_why"] == "4 patients with a referable eye, at least 5 are needed"
    nothing = figure_summary(table(np.repeat([0, 1], 4), score, half))
    assert nothing["auc_referable"] is None and nothing["auc_referable_low"] is None


def test_the_mean_of_the_halves_has_no_bias_and_ranking_them_together_has() -> None:
    """The truth is Phi(1 / sqrt 2); the second network's scores are one unit lower."""
    rng, truth, found = np.random.default_rng(1), 0.760249938906523, []
    half = np.arange(120) // 2 % 2
    for _ in range(200):
        targets = rng.integers(2, size=120)
        score = targets + rng.normal(size=120) - half
        found.append(
            [figure_summary(table(targets, score, part))["auc_referable"] for part in (half, None)]
        )
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / 200**0.5
    assert abs(mean[0] - truth) < 3 * error[0] < 0.013
    assert mean[1] < truth - 0.02


def test_halves_are_compared_with_one_network_and_with_other_halves() -> None:
    rng = np.random.default_rng(2)
    targets, half = rng.integers(2, size=200), np.arange(200) // 2 % 2
    weak, strong = (targets * skill + rng.normal(size=200) for skill in (0.2, 3.0))
    lower = strong - 50 * half
    for a, b in ((half, None), (half, 1 - half), (half, half)):
        found = paired_differences(table(targets, lower, a), table(targets, weak, b))[
            "auc_referable"
        ]
        assert found["verdict"] == "better" and found["low"] > 0
        assert found["difference"] == pytest.approx(
            figure_summary(table(targets, lower, a))["auc_referable"]
            - figure_summary(table(targets, weak, b))["auc_referable"]
        )
    same = paired_differences(table(targets, lower, half), table(targets, strong, half))
    assert same["auc_referable"]["difference"] == 0 and set(METRICS) <= set(same)
