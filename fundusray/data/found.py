"""What a source of photographs hands over: columns, problems and classes."""

from collections.abc import Callable
from typing import NamedTuple

from fundusray.config import Data
from fundusray.registry import Registry

GRADES = ("none", "mild", "moderate", "severe", "proliferative")
"""Stages of diabetic retinopathy, grades 0 to 4 of the international scale."""


class Problem(NamedTuple):
    """One row that cannot be used as it is."""

    where: str
    """File and line, e.g. `trainLabels.csv:17`."""
    image_id: str
    reason: str
    refused: bool
    """True: the table must be corrected. False: the row is set aside and counted."""


class Found(NamedTuple):
    """Everything a source knows, in one pass."""

    columns: dict[str, list]
    """Columns of the manifest by name, equally long; absent ones are filled in by the manifest."""
    problems: list[Problem]
    classes: tuple[str, ...]
    """Names of the classes; a grade is a position in it."""


SOURCES: Registry[Callable[[Data, str, int], Found]] = Registry("source")
"""name -> (data, root, seed) -> Found."""
