"""The figures of a segmentation from its counts, pooled over images, with intervals by patient.

    pixel_accuracy   hits / labelled, of all pixels
    iou_<class>      hits / (predicted + labelled - hits)
    dice_<class>     2 hits / (predicted + labelled)
    aupr_<class>     average precision of the 8-bit scores (`average_precision`)
    miou             mean of iou over the classes that are in the truth, the background too
    dice             mean of dice_<class> over the foreground classes that are in the truth
    maupr            mean of aupr over the lesions that are in the truth, without landmarks
    loss             mean cross entropy, over images

A class that is absent from truth and answers has no figure. Intervals leave each patient out
(`by_patient`) and are withheld where a figure rests on few patients: fewer than 5 with the class,
fewer than 3 with one of the classes of a mean. Of a class that is missed altogether, as an attack
leaves it, only those who have it could have shown otherwise (`resting_on`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.errors import InputError
from fundusray.metrics.by_patient import Span, ends_at_an_end, patient_numbers
from fundusray.metrics.comparison import figure_difference
from fundusray.metrics.confusion import float_or_none
from fundusray.metrics.intervals import FEW_OF_A_CLASS
from fundusray.metrics.predictions import num_unknown
from fundusray.metrics.segmentation.average_precision import pooled_average_precision
from fundusray.metrics.segmentation.table import (
    HALF,
    Columns,
    columns_and_half,
    segmentation_classes_of,
)
from fundusray.metrics.spread import FEW, LEVEL, Spread, too_few
from fundusray.metrics.sums import spreads_of_sums

LANDMARKS = ("optic_disc",)
"""No lesions: left out of maupr, as the published means are of four lesions."""
ENDLESS = ("loss",)
"""Figures without a largest value, of which less is better."""
POOLED = ("loss", "pixel_accuracy", "miou", "dice", "maupr")


def segmentation_figure_names(classes: Sequence[str]) -> list[str]:
    """loss, pixel_accuracy, miou, dice, maupr, then iou_<class>, and dice_ and aupr_<class> of the
    foreground."""
    found = [*POOLED, *(f"iou_{name}" for name in classes)]
    return found + [f"{kind}_{name}" for kind in ("dice", "aupr") for name in classes[1:]]


def segmentation_figures(columns: Columns, classes: Sequence[str]) -> dict[str, float | None]:
    """Each figure of some images; None where they do not define it."""
    summed = {name: values.sum(axis=0)[None] for name, values in summable_columns(columns).items()}
    present = summed["labelled"][0] > 0
    found = figures_of_sums(summed, classes, present)
    return {name: float_or_none(float(found[name][0])) for name in found}


def segmentation_summary(table: pa.Table) -> dict[str, Any]:
    """n, num_patients, num_unknown, background_accuracy, background_miou, background_dice,
    background_maupr, share_<class> (of the pixels) and, of each figure, value, `_low`, `_high`
    (95 %) and `_why` as `figure_summary` has them.

    `background_<figure>` is what calling every pixel background reaches, with scores alike. The
    background being nearly all of a photograph, that is what the majority class reaches, and what
    an attack towards the background leaves at least. A class's share is the aupr that scores at
    random reach.

    Raises:
        InputError: no rows, or a table of something else.
    """
    classes, columns = segmentation_classes_of(table), columns_and_half(table)
    spreads = segmentation_spreads(table)
    unknown = num_unknown(table)
    result: dict[str, Any] = {
        "n": table.num_rows,
        "num_patients": int(patient_numbers(patient_ids_of(table)).max()) + 1 - unknown,
        "num_unknown": unknown,
    } | background_figures(columns, classes)
    shares = columns["labelled"].sum(axis=0) / columns["labelled"].sum()
    result |= {f"share_{name}": float(share) for name, share in zip(classes, shares, strict=True)}
    for name, spread in spreads.items():
        low, high = spread.ends(LEVEL) if spread.ends else (None, None)
        result[name] = float_or_none(spread.value)
        result |= {f"{name}_low": low, f"{name}_high": high, f"{name}_why": spread.why}
    return result


def background_figures(columns: Columns, classes: Sequence[str]) -> dict[str, float | None]:
    """background_<figure>: what calling every pixel background reaches, with scores alike."""
    labelled = columns["labelled"].sum(axis=0)
    shares = labelled / labelled.sum()
    there = [k for k in range(1, len(classes)) if labelled[k]]
    lesions = [k for k in there if classes[k] not in LANDMARKS]
    # Its union is every pixel; no other class that is there has any in common. The average
    # precision of scores that are alike is the share of the class.
    return {
        "background_accuracy": float(shares[0]),
        "background_miou": float(shares[0] / (labelled > 0).sum()),
        "background_dice": 0.0 if there else None,
        "background_maupr": float(shares[lesions].mean()) if lesions else None,
    }


def segmentation_differences(
    table_a: pa.Table, table_b: pa.Table, names: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Figures of a minus those of b on the same images, in pairs and by patient.

    A row has name, n, num_patients, first, second, difference, low, high (95 %), p, verdict on a
    (better, worse, undecided; less loss is better) and why, see `metrics.paired_interval`.

    Args:
        names: of figures; None: all of them.

    Raises:
        InputError: other images, patients, truth or classes on one side, or no such figure.
    """
    a, b = same_images(table_a, table_b)
    first, second = segmentation_spreads(a), segmentation_spreads(b)
    names = list(first) if names is None else list(names)
    missing = [name for name in names if name not in first]
    if missing:
        raise InputError(f"no figure named {missing[0]!r}; there are: {', '.join(first)}")
    people = int(patient_numbers(patient_ids_of(a)).max()) + 1 - num_unknown(a)
    return [
        {
            "name": name, "n": a.num_rows, "num_patients": people,
            "first": float_or_none(first[name].value), "second": float_or_none(second[name].value),
        }
        | figure_difference(first[name], second[name], higher=name not in ENDLESS)
        for name in names
    ]  # fmt: skip


def same_images(a: pa.Table, b: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Both tables in the order of their images.

    Raises:
        InputError: they are not of the same images, patients, truth and classes.
    """
    classes = [segmentation_classes_of(table) for table in (a, b)]
    if classes[0] != classes[1]:
        raise InputError(
            f"cannot compare segmentations of other classes: {classes[0]}, {classes[1]}"
        )
    a, b = a.sort_by("image_id"), b.sort_by("image_id")
    for column in ("image_id", "patient_id", "labelled"):
        if a[column].equals(b[column]):
            continue
        ids = [table["image_id"].to_pylist() for table in (a, b)]
        only = sorted(set(ids[0]) ^ set(ids[1]))
        named = f"; first of one side only: {only[0]!r}" if only else ""
        raise InputError(
            f"a comparison needs the same images with the same masks, but {column} differs "
            f"({a.num_rows} and {b.num_rows} rows{named}); evaluate both on the same rows"
        )
    return a, b


def segmentation_spreads(table: pa.Table) -> dict[str, Spread]:
    """Each figure of a table with its chance.

    Raises:
        InputError: no rows, or a table of something else.
    """
    classes, columns = segmentation_classes_of(table), columns_and_half(table)
    if not table.num_rows:
        raise InputError("no segmentation to measure: the split is empty; raise its data.fractions")
    present = columns["labelled"].sum(axis=0) > 0
    patients = patient_ids_of(table)
    spans: dict[str, Span] = {
        name: None if name in ENDLESS else (0.0, 1.0) for name in segmentation_figure_names(classes)
    }
    found = spreads_of_sums(
        lambda sums: figures_of_sums(sums, classes, present),
        summable_columns(columns),
        patients,
        spans,
    )
    carriers = class_patients(columns["labelled"], patients)
    means = {name: _Mean.of(name, classes) for name in found}
    return {name: means[name].withheld(spread, carriers, present) for name, spread in found.items()}


def class_patients(labelled: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """How many patients have a class in some image, [C], of its pixels by image [N, C]."""
    owner = patient_numbers(patients)
    has = np.zeros((int(owner.max()) + 1, labelled.shape[1]), bool)
    np.logical_or.at(has, owner, labelled > 0)
    return has.sum(axis=0)


def resting_on(
    spread: Spread, carriers: Mapping[str, int], needed: int = FEW, span: Span = (0.0, 1.0)
) -> Spread:
    """A figure that rests on the patients who have a class, `carriers` of each class by name.

    It has no interval where they are fewer than `needed`. At an end of its span it has Wilson's of
    them instead of all patients, most of whom cannot move it; of several classes the mean of
    theirs.
    """
    if spread.ends is None:
        return spread
    for name, people in carriers.items():
        if people < needed:
            return replace(spread, ends=None, why=too_few(people, f" with {name}", needed))
    if not carriers or span is None or spread.value not in span:
        return spread
    each = [ends_at_an_end(spread.value, span, people) for people in carriers.values()]

    def ends(level: float) -> tuple[float, float]:
        low, high = np.mean([one(level) for one in each], axis=0)
        return float(low), float(high)

    return replace(spread, ends=ends)


def summable_columns(columns: Columns) -> dict[str, np.ndarray]:
    """What figures are sums of: histograms without sizes, [N, parts, K, 256] by network."""
    found = {name: columns[name] for name in ("hits", "predicted", "labelled", "loss")}
    found["images"] = np.ones(len(columns["loss"]), np.int64)
    found["positives"] = by_network(columns["positives"].sum(axis=2), columns)
    found["negatives"] = by_network(columns["negatives"], columns)
    return found


def by_network(histograms: np.ndarray, columns: Columns) -> np.ndarray:
    """Histograms [N, ...] as [N, parts, ...], 0 outside the part of the network that predicted the
    row; one part where there is no `half`."""
    half = columns.get(HALF, np.zeros(len(histograms), np.int8))
    part = np.unique(half, return_inverse=True)[1]
    own = np.arange(int(part.max(initial=0)) + 1) == part[:, None]
    return np.where(own.reshape(*own.shape, *[1] * (histograms.ndim - 1)), histograms[:, None], 0)


def figures_of_sums(
    sums: Mapping[str, np.ndarray], classes: Sequence[str], present: np.ndarray
) -> dict[str, np.ndarray]:
    """Each figure [R] of sums over R choices of images.

    Args:
        sums: of `summable_columns`, [R, ...].
        present: bool [C], the classes that means are over; a mean is NaN where one is missing.
    """
    hits, predicted, labelled = (
        sums[name].astype(np.float64) for name in ("hits", "predicted", "labelled")
    )
    iou = _ratio(hits, predicted + labelled - hits)
    dice = _ratio(2 * hits, predicted + labelled)
    aupr = pooled_average_precision(sums["positives"], sums["negatives"])
    kinds = np.arange(1, len(classes))
    lesions = np.array([k for k in kinds if classes[k] not in LANDMARKS], np.int64)
    there = np.where(labelled > 0, 0.0, np.nan)
    found = {
        "loss": sums["loss"] / sums["images"],
        "pixel_accuracy": _ratio(hits.sum(axis=1), labelled.sum(axis=1)),
        "miou": _mean((iou + there)[:, present]),
        "dice": _mean((dice + there)[:, kinds[present[kinds]]]),
        "maupr": _mean(aupr[:, lesions[present[lesions]] - 1]),
    }
    found |= {f"iou_{name}": iou[:, k] for k, name in enumerate(classes)}
    for kind, values in (("dice", dice[:, 1:]), ("aupr", aupr)):
        found |= {f"{kind}_{name}": values[:, k] for k, name in enumerate(classes[1:])}
    return found


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis; NaN where it is empty."""
    return values.mean(axis=1) if values.shape[1] else np.full(len(values), np.nan)


def patient_ids_of(table: pa.Table) -> np.ndarray:
    """The patient of each row [N]; "" where not known."""
    return np.array(table["patient_id"].to_pylist(), dtype=str)


@dataclass(frozen=True)
class _Mean:
    """The classes a figure is of, and how many patients each needs."""

    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    needed: int

    @staticmethod
    def of(name: str, classes: Sequence[str]) -> "_Mean":
        several = {
            "miou": range(len(classes)),
            "dice": range(1, len(classes)),
            "maupr": [k for k in range(1, len(classes)) if classes[k] not in LANDMARKS],
        }
        if name in several:
            return _Mean(tuple(classes), tuple(several[name]), FEW_OF_A_CLASS)
        own = classes.index(name.partition("_")[2]) if name not in POOLED else None
        return _Mean(tuple(classes), () if own is None else (own,), FEW)

    def withheld(self, spread: Spread, carriers: np.ndarray, present: np.ndarray) -> Spread:
        """The figure as it rests on the patients who have a class of it; see `resting_on`."""
        several = self.needed == FEW_OF_A_CLASS
        people = {
            self.classes[k]: int(carriers[k]) for k in self.numbers if present[k] or not several
        }
        return resting_on(spread, people, self.needed)
