"""From units to a prepared set: its name, its tables and the description that completes it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.compute as pc
import torch

import fundusray
from fundusray import files
from fundusray.config import Data
from fundusray.data.duplicates.fingerprint import LENGTH
from fundusray.data.duplicates.near_duplicates import duplicate_groups, find_pairs
from fundusray.data.labels.mask_targets import is_mask_target
from fundusray.data.manifest import patients
from fundusray.data.manifest.build import SKIPPED, Manifest, class_counts, with_patient_counts
from fundusray.data.photographs import digests
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.data.prepared.write import (
    COLUMNS,
    CROP,
    FORMAT,
    QUALITY,
    SEEN,
    masks_file,
    read_prints,
)
from fundusray.errors import BadInputsError, FundusError, InputError

MOST_NAMED = 20
TWINS = pa.schema(
    [
        ("first", pa.string()),
        ("second", pa.string()),
        ("similarity", pa.float64()),
        ("how", pa.string()),
        ("first_target", pa.int32()),
        ("second_target", pa.int32()),
        ("conflict", pa.bool_()),  # they bear different labels
    ]
)


def set_settings(data: Data, manifest: Manifest) -> dict[str, Any]:
    """Everything that decides what is in a prepared set."""
    drawn = "synthetic" in [name.strip() for name in data.source.split(",")]
    return {
        "format": FORMAT,
        "manifest": manifest.hash,
        "classes": list(manifest.classes),
        "ordered": manifest.ordered,
        "datasets": list(manifest.roots),
        "preprocess": data.preprocess,
        "preprocess_args": data.preprocess_args,
        "preprocess_version": PREPROCESS.find(data.preprocess).version,
        "size": data.size,
        "encoding": data.encoding,
        "quality": QUALITY if data.encoding == "jpeg" else None,
        "num_images": data.num_images if drawn else None,
    } | ({"masks": _masks_kept(data, manifest)} if data.masks else {})


def _masks_kept(data: Data, manifest: Manifest) -> dict[str, Any]:
    """The kinds of masks that are kept, and a digest of which rows have which."""
    rows = [
        [[kind, path] for kind, path in masks if kind in data.masks]
        for masks in manifest.table["masks"].to_pylist()
    ]
    return {"kinds": list(data.masks), "rows": files.hash_json(rows, 16)}


def set_folder(storage: str, data: Data, manifest: Manifest) -> str:
    """Where a prepared set lives: its name tells what it is, its hash exactly what."""
    what = ["+".join(manifest.roots), data.preprocess, str(data.size)]
    what += ["raw"] if data.encoding == "raw" else []
    # What is in the photographs is not known before they are read; see `cluster.prepare`.
    key = files.hash_json(set_settings(data, manifest))
    return files.join(storage, "prepared", "-".join([*what, key]))


def assemble_set(
    folder: str,
    data: Data,
    manifest: Manifest,
    units: list[dict[str, Any]],
    stamps: Sequence[str] = (),
    expected: str = "",
) -> None:
    """Joins the units, in the order of the manifest, and declares the set complete.

    Args:
        stamps: of every row's files, as they were before they were read.
        expected: what is known to be in the files, a summary of `data.photographs.digests`.

    Raises:
        FundusError: something else is in them by now.
        BadInputsError: more photographs were skipped than data.max_bad allows; units stay.
        InputError: fewer than two classes are left, or a unit was damaged meanwhile.
    """
    skipped, left = _set_aside(manifest, units)
    table = _kept(manifest, units)
    _check_share(data, skipped, table.num_rows)
    present = class_counts(
        table.filter(pc.greater_equal(table["target"], 0)), len(manifest.classes)
    )
    labelled = data.judge == "graded" and not is_mask_target(data.target)
    if labelled and np.count_nonzero(present) < 2:
        raise InputError(f"all {len(table):,} usable images are of one class; two are needed")
    table, twins = _with_twins(with_patient_counts(table), _read_prints(folder, units))
    if data.id_key:
        table = _without_places(table)
    ungradable = manifest.ungradable.to_pylist() if manifest.ungradable else []
    aside = pa.Table.from_pylist(skipped + ungradable + left, SKIPPED)
    tables = {"manifest.parquet": table, "skipped.parquet": aside, "twins.parquet": twins}
    sums = _write_tables(folder, tables)
    sums |= _mask_files(units) if data.masks else {}
    shards = [{key: unit[key] for key in ("name", "rows", "sha256", "bytes")} for unit in units]
    inside = _write_contents(folder, units, stamps or [""] * manifest.table.num_rows, expected)
    described = set_settings(data, manifest) | {
        # The same rows with other photographs are another set.
        "manifest": files.hash_json([manifest.hash, inside], 16),
        "contents": inside,
        "counts": present.tolist(),
        "fill": PREPROCESS.find(data.preprocess).fill,
        "patients_known": {
            name: having for name, (having, _) in patients.patient_counts(table).items()
        },
        "notes": list(manifest.notes),
        "num_skipped": len(skipped),
        "num_ungradable": len(ungradable),
        "num_untaken": len(left),
        "num_unlabelled": manifest.unlabelled,
        "num_twins": twins.num_rows,
        "num_conflicts": sum(twins["conflict"].to_pylist()),
        "shards": shards,
        "tables": sums,
        "versions": _versions(),
    }
    files.write_json(files.join(folder, "set.json"), described)


def _set_aside(
    manifest: Manifest, units: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(what could not be used, what nothing asked for), a row each with its reason."""
    rows = manifest.skipped.to_pylist()
    skipped = [row for row in rows if row["counted"]]
    for unit in units:
        skipped += [dict(row) | {"counted": True, "ungradable": False} for row in unit["skipped"]]
    return skipped, [row for row in rows if not row["counted"]]


def _versions() -> dict[str, str]:
    """What made the pixels."""
    versions = {"pillow": PIL.__version__, "torch": torch.__version__}
    return {"fundusray": fundusray.__version__} | versions


def _mask_files(units: list[dict[str, Any]]) -> dict[str, str]:
    """The digest of each unit's file of masks."""
    return {(file := masks_file(unit["name"])): unit["fields"][file] for unit in units}


def _write_tables(folder: str, tables: dict[str, pa.Table]) -> dict[str, str]:
    """Writes tables by their names; the digest of each file."""
    for name, content in tables.items():
        files.write_table(files.join(folder, name), content)
    return {name: files.sha256_file(files.join(folder, name)) for name in tables}


def _write_contents(
    folder: str, units: list[dict[str, Any]], stamps: Sequence[str], expected: str
) -> str:
    """Writes what was in each photograph's file; its summary."""
    read = [[value for unit in units for value in unit[key]] for key in ("contents", "masks")]
    held = digests.as_table(stamps, *read)
    inside = digests.content_summary(held)
    if expected not in ("", inside):
        raise FundusError(
            f"{folder}: photographs were changed while they were prepared; give the command again"
        )
    files.write_table(files.join(folder, digests.NAME), held)
    return inside


def _kept(manifest: Manifest, units: list[dict[str, Any]]) -> pa.Table:
    """The manifest's rows that were not skipped, with what the units know of them."""
    ends = np.cumsum([unit["chunk_rows"] for unit in units])
    assert ends[-1] == manifest.table.num_rows, "the units do not cover the manifest"
    begun = [(end - unit["chunk_rows"], unit) for end, unit in zip(ends, units, strict=True)]
    kept = np.concatenate([start + np.array(unit["kept"], np.int64) for start, unit in begun])
    table = manifest.table.take(kept)
    for name in COLUMNS:
        table = _filled(table, name, [v for unit in units for v in unit["columns"][name]])
    for name in (*CROP, *SEEN):
        values = [v for unit in units for v in unit["columns"][name]]
        kind = pa.float64() if name in CROP else pa.int32()
        table = table.append_column(name, pa.array(values, kind))
    return table


def _read_prints(folder: str, units: list[dict[str, Any]]) -> np.ndarray:
    """The fingerprints of all rows, int8 [N, LENGTH]."""
    ends = np.cumsum([unit["rows"] for unit in units]).tolist()
    prints = np.empty((ends[-1], LENGTH), np.int8)
    for end, unit in zip(ends, units, strict=True):
        prints[end - unit["rows"] : end] = read_prints(folder, unit)
    return prints


def _with_twins(table: pa.Table, prints: np.ndarray) -> tuple[pa.Table, pa.Table]:
    """The table with its column of near-duplicates filled, and their pairs (columns of TWINS)."""
    ids, targets = (table[name].to_pylist() for name in ("image_id", "target"))
    pairs = find_pairs(prints, table["sha256"].to_pylist())
    firsts = duplicate_groups(len(ids), pairs).tolist()
    rows = []
    for pair in pairs:
        first, second = targets[pair.first], targets[pair.second]
        found = (ids[pair.first], ids[pair.second], pair.similarity, pair.how)
        rows.append(dict(zip(TWINS.names, (*found, first, second, first != second), strict=True)))
    table = _filled(table, "twin", [ids[first] if first >= 0 else "" for first in firsts])
    return table, pa.Table.from_pylist(rows, TWINS)


def _without_places(table: pa.Table) -> pa.Table:
    """The table without the names of files, which may tell whose they are."""
    masks = [[(kind, "") for kind, _ in masks] for masks in table["masks"].to_pylist()]
    return _filled(_filled(table, "path", [""] * len(masks)), "masks", masks)


def _filled(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """The table with one column's values replaced."""
    column = table.schema.field(name)
    place = table.schema.get_field_index(name)
    return table.set_column(place, column, pa.array(values, column.type))


def _check_share(data: Data, skipped: list[dict[str, str]], kept: int) -> None:
    share = len(skipped) / max(1, len(skipped) + kept)
    if share <= data.max_bad and kept:
        return
    lines = [
        f"{len(skipped):,} of {len(skipped) + kept:,} images cannot be used"
        f" ({share:.1%}; data.max_bad allows {data.max_bad:.1%}):",
        *(f"  {row['where']}: {row['reason']}" for row in skipped[:MOST_NAMED]),
    ]
    if len(skipped) > MOST_NAMED:
        lines.append(f"  and {len(skipped) - MOST_NAMED:,} more")
    enough = np.ceil(share * 1000) / 1000
    cure = f"restore them, or set data.max_bad={enough:g} to go on without them; what is done stays"
    lines.append(cure if kept else "no image is left; restore them")
    raise BadInputsError("\n".join(lines))
