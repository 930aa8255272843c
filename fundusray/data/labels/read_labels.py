"""What labels mean: the cells of a column, or the names of folders, as positions in classes.

The order of the classes comes from `data.classes`, or from what their names say (`class_names`). A
label that says "could not be graded" is no class: its row stays, without a label, and is named
among the problems as ungradable.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fundusray.config import Data
from fundusray.data.labels.class_names import (
    ODD,
    arrange_classes,
    by_hand,
    is_ungradable,
    name_key,
    natural_sort_key,
    no_label,
    place_in,
)
from fundusray.data.manifest.contract import GRADES, LABELS, RowProblem, SourceContent, scale_of
from fundusray.data.reading.rows import WHOLE, TableRows, converted_column, quoted_cell, read_name
from fundusray.errors import InputError

MOST_CLASSES = 100
FEW = 10
"""Names of classes that an error repeats."""


class SetLabels(NamedTuple):
    """What the labels of a set are: classes, and each label's place among them."""

    classes: tuple[str, ...]
    places: dict[str, int | None]
    """Label as it is written -> position; -1: without a label; None: none of the classes."""
    ungradable: frozenset[str]
    """Labels that say that a photograph could not be graded; their position is -1."""
    need: str
    """What a label should be, for errors."""
    advice: str = ""
    """What to do with a number next to a known scale."""


def read_label(
    rows: TableRows, column: str, label: str, data: Data
) -> tuple[list, tuple[str, ...]]:
    """The class of each row (-1: none) by a column of the table, and the names of the classes.

    A row that is no class is refused; one that could not be graded has no label, and is a problem
    marked so.

    Raises:
        InputError: more classes than a label can have.
    """
    asked = data if label == data.target else Data()
    labels = _labels(Counter(rows.cells[column]), LABELS.find(label), asked)
    if len(labels.classes) > MOST_CLASSES:
        raise InputError(
            f"column {column!r} has {len(labels.classes):,} different values, at most "
            f"{MOST_CLASSES} classes are learned; is it the label?"
        )
    if labels.ungradable and label == data.target:
        wrong = {row for row, _, _ in rows.faults}
        for row, cell in enumerate(rows.cells[column]):
            if cell in labels.ungradable and row not in wrong:
                set_ungradable(rows, row, f"{column} {quoted_cell(cell)}")
    before = len(rows.faults)
    values = converted_column(rows, column, labels.places.get, labels.need)
    # Once is enough, however many rows have the number.
    for index, (row, reason, refused) in enumerate(rows.faults[before:], before):
        if labels.advice and _plain(rows.cells[column][row]).isdecimal():
            rows.faults[index] = (row, reason + labels.advice, refused)
            break
    return values, labels.classes


def folder_labels(names: Sequence[str], data: Data, root: str) -> SetLabels:
    """The classes of folders by their names.

    Raises:
        InputError: a folder that is none of data.classes, or a number beyond the known scale.
    """
    asked = data if data.target == "grade" else Data()
    labels = _labels(Counter(names), GRADES, asked)
    if wrong := [name for name in names if labels.places[name] is None]:
        raise InputError(
            f"{root}: class folders {', '.join(map(repr, wrong))}, expected {labels.need}"
            + labels.advice
        )
    return labels


def set_ungradable(rows: TableRows, row: int, label: str) -> None:
    """Notes that a photograph could not be graded, as this label says: `dx '5'`."""
    rows.problems.append(_ungradable(rows.where(row), rows.ids[row], label))


def relabelled_rows(found: SourceContent, data: Data) -> SourceContent:
    """The rows with the learned label in the classes that data.classes, data.map and
    data.ungradable make of the source's own; a source that has seen to them stays as it is.

    Raises:
        InputError: a class with rows that is none of data.classes.
    """
    own = found.labels.get(data.target, ())
    if found.renamed or not own or not (data.classes or data.map or data.ungradable):
        return found
    cells = [
        value if isinstance(value, str) else ("" if value < 0 else own[value])
        for value in found.columns[data.target]
    ]
    # Classes without a photograph stay classes, unless other ones are given by hand.
    times = Counter(cells) + Counter({} if data.classes else own)
    labels = _labels(times, scale_of(data.target), data)
    if wrong := [name for name in times if labels.places[name] is None]:
        raise InputError(
            f"data.target={data.target}: {', '.join(map(repr, wrong))}, expected {labels.need}"
        )
    columns = found.columns | {data.target: [labels.places[cell] for cell in cells]}
    if data.target in LABELS and LABELS.facts(data.target).text:
        columns[data.target] = ["" if p < 0 else labels.classes[p] for p in columns[data.target]]
    problems = [
        _ungradable(data.target, image_id, quoted_cell(cell))
        for image_id, cell in zip(found.columns["image_id"], cells, strict=True)
        if cell in labels.ungradable
    ]
    own_classes = found.labels | {data.target: labels.classes}
    return found._replace(columns=columns, labels=own_classes, problems=found.problems + problems)


def _ungradable(where: str, image_id: str, label: str) -> RowProblem:
    reason = f"ungradable ({label})"
    return RowProblem(where, image_id, reason, refused=False, counted=False, ungradable=True)


def _labels(times: Counter[str], scale: tuple[str, ...], data: Data) -> SetLabels:
    """The meaning of labels that occur so often."""
    names = {cell: by_hand(_plain(cell), data.map) for cell in times}
    chosen = {cell: place_in(name, data.classes) for cell, name in names.items()}
    aside = frozenset(
        cell
        for cell, name in names.items()
        if chosen[cell] is None and is_ungradable(name, data.ungradable)
    )
    blank = {c for c, name in names.items() if chosen[c] is None and no_label(name)}
    if _of_numbers(times):
        # Among names "None" is one of them, among numbers a program's word for nothing.
        blank |= {cell for cell in names if name_key(cell) == "none" and names[cell] == cell}
    places: dict[str, int | None] = dict.fromkeys([*aside, *blank], -1)
    left = {cell: name for cell, name in names.items() if cell not in places}
    if data.classes:
        classes = tuple(name.strip() for name in data.classes)
        places |= {cell: chosen[cell] for cell in left}
        need = f"one of {_listed(classes)}, as data.classes has them"
        need += "; data.map.<label>=<class> says which one another label is"
        return SetLabels(classes, places, aside, need)
    numbers = {cell: int(name) for cell, name in left.items() if name.isdecimal()}
    if left and 2 * sum(times[cell] for cell in numbers) >= sum(times[cell] for cell in left):
        classes, found, need, advice = _numbers(numbers, scale)
    else:
        classes, found, need, advice = _words(left, scale, times)
    return SetLabels(classes, dict.fromkeys(left) | places | found, aside, need, advice)


def _of_numbers(times: Counter[str]) -> bool:
    """Whether most cells that hold anything are numbers."""
    held = {cell for cell in times if not no_label(cell) and name_key(cell) != "none"}
    numbers = sum(times[cell] for cell in held if _plain(cell).isdecimal())
    return numbers > 0 and 2 * numbers >= sum(times[cell] for cell in held)


def _plain(cell: str) -> str:
    """A label as it is compared: spreadsheets write 2 as 2.0."""
    whole = WHOLE.fullmatch(cell)
    return str(int(whole[1])) if whole else cell


def _numbers(
    numbers: dict[str, int], scale: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, int], str, str]:
    """Classes, positions, what is needed and advice, of labels that are numbers."""
    held = set(numbers.values())
    arranged = arrange_classes(map(str, held), scale)
    if arranged.classes == scale:
        inside = {cell: number for cell, number in numbers.items() if number < len(scale)}
        return scale, inside, f"0 to {len(scale) - 1}", _doubt(arranged.doubtful, scale)
    # The first number that no label has ends the classes.
    end = next(number for number in range(len(held) + 1) if number not in held)
    need = f"0 to {end - 1}" if end else "numbers that begin at 0, or data.classes=<their names>"
    need += f", as no row has {end}" if 0 < end < len(held) else ""
    found = {cell: number for cell, number in numbers.items() if number < end}
    return tuple(map(str, range(end))), found, need, ""


def _words(
    left: dict[str, str], scale: tuple[str, ...], times: Counter[str]
) -> tuple[tuple[str, ...], dict[str, int], str, str]:
    """Classes, positions, what is needed and advice, of labels that are names."""
    spelled: dict[str, str] = {}
    read = {cell: read_name(name) or "" for cell, name in left.items()}
    for cell in sorted(left, key=lambda cell: -times[cell]):
        if read[cell] and not ODD.fullmatch(read[cell]):
            spelled.setdefault(read[cell].casefold(), read[cell])
    arranged = arrange_classes(spelled.values(), scale)
    # Of spellings that differ in case only, the most frequent is meant; where the names say what
    # they mean, all are.
    if arranged.classes and not arranged.ordered:
        found = {c: arranged.places[n] for c, n in read.items() if n in arranged.places}
    else:
        by_case = {name.casefold(): place for name, place in arranged.places.items()}
        found = {c: by_case[n.casefold()] for c, n in read.items() if n.casefold() in by_case}
    need = f"one of {_listed(sorted(spelled.values(), key=natural_sort_key))}"
    return arranged.classes, found, need, _doubt(arranged.doubtful, scale)


def _doubt(doubtful: tuple[str, ...], scale: tuple[str, ...]) -> str:
    """What to do with a number next to a known scale: it may be a code for ungradable."""
    if not doubtful:
        return ""
    counted = ",".join([*map(str, range(len(scale))), doubtful[0]])
    return (
        f"; if {doubtful[0]} stands for ungradable, as 5 does in DDR and DeepDRiD, "
        f"data.ungradable={doubtful[0]} sets such photographs aside; if it is a class, "
        f"data.classes={counted} says so"
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:FEW]) + (", ..." if len(names) > FEW else "")
