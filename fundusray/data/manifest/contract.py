"""What a source of photographs hands over: columns, problems and classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fundusray.config import Data
from fundusray.registry import Registry

GRADES = ("none", "mild", "moderate", "severe", "proliferative")
"""Stages of diabetic retinopathy, grades 0 to 4 of the international scale."""
SEXES = ("female", "male")
DISEASE = ("absent", "present")
"""Any disease of the eye, or the one a set is about."""
EDEMA = ("none", "possible", "clinically significant")
"""Risk of macular edema as IDRiD grades it, 0 to 2."""


class RowProblem(NamedTuple):
    """One row that cannot be used as it is."""

    where: str
    """File and line, e.g. `trainLabels.csv:17`."""
    image_id: str
    reason: str
    refused: bool
    """True: the table must be corrected. False: the row is set aside and counted."""
    counted: bool = True
    """Whether it counts against data.max_bad; what a table leaves out, or calls ungradable, does
    not."""
    ungradable: bool = False
    """The photograph is sound, but could not be graded: its row stays, without a label."""


class SourceContent(NamedTuple):
    """Everything a source knows, in one pass."""

    columns: dict[str, list]
    """Columns of the manifest by name, equally long; absent ones are filled in by the manifest. A
    photograph whose patient is not known has the patient_id ""."""
    problems: list[RowProblem]
    labels: dict[str, tuple[str, ...]]
    """Columns that can be learned -> names of their classes. A number in such a column is a
    position in the names, -1 where there is no label; a text is one of the names, or empty."""
    notes: tuple[str, ...] = ()
    """What was made out of names or tables, in sentences."""
    renamed: bool = False
    """data.classes, data.map and data.ungradable are seen to."""
    accounted: Sequence[str] = ()
    """Paths of files that are in no row, and that a problem speaks of."""


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What is to be known of a source before it reads anything."""

    title: str
    """What its publisher calls the set."""
    marks: tuple[str, ...] = ()
    """Names of which the root of such a set has at least one; () where no name tells."""
    labels: tuple[str, ...] | None = ("grade",)
    """Columns that can be learned, names in LABELS; None: whichever the settings name."""
    keywords: bool = False
    """Whether it gives each eye's diagnostic keywords (data.keywords)."""

    def __post_init__(self) -> None:
        unknown = [label for label in self.labels or () if label not in LABELS]
        assert not unknown, f"{self.title}: labels {unknown} are not in LABELS"


SOURCES: Registry[Callable[[Data, str, int], SourceContent]] = Registry("source", SourceFacts)
"""name -> (data, root, seed) -> Found."""


@dataclass(frozen=True, kw_only=True)
class LabelFacts:
    """How a label stands in the manifest."""

    text: bool = False
    """As the class's name, "" without one; otherwise as its place, -1 without one."""
    ordered: bool = True
    """Whether the order of the classes means something; of two, the last is the positive one."""


LABELS: Registry[tuple[str, ...]] = Registry("label", LabelFacts)
"""Label, a column of the manifest that can be learned -> its classes in their order, which numbers
in a table stand for. A source that brings a new one registers it beside itself."""

LABELS.register("grade")(GRADES)
LABELS.register("edema")(EDEMA)
LABELS.register("disease")(DISEASE)
LABELS.register("sex", text=True, ordered=False)(SEXES)


def scale_of(label: str) -> tuple[str, ...]:
    """The classes whose order is known by which a label's names and numbers are read; of a label
    that has none of its own, the grades of retinopathy."""
    ordered = label in LABELS and LABELS.facts(label).ordered
    return LABELS.find(label) if ordered else GRADES


def empty(column: str) -> Any:
    """What stands in a column of the manifest where a source says nothing."""
    if column in LABELS:
        return "" if LABELS.facts(column).text else -1
    return {"age": -1, "num_bytes": 0, "masks": []}.get(column, "")
