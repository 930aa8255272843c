"""How names and numbers are written wherever a person reads them."""

import math
import unicodedata
from typing import Any

DASH = "–"
MINUS = "−"
# Cc: control, Cs: half a surrogate pair (an undecodable file name), Zl and Zp: line separators.
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
# These turn the direction of the text after them, and so can make a name read as another.
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """The text with control and direction-turning characters written as escapes, e.g. `\\x1b`."""
    return "".join(_escape(c) if unsafe(c) else c for c in text)


def unsafe(character: str) -> bool:
    """Whether a character could move a cursor, end a line or turn the text around it."""
    return unicodedata.category(character) in UNPRINTABLE or character in TURNING


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def markdown(text: str) -> str:
    """The text as it is in a Markdown table cell: no markup, no HTML, no cell border of its own."""
    text = printable(text).replace("\\", "\\\\").replace("&", "&amp;")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    for mark in "|`*[]":
        text = text.replace(mark, "\\" + mark)
    return text


def short(text: str, limit: int = 34) -> str:
    """The printable text, cut to a length that fits an axis."""
    text = printable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def number(value: Any, digits: int = 3) -> str:
    """A number with a fixed count of decimals and a true minus; a dash where there is none."""
    if not known(value):
        return DASH
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def known(value: Any) -> bool:
    """Whether a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def signed(value: Any, digits: int = 3) -> str:
    """A difference, always with its sign."""
    text = number(value, digits)
    return text if text.startswith((MINUS, DASH)) else "+" + text


def interval(low: Any, high: Any, digits: int = 3) -> str:
    """`[low, high]`, or nothing where there is none."""
    if not (known(low) and known(high)):
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def estimate(row: dict[str, Any], name: str, digits: int = 3) -> str:
    """`value [low, high]` of a figure in a row that holds name, name_low, name_high."""
    bounds = interval(row.get(f"{name}_low"), row.get(f"{name}_high"), digits)
    return f"{number(row.get(name), digits)} {bounds}".strip()


def count(value: Any, noun: str) -> str:
    """`1 eye`, `1,200 eyes`."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def people(summary: dict[str, Any], noun: str) -> str:
    """`72 eyes of 36 patients`, `13 eyes; patients unknown`, or how many of both kinds.

    Args:
        summary: with n, num_patients and num_unknown, the images whose patient is not known.
    """
    images, unknown = summary["n"], summary.get("num_unknown", 0)
    if unknown >= images:
        return f"{count(images, noun)}; {owners(summary)}"
    whole = f"{count(images - unknown, noun)} of {count(summary['num_patients'], 'patient')}"
    return whole + (f" and {count(unknown, noun)} of unknown patients" if unknown else "")


def owners(summary: dict[str, Any]) -> str:
    """`36 patients`, `patients unknown`, or how many and of how many images none is known."""
    unknown = summary.get("num_unknown", 0)
    if unknown >= summary["n"]:
        return "patients unknown"
    whole = count(summary["num_patients"], "patient")
    return whole + (f"; unknown of {count(unknown, 'image')}" if unknown else "")


def duration(seconds: Any) -> str:
    """Seconds as `48 s`, `12 min`, `6 h 02 min`; text, as papers give it, stays as it is."""
    if isinstance(seconds, str):
        return printable(seconds)
    if not known(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def listed(names: list[str]) -> str:
    """`a, b and c`; names that hold commas of their own stand in quotes."""
    if any("," in name for name in names) and len(names) > 1:
        names = [f"“{name}”" for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
