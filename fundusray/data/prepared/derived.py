"""A prepared set derived from another one: the same photographs, damaged or attacked, to train on
beside them (`data.mix`) or to look at. Units are cut as those of the set they come from.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.config import Data
from fundusray.data.photographs.decode import encode_jpeg
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.data.prepared.write import ENDINGS, IMAGES, QUALITY, arrow_file, masks_file
from fundusray.errors import DamagedError

Change = Callable[[np.ndarray], tuple[np.ndarray, list[str]]]
"""Rows [n] of a set to (their changed pixels uint8 [n, S, S, 3], a receipt of each, as JSON)."""
RECEIPT = "receipt"
"""The column of a derived set's rows that says what was done to each."""


def unit_rows(base: PreparedSet) -> list[np.ndarray]:
    """The rows of each unit of a set."""
    ends = np.cumsum([shard["rows"] for shard in base.info["shards"]]).tolist()
    return [np.arange(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def derived_unit(
    base: PreparedSet, index: int, change: Change, folder: str, encoding: str
) -> dict[str, Any]:
    """Writes the unit of that number, unless it is there and whole; what is known of it."""
    known = _whole_unit(folder, index)
    if known is not None:
        return known
    rows = unit_rows(base)[index]
    pixels, receipts = change(rows)
    ids = base.image_ids()
    name = f"unit-{index:05d}.{ENDINGS[encoding]}"
    content: bytes | memoryview = np.ascontiguousarray(pixels).reshape(-1).data
    if encoding == "jpeg":
        pairs = [(ids[row], encode_jpeg(p, QUALITY)) for row, p in zip(rows, pixels, strict=True)]
        content = arrow_file(pairs, IMAGES)
    unit = {
        "name": name,
        "rows": len(rows),
        "bytes": len(content),
        "sha256": files.sha256(content),
        "fields": {},
        RECEIPT: receipts,
    }
    if base.stored_masks is not None:
        masks = masks_file(base.info["shards"][index]["name"])
        kept = files.read_bytes(files.join(base.folder, masks))
        unit["fields"] = {masks: files.sha256(kept)}
        files.write_bytes(files.join(folder, masks), kept)
    files.write_bytes(files.join(folder, name), content)
    files.write_json(files.join(folder, f"unit-{index:05d}.json"), unit)
    return unit


def _whole_unit(folder: str, index: int) -> dict[str, Any] | None:
    """The unit's record if it is there and its files are what was written."""
    try:
        unit = files.read_json(files.join(folder, f"unit-{index:05d}.json"))
        expected = {unit["name"]: unit["sha256"]} | unit["fields"]
        whole = all(files.sha256_file(files.join(folder, f)) == d for f, d in expected.items())
    except (FileNotFoundError, DamagedError, KeyError):
        return None
    return unit if whole else None


def complete_derived(
    base: PreparedSet,
    data: Data,
    condition: str,
    folder: str,
    units: list[dict[str, Any]],
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes the tables and the description that completes a derived set.

    Args:
        data: whose preprocessing and encoding its pixels have.
        condition: what was done, as text.
        about: what else decided it, JSON values: the network that it was made with.
    """
    about = dict(about or {})
    receipts = [receipt for unit in units for receipt in unit[RECEIPT]]
    table = base.table.append_column(RECEIPT, pa.array(receipts, pa.string()))
    sums = dict(base.info["tables"])
    for name in sums:
        place = files.join(folder, name)
        if name == "manifest.parquet":
            files.write_table(place, table)
        else:
            files.write_bytes(place, files.read_bytes(files.join(base.folder, name)))
        sums[name] = files.sha256_file(place)
    step = PREPROCESS.find(data.preprocess)
    described = base.info | {
        "manifest": files.hash_json([base.info["manifest"], condition, *about.items()], 16),
        "derived": {"from": files.base_name(base.folder), "condition": condition} | about,
        "preprocess": data.preprocess,
        "preprocess_args": data.preprocess_args,
        "preprocess_version": step.version,
        "fill": step.fill,
        "encoding": data.encoding,
        "quality": QUALITY if data.encoding == "jpeg" else None,
        "shards": [{key: u[key] for key in ("name", "rows", "sha256", "bytes")} for u in units],
        "tables": sums,
    }
    files.write_json(files.join(folder, "set.json"), described)
