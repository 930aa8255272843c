"""Attacks on the segmentations of a bundle, spread over the cluster: rows to a table, with what was
written of each image as it is and under each attack."""

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.attack import AttackPlan, attack_key, attack_units, attack_without_eps
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import rows_of_units
from fundusray.cluster.runtime.pool import is_whole
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.tasks.column_tables import column_table, table_columns
from fundusray.training.evaluator import Evaluator

CHUNK = 512
"""Forward passes of one unit, about: each is of a whole map. A unit has a row at least."""


def attack_segmentations(
    bundle: str, prepared: str, rows: np.ndarray, plan: AttackPlan, folder: str, cpus: int = 0
) -> str:
    """Where in `folder` the rows of an attack are, a row for each image as it is (eps 0), and for
    each budget and candidate; they are made unless they are there and whole. Broken off, the same
    call goes on with the units left.

    Columns: image_id, patient_id, condition, attack, eps, candidate, linf, queries, and those of
    the task, counts as lists of fixed length; lengths where pixels are in [0, 1]. Images are in the
    order of their rows.

    Raises:
        InputError: the set has classes that the bundle does not know, or no row is left.
    """
    if not len(rows):
        raise InputError(f"no row of {prepared} is there to be attacked")
    weights, data = weights_digest(bundle), open_set(prepared)
    data = in_classes_of(data, bundle, load_bundle(bundle))
    key = attack_key(weights, data, rows, plan)
    location = files.join(folder, f"attacked-{key}.parquet")
    if is_whole(location):
        return location
    parts = files.join(folder, f"parts-{key}")
    units = attack_units(weights, rows, plan, CHUNK, least=1)
    table = rows_of_units("attacking", _attacked, units, (bundle, weights, prepared), parts, cpus)
    columns = table_columns(table)
    # Candidates stay in the order in which they were made.
    order = np.lexsort((columns["eps"], columns["row"]))
    columns = {name: values[order] for name, values in columns.items()}
    which, ids, patients = columns.pop("row"), data.image_ids(), data.patients()
    num = len(which)
    named = {
        "image_id": np.array([ids[row] for row in which], dtype=object),
        "patient_id": np.array([patients[row] for row in which], dtype=object),
        "condition": np.full(num, str(plan.condition), dtype=object),
        "attack": np.full(num, attack_without_eps(plan.attacks[0]), dtype=object),
    }
    files.write_table(location, column_table(named | columns))
    files.remove(parts)
    return location


def _attacked(evaluator: Evaluator, plan: AttackPlan, rows: np.ndarray) -> pa.Table:
    """Of a unit's rows what was written."""
    return column_table(evaluator.attacked_segmentations(rows, plan.attacks, plan.condition))
