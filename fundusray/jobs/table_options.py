"""What a command that makes a paper's table says beside dotted settings."""

import re
from dataclasses import dataclass, replace
from typing import Any

from fundusray import files
from fundusray.cluster.papers.scales import SCALES, Scale, starts_of
from fundusray.command import Command
from fundusray.errors import InputError
from fundusray.jobs.command_to_recipe import expanded_changes
from fundusray.registry import unknown_name

NUMBERS = {"size": 4096, "epochs": 10_000, "batch": 100_000, "images": 10**9, "at_once": 1000}
NUMBERS |= {"repeats": 100}
"""Whole numbers that are this job's own, and the most each can be."""
OWN = ("scale", "rows", "start", "baseline", "hourly", "network", "condition", *NUMBERS)


@dataclass(frozen=True)
class TableOptions:
    """What a command says beside dotted settings."""

    table: str
    scale: Scale
    rows: str
    starts: dict[str, str]
    baseline: str
    hourly: float
    at_once: int
    repeats: int
    """Trainings of every row."""
    condition: str
    """Under which the trained networks are looked at; empty: as the table has it."""
    changes: dict[str, Any]
    """Dotted settings, for every row."""


def table_options(asked: Command) -> TableOptions:
    """The command line, its own words apart from the dotted settings.

    Raises:
        InputError: two tables, an unknown scale, a number that is none, a start that is not there.
    """
    if len(asked.words) > 1:
        raise InputError(f"one table at a time, got {' '.join(asked.words)}")
    given = {key: value for key, value in asked.changes.items() if key in OWN}
    changes = expanded_changes({k: value for k, value in asked.changes.items() if k not in OWN})
    name = given.get("scale", "tiny" if asked.smoke else "paper")
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    numbers = {key: _whole(key, given[key]) for key in NUMBERS if key in given}
    at_once, repeats = (numbers.pop(key, 1) for key in ("at_once", "repeats"))
    scale = replace(SCALES[name], network=given.get("network", ""), **numbers)
    if {"data.source", "data.root"} & set(changes):
        scale = replace(scale, drawn=0)
    places = [part.strip() for part in given.get("start", "").split(",") if part.strip()]
    starts = starts_of(files.absolute(place) for place in places)
    return TableOptions(
        table=asked.words[0],
        scale=scale,
        rows=given.get("rows", ""),
        starts=starts,
        baseline=given.get("baseline", ""),
        hourly=_price(given.get("hourly", "0")),
        at_once=at_once,
        repeats=repeats,
        condition=given.get("condition", ""),
        changes=changes,
    )


def _whole(key: str, text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= NUMBERS[key]:
        raise InputError(f"{key}: a number from 1 to {NUMBERS[key]:,}, got {text!r}")
    return int(text)


def _price(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise InputError(f"hourly: the price of a worker's hour, e.g. 0.9, got {text!r}")
    return float(text)
