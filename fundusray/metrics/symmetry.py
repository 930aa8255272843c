"""Whether maps toward two classes are each other's opposite: their correlation, image by image."""

from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.any_statistic import interval

KINDS = ("pearson", "spearman")
SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"


def map_correlations(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Pearson's and Spearman's correlation of two maps of each image over its pixels, [N] each.

    NaN where a map is the same everywhere. Equal values share their mean rank.

    Args:
        first, second: [N, ...] alike.
    """
    a, b = (np.asarray(maps, np.float64).reshape(len(maps), -1) for maps in (first, second))
    ranks = (np.stack([mean_ranks(row) for row in maps]) if len(maps) else maps for maps in (a, b))
    return {"pearson": _pearson(a, b), "spearman": _pearson(*ranks)}


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each of some numbers [P], from 1; equal ones share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place]


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row, [N]."""
    # Rounding leaves something of a map that is the same everywhere.
    flat = (np.ptp(a, axis=1) == 0) | (np.ptp(b, axis=1) == 0)
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (a, b))
    length = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (a * b).sum(axis=1) / length
    return np.where(flat, np.nan, np.clip(found, -1, 1))


def symmetry_figures(rows: pa.Table) -> dict[str, Any]:
    """The mean correlation over images, with intervals by patient, and what it says of the claim
    that attributions toward the two classes are complementary (Li et al., figure b).

    n: images with a correlation; undefined: images without (both classes are the same, or a map is
    empty); num_patients; pearson and spearman with _low and _high; negative_share: images whose
    Pearson correlation is below 0; why; verdict: "supported" where Pearson's whole interval is
    below 0, "not supported" where none of it is, otherwise "undecided".

    Args:
        rows: a line for each image: patient_id, pearson, spearman.
    """
    columns = {name: rows[name].to_numpy().astype(np.float64) for name in KINDS}
    kept = np.all([np.isfinite(values) for values in columns.values()], axis=0)
    patients = np.array(rows["patient_id"].to_pylist(), dtype=object)[kept]
    figures: dict[str, Any] = {
        "n": int(kept.sum()),
        "undefined": int((~kept).sum()),
        "num_patients": len({name or place for place, name in enumerate(patients)}),
        "verdict": UNDECIDED,
        "why": "no image with a correlation",
    }
    if not kept.any():
        return figures | {f"{n}{end}": None for n in KINDS for end in ("", "_low", "_high")}
    for name, values in columns.items():
        mean = interval(np.mean, values[kept], patients, span=(-1, 1))
        figures |= {name: mean["value"], f"{name}_low": mean["low"], f"{name}_high": mean["high"]}
        figures["why"] = mean["why"]
    figures["negative_share"] = float((columns["pearson"][kept] < 0).mean())
    return figures | {"verdict": _verdict(figures["pearson_low"], figures["pearson_high"])}


def _verdict(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return UNDECIDED
    return SUPPORTED if high < 0 else NOT_SUPPORTED if low >= 0 else UNDECIDED
