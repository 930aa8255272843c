"""What a scan has found in a whole set: duplicates, conflicts, leaks, and what they come to."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fundusray.config import Data
from fundusray.data.duplicates.near_duplicates import DuplicatePair, duplicate_groups, find_pairs
from fundusray.data.labels.mask_targets import is_mask_target
from fundusray.data.manifest.build import SCHEMA, Manifest
from fundusray.data.manifest.contract import LABELS
from fundusray.data.manifest.leftovers import by_reason
from fundusray.data.scan.examine import FLAGS, row_identity
from fundusray.data.split.leaks import find_leaks

MASKS = "masks"
"""In place of a label, where masks are learned and there are some."""
MANY = 2
"""Photographs of one patient that are nothing to mention: one of each eye."""
SCANNED = pa.schema(
    [
        ("image_id", pa.string()),
        ("dataset", pa.string()),
        ("path", pa.string()),  # "" where ids are keyed
        ("patient_id", pa.string()),
        ("eye", pa.string()),
        ("label", pa.string()),  # the learned one's name; "" without
        ("target", pa.int32()),  # -1 without
        ("grade", pa.int32()),
        ("sex", pa.string()),
        ("split", pa.string()),  # the publisher's own
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("num_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("status", pa.string()),  # ok, repaired, refused
        ("reason", pa.string()),
        ("recovered", pa.float64()),  # share of the rows that are there
        ("flags", pa.list_(pa.string())),
        ("mask_faults", pa.string()),
        ("twin", pa.string()),  # id of the first of its near-duplicates; "" without any
        ("conflict", pa.string()),  # labels in which its near-duplicates differ
        ("twin_patients", pa.bool_()),  # its near-duplicates have several known patients
    ]
)
PAIRS = pa.schema(
    [
        ("first", pa.string()),
        ("second", pa.string()),
        ("first_patient", pa.string()),
        ("second_patient", pa.string()),
        ("first_label", pa.string()),
        ("second_label", pa.string()),
        ("first_split", pa.string()),
        ("second_split", pa.string()),
        ("similarity", pa.float64()),
        ("how", pa.string()),
        ("conflict", pa.string()),
    ]
)


class Findings(NamedTuple):
    """A scanned set."""

    table: pa.Table
    """SCANNED, in the manifest's order."""
    pairs: pa.Table
    """PAIRS."""
    facts: dict[str, Any]
    """Counts and names, as JSON values."""


def conclude_scan(
    manifest: Manifest, examined: dict[tuple[Any, ...], dict[str, Any]], data: Data
) -> Findings:
    """The findings of a set every photograph of which was examined.

    Args:
        manifest: with unlabelled photographs.
        examined: the row of EXAMINED of every photograph, by KNOWN_BY.
    """
    rows, names = manifest.table.to_pylist(), _label_names(manifest, data)
    for row in rows:
        row |= examined[row_identity(row, data)]
        row["label"] = names[row["target"]] if row["target"] >= 0 else ""
    kept = [index for index, row in enumerate(rows) if row["status"] != "refused"]
    pairs = _pairs([rows[index] for index in kept])
    group = np.full(len(rows), -1)
    first = duplicate_groups(len(kept), pairs)
    group[np.array(kept, np.int64)[first >= 0]] = np.array(kept, np.int64)[first[first >= 0]]
    _tell_groups(rows, group)
    table = pa.Table.from_pylist(rows, _scanned(manifest.table))
    linked = [_pair(rows[kept[pair.first]], rows[kept[pair.second]], pair) for pair in pairs]
    facts = _facts(manifest, rows, group, data) | {"leaks": _leaks(table)}
    return Findings(table, pa.Table.from_pylist(linked, PAIRS), facts)


def _label_names(manifest: Manifest, data: Data) -> tuple[str, ...]:
    """What targets are called; where masks are learned it is said alone that there are some."""
    return (MASKS,) if is_mask_target(data.target) else manifest.classes


def _kinds(manifest: Manifest, rows: list[dict[str, Any]], data: Data) -> dict[str, int]:
    """Of each kind of masks that is learned, how many photographs have one; {} for a label."""
    if not is_mask_target(data.target):
        return {}
    times = Counter(kind for row in rows for kind in {kind for kind, _ in row["masks"]})
    return {kind: times[kind] for kind in manifest.classes[1:]}


def _scanned(table: pa.Table) -> pa.Schema:
    """SCANNED, and behind it the labels that only this manifest's sources have."""
    more = [name for name in table.column_names if name in LABELS and name not in SCHEMA.names]
    return pa.schema([*SCANNED, *(table.schema.field(name) for name in more)])


def _pairs(rows: Sequence[dict[str, Any]]) -> list[DuplicatePair]:
    prints = bytearray().join(row["fingerprint"] for row in rows)
    shaped = np.frombuffer(prints, np.int8).reshape(len(rows), -1) if rows else np.empty((0, 1))
    return find_pairs(shaped, [row["sha256"] for row in rows]) if rows else []


def _differing(rows: Sequence[dict[str, Any]]) -> str:
    """The labels in which photographs differ, with commas; what is unknown differs from nothing."""
    return ",".join(
        label
        for label in LABELS
        if len({row[label] for row in rows if row.get(label, "") not in (-1, "")}) > 1
    )


def _tell_groups(rows: list[dict[str, Any]], group: np.ndarray) -> None:
    """Fills in twin, conflict and twin_patients."""
    for row in rows:
        row |= {"twin": "", "conflict": "", "twin_patients": False}
    for first in np.unique(group[group >= 0]):
        members = [rows[index] for index in np.flatnonzero(group == first)]
        told = {
            "twin": rows[first]["image_id"],
            "conflict": _differing(members),
            "twin_patients": len({row["patient_id"] for row in members} - {""}) > 1,
        }
        for row in members:
            row |= told


def _pair(first: dict[str, Any], second: dict[str, Any], pair: DuplicatePair) -> dict[str, Any]:
    told = {"similarity": pair.similarity, "how": pair.how}
    for name, row in (("first", first), ("second", second)):
        told |= {name: row["image_id"], f"{name}_patient": row["patient_id"]}
        told |= {f"{name}_label": row["label"], f"{name}_split": row["split"]}
    return told | {"conflict": _differing([first, second])}


def _leaks(table: pa.Table) -> dict[str, Any]:
    """Patients and near-duplicates on two sides of the published split."""
    leaks = find_leaks(table, np.array(table["split"].to_pylist(), dtype=object))
    judged = {side: list(counts) for side, counts in leaks.judged.items()}
    return {"patients": leaks.patients, "twins": leaks.twins, "judged": judged}


def _facts(
    manifest: Manifest, rows: list[dict[str, Any]], group: np.ndarray, data: Data
) -> dict[str, Any]:
    statuses = Counter(row["status"] for row in rows)
    labels = Counter(row["label"] for row in rows if row["label"])
    patients = Counter(row["patient_id"] for row in rows if row["patient_id"])
    many = [(name, num) for name, num in patients.most_common() if num > MANY]
    sizes = Counter(f"{row['width']}x{row['height']}" for row in rows if row["width"])
    return {
        "source": data.source,
        "photographs": len(rows),
        "patients": len(patients),
        "unknown_patients": sum(not row["patient_id"] for row in rows),
        "notes": list(manifest.notes),
        "many": dict(many),
        "bytes": sum(row["num_bytes"] for row in rows),
        "status": {name: statuses[name] for name in ("ok", "repaired", "refused")},
        "refused": [_named(row, data) for row in rows if row["status"] == "refused"],
        "repaired": [_named(row, data) for row in rows if row["status"] == "repaired"],
        "missing": _missing(manifest, data),
        "untaken": by_reason(manifest.skipped.to_pylist()),
        "flags": {f: [row["image_id"] for row in rows if f in row["flags"]] for f in FLAGS},
        "mask_faults": {row["image_id"]: row["mask_faults"] for row in rows if row["mask_faults"]},
        "target": data.target,
        "labels": {name: labels[name] for name in _label_names(manifest, data)},
        "kinds": _kinds(manifest, rows, data),
        "examples": _examples(rows, _label_names(manifest, data)),
        "unlabelled": sum(row["target"] < 0 for row in rows),
        "ungradable": manifest.ungradable.to_pylist() if manifest.ungradable else [],
        "ordered": manifest.ordered,
        "eyes": dict(Counter(row["eye"] for row in rows)),
        "sexes": dict(Counter(row["sex"] for row in rows)),
        "splits": dict(Counter(row["split"] for row in rows)),
        "datasets": dict(Counter(row["dataset"] for row in rows)),
        "sizes": dict(sizes.most_common()),
        "duplicates": [_told(rows, group, first) for first in np.unique(group[group >= 0])],
        "max_bad": data.max_bad,
    } | _shares(manifest, rows)


def _examples(rows: list[dict[str, Any]], classes: tuple[str, ...]) -> dict[str, list[str]]:
    """Up to three sound photographs of every label; "" is of those without."""
    found: dict[str, list[str]] = {name: [] for name in (*classes, "")}
    for row in rows:
        if row["status"] == "ok" and not row["flags"] and len(found[row["label"]]) < 3:
            found[row["label"]].append(row["image_id"])
    return found


def _named(row: dict[str, Any], data: Data) -> dict[str, Any]:
    where = row["image_id" if data.id_key else "path"]
    return {"image_id": row["image_id"], "where": where} | {
        key: row[key] for key in ("reason", "recovered")
    }


def _missing(manifest: Manifest, data: Data) -> list[dict[str, str]]:
    """What the source set aside; where ids are keyed without what it says, which names files."""
    rows = [row for row in manifest.skipped.to_pylist() if row["counted"]]
    if data.id_key:
        reason = "no usable file; scan without data.id_key to see why"
        rows = [row | {"where": row["image_id"], "reason": reason} for row in rows]
    return rows


def _shares(manifest: Manifest, rows: list[dict[str, Any]]) -> dict[str, float]:
    """The share of labelled rows that cannot be used, and a data.max_bad that lets them pass."""
    labelled = [row for row in rows if row["target"] >= 0]
    aside = sum(manifest.skipped["counted"].to_pylist())
    bad = sum(row["status"] == "refused" for row in labelled) + aside
    share = bad / max(1, len(labelled) + aside)
    return {"bad_share": share, "enough": float(np.ceil(share * 1000) / 1000)}


def _told(rows: list[dict[str, Any]], group: np.ndarray, first: int) -> dict[str, Any]:
    """One group of near-duplicates."""
    members = [rows[index] for index in np.flatnonzero(group == first)]
    return {
        "images": [row["image_id"] for row in members],
        "patients": [row["patient_id"] for row in members],
        "labels": [row["label"] for row in members],
        "splits": [row["split"] for row in members],
        "conflict": members[0]["conflict"],
        "identical": len({row["sha256"] for row in members}) == 1,
    }
