"""How names and numbers are written wherever a person reads them."""

import math
from typing import Any

from fundusray.harmless import printable_text

DASH = "–"
MINUS = "−"
TOO_FEW = "too few to say"
"""Stands for the interval of a figure that rests on too few patients."""


def shortened_text(text: str, limit: int = 34) -> str:
    """The printable text, cut to a length that fits an axis."""
    text = printable_text(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def number_text(value: Any, digits: int = 3) -> str:
    """A number with a fixed count of decimals and a true minus; a dash where there is none."""
    if not is_finite_number(value):
        return DASH
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def is_finite_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def signed_text(value: Any, digits: int = 3) -> str:
    """A difference, always with its sign."""
    text = number_text(value, digits)
    return text if text.startswith((MINUS, DASH)) else "+" + text


def interval_text(low: Any, high: Any, digits: int = 3) -> str:
    """`[low, high]`, or nothing where there is none."""
    if not (is_finite_number(low) and is_finite_number(high)):
        return ""
    return f"[{number_text(low, digits)}, {number_text(high, digits)}]"


def estimate_text(row: dict[str, Any], name: str, digits: int = 3) -> str:
    """`value [low, high]` of a figure in a row that holds name, name_low, name_high."""
    return f"{number_text(row.get(name), digits)} {bounds_text(row, name, digits)}".strip()


def bounds_text(row: dict[str, Any], name: str, digits: int = 3) -> str:
    """`interval_around` of a figure; nothing in a row that gives it no interval at all."""
    if f"{name}_low" not in row:
        return ""
    return interval_around(row.get(name), row[f"{name}_low"], row[f"{name}_high"], digits)


def interval_around(value: Any, low: Any, high: Any, digits: int = 3) -> str:
    """`[low, high]`, or that patients are too few for it; nothing where there is no value."""
    if not is_finite_number(value):
        return ""
    return interval_text(low, high, digits) or f"({TOO_FEW})"


def change_text(row: dict[str, Any], digits: int = 3) -> str:
    """`+0.020 [−0.010, 0.050]` of a difference with low and high, as
    `metrics.paired_differences` gives it."""
    sure = interval_around(row["difference"], row["low"], row["high"], digits)
    return f"{signed_text(row['difference'], digits)} {sure}".strip()


def count_text(value: Any, noun: str) -> str:
    """`1 eye`, `1,200 eyes`."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def people_text(summary: dict[str, Any], noun: str) -> str:
    """`72 eyes of 36 patients`, `13 eyes; patients unknown`, or how many of both kinds.

    Args:
        summary: with n, num_patients and num_unknown, the images whose patient is not known.
    """
    images, unknown = summary["n"], summary.get("num_unknown", 0)
    if unknown >= images:
        return f"{count_text(images, noun)}; {patients_text(summary)}"
    whole = (
        f"{count_text(images - unknown, noun)} of {count_text(summary['num_patients'], 'patient')}"
    )
    return whole + (f" and {count_text(unknown, noun)} of unknown patients" if unknown else "")


def patients_text(summary: dict[str, Any]) -> str:
    """`36 patients`, `patients unknown`, or how many and of how many images none is known."""
    unknown = summary.get("num_unknown", 0)
    if unknown >= summary["n"]:
        return "patients unknown"
    whole = count_text(summary["num_patients"], "patient")
    return whole + (f"; unknown of {count_text(unknown, 'image')}" if unknown else "")


def duration_text(seconds: Any) -> str:
    """Seconds as `48 s`, `12 min`, `6 h 02 min`; text, as papers give it, stays as it is."""
    if isinstance(seconds, str):
        return printable_text(seconds)
    if not is_finite_number(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def listed_text(names: list[str]) -> str:
    """`a, b and c`; names that hold commas of their own stand in quotes."""
    if any("," in name for name in names) and len(names) > 1:
        names = [f"“{name}”" for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
