"""The manifest: one row per photograph, checked whole before anything is computed."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fundusray.config import Data
from fundusray.data.found import SOURCES, Found, Problem
from fundusray.errors import InputError

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),  # in the root
        ("patient_id", pa.string()),
        ("eye", pa.string()),  # left, right or ""
        ("grade", pa.int32()),  # position in the classes
        ("sex", pa.string()),
        ("mask_path", pa.string()),
        ("split", pa.string()),  # "" until it is assigned
        ("width", pa.int32()),  # pixels of the upright original; 0 until it is decoded
        ("height", pa.int32()),
        ("repaired", pa.bool_()),
        ("sha256", pa.string()),  # of the file; "" until it is read
        ("num_bytes", pa.int64()),
    ]
)
SKIPPED = pa.schema([("image_id", pa.string()), ("where", pa.string()), ("reason", pa.string())])
SHOWN = 20


@dataclass(frozen=True)
class Manifest:
    """What there is to learn from."""

    table: pa.Table
    """Columns of SCHEMA, in the source's order; the classes are in the schema's metadata."""
    skipped: pa.Table
    """image_id, where, reason of the rows that were set aside."""
    classes: tuple[str, ...]
    root: str
    hash: str
    """Equal for equal rows in equal order."""


def build(data: Data, root: str, seed: int) -> Manifest:
    """Every usable row of a source, and the rows set aside.

    Raises:
        InputError: the source's table is wrong (all faults at once), too many images are missing,
            there are no rows, or only one class.
    """
    found = SOURCES.find(data.source)(data, root, seed)
    refused = [problem for problem in found.problems if problem.refused]
    if refused:
        head = f"{len(refused):,} faults in the data of source {data.source!r}:"
        raise InputError(_told(head, refused, "correct them and run again"))
    num_rows = len(found.columns["image_id"])
    _check_share(data, found.problems, num_rows)
    if not num_rows:
        raise InputError(f"{root}: source {data.source!r} found no images; check data.root")
    table = _table(found)
    present = np.flatnonzero(counts(table, len(found.classes)))
    if len(present) < 2:
        only = found.classes[present[0]]
        raise InputError(f"{root}: all {num_rows:,} images are of class {only!r}; two are needed")
    skipped = [(p.image_id, p.where, p.reason) for p in found.problems]
    columns = list(zip(*skipped, strict=True)) or [(), (), ()]
    arrays = [pa.array(column, pa.string()) for column in columns]
    aside = pa.table(arrays, schema=SKIPPED)
    return Manifest(table, aside, found.classes, root, _hash(table, found.classes))


def _check_share(data: Data, skipped: list[Problem], kept: int) -> None:
    share = len(skipped) / max(1, len(skipped) + kept)
    if share <= data.max_bad:
        return
    head = f"{len(skipped):,} of {len(skipped) + kept:,} rows have no usable image"
    head += f" ({share:.1%}; data.max_bad allows {data.max_bad:.1%}):"
    # Rounded up, so that the value given is one that lets this very table pass.
    enough = np.ceil(share * 1000) / 1000
    cure = f"restore the images, or set data.max_bad={enough:g} to go on without them"
    raise InputError(_told(head, skipped, cure))


def _told(head: str, problems: list[Problem], cure: str) -> str:
    """The first problems, how many more there are, and what to do."""
    lines = [f"  {problem.where}: {problem.reason}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN:,} more")
    return "\n".join([head, *lines, cure])


def _table(found: Found) -> pa.Table:
    """The source's columns in the manifest's schema; those it does not know are empty."""
    ids = found.columns["image_id"]
    unknown = set(found.columns) - set(SCHEMA.names)
    assert not unknown, f"columns {unknown} are not in the manifest"
    assert len(set(ids)) == len(ids), "a source gave an id twice"
    empty = {pa.string(): "", pa.bool_(): False, pa.int32(): 0, pa.int64(): 0}
    known = {"patient_id": ids} | found.columns
    arrays = [
        pa.array(known[field.name], field.type)
        if field.name in known
        else pa.repeat(pa.scalar(empty[field.type], field.type), len(ids))
        for field in SCHEMA
    ]
    metadata = {"classes": json.dumps(found.classes)}
    return pa.table(arrays, schema=SCHEMA.with_metadata(metadata))


def counts(table: pa.Table, num_classes: int) -> np.ndarray:
    """Rows per class, int64 [K].

    Raises:
        InputError: a grade outside the classes.
    """
    grades = table["grade"].to_numpy()
    if len(grades) and not 0 <= grades.min() <= grades.max() < num_classes:
        span = f"{grades.min()} to {grades.max()}"
        raise InputError(f"grades go from {span}, expected 0 to {num_classes - 1}")
    return np.bincount(grades, minlength=num_classes).astype(np.int64)


def _hash(table: pa.Table, classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps([table.num_rows, *classes]).encode())
    for name in ("image_id", "path", "patient_id"):
        # Ids and paths hold no control characters, so this joins them without ambiguity.
        digest.update("\0".join(table[name].to_pylist()).encode() + b"\0\0")
    for name in ("grade", "num_bytes"):
        digest.update(table[name].to_numpy().astype("<i8").tobytes())
    return digest.hexdigest()[:16]
