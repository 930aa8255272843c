"""Which file of a folder, or of folders below it, a table's cell means."""

from collections import Counter
from collections.abc import Sequence

from fundusray import files
from fundusray.data.manifest.leftovers import walk_folder
from fundusray.data.reading.csv_files import CsvTable
from fundusray.data.reading.folders import (
    LINK,
    FolderListing,
    bad_path,
    is_inside,
    is_photograph,
    list_folder,
    plain_id,
)
from fundusray.data.reading.rows import TableRows, look_for, set_lost_aside, table_rows
from fundusray.errors import InputError

BASE = "\0base"
"""The cells of the image column without folders, beside the table's own columns."""


def folders_of(text: str, root: str) -> list[str]:
    """The folders that data.images names, as prefixes of paths; the root alone where it is empty.

    Raises:
        InputError: one that is not there or leads out of the root.
    """
    names = [name.strip().replace("\\", "/").strip("/") for name in text.split(",") if name.strip()]
    for name in names:
        if name == ".":
            continue
        if bad_path(name) or not is_inside(root, name):
            raise InputError(f"data.images={name}: expected a folder inside {root}")
        if not files.is_dir(files.join(root, name)):
            held = ", ".join(list_folder(root).folders) or "no folder"
            raise InputError(f"data.images={name}: no such folder in {root}, which holds {held}")
    return ["" if name == "." else f"{name}/" for name in names] or [""]


def image_rows(
    table: CsvTable, root: str, column: str, places: Sequence[Sequence[str]], bounds: Sequence[int]
) -> TableRows:
    """The table's rows with path and size of their photographs.

    A cell is a name or a path; backslashes separate folders, too. It is looked for in the folders
    given, then by its file's name in all folders below them; several of that name are refused.

    Args:
        places: for each table that `table` is made of, the prefixes of its folders.
        bounds: the row at which each of them ends.
    """
    cells = bases = table.columns[column]
    if any("/" in cell or "\\" in cell for cell in cells):
        cells = list(map(_path, cells))
        bases = [cell[cell.rfind("/") + 1 :] for cell in cells]
    rows = table_rows(table._replace(columns=table.columns | {BASE: bases}), BASE)
    rows.columns = {"path": [None] * len(cells), "num_bytes": [0] * len(cells)}
    begin = 0
    for prefixes, end in zip(places, bounds, strict=True):
        _find(rows, cells, root, prefixes, range(begin, end))
        begin = end
    rows.ids = _unique(rows, cells)
    return rows


def _path(cell: str) -> str:
    """A cell as a path; \\a\\b.jpg, which begins at somebody's own folder, is a/b.jpg."""
    if "\\" in cell:
        cell = cell.removeprefix("\\").replace("\\", "/")
    return cell.removeprefix("./")


def _find(
    rows: TableRows,
    cells: Sequence[str],
    root: str,
    prefixes: Sequence[str],
    members: Sequence[int],
) -> None:
    inside: dict[str, Sequence[int]] = {"": members}
    if any("/" in cells[row] for row in members):
        inside = _by_folder(cells, members)
    lost: list[int] = []
    looked: dict[str, list[FolderListing]] = {}
    for before, some in inside.items():
        if before and bad_path(before[:-1]):
            for row in some:
                rows.names[row] = rows.ids[row] = cells[row]
                rows.refuse(row, bad_path(cells[row]))
            continue
        here = [(prefix + before)[:-1] for prefix in prefixes]
        if out := next((name for name in here if name and not is_inside(root, name)), None):
            for row in some:
                rows.names[row] = rows.ids[row] = cells[row]
                rows.refuse(row, f"{out!r} {LINK}")
            continue
        looked[before] = listed = [list_folder(root, name) for name in here]
        lost += look_for(rows, listed, BASE, some)
        for second in listed[1:]:
            _refuse_both(rows, second, some)
    missing = set(_search(rows, cells, root, prefixes, lost)) if lost else set()
    for before, listed in looked.items() if missing else ():
        if nowhere := [row for row in inside[before] if row in missing]:
            set_lost_aside(rows, nowhere, listed, prefixes[0] + before + "{}.jpg")


def _by_folder(cells: Sequence[str], members: Sequence[int]) -> dict[str, list[int]]:
    """What comes before the file's name -> rows."""
    inside: dict[str, list[int]] = {}
    for row in members:
        inside.setdefault(cells[row][: cells[row].rfind("/") + 1], []).append(row)
    return inside


def _refuse_both(rows: TableRows, folder: FolderListing, members: Sequence[int]) -> None:
    """Refuses rows that were found in an earlier folder and are in this one, too."""
    held = {plain_id(name): name for name in folder.files if is_photograph(name)}
    for row in members:
        path = rows.columns["path"][row]
        other = held.get(rows.names[row])
        if path and other and path != folder.prefix + other:
            rows.refuse(row, _both(path, folder.prefix + other))


def _both(path: str, other: str) -> str:
    return f"{path!r} and {other!r} could both be meant; give the path, or data.images"


def _search(
    rows: TableRows, cells: Sequence[str], root: str, prefixes: Sequence[str], lost: Sequence[int]
) -> list[int]:
    """Looks for rows by their file's name in all folders; which are not there."""
    wanted = {rows.names[row] for row in lost}
    held: dict[str, list[str]] = {}
    for prefix in prefixes:
        for before, names, _ in walk_folder(root, prefix[:-1]):
            for name in names:
                if is_photograph(name) and (stem := plain_id(name)) in wanted:
                    held.setdefault(stem, []).append(before + name)
    listed: dict[str, FolderListing] = {}
    missing = []
    for row in lost:
        paths = _fitting(held.get(rows.names[row], []), cells[row])
        if not paths:
            missing.append(row)
        elif len(paths) > 1:
            rows.refuse(row, _both(*paths[:2]))
        else:
            before, _, name = paths[0].rpartition("/")
            folder = listed.setdefault(before, list_folder(root, before))
            rows.columns["path"][row] = paths[0]
            rows.columns["num_bytes"][row] = folder.files[name]
            if name in folder.outside:
                rows.refuse(row, f"{paths[0]!r} {LINK}")
    return missing


def _fitting(paths: list[str], cell: str) -> list[str]:
    """The paths a cell may mean: those with its extension that share most of its folders."""
    if is_photograph(cell):
        ending = cell[cell.rfind(".") :].casefold()
        paths = [path for path in paths if path.casefold().endswith(ending)]
    parts = set(cell.split("/")[:-1])
    shared = [len(parts & set(path.split("/")[:-1])) for path in paths]
    nearest = [path for path, num in zip(paths, shared, strict=True) if num == max(shared)]
    return list(dict.fromkeys(nearest))


def _unique(rows: TableRows, cells: Sequence[str]) -> list[str]:
    """The names; those that files of several folders have, with their folders before them."""
    ids = list(rows.ids)
    if len(set(rows.names)) == len(ids):
        return ids
    times = Counter(rows.names)
    members: dict[str, list[int]] = {}
    for row, name in enumerate(rows.names):
        if times[name] > 1:
            members.setdefault(name, []).append(row)
    for name, some in members.items():
        paths = [rows.columns["path"][row] or cells[row] for row in some]
        prefixes = [path[: path.rfind("/") + 1] for path in paths]
        if len(set(prefixes)) > 1:
            for row, prefix in zip(some, prefixes, strict=True):
                ids[row] = prefix.replace("/", "-") + name
    return ids
