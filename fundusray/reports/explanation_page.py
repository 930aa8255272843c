"""What networks look at, as a page: how maps score against masks, and between networks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.attribution_scores import ANY_LESION, CONSISTENCY
from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable
from fundusray.reports.number_text import change_text, count_text, estimate_text, number_text

PUBLISHED = (
    "Van Craenendonck et al. (2020): explainability consistency .21 to .51 on IDRiD over 10 "
    "methods and 3 networks; Djoumessi et al. (2024): precision .96 of the strongest patches of a "
    "sparse BagNet; of networks and photographs larger than these."
)
DEFINITIONS = (
    "A map says of each pixel whether it speaks for the class that is explained (red, positive) or "
    "against it (blue, negative); scores look at its positive part on the fundus.",
    "By chance: what a map that knows nothing has of the score on the same photographs. Better and "
    "worse than chance, and than another network, are said where a 95 % interval of the paired "
    "difference holds no 0; else it is undecided.",
    "Mass share: the share of the map's sum that lies on lesions; average precision: the area "
    "under the precision-recall curve of pixels; patch precision: of the ten strongest patches of "
    "16 pixels those that hold a lesion; top k: as many of the strongest pixels as lesions have.",
    "Intervals are 95 %, with patients as units where they are known.",
)
NAMES = {
    "explainability_consistency": "consistency",
    "average_precision": "average precision",
    "mass_share": "mass share",
    "top_k_iou": "top-k IoU",
    "patch_precision": "patch precision",
    "pointing_game": "pointing game",
    "pointing_game_tolerant": "pointing game, 5 px",
}
CHECKED = {
    "deletion": "deletion (less is better)",
    "insertion": "insertion",
    "infidelity": "infidelity (less)",
    "max_sensitivity": "max-sensitivity (less)",
    "randomised_rank_correlation": "correlation with the map of random weights (less)",
    "rank_correlation": "rank correlation with the map of the photograph as it is",
}


@dataclass(frozen=True)
class ExplanationFacts:
    """What a page says beside figures."""

    name: str
    classes: tuple[str, ...]
    networks: tuple[str, ...]
    """The first is the one that the others are compared with."""
    conditions: tuple[str, ...]
    notes: tuple[str, ...]
    command: str


def explanation_page(
    facts: ExplanationFacts,
    index: pa.Table,
    figures: Sequence[dict[str, Any]],
    differences: Sequence[dict[str, Any]],
    sheet: bytes,
) -> EvaluationPage:
    """The page of an index of maps.

    Args:
        figures: rows of `metrics.attribution_tables.score_table`, each with its condition.
        differences: rows of `score_differences`, the same.
        sheet: a PNG of some of the maps.
    """
    photographs = count_text(len(set(index["image_id"].to_pylist())), "photograph")
    tables = [_maps_table(index)]
    for condition in facts.conditions:
        some = [row for row in figures if row["condition"] == condition]
        tables += _score_tables(condition, some)
        between = [row for row in differences if row["condition"] == condition]
        tables += _difference_tables(condition, between, facts.networks[0])
    masked = any(row["lesion"] == ANY_LESION for row in figures)
    return EvaluationPage(
        title=f"{facts.name}: what is looked at",
        caption=f"{photographs}; {', '.join(facts.networks)}.",
        summary=list(_summary(facts, index, figures, differences)),
        tables=tables,
        figures=[PageFigure("Maps", sheet, "Photographs, lesions outlined, and maps over them.")],
        notes=[*facts.notes, *DEFINITIONS, *([CONSISTENCY, PUBLISHED] if masked else [])],
        command=facts.command,
    )


def printed_lines(
    facts: ExplanationFacts, index: pa.Table, figures: Sequence[dict[str, Any]]
) -> Iterator[str]:
    """What a terminal is told of maps and scores."""
    photographs = count_text(len(set(index["image_id"].to_pylist())), "photograph")
    yield f"{index.num_rows:,} maps of {photographs}"
    for row in figures:
        if row["lesion"] == ANY_LESION and row["score"] in NAMES:
            yield (
                f"  {row['condition']}, {row['network']}, {row['method']}: {NAMES[row['score']]} "
                f"{_estimate(row)} (by chance {number_text(row['by_chance'])}, n "
                f"{row['n']}): {row['against_chance']}"
            )


def _summary(
    facts: ExplanationFacts,
    index: pa.Table,
    figures: Sequence[dict[str, Any]],
    differences: Sequence[dict[str, Any]],
) -> Iterator[str]:
    yield (
        f"{index.num_rows:,} maps by {count_text(len(set(index['method'].to_pylist())), 'method')} "
        f"of {count_text(len(facts.networks), 'network')}."
    )
    scored = [
        row
        for row in figures
        if row["lesion"] == ANY_LESION and row["score"] == "average_precision"
    ]
    for row in scored:
        yield (
            f"{row['network']}, {row['method']}{_under(row)}: average precision on lesions "
            f"{_estimate(row)}, by chance {number_text(row['by_chance'])}: {row['against_chance']}."
        )
    decided = [row for row in differences if row["verdict"] in ("better", "worse")]
    if differences:
        yield (
            f"{len(decided)} of {len(differences)} differences between networks are decided, the "
            "others are within what chance alone does; they are not corrected for their number."
        )


def _under(row: dict[str, Any]) -> str:
    return "" if row["condition"] == "clean" else f", {row['condition']}"


def _estimate(row: dict[str, Any]) -> str:
    return estimate_text(row | {"value_low": row["low"], "value_high": row["high"]}, "value")


def _maps_table(index: pa.Table) -> PageTable:
    """Of each network and map how long it took and how complete it is."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in index.select(["network", "method", "gap", "gradients", "seconds"]).to_pylist():
        groups.setdefault((row["network"], row["method"]), []).append(row)
    rows = []
    for (network, method), some in sorted(groups.items()):
        gaps = [row["gap"] for row in some if row["gap"] is not None]
        taken = [row["gradients"] for row in some if row["gradients"] is not None]
        rows.append(
            [
                network,
                method,
                f"{len(some):,}",
                f"{np.median([row['seconds'] for row in some]):.2g} s",
                f"{np.median(gaps):.1e}, at most {max(gaps):.1e}" if gaps else "-",
                f"{np.median(taken):g}" if taken else "-",
            ]
        )
    caption = (
        "Seconds an image (median). Completeness gap: by how much a map that should sum to "
        "F(image) - F(baseline) does not, as a share of it."
    )
    head = ["network", "map", "maps", "seconds", "completeness gap", "gradients"]
    return PageTable("Maps", caption, head, rows)


def _score_tables(condition: str, figures: Sequence[dict[str, Any]]) -> Iterator[PageTable]:
    """A table for each lesion, a row for each network and map; and one of what needs no mask."""
    for lesion in _lesions_first(figures):
        some = [row for row in figures if row["lesion"] == lesion]
        titles = NAMES | {row["score"]: row["score"].replace("_", " ") for row in some}
        titles = CHECKED if not lesion else titles | NAMES
        scores = [name for name in titles if any(row["score"] == name for row in some)]
        rows = []
        for network, method in dict.fromkeys((row["network"], row["method"]) for row in some):
            own = {
                row["score"]: row
                for row in some
                if (row["network"], row["method"]) == (network, method)
            }
            rows.append([network, method, *(_cell(own.get(name)) for name in scores)])
        most = max(row["n"] for row in some)
        title = f"{lesion or 'Without masks'}, {condition}"
        caption = f"At most {most:,} photographs; below each figure what chance has."
        yield PageTable(title, caption, ["network", "map", *(titles[n] for n in scores)], rows)


def _lesions_first(figures: Sequence[dict[str, Any]]) -> list[str]:
    lesions = sorted({row["lesion"] for row in figures})
    return sorted(lesions, key=lambda lesion: (lesion != ANY_LESION, lesion == "", lesion))


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    if row["by_chance"] is None:
        return f"{_estimate(row)} (n {row['n']})"
    chance = f"chance {number_text(row['by_chance'])}, {row['against_chance']}"
    return f"{_estimate(row)}; {chance} (n {row['n']})"


def _difference_tables(
    condition: str, differences: Sequence[dict[str, Any]], first: str
) -> Iterator[PageTable]:
    """Of each other network what it has more than the first one."""
    for network in dict.fromkeys(row["first"] for row in differences):
        some = [row for row in differences if row["first"] == network]
        rows = [
            [
                row["method"],
                row["lesion"] or "-",
                NAMES.get(row["score"], CHECKED.get(row["score"], row["score"].replace("_", " "))),
                number_text(row["first_value"]),
                number_text(row["second_value"]),
                f"{change_text(row)}, {row['verdict']} (n {row['n']})",
            ]
            for row in some
        ]
        head = ["map", "lesion", "score", network, first, "difference"]
        caption = "The same photographs, paired; 95 % intervals, not corrected for their number."
        yield PageTable(f"{network} against {first}, {condition}", caption, head, rows)
