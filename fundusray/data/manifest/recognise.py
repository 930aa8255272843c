"""Which source reads a folder: told by the tables and folders its publisher ships."""

import os

from fundusray import files
from fundusray.data.manifest.contract import SOURCES
from fundusray.errors import InputError

ENVIRONMENT = "FUNDUSRAY_DATA"
"""A folder of data sets, so that they can be called by their name."""


def marks() -> dict[str, tuple[str, ...]]:
    """Source -> names of which its root has at least one, of the sources that are known so."""
    return {name: own for name in SOURCES if (own := SOURCES.facts(name).marks)}


def find_root(name: str) -> str:
    """The folder of photographs that is meant: a path or URI, or a name in FUNDUSRAY_DATA.

    Raises:
        InputError: there is no such folder; where it was looked for.
    """
    places = [files.absolute(name)]
    if os.environ.get(ENVIRONMENT):
        places.append(files.join(files.absolute(os.environ[ENVIRONMENT]), name))
    for place in places:
        if files.is_dir(place):
            return place
    raise InputError(
        f"data={name}: no folder {' or '.join(places)}; give a path, or set {ENVIRONMENT} to the "
        "folder that holds your data sets"
    )


def source_of(root: str) -> str:
    """The source that reads a folder.

    Raises:
        InputError: none is known by what lies in it, or several are.
    """
    names = {name for name, _, _ in files.list_dir(root)}
    known = marks()
    found = [source for source, own in known.items() if names & set(own)]
    if len(found) != 1:
        what = f"could be {' or '.join(found)}" if found else "is of no layout known by its tables"
        raise InputError(
            f"data={root} {what}; give data.source=<name> data.root={root} (sources known by their "
            f"tables: {', '.join(known)})"
        )
    return found[0]
