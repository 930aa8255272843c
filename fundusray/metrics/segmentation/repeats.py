"""Several trainings of one segmentation, alike but for their seed: means, and intervals that hold
patients and seeds. The method is that of `metrics.repeats`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.errors import InputError
from fundusray.metrics.comparison import verdict
from fundusray.metrics.repeats import combine_repeats
from fundusray.metrics.segmentation.figures import (
    ENDLESS,
    same_images,
    segmentation_differences,
    segmentation_spreads,
    segmentation_summary,
)


def repeated_segmentation_summary(tables: Sequence[pa.Table]) -> dict[str, Any]:
    """`segmentation_summary` with each figure the mean over trainings, `repeats`, and of each
    figure `_seed_sd`, its standard deviation over them; None of a single one.

    Raises:
        InputError: no table, or tables of other images.
    """
    tables = _aligned(tables)
    each = [segmentation_summary(table) for table in tables]
    spreads = [segmentation_spreads(table) for table in tables]
    result = each[0] | {"repeats": len(tables)}
    if len(tables) == 1:
        return result | {f"{name}_seed_sd": None for name in spreads[0]}
    for name in spreads[0]:
        values, lows, highs = ([one[name + end] for one in each] for end in ("", "_low", "_high"))
        moved = np.stack([one[name].influence for one in spreads])
        found = combine_repeats(values, lows, highs, moved)
        low, high = found["low"], found["high"]
        if name not in ENDLESS and low is not None and high is not None:
            low, high = max(low, 0.0), min(high, 1.0)
        result |= {name: found["value"], f"{name}_low": low, f"{name}_high": high}
        result[f"{name}_seed_sd"] = found["seed_sd"]
        result[f"{name}_why"] = next(filter(None, (one[f"{name}_why"] for one in each)), "")
    return result


def repeated_segmentation_differences(
    a: Sequence[pa.Table], b: Sequence[pa.Table], names: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """`segmentation_differences` of two methods that were trained as often, the trainings of one
    place compared, with `repeats` and `seed_sd`.

    Raises:
        InputError: not as many of both, or as `segmentation_differences`.
    """
    if len(a) != len(b) or not a:
        raise InputError(f"trainings are compared one by one, got {len(a)} and {len(b)} of them")
    a, b = _aligned(a), _aligned(b)
    each = [segmentation_differences(x, y, names) for x, y in zip(a, b, strict=True)]
    if len(a) == 1:
        return [row | {"repeats": 1, "seed_sd": None} for row in each[0]]
    ours, theirs = ([segmentation_spreads(table) for table in tables] for tables in (a, b))
    result = []
    for rows in zip(*each, strict=True):
        name = rows[0]["name"]
        keys = ("difference", "low", "high")
        moved = [x[name].influence - y[name].influence for x, y in zip(ours, theirs, strict=True)]
        found = combine_repeats(*([row[key] for row in rows] for key in keys), np.stack(moved))
        low, high = found["low"], found["high"]
        said = "undecided"
        if low is not None and high is not None:
            said = verdict(low, high, name not in ENDLESS)
        means = {
            side: None if None in values else float(np.mean(values))
            for side in ("first", "second")
            for values in [[row[side] for row in rows]]
        }
        result.append(
            rows[0]
            | means
            | {"difference": found["value"], "low": low, "high": high, "p": found["p"]}
            | {"verdict": said, "why": next(filter(None, (row["why"] for row in rows)), "")}
            | {"repeats": len(a), "seed_sd": found["seed_sd"]}
        )
    return result


def _aligned(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """All in the order of their images."""
    if not tables:
        raise InputError("no training to measure: give the table of one at least")
    return [same_images(tables[0], table)[1] for table in tables]
