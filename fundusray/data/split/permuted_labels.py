"""Labels that say nothing: the null of a network, trained on the labels of other patients.

What such a network, or a map of it, reaches is what the architecture, the photographs and the
patients' structure give without anything to learn (Adebayo et al. 2018, section 4: the data
randomisation test).
"""

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa

from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.split.assign_sides import linked_groups


def permuted_targets(table: pa.Table, rows: np.ndarray, seed: int) -> np.ndarray:
    """The class of every row of a manifest, int64 [N], where those of `rows` are permuted over
    patients: each patient bears the labels of one other, or by chance its own.

    Patients change places among those with as many of these rows (near-duplicates count with their
    patient), first eye for first eye, so that counts of classes, and how the labels of a patient's
    eyes go together, stay exactly as they are. A patient with a number of rows that no other has
    keeps its labels. All other rows keep theirs. The same for any order of rows.

    Args:
        table: with image_id, patient_id, eye, twin and target.
        rows: whose labels are permuted; those of the training side.
        seed: another seed gives another permutation.
    """
    targets = table["target"].to_numpy().astype(np.int64)
    group, names = linked_groups(table)
    eyes = table["eye"].to_pylist() if "eye" in table.column_names else [""] * len(targets)
    ids = table["image_id"].to_pylist()
    members: dict[int, list[int]] = {}
    for row in sorted(np.asarray(rows).tolist(), key=lambda r: (eyes[r], ids[r])):
        members.setdefault(int(group[row]), []).append(row)
    permuted = targets.copy()
    for size in {len(own) for own in members.values()}:
        alike = sorted((g for g in members if len(members[g]) == size), key=lambda g: names[g])
        givers = sorted(alike, key=lambda g: _digest(seed, names[g]))
        for taker, giver in zip(alike, givers, strict=True):
            permuted[members[taker]] = targets[members[giver]]
    return permuted


def with_permuted_labels(prepared: PreparedSet, rows: np.ndarray, seed: int) -> PreparedSet:
    """The set with the labels of some rows permuted over patients, see `permuted_targets`."""
    table = prepared.table
    targets = pa.array(permuted_targets(table, rows, seed), table.schema.field("target").type)
    place = table.schema.get_field_index("target")
    return replace(prepared, table=table.set_column(place, table.schema.field("target"), targets))


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/permuted/{name}".encode()).digest()
