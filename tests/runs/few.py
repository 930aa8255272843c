"""What tests of splits read of a prepared set, and of a run, without making either."""

from types import SimpleNamespace

import pyarrow as pa

from fundusray import files


def fake_set(num=40, manifest="here"):
    """What is read of a prepared set: two eyes of each patient, no near-duplicates."""
    columns = {
        "image_id": [f"i{n}" for n in range(num)],
        "patient_id": [f"p{n // 2}" for n in range(num)],
        "twin": [""] * num,
        "sha256": [f"h{n}" for n in range(num)],
        "target": [n // 2 % 5 for n in range(num)],
        "split": [""] * num,
    }
    return SimpleNamespace(table=pa.table(columns), info={"manifest": manifest})


def run_manifest(folder, hashes):
    """A bundle's place in a run whose manifest gives each hash a side."""
    folder.mkdir()
    columns = {"sha256": list(hashes), "split": list(hashes.values())}
    files.write_table(str(folder / "manifest.parquet"), pa.table(columns))
    return str(folder / "bundle")
