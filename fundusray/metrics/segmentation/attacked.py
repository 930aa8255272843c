"""What attacks leave of a segmentation, at each budget and for each case of it: for each image one
candidate of an attack, or the worst of several."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.segmentation.figures import (
    segmentation_differences,
    segmentation_summary,
)
from fundusray.metrics.segmentation.table import (
    Columns,
    segmentation_columns_of,
    segmentation_table,
)
from fundusray.metrics.segmentation.worst_cases import (
    chosen_columns,
    worst_by_image,
    worst_by_running_miou,
)

MEASURED = (
    "image_id", "patient_id", "condition", "attack", "eps", "candidate", "linf", "queries",
)  # fmt: skip
"""Columns of attacked images beside the counts."""
CLEAN, ATTACKED = "clean", "attacked"
WORST_CASES = {"worst_by_image": worst_by_image, "worst_by_running_miou": worst_by_running_miou}
"""Chosen from an attack's candidates, image by image (Croce et al. 2024)."""
CHANGES = ("pixel_accuracy", "miou", "dice", "maupr")
"""Figures whose difference from the clean images is given, in pairs."""


def attacked_segmentation_tables(
    rows: Columns, classes: tuple[str, ...]
) -> dict[tuple[float, str], pa.Table]:
    """(eps, case) -> the table of the images, clean first, budgets rising. Cases are `clean`,
    `attacked`, or where an attack makes several candidates the name of each and WORST_CASES.

    Args:
        rows: columns of attacked images, a row for each image as it is (eps 0) and each budget and
            candidate, images always in the same order.
    """
    tables = {}
    for eps in np.unique(rows["eps"]).tolist():
        at = {
            name: _chosen(rows, (rows["eps"] == eps) & (rows["candidate"] == name))
            for name in dict.fromkeys(rows["candidate"][rows["eps"] == eps].tolist())
        }
        ids, patients = (next(iter(at.values()))[name] for name in ("image_id", "patient_id"))
        counts = {
            name or (ATTACKED if eps else CLEAN): {
                key: values for key, values in own.items() if key not in MEASURED
            }
            for name, own in at.items()
        }
        if len(counts) > 1:
            counts |= {
                case: chosen_columns(counts, choose(counts)) for case, choose in WORST_CASES.items()
            }
        for case, columns in counts.items():
            tables[eps, case] = segmentation_table(
                ids.tolist(), patients.tolist(), columns, classes
            )
    return tables


def attacked_segmentation_figures(
    rows: Columns, tables: Mapping[tuple[float, str], pa.Table]
) -> list[dict[str, Any]]:
    """A row for each (eps, case) of the tables that `attacked_segmentation_tables` made of the
    rows.

    Each has attack, eps, case, queries (mean of an image, of all candidates together), linf (the
    largest change of a pixel), background_called (the share of pixels that are called background),
    what `segmentation_summary` gives but reasons, among it background_accuracy and background_miou
    (all called background, which is what an attack towards the background leaves at last), and
    <figure>_change with _low and _high: less the clean images', in pairs, of CHANGES.
    """
    clean = tables[0.0, CLEAN]
    figures = []
    for (eps, case), table in tables.items():
        here = rows["eps"] == eps
        own = here & (rows["candidate"] == case)
        columns = segmentation_columns_of(table)
        figures.append(
            {
                "attack": str(rows["attack"][0]),
                "eps": eps,
                "case": case,
                "queries": float(rows["queries"][here].mean()),
                "linf": float(rows["linf"][own if own.any() else here].max()),
                "background_called": float(
                    columns["predicted"][:, 0].sum() / columns["predicted"].sum()
                ),
            }
            | _without_reasons(segmentation_summary(table))
            | _changes(table, clean)
        )
    return figures


def _chosen(rows: Columns, which: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[which] for name, values in rows.items()}


def _without_reasons(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if not name.endswith("_why")}


def _changes(table: pa.Table, clean: pa.Table) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for row in segmentation_differences(table, clean, CHANGES):
        name = f"{row['name']}_change"
        changes |= {name: row["difference"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
    return changes
