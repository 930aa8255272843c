"""The table of predictions: one row per image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fundusray.errors import InputError

NO_ORDER = "the order of the classes is not known"


def predictions_table(
    image_ids: Sequence[str],
    patient_ids: Sequence[str],
    targets: np.ndarray,
    logits: np.ndarray,
    half: np.ndarray | None = None,
    ordered: bool = True,
) -> pa.Table:
    """One row per image: image_id, patient_id, target, logit_0 ... logit_{K-1} (float64), half.

    A patient_id is "" where the patient is not known. `half` (int8) is there where several networks
    predicted a part of the rows each, and says which one: their scores have no common scale.
    Whether the order of the classes is known is kept in the schema's metadata, as `ordered`.

    Raises:
        InputError: an image twice, a logit that is not finite, a target that is no class.
    """
    logits = np.asarray(logits, np.float64)
    targets = np.asarray(targets, np.int64)
    if len(set(image_ids)) != len(image_ids):
        raise InputError("predictions: an image_id occurs twice; one row per image is needed")
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise InputError(
            f"predictions: the network's output is not finite for {len(broken)} of {len(logits)} "
            f"images, first {image_ids[broken[0]]!r}; it diverged: lower train.lr"
        )
    if len(targets) and not (targets.min() >= 0 and targets.max() < logits.shape[1]):
        raise InputError(f"predictions: targets must be 0 to {logits.shape[1] - 1}")
    columns: dict[str, Any] = {
        "image_id": pa.array(image_ids, pa.string()),
        "patient_id": pa.array(patient_ids, pa.string()),
        "target": pa.array(targets, pa.int32()),
    }
    columns |= {f"logit_{k}": pa.array(column) for k, column in enumerate(logits.T)}
    if half is not None:
        columns["half"] = pa.array(np.asarray(half, np.int8), pa.int8())
    return pa.table(columns).replace_schema_metadata({"ordered": "true" if ordered else "false"})


def is_ordered(predictions: pa.Table) -> bool:
    """Whether the order of the classes is known, which it is unless the table says otherwise."""
    return (predictions.schema.metadata or {}).get(b"ordered", b"true") != b"false"


def num_unknown(predictions: pa.Table) -> int:
    """How many rows have no known patient."""
    return pc.sum(pc.equal(predictions["patient_id"], "")).as_py() or 0


def _owners(predictions: pa.Table) -> pa.StringArray:
    """The patient of each row, or the row itself where it has none, [N]."""
    patients, images = (
        predictions[name].combine_chunks().cast(pa.string()) for name in ("patient_id", "image_id")
    )
    # No name has this character, so that no patient is called as an image is.
    alone = pc.binary_join_element_wise("\0", images, "")
    return pc.if_else(pc.equal(patients, ""), alone, patients)


def patients_of(predictions: pa.Table) -> pa.StringArray:
    """The patients, an image of an unknown one as one of its own; as `read_predictions` orders
    them."""
    names = pc.unique(_owners(predictions))
    return names.take(pc.sort_indices(names))


class PredictionRows(NamedTuple):
    """A table as arrays, N rows of P patients."""

    targets: np.ndarray  # int64 [N]
    logits: np.ndarray  # float64 [N, K]
    patient: np.ndarray  # int64 [N], 0 to P - 1
    part: np.ndarray  # int64 [N], which network predicted the row; 0 where there is one only


def read_predictions(predictions: pa.Table) -> PredictionRows:
    """A table as arrays.

    Raises:
        InputError: no rows.
    """
    if not predictions.num_rows:
        raise InputError("no predictions to measure: the split is empty; raise its data.fractions")
    names = [name for name in predictions.column_names if name.startswith("logit_")]
    logits = np.stack([predictions[f"logit_{k}"].to_numpy() for k in range(len(names))], axis=1)
    # By arrow: sorting 35,000 names as Python objects takes longer than all figures. In the order
    # of their names, so that the order of rows changes no figure's last bit.
    coded = _owners(predictions).dictionary_encode()
    place = pc.rank(coded.dictionary).to_numpy().astype(np.int64) - 1
    part = np.zeros(len(logits), np.int64)
    if "half" in predictions.column_names:
        part = np.unique(predictions["half"].to_numpy(), return_inverse=True)[1]
    return PredictionRows(
        predictions["target"].to_numpy().astype(np.int64),
        logits,
        place[coded.indices.to_numpy()],
        part,
    )
