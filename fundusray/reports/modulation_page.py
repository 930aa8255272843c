"""Targeted modulation beside other maps of the same photographs, as a page and a sheet."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fundusray.reports.contact_sheet import SheetCell, contact_sheet
from fundusray.reports.evaluation_page import EvaluationPage, PageFigure, PageTable
from fundusray.reports.number_text import DASH, change_text, estimate_text, number_text, people_text

LITERATURE = Path(__file__).parent / "retina_regions.csv"
"""The regions that earlier studies name for the sex of a patient, as Kon (2024, section 3) has
them."""
WORDS = {"better": "more", "worse": "less", "undecided": "undecided"}
DIFFERENCE = ("difference", "low", "high", "verdict", "why")
"""What is said of a paired difference."""
OUTLINED = {"optic_disc": (120, 220, 255), "macula": (255, 220, 90)}
"""Regions that are outlined on a photograph, and in which colour."""
DEFINITIONS = (
    "Energy: the sum of a map's absolute values. Shares are of what lies within the fundus; a map "
    "of random numbers has each region's share of the area. Every pixel is of one region: disc, "
    "else macula (within a disc diameter of the fovea), else vessels, else the rest.",
    "Enrichment: mean share of the energy over mean share of the area. Against area, against the "
    "null: paired differences of shares on the same photographs.",
    "Null: the maps of a network that learned permuted labels, of the same photographs, each of "
    "the class that it answers.",
    "Every map explains the class that the network answers of the photograph as it is; a "
    "modulation leads away from it. Rank correlations are of absolute values within the fundus.",
    "Intervals are 95 %, with patients as units, for these trained networks.",
)


@dataclass(frozen=True)
class ModulationFacts:
    """What a page says beside figures."""

    name: str
    """Of the network."""
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    command: str
    accuracy: Mapping[str, Any]
    """Of the network on all photographs that are new to it: `metrics.figure_summary`."""
    claim: Mapping[str, str]
    """Verdict and why, see `metrics.regions.enrichment_claim`."""


@dataclass(frozen=True)
class ModulationFigures:
    """What was measured; rows as `metrics.regions` gives them."""

    regions: Sequence[Mapping[str, Any]]
    correlations: Sequence[Mapping[str, Any]]
    reached: Sequence[Mapping[str, Any]]


def better_than_majority(accuracy: Mapping[str, Any]) -> bool:
    """Whether the interval of a network's accuracy lies above always answering one class."""
    low = accuracy["accuracy_low"]
    return low is not None and low > accuracy["majority_accuracy"]


def accuracy_sentence(accuracy: Mapping[str, Any]) -> str:
    """A network's accuracy beside the majority class, and what it means for its maps."""
    said = (
        f"accuracy {estimate_text(dict(accuracy), 'accuracy')} on "
        f"{people_text(dict(accuracy), 'photograph')}; always the most frequent class "
        f"{number_text(accuracy['majority_accuracy'])}"
    )
    if better_than_majority(accuracy):
        return said
    return (
        f"{said}: its interval does not clear that, and a map of a network that has learned "
        "nothing explains nothing"
    )


def literature_regions() -> list[dict[str, str]]:
    """A row for each study: study, method, optic_disc, macula, vessels (yes or empty), words."""
    with LITERATURE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def modulation_page(
    facts: ModulationFacts, figures: ModulationFigures, sheet: bytes
) -> EvaluationPage:
    """The page of a comparison; `sheet` is `modulation_sheet`."""
    last, claim = figures.reached[-1], facts.claim
    summary = [
        f"The network: {accuracy_sentence(facts.accuracy)}.",
        f"Targeted modulation within {last['eps']} reaches its goal on "
        f"{estimate_text(dict(last), 'reached_rate')} of {last['n']:,} photographs.",
        "Claim (Kon 2024): the energy of targeted modulation lies on disc and vessels: "
        f"{claim['verdict']} ({claim['why']}).",
    ]
    tables = [
        _regions_table(figures.regions),
        _literature_table(figures.regions),
        _correlations_table(figures.correlations),
        PageTable(
            "Goal reached against budget",
            f"{last['n']:,} photographs; what a smaller budget reaches counts under a larger one.",
            ["budget", "goal reached"],
            [[row["eps"], estimate_text(dict(row), "reached_rate")] for row in figures.reached],
        ),
    ]
    said = (
        "Each row is a photograph: as it is (disc and macula outlined as they were estimated or "
        "drawn), modulated, the difference (grey is no change), and the maps: green speaks for the "
        "class that the network answers, red against it."
    )
    return EvaluationPage(
        title=f"{facts.name}, targeted modulation beside other maps",
        caption=f"{last['n']:,} photographs; classes {', '.join(facts.classes)}.",
        summary=summary,
        tables=tables,
        figures=[PageFigure("The same photographs under each method", sheet, said)] * bool(sheet),
        notes=[*facts.notes, *DEFINITIONS],
        command=facts.command,
    )


def difference_text(difference: Mapping[str, Any] | None) -> str:
    """A paired difference with its interval and what it says; a dash where there is none."""
    if difference is None:
        return DASH
    return f"{change_text(dict(difference))}, {WORDS[difference['verdict']]}"


def table_rows(figures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Region figures with a column for each number, as a CSV takes them."""
    found = []
    for row in figures:
        flat = {name: value for name, value in row.items() if not name.startswith("against_")}
        for name in ("against_area", "against_null"):
            of = row[name] or {}
            flat |= {f"{name}_{key}": of.get(key) for key in DIFFERENCE}
        found.append(flat)
    return found


def _regions_table(figures: Sequence[Mapping[str, Any]]) -> PageTable:
    rows = [
        [
            f"{row['method']}: {row['region'].replace('_', ' ')}",
            estimate_text(dict(row), "share"),
            number_text(row["area"]),
            estimate_text(dict(row), "enrichment", 2),
            difference_text(row["against_area"]),
            difference_text(row["against_null"]),
        ]
        for row in figures
    ]
    head = ["method: region", "share of energy", "share of area", "enrichment", "against area",
            "against the null"]  # fmt: skip
    caption = f"{people_text(dict(figures[0]), 'photograph')}; 95 % intervals by patient."
    return PageTable("Where the energy lies", caption, head, rows)


def _literature_table(figures: Sequence[Mapping[str, Any]]) -> PageTable:
    names = ("optic_disc", "macula", "vessels")
    rows = [
        [one["study"], one["method"], *(one[name] or DASH for name in names), one["words"]]
        for one in literature_regions()
    ]
    verdicts = {
        (row["method"], row["region"]): WORDS[row["against_area"]["verdict"]]
        for row in figures
        if row["against_area"]
    }
    rows += [
        ["here", method, *(verdicts.get((method, name), DASH) for name in names), ""]
        for method in dict.fromkeys(row["method"] for row in figures)
    ]
    caption = "Regions that studies name for a patient's sex (Kon 2024, section 3), and whether "
    caption += "energy here is more or less than the region's share of the area."
    head = ["study", "method", "optic disc", "macula", "vessels", "in the paper's words"]
    return PageTable("Against the literature", caption, head, rows)


def _correlations_table(figures: Sequence[Mapping[str, Any]]) -> PageTable:
    rows = [
        [f"{row['first']} and {row['second']}", f"{row['n']:,}",
         estimate_text(dict(row), "correlation")]
        for row in figures
    ]  # fmt: skip
    caption = "Spearman's correlation of two maps of a photograph, mean over photographs."
    return PageTable(
        "How alike the maps are", caption, ["methods", "photographs", "correlation"], rows
    )


def modulation_sheet(photographs: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> bytes:
    """A PNG: a row for each photograph, its pictures beside each other.

    Args:
        photographs: (words on it, its arrays: image and modulated uint8 [S, S, 3], difference
            [S, S, 3], `map:<method>` [S, S], `region:<name>` bool [S, S]).
    """
    rows = []
    for words, arrays in photographs:
        image = arrays["image"]
        cells = [
            SheetCell(_outlined(image, arrays), words),
            SheetCell(arrays["modulated"], "modulated"),
            SheetCell(_difference_picture(arrays["difference"]), "difference"),
        ]
        maps = {name: values for name, values in arrays.items() if name.startswith("map:")}
        cells += [
            SheetCell(map_picture(values, image), name.removeprefix("map:").replace("_", " "))
            for name, values in maps.items()
        ]
        rows.append(cells)
    return contact_sheet(rows, side=160, title="Targeted modulation beside other maps")


def map_picture(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A signed map [S, S] over its photograph in grey, uint8 [S, S, 3]: green is positive, red
    negative, full at the 99th percentile of the absolute values."""
    values = np.asarray(values, np.float32)
    full = float(np.quantile(np.abs(values), 0.99)) or float(np.abs(values).max()) or 1.0
    strength = np.clip(np.abs(values) / full, 0, 1)[..., None]
    grey = np.repeat(image.mean(axis=2, keepdims=True) * 0.6, 3, axis=2)
    colour = np.where(values[..., None] > 0, (60, 230, 90), (240, 60, 60))
    return np.rint(grey * (1 - strength) + colour * strength).astype(np.uint8)


def _difference_picture(difference: np.ndarray) -> np.ndarray:
    values = np.asarray(difference, np.float32)
    full = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    return np.rint(np.clip(values / full * 0.5 + 0.5, 0, 1) * 255).astype(np.uint8)


def _outlined(image: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    drawn = image.copy()
    for name, colour in OUTLINED.items():
        mask = arrays[f"region:{name}"]
        inner = mask.copy()
        for axis in (0, 1):
            for move in (-1, 1):
                inner &= np.roll(mask, move, axis)
        drawn[mask & ~inner] = colour
    return drawn
