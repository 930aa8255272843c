"""The manifest: one row per photograph, checked whole before anything is computed."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fundusray.config import Data
from fundusray.data.labels.class_names import is_ordered
from fundusray.data.labels.mask_targets import is_mask_target, pixel_classes, rows_with_masks
from fundusray.data.labels.read_labels import relabelled_rows
from fundusray.data.manifest import patients
from fundusray.data.manifest.contract import (
    LABELS,
    SOURCES,
    RowProblem,
    SourceContent,
    empty,
    scale_of,
)
from fundusray.data.manifest.joining import join_sources, locate_sources
from fundusray.data.manifest.leftovers import untaken_files
from fundusray.data.manifest.pseudonyms import key_ids
from fundusray.errors import InputError

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("dataset", pa.string()),  # the source it came from
        ("path", pa.string()),  # in that dataset's root
        ("patient_id", pa.string()),  # "" where it is not known
        ("eye", pa.string()),  # left, right or ""
        ("target", pa.int32()),  # what is learned: position in the classes, -1 without a label
        ("grade", pa.int32()),  # of retinopathy or what else the source grades; -1 unknown
        ("edema", pa.int32()),  # -1 unknown
        ("disease", pa.int32()),  # position in the source's own classes; -1 unknown
        ("sex", pa.string()),  # female, male or ""
        ("age", pa.int32()),  # years; -1 unknown
        ("keywords", pa.string()),  # the physician's, as published
        ("masks", pa.map_(pa.string(), pa.string())),  # structure -> path in the root
        ("split", pa.string()),  # the publisher's own: train, val, test or ""
        ("twin", pa.string()),  # id of the first of its near-duplicates; "" without any
        ("width", pa.int32()),  # pixels of the upright original; 0 until it is decoded
        ("height", pa.int32()),
        ("repaired", pa.bool_()),
        ("sha256", pa.string()),  # of the file; "" until it is read
        ("num_bytes", pa.int64()),
    ]
)
SKIPPED = pa.schema(
    [
        ("image_id", pa.string()),
        ("where", pa.string()),
        ("reason", pa.string()),
        ("counted", pa.bool_()),  # against data.max_bad
        ("ungradable", pa.bool_()),  # sound, but looked at and without a grade
    ]
)
MOST_NAMED = 20


@dataclass(frozen=True)
class Manifest:
    """What there is to learn from."""

    table: pa.Table
    """Columns of SCHEMA and labels that only these sources have, in the source's order; its
    metadata has the `classes`, the `target`, whether the classes are `ordered`, and of how many
    rows of each data set the patient is known."""
    skipped: pa.Table
    """Columns of SKIPPED: rows that were set aside, and behind them image files not taken."""
    classes: tuple[str, ...]
    roots: dict[str, str]
    """Dataset -> where its paths begin."""
    hash: str
    """Equal for equal rows in equal order."""
    unlabelled: int
    """Photographs that were left out for want of a label, ungradable ones among them."""
    ordered: bool = True
    """Whether the order of the classes is known; of two, which one is the positive."""
    ungradable: pa.Table | None = None
    """Columns of SKIPPED: the photographs that could not be graded."""
    notes: tuple[str, ...] = ()
    """What was made out of names or tables, in sentences."""


def build_manifest(data: Data, root: str, seed: int, labelled: bool = True) -> Manifest:
    """Every usable row of one or several sources, and the rows set aside.

    Args:
        root: one root, or as many with commas as `data.source` names sources.
        labelled: False keeps photographs without a label, whatever share of rows is unusable. Of
            data.judge=ungradable those alone are kept that could not be graded; data.judge=any
            keeps photographs without a label.

    Raises:
        InputError: the source's table is wrong (all faults at once), no such label, too many
            images are missing, there are no rows, or only one class.
    """
    roots = locate_sources(data, root)
    found = join_sources(_read(data, roots, seed))
    refused = [problem for problem in found.problems if problem.refused]
    if refused:
        head = f"{len(refused):,} faults in the data of source {data.source!r}:"
        raise InputError(_told(head, refused, "correct them and run again"))
    found = key_ids(_with_keywords(found, data.keywords), data.id_key)
    found, ungradable = _apart(found)
    table, classes = _labelled(_with_mask_target(found, data), data.target, bool(data.classes))
    unlabelled = table.num_rows
    apart = labelled and data.judge == "ungradable"
    if apart:
        table = _only(table, ungradable, root)
    elif labelled:
        if data.judge == "graded":
            table = table.filter(pc.greater_equal(table["target"], 0))
        _check_share(data, found.problems, table.num_rows)
    unlabelled -= table.num_rows
    if not table.num_rows and not unlabelled:
        raise InputError(f"{root}: source {data.source!r} found no images; check data.root")
    if labelled and data.judge == "graded":
        _check_label(table, found, data.target, unlabelled)
        if not is_mask_target(data.target):
            _check_classes(table, classes, root)
    table = with_patient_counts(table)
    places = {name: place for name, (_, place) in roots.items()}
    return Manifest(
        table,
        _aside([] if apart else found.problems),
        classes,
        places,
        _hash(table, classes),
        0 if apart else unlabelled,
        table.schema.metadata[b"ordered"] == b"true",
        _aside([] if apart else ungradable),
        found.notes,
    )


def _apart(found: SourceContent) -> tuple[SourceContent, list[RowProblem]]:
    """The rows without the problems that are no fault of theirs: those that have no grade."""
    held = set(found.columns["image_id"])  # some may have no file, or not the keywords
    ungradable = [problem for problem in found.problems if problem.ungradable]
    ungradable = [problem for problem in ungradable if problem.image_id in held]
    left = [problem for problem in found.problems if not problem.ungradable]
    return found._replace(problems=left), ungradable


def _only(table: pa.Table, ungradable: list[RowProblem], root: str) -> pa.Table:
    """The rows of the photographs that could not be graded."""
    names = pa.array([problem.image_id for problem in ungradable], pa.string())
    if not len(names):
        raise InputError(
            f"{root}: data.judge=ungradable, but no label says ungradable; data.ungradable=<label> "
            "says which one does"
        )
    return table.filter(pc.is_in(table["image_id"], names))


def _read(data: Data, roots: dict[str, tuple[str, str]], seed: int) -> dict[str, SourceContent]:
    """What every data set holds and leaves, with the patients that its names tell."""
    read, named = {}, False
    for name, (source, place) in roots.items():
        one = SOURCES.find(source)(data, place, seed)
        if not is_mask_target(data.target):
            one = relabelled_rows(one, data)
        by_name = patients.with_patients(one, data.patient_pattern, bool(data.id_key))
        named |= by_name is not one
        problems = by_name.problems + untaken_files(source, place, by_name)
        read[name] = by_name._replace(problems=problems)
    if data.patient_pattern and not named:
        raise InputError(
            f"data.patient_pattern={data.patient_pattern}: source {data.source!r} knows the "
            "patients already; leave it out"
        )
    return read


def with_patient_counts(table: pa.Table) -> pa.Table:
    """The table with, in its schema's metadata, of how many rows of each data set the patient is
    known: `patients_known`, JSON."""
    having = {name: number for name, (number, _) in patients.patient_counts(table).items()}
    metadata = (table.schema.metadata or {}) | {b"patients_known": json.dumps(having).encode()}
    return table.replace_schema_metadata(metadata)


def _with_mask_target(found: SourceContent, data: Data) -> SourceContent:
    """The rows with a target where masks are learned: it is known of those that have one."""
    if not is_mask_target(data.target):
        return found
    classes = pixel_classes(data, found.labels.get(data.target, ()))
    masks = found.columns.get("masks", [[]] * len(found.columns["image_id"]))
    columns = found.columns | {"target": rows_with_masks(masks, classes[1:])}
    return found._replace(columns=columns, labels=found.labels | {data.target: classes})


def _aside(problems: list[RowProblem]) -> pa.Table:
    """The problems as SKIPPED, those that count first."""
    ordered = sorted(problems, key=lambda problem: not problem.counted)
    rows = [(p.image_id, p.where, p.reason, p.counted, p.ungradable) for p in ordered]
    columns = list(zip(*rows, strict=True)) or [()] * len(SKIPPED)
    arrays = [pa.array(column, f.type) for column, f in zip(columns, SKIPPED, strict=True)]
    return pa.table(arrays, schema=SKIPPED)


def _with_keywords(found: SourceContent, text: str) -> SourceContent:
    """The rows whose keywords hold the text; rows of sets that have no keywords stay."""
    if not text:
        return found
    every = found.columns.get("keywords", [])
    datasets = found.columns["dataset"]
    having = {d for d, keywords in zip(datasets, every, strict=False) if keywords}
    if not having:
        raise InputError(f"data.keywords={text!r}: the source has no keywords; leave it empty")
    kept = [
        i
        for i, (dataset, keywords) in enumerate(zip(datasets, every, strict=True))
        if dataset not in having or text.casefold() in keywords.casefold()
    ]
    columns = {name: [values[i] for i in kept] for name, values in found.columns.items()}
    return found._replace(columns=columns)


def schema_of(columns: Iterable[str]) -> pa.Schema:
    """SCHEMA, and behind it the registered labels among some columns that it has not."""
    more = sorted(name for name in columns if name in LABELS and name not in SCHEMA.names)
    kinds = [pa.string() if LABELS.facts(name).text else pa.int32() for name in more]
    return pa.schema([*SCHEMA, *zip(more, kinds, strict=True)])


def _labelled(found: SourceContent, target: str, ordered: bool) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows as a table of SCHEMA with the learned label as `target`, and its classes, whose
    order is known as it was given, or by their names."""
    ids = found.columns["image_id"]
    schema = schema_of(found.columns)
    unknown = set(found.columns) - set(schema.names)
    assert not unknown, f"columns {unknown} are not in the manifest"
    assert len(set(ids)) == len(ids), "a source gave an id twice"
    classes = found.labels.get(target, ())
    values: Sequence[Any] = found.columns.get(target, ()) if classes else ()
    if values and isinstance(values[0], str):
        places = {name: place for place, name in enumerate(classes)}
        values = [places.get(value, -1) for value in values]
    known = {"target": values or [-1] * len(ids)} | found.columns
    zero = {pa.string(): "", pa.bool_(): False, pa.int32(): 0, pa.int64(): 0}
    arrays = []
    for field in schema:
        if field.name in known:
            arrays.append(pa.array(known[field.name], field.type))
        elif field.name == "masks":
            arrays.append(pa.array([[]] * len(ids), field.type))
        else:
            value = empty(field.name) or zero.get(field.type)
            arrays.append(pa.repeat(pa.scalar(value, field.type), len(ids)))
    metadata = {"classes": json.dumps(classes), "target": target}
    known_order = not is_mask_target(target) and (ordered or is_ordered(classes, scale_of(target)))
    metadata["ordered"] = json.dumps(known_order)
    return pa.table(arrays, schema=schema.with_metadata(metadata)), tuple(classes)


def _check_label(table: pa.Table, found: SourceContent, target: str, unlabelled: int) -> None:
    if table.num_rows:
        return
    if is_mask_target(target):
        kinds = {kind for masks in found.columns.get("masks", ()) for kind, _ in masks}
        raise InputError(
            f"data.target={target}: none of {unlabelled:,} images has a mask of its kinds; there "
            f"are {', '.join(sorted(kinds)) or 'no masks'}"
        )
    have = ", ".join(sorted(found.labels)) or "no labels: it can be scanned, not learned"
    raise InputError(
        f"data.target={target}: none of {unlabelled:,} images has this label; there are {have}"
    )


def _check_classes(table: pa.Table, classes: tuple[str, ...], root: str) -> None:
    present = np.flatnonzero(class_counts(table, len(classes)))
    if len(present) < 2:
        only = classes[present[0]]
        raise InputError(
            f"{root}: all {table.num_rows:,} images are of class {only!r}; two are needed"
        )


def _check_share(data: Data, problems: list[RowProblem], kept: int) -> None:
    skipped = [problem for problem in problems if problem.counted]
    share = len(skipped) / max(1, len(skipped) + kept)
    if share <= data.max_bad:
        return
    head = f"{len(skipped):,} of {len(skipped) + kept:,} rows have no usable image"
    head += f" ({share:.1%}; data.max_bad allows {data.max_bad:.1%}):"
    # Rounded up, so that the value given is one that lets this very table pass.
    enough = np.ceil(share * 1000) / 1000
    cure = f"restore the images, or set data.max_bad={enough:g} to go on without them"
    raise InputError(_told(head, skipped, cure))


def _told(head: str, problems: list[RowProblem], cure: str) -> str:
    """The first problems, how many more there are, and what to do."""
    lines = [f"  {problem.where}: {problem.reason}" for problem in problems[:MOST_NAMED]]
    if len(problems) > MOST_NAMED:
        lines.append(f"  and {len(problems) - MOST_NAMED:,} more")
    return "\n".join([head, *lines, cure])


def class_counts(table: pa.Table, num_classes: int) -> np.ndarray:
    """Rows per class, int64 [K].

    Raises:
        InputError: a target outside the classes.
    """
    targets = table["target"].to_numpy()
    if len(targets) and not 0 <= targets.min() <= targets.max() < num_classes:
        span = f"{targets.min()} to {targets.max()}"
        raise InputError(f"targets go from {span}, expected 0 to {num_classes - 1}")
    return np.bincount(targets, minlength=num_classes).astype(np.int64)


def _hash(table: pa.Table, classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps([table.num_rows, *classes]).encode())
    texts = ("image_id", "dataset", "path", "patient_id", "split", "eye", "sex", "keywords")
    for name in texts:
        # They hold no control characters, so this joins them without ambiguity.
        digest.update("\0".join(table[name].to_pylist()).encode() + b"\0\0")
    for name in ("target", "num_bytes", "grade", "edema", "disease", "age"):
        digest.update(table[name].to_numpy().astype("<i8").tobytes())
    for name in sorted(set(table.column_names) - set(SCHEMA.names)):
        values = table[name].to_pylist()
        digest.update(json.dumps([name, values]).encode())
    return digest.hexdigest()[:16]
