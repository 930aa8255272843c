"""What of a prepared set's rows goes into a run's files: whose they are, or that it is unknown."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.prediction_rows import predictions_of
from fundusray.config import Recipe
from fundusray.data.manifest.build import with_patient_counts
from fundusray.data.split.assign_sides import halves
from fundusray.metrics import figure_summary
from fundusray.runs.split_of_run import write_sides
from fundusray.tasks import Classification
from fundusray.tasks.classification import with_logits


def fake_set() -> SimpleNamespace:
    """Two eyes of one patient and six photographs of nobody, two of which are near-duplicates."""
    columns = {
        "image_id": [f"i{n}" for n in range(8)],
        "dataset": ["own"] * 2 + ["aptos"] * 6,
        "patient_id": ["p"] * 2 + [""] * 6,
        "twin": [""] * 6 + ["i6"] * 2,
        "split": [""] * 8,
    }
    table = with_patient_counts(pa.table(columns))
    targets, patients = np.arange(8) % 2, columns["patient_id"]
    return SimpleNamespace(
        table=table,
        ordered=True,
        targets=lambda: targets,
        patients=lambda: patients,
        image_ids=lambda: columns["image_id"],
    )


def test_predictions_name_nobody_where_patients_are_unknown() -> None:
    targets, task = np.arange(8) % 2, Classification(Recipe(), ("no", "yes"))
    columns = with_logits({"target": targets}, np.eye(2)[targets])
    table = predictions_of(fake_set(), np.arange(8), columns, task)
    assert table["patient_id"].to_pylist() == ["p"] * 2 + [""] * 6
    found = figure_summary(table)
    assert (found["n"], found["num_patients"], found["num_unknown"]) == (8, 1, 6)


def test_a_runs_manifest_keeps_what_is_known_of_patients(tmp_path) -> None:
    write_sides(str(tmp_path), fake_set().table, np.array(["train"] * 6 + ["val"] * 2))
    table = files.read_table(str(tmp_path / "manifest.parquet"))
    assert table["split"].to_pylist() == ["train"] * 6 + ["val"] * 2
    assert table.schema.metadata[b"patients_known"] == b'{"own": 2, "aptos": 0}'


def test_halves_keep_patients_and_near_duplicates_whole() -> None:
    for seed in range(20):
        half = halves(fake_set().table, np.arange(8), seed)
        assert half[0] == half[1] and half[6] == half[7] and sorted(set(half)) == [0, 1]
