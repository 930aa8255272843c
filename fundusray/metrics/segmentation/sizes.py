"""AUPR of lesions by their size, and what an attack takes of it: do small lesions fall first?

The AUPR of a size holds the pixels of a class's lesions of that size against all pixels that are
not of the class; pixels of its lesions of other sizes are left out. Its values for two sizes are
not of one scale, as fewer positives have a lower precision, so falls are given absolute and as a
share of the AUPR without an attack.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.by_patient import Span
from fundusray.metrics.comparison import figure_difference
from fundusray.metrics.confusion import float_or_none
from fundusray.metrics.predictions import num_unknown
from fundusray.metrics.segmentation.average_precision import pooled_average_precision
from fundusray.metrics.segmentation.figures import (
    LANDMARKS,
    by_network,
    class_patients,
    patient_ids_of,
    resting_on,
    same_images,
)
from fundusray.metrics.segmentation.lesions import SIZES
from fundusray.metrics.segmentation.table import columns_and_half, segmentation_classes_of
from fundusray.metrics.spread import LEVEL, Spread
from fundusray.metrics.sums import spreads_of_sums

ALL_LESIONS = "all lesions"
"""Names the mean over the lesions of a table, without landmarks."""
Sums = Mapping[str, np.ndarray]


def aupr_by_size(table: pa.Table) -> list[dict[str, Any]]:
    """A row for each foreground class and size of which there is a pixel: class, size, value, low,
    high (95 %, by patient), why, by_chance (what scores at random reach), pixels, lesions (None
    where they were not counted), n and num_patients (who have one).

    Raises:
        InputError: no rows, or a table of something else.
    """
    facts = _BySize(table)
    spreads = facts.spreads(lambda sums: facts.named(_aupr(sums, "")), {"": facts.histograms})
    return [
        facts.row(k, size)
        | _estimate(facts.withheld(spreads[facts.name(k, size)], k, size))
        | {"by_chance": facts.chance(k, size)}
        for k, size in facts.cells()
    ]


def size_differences(clean: pa.Table, attacked: pa.Table) -> list[dict[str, Any]]:
    """How much of the AUPR an attack takes: a row for each class and size of which there is a
    pixel.

    A row has class, size, pixels, lesions, n, num_patients, clean, attacked, fall (clean -
    attacked) with low, high, p, verdict ("fell", "rose" or "undecided") and why, and relative_fall
    (of the clean AUPR) with relative_low, relative_high and relative_why.

    Raises:
        InputError: tables of other images, or of something else.
    """
    clean, attacked = same_images(clean, attacked)
    facts = _BySize(clean)
    both = {"clean_": facts.histograms, "attacked_": _BySize(attacked).histograms}
    sides = {
        side: facts.spreads(lambda sums, s=side: facts.named(_aupr(sums, s)), {side: both[side]})
        for side in both
    }
    relative = facts.spreads(lambda sums: facts.named(_relative_fall(sums)), both, span=None)
    words = {"better": "fell", "worse": "rose", "undecided": "undecided"}
    found = []
    for k, size in facts.cells():
        name = facts.name(k, size)
        first, second = (facts.withheld(sides[side][name], k, size) for side in both)
        fall = figure_difference(first, second)
        share = _estimate(facts.withheld(relative[name], k, size, span=None))
        found.append(
            facts.row(k, size)
            | {"clean": float_or_none(first.value), "attacked": float_or_none(second.value)}
            | {"fall": fall.pop("difference")}
            | fall
            | {"verdict": words[fall["verdict"]], "relative_fall": share["value"]}
            | {f"relative_{key}": share[key] for key in ("low", "high", "why")}
        )
    return found


def small_lesions_fall_first(clean: pa.Table, attacked: pa.Table) -> list[dict[str, Any]]:
    """Whether an attack takes a larger share of the AUPR of a class's smallest lesions than of its
    largest ones, a row for each class of two sizes or more and one for ALL_LESIONS (the mean).

    A row has class, small, large (names of sizes; "" of the mean), value (relative fall of the
    small minus that of the large ones), low, high (95 %, by patient), why, verdict ("supported"
    where the interval is above 0, "not supported" where it is below, else "undecided"), n.

    Raises:
        InputError: tables of other images, or of something else.
    """
    clean, attacked = same_images(clean, attacked)
    facts = _BySize(clean)
    ends = {}
    for k in range(len(facts.kinds)):
        sizes = [size for kind, size in facts.cells() if kind == k]
        if len(sizes) > 1:
            ends[k] = (sizes[0], sizes[-1])
    lesions = [k for k in ends if facts.kinds[k] not in LANDMARKS]

    def figures(sums: Sums) -> dict[str, np.ndarray]:
        falls = _relative_fall(sums)
        apart = {k: falls[:, k, small] - falls[:, k, large] for k, (small, large) in ends.items()}
        named = {facts.kinds[k]: values for k, values in apart.items()}
        if lesions:
            named[ALL_LESIONS] = np.mean([apart[k] for k in lesions], axis=0)
        return named

    both = {"clean_": facts.histograms, "attacked_": _BySize(attacked).histograms}
    spreads = facts.spreads(figures, both, span=None) if ends else {}
    found = []
    for name, spread in spreads.items():
        own = lesions if name == ALL_LESIONS else [facts.kinds.index(name)]
        for k in own:
            for size in ends[k]:
                spread = facts.withheld(spread, k, size, span=None)
        small, large = ("", "") if name == ALL_LESIONS else (SIZES[s] for s in ends[own[0]])
        found.append({"class": name, "small": small, "large": large} | _verdict(spread))
        found[-1]["n"] = clean.num_rows
    return found


def _verdict(spread: Spread) -> dict[str, Any]:
    row = _estimate(spread)
    said = "undecided"
    if row["low"] is not None and (row["low"] > 0 or row["high"] < 0):
        said = "supported" if row["low"] > 0 else "not supported"
    return row | {"verdict": said}


def _estimate(spread: Spread) -> dict[str, Any]:
    low, high = spread.ends(LEVEL) if spread.ends else (None, None)
    return {"value": float_or_none(spread.value), "low": low, "high": high, "why": spread.why}


def _aupr(sums: Sums, side: str) -> np.ndarray:
    """[R, K, 3]."""
    positives, negatives = sums[f"{side}positives"], sums[f"{side}negatives"]
    flat = positives.reshape(*positives.shape[:2], -1, positives.shape[-1])
    found = pooled_average_precision(flat, np.repeat(negatives, len(SIZES), axis=2))
    return found.reshape(len(found), -1, len(SIZES))


def _relative_fall(sums: Sums) -> np.ndarray:
    """[R, K, 3]; NaN where nothing can fall."""
    before, after = _aupr(sums, "clean_"), _aupr(sums, "attacked_")
    return np.where(before > 0, 1 - after / np.where(before > 0, before, 1.0), np.nan)


class _BySize:
    """The histograms of a table, with who has lesions of which size."""

    def __init__(self, table: pa.Table) -> None:
        columns = columns_and_half(table)
        self.kinds = segmentation_classes_of(table)[1:]
        self.patients = patient_ids_of(table)
        self.histograms = {
            name: by_network(columns[name], columns) for name in ("positives", "negatives")
        }
        """[N, parts, K, 3, 256] and [N, parts, K, 256]."""
        of_images = columns["positives"].sum(axis=3)
        self.pixels = of_images.sum(axis=0)
        """[K, 3]."""
        self.background = columns["negatives"].sum(axis=(0, 2))
        self.lesions = columns["lesions"].sum(axis=0) if "lesions" in columns else None
        flat = of_images.reshape(len(of_images), self.pixels.size)
        self.carriers = class_patients(flat, self.patients).reshape(self.pixels.shape)
        self.facts = {"n": table.num_rows, "num_unknown": num_unknown(table)}

    def cells(self) -> list[tuple[int, int]]:
        """(class, size) of which there is a pixel."""
        return [(int(k), int(size)) for k, size in zip(*np.nonzero(self.pixels), strict=True)]

    def name(self, k: int, size: int) -> str:
        return f"{self.kinds[k]}, {SIZES[size]}"

    def named(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """[R, K, 3] by name, of `cells` alone."""
        return {self.name(k, size): values[:, k, size] for k, size in self.cells()}

    def chance(self, k: int, size: int) -> float:
        own = int(self.pixels[k, size])
        return own / (own + int(self.background[k]))

    def row(self, k: int, size: int) -> dict[str, Any]:
        lesions = None if self.lesions is None else int(self.lesions[k, size])
        return {
            "class": self.kinds[k], "size": SIZES[size], "pixels": int(self.pixels[k, size]),
            "lesions": lesions, "num_patients": int(self.carriers[k, size]),
        } | self.facts  # fmt: skip

    def withheld(self, spread: Spread, k: int, size: int, span: Span = (0.0, 1.0)) -> Spread:
        """As it rests on the patients who have such a lesion; see `resting_on`."""
        return resting_on(spread, {self.name(k, size): int(self.carriers[k, size])}, span=span)

    def spreads(
        self,
        figures: Callable[[Sums], dict[str, np.ndarray]],
        sides: Mapping[str, Mapping[str, np.ndarray]],
        span: Span = (0.0, 1.0),
    ) -> dict[str, Spread]:
        """Figures of histograms with a side's name before theirs."""
        columns = {
            f"{side}{name}": values
            for side, histograms in sides.items()
            for name, values in histograms.items()
        }
        spans = {self.name(k, size): span for k, size in self.cells()}
        return spreads_of_sums(figures, columns, self.patients, spans)
