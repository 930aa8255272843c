"""Several data sets as one: which root belongs to which, and their rows one behind the other."""

from itertools import chain
from typing import Any

from fundusray.config import Data
from fundusray.data.labels.class_names import class_positions
from fundusray.data.manifest.contract import RowProblem, SourceContent, empty
from fundusray.errors import InputError


def locate_sources(data: Data, root: str) -> dict[str, tuple[str, str]]:
    """Dataset -> (source, root), for each source named; a source named again is numbered.

    Raises:
        InputError: another number of roots than sources.
    """
    sources = [name.strip() for name in data.source.split(",")]
    # The path of a single root may hold a comma.
    roots = root.split(",") if len(sources) > 1 else [root]
    if len(roots) != len(sources):
        raise InputError(
            f"data.source names {len(sources)} sources ({data.source}), data.root {len(roots)} "
            f"places ({root}); give one for each, in the same order, with commas between them"
        )
    located: dict[str, tuple[str, str]] = {}
    for source, place in zip(sources, roots, strict=True):
        again = sum(name == source for name, _ in located.values())
        located[f"{source}-{again + 1}" if again else source] = (source, place.strip())
    return located


def join_sources(found: dict[str, SourceContent]) -> SourceContent:
    """The rows of all datasets, each with its `dataset`; of one alone, its own ids.

    Where there are several, a dataset's name comes before its ids: patient 10 of one is not
    patient 10 of another. Labels are those that any of them has; where their classes differ, all
    have those of the set whose classes the others' are among, by name or by meaning.

    Raises:
        InputError: a label has classes in one that no set has together with the others'.
    """
    single = len(found) == 1
    names = list(dict.fromkeys(chain.from_iterable(one.columns for one in found.values())))
    columns: dict[str, list] = {name: [] for name in [*names, "dataset"]}
    problems: list[RowProblem] = []
    labels, found = _alike(found)
    notes: list[str] = []
    for dataset, one in found.items():
        before = "" if single else f"{dataset}-"
        num = len(one.columns["image_id"])
        for name in names:
            values = one.columns.get(name)
            if values is not None and name in ("image_id", "patient_id"):
                values = [value and before + value for value in values]
            columns[name] += values if values is not None else [empty(name)] * num
        columns["dataset"] += [dataset] * num
        problems += one.problems if single else [_of(dataset, problem) for problem in one.problems]
        notes += one.notes if single else [f"{dataset}: {note}" for note in one.notes]
    return SourceContent(columns, problems, labels, tuple(notes))


def _alike(
    found: dict[str, SourceContent],
) -> tuple[dict[str, tuple[str, ...]], dict[str, SourceContent]]:
    """The labels of all sets, and the sets with their labels in these classes."""
    labels: dict[str, tuple[str, ...]] = {}
    for label in dict.fromkeys(chain.from_iterable(one.labels for one in found.values())):
        having = {name: one.labels[label] for name, one in found.items() if label in one.labels}
        # The largest first: the others may be among its classes.
        for classes in sorted(set(having.values()), key=len, reverse=True):
            places = {name: class_positions(own, classes) for name, own in having.items()}
            if not any(None in found for found in places.values()):
                break
        else:
            raise InputError(_unlike(label, having))
        labels[label] = classes
        for name, own in having.items():
            if own != classes and label in found[name].columns:
                values = [_moved(v, places[name], own, classes) for v in found[name].columns[label]]
                one = found[name]
                found = found | {name: one._replace(columns=one.columns | {label: values})}
    return labels, found


def _moved(value: Any, places: list[int | None], own: tuple, classes: tuple) -> Any:
    """A label in other classes: a position, or a name, as it was."""
    if isinstance(value, str):
        return classes[places[own.index(value)]] if value else ""
    return value if value < 0 else places[value]


def _unlike(label: str, having: dict[str, tuple[str, ...]]) -> str:
    (first, ours), *others = having.items()
    name, theirs = next((n, c) for n, c in others if c != ours)
    return (
        f"label {label!r} has the classes {list(theirs)} in {name}, {list(ours)} in {first}, and "
        "neither are among the other's by name or by meaning; say which class a label is "
        "(data.map.<label>=<class>), or give the classes of all (data.classes=)"
    )


def _of(dataset: str, problem: RowProblem) -> RowProblem:
    image_id = problem.image_id and f"{dataset}-{problem.image_id}"
    return problem._replace(where=f"{dataset}: {problem.where}", image_id=image_id)
