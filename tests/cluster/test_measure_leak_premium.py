"""Predictions of several runs in one table."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.measure_leak_premium import _of_repeat
from fundusray.metrics import figure_summary, predictions_table


def test_scores_of_two_runs_are_not_ranked_against_each_other(tmp_path: Path) -> None:
    """Each run orders all of its eyes rightly; the second one's scores are all lower."""
    rng, parts = np.random.default_rng(0), []
    for repeat in range(2):
        targets = rng.permutation(np.repeat([0, 1], 20))
        logits = np.stack([np.zeros(40), targets - 5.0 * repeat], axis=1)
        names = [f"eye{i}" for i in range(40)]
        place = str(tmp_path / f"{repeat}.parquet")
        files.write_table(place, predictions_table(names, names, targets, logits))
        parts.append(_of_repeat(place, repeat))
    joined = pa.concat_tables(parts)
    whole = figure_summary(joined)
    assert (whole["n"], whole["num_patients"], whole["num_networks"]) == (80, 40, 2)
    assert whole["auc_referable"] == 1.0
    assert figure_summary(joined.drop_columns(["half"]))["auc_referable"] < 0.8
