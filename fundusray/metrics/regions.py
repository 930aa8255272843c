"""Where a map's energy lies: its share in each region of the retina, against the region's area and
against the maps of a network that had nothing to learn; and how alike the maps of methods are.

Energy is the sum of absolute values. Shares are of what lies within the fundus, so that over the
regions they sum to 1, and a map of random numbers has each region's share of the area.

Rows are a table of one photograph each: image_id, patient_id, `share:<method>:<region>`,
`area:<region>`, `rank:<method>:<method>`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.any_statistic import interval
from fundusray.metrics.comparison import verdict
from fundusray.metrics.robustness import share_interval

DISC_AND_VESSELS = "disc or vessels"
"""Both regions as one: what Kon's claim is about."""
PARTS = {DISC_AND_VESSELS: ("optic_disc", "vessels")}


def area_shares(regions: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The share of each region, bool [S, S], of all of them."""
    total = sum(int(mask.sum()) for mask in regions.values())
    return {name: float(mask.sum() / total) if total else np.nan for name, mask in regions.items()}


def energy_shares(values: np.ndarray, regions: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The share of a map's [S, S] energy that lies in each region, of what lies in all of them; NaN
    where there is none."""
    energy = np.abs(np.asarray(values, np.float64))
    found = {name: float(energy[mask].sum()) for name, mask in regions.items()}
    total = sum(found.values())
    return {name: part / total if total > 0 else np.nan for name, part in found.items()}


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two arrays of equal length, equal values sharing their mean rank;
    NaN where one is constant."""
    a, b = (_ranks(np.asarray(values, np.float64).ravel()) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length > 0 else np.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(times) - (times - 1) / 2)[place]


def methods_of(rows: pa.Table) -> list[str]:
    """The methods of a table, in its order."""
    named = [name.split(":")[1] for name in rows.column_names if name.startswith("share:")]
    return list(dict.fromkeys(named))


def regions_of(rows: pa.Table) -> list[str]:
    """The regions of a table in its order, then those that are several of them together."""
    named = [name.split(":")[1] for name in rows.column_names if name.startswith("area:")]
    return named + [whole for whole, parts in PARTS.items() if set(parts) <= set(named)]


def region_figures(rows: pa.Table, null: pa.Table | None = None) -> list[dict[str, Any]]:
    """A row for each method and region: method, region, n, num_patients; share, area and
    enrichment (share over area), with _low and _high of share and enrichment; and against_area and
    against_null, the paired differences of the shares: difference, low, high, verdict (better,
    worse, undecided) and why; None where there is none.

    A photograph of which a map has no energy does not count for it.

    Args:
        null: the same photographs, in this order, by a network that learned permuted labels.
    """
    found = []
    for method in methods_of(rows):
        for region in regions_of(rows):
            share, area = _shares(rows, method, region), _areas(rows, region)
            found.append({"method": method, "region": region} | _figures(rows, share, area))
            against = {"against_null": None}
            if null is not None:
                against["against_null"] = _paired(rows, share, _shares(null, method, region))
            found[-1] |= {"against_area": _paired(rows, share, area)} | against
    return found


def _figures(rows: pa.Table, share: np.ndarray, area: np.ndarray) -> dict[str, Any]:
    there = np.isfinite(share) & np.isfinite(area)
    patients = _patients(rows)[there]
    figures: dict[str, Any] = {
        "n": int(there.sum()),
        "num_patients": len({name or place for place, name in enumerate(patients)}),
    }
    empty = {"value": None, "low": None, "high": None}
    both = {"share": share[there], "area": area[there]}
    mean, ratio = empty, empty
    if there.any():
        mean = interval(np.mean, both["share"], patients, span=(0, 1))
        ratio = interval(_ratio, both, patients)
    for name, of in {"share": mean, "enrichment": ratio}.items():
        figures |= {name: of["value"], f"{name}_low": of["low"], f"{name}_high": of["high"]}
    return figures | {"area": float(np.mean(both["area"])) if there.any() else None}


def _ratio(rows: Mapping[str, np.ndarray]) -> float:
    area = rows["area"].sum()
    return float(rows["share"].sum() / area) if area > 0 else np.nan


def _paired(rows: pa.Table, first: np.ndarray, second: np.ndarray) -> dict[str, Any] | None:
    """The mean of each photograph's own difference; an area may be the same of all, and has then no
    spread of its own."""
    there = np.isfinite(first) & np.isfinite(second)
    if not there.any():
        return None
    of = interval(np.mean, (first - second)[there], _patients(rows)[there])
    low, high = of["low"], of["high"]
    said = "undecided" if low is None else verdict(low, high)
    return {"difference": of["value"], "low": low, "high": high, "verdict": said, "why": of["why"]}


def correlation_figures(rows: pa.Table) -> list[dict[str, Any]]:
    """A row for each pair of methods: first, second, n, and the mean rank correlation of their maps
    with _low and _high."""
    found = []
    for column in rows.column_names:
        if not column.startswith("rank:"):
            continue
        values = rows[column].to_numpy()
        there = np.isfinite(values)
        of: dict[str, Any] = {"value": None, "low": None, "high": None}
        if there.any():
            of = interval(np.mean, values[there], _patients(rows)[there], span=(-1, 1))
        _, first, second = column.split(":")
        named = {"first": first, "second": second, "n": int(there.sum())}
        ends = {"correlation_low": of["low"], "correlation_high": of["high"]}
        found.append(named | {"correlation": of["value"]} | ends)
    return found


def reached_figures(rows: pa.Table, budgets: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each budget, the smallest first: eps, n, and reached_rate with _low and _high, the
    share of photographs that a modulation within it led to the goal.

    Args:
        rows: with reached and budget, the position of the smallest budget that reached the goal.
        budgets: ascending, as they are written.
    """
    reached, needed = (rows[name].to_numpy(zero_copy_only=False) for name in ("reached", "budget"))
    every, found = np.ones(len(reached), bool), []
    for number, eps in enumerate(budgets):
        of = share_interval(reached & (needed <= number), every, _patients(rows))
        ends = {"reached_rate_low": of["low"], "reached_rate_high": of["high"]}
        found.append({"eps": eps, "n": len(reached), "reached_rate": of["value"]} | ends)
    return found


def enrichment_claim(
    figures: Sequence[Mapping[str, Any]], method: str, learned: bool
) -> dict[str, str]:
    """verdict (supported, not supported, undecided) and why, of the claim that a method's energy
    lies on disc and vessels: more than their area, and more than by the null's maps, each by a
    paired 95 % interval.

    Args:
        figures: of `region_figures`, with a null.
        learned: whether the network is better than always answering one class.
    """
    (row,) = (f for f in figures if (f["method"], f["region"]) == (method, DISC_AND_VESSELS))
    area, null = row["against_area"], row["against_null"]
    if null is None or area is None:
        return {"verdict": "undecided", "why": "no null: give null=<bundle of permuted labels>"}
    if not learned:
        why = "the network is not shown to be better than always answering one class"
        return {"verdict": "undecided", "why": why}
    words = {"against area": area, "against the null": null}
    said = ", ".join(f"{name} {of['verdict']}" for name, of in words.items())
    verdicts = {of["verdict"] for of in words.values()}
    if verdicts == {"better"}:
        return {"verdict": "supported", "why": said}
    return {"verdict": "not supported" if "worse" in verdicts else "undecided", "why": said}


def _shares(rows: pa.Table, method: str, region: str) -> np.ndarray:
    parts = PARTS.get(region, (region,))
    return sum(rows[f"share:{method}:{part}"].to_numpy() for part in parts)


def _areas(rows: pa.Table, region: str) -> np.ndarray:
    return sum(rows[f"area:{part}"].to_numpy() for part in PARTS.get(region, (region,)))


def _patients(rows: pa.Table) -> np.ndarray:
    return np.array(rows["patient_id"].to_pylist(), dtype=object)
