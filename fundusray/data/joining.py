"""Several data sets as one: which root belongs to which, and their rows one behind the other."""

from itertools import chain
from typing import Any

from fundusray.config import Data
from fundusray.data.found import Found, Problem
from fundusray.errors import InputError

EMPTY: dict[str, Any] = {"grade": -1, "edema": -1, "disease": -1, "age": -1}
EMPTY |= {"num_bytes": 0, "masks": []}


def locate(data: Data, root: str) -> dict[str, tuple[str, str]]:
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


def join_sources(found: dict[str, Found]) -> Found:
    """The rows of all datasets, each with its `dataset`; of one alone, its own ids.

    Where there are several, a dataset's name comes before its ids: patient 10 of one is not
    patient 10 of another. Labels are those that any of them has.

    Raises:
        InputError: a label has other classes in one than in another.
    """
    single = len(found) == 1
    names = list(dict.fromkeys(chain.from_iterable(one.columns for one in found.values())))
    columns: dict[str, list] = {name: [] for name in [*names, "dataset"]}
    problems: list[Problem] = []
    labels: dict[str, tuple[str, ...]] = {}
    for dataset, one in found.items():
        before = "" if single else f"{dataset}-"
        num = len(one.columns["image_id"])
        for name in names:
            values = one.columns.get(name)
            if values is None and name == "patient_id":
                values = one.columns["image_id"]
            if name in ("image_id", "patient_id"):
                values = [before + value for value in values]
            columns[name] += values if values is not None else [EMPTY.get(name, "")] * num
        columns["dataset"] += [dataset] * num
        problems += one.problems if single else [_of(dataset, problem) for problem in one.problems]
        for label, classes in one.labels.items():
            if labels.setdefault(label, classes) != classes:
                raise InputError(
                    f"label {label!r} has the classes {list(classes)} in {dataset}, "
                    f"{list(labels[label])} before; sets that are joined need the same"
                )
    return Found(columns, problems, labels)


def _of(dataset: str, problem: Problem) -> Problem:
    image_id = problem.image_id and f"{dataset}-{problem.image_id}"
    return problem._replace(where=f"{dataset}: {problem.where}", image_id=image_id)
