"""Image files in a data set's folder that are not taken: each is counted, named and told why.

Nothing of it is a fault. A table may be of a part of the photographs, and a test side may have no
labels; but that photographs are left out must be known.
"""

import os
from collections.abc import Iterable, Iterator

from fundusray import files
from fundusray.data.manifest.contract import RowProblem, SourceContent
from fundusray.data.photographs.headers import CURE, EXPORT
from fundusray.data.photographs.mask_paths import parse_mask_path
from fundusray.data.reading.folders import PHOTOGRAPHS, local_path

NOT_READ = {".heic": "a HEIC", ".heif": "a HEIC", ".avif": "an AVIF", ".gif": "a GIF"}
NOT_READ |= {".jp2": "a JPEG 2000", ".j2k": "a JPEG 2000", ".jxl": "a JPEG XL"}
NOT_READ |= {".dcm": "a DICOM", ".dicom": "a DICOM"}
"""Extensions of images that are not read -> what they are."""
REASONS = {"folder": "in no class folder", "chase": "no name such as Image_01L"}
"""Source -> why it leaves a photograph; other sources have tables."""
NO_ROW = "not in the table"
DEEPER = "deeper than its class folder; move it there"
DRAWN = ("synthetic",)
PEEKS = 200
"""Files without an extension whose beginning is looked at: DICOM has none as often as not."""
FIRST = 3
"""Names that a printed line gives."""


def walk_folder(root: str, folder: str = "") -> Iterator[tuple[str, list[str], str]]:
    """(prefix, files' names, why it cannot be listed) of a folder of the root and all below it.

    Prefixes are empty or end in /. Hidden folders and links to folders are left out.
    """
    waiting = [folder]
    while waiting:
        name = waiting.pop()
        prefix = f"{name}/" if name else ""
        try:
            names, folders = _entries(files.join(root, name) if name else root)
        except OSError as error:
            yield prefix, [], error.strerror or type(error).__name__
            continue
        waiting += [prefix + inner for inner in sorted(folders, reverse=True) if inner[0] != "."]
        yield prefix, sorted(names), ""


def _entries(place: str) -> tuple[list[str], list[str]]:
    if files.is_uri(place):
        listed = files.list_dir(place)
        return [n for n, inner, _ in listed if not inner], [n for n, inner, _ in listed if inner]
    names, folders = [], []
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir():
                folders += [] if entry.is_symlink() else [entry.name]
            elif entry.is_file():
                names.append(entry.name)
    return names, folders


def untaken_files(source: str, root: str, found: SourceContent) -> list[RowProblem]:
    """The image files below the root that a source neither took nor spoke of.

    They do not count against data.max_bad, but for those in a class folder, whose label is known.
    """
    root = local_path(root) or root
    if source in DRAWN or not files.is_dir(root):
        return []
    known = _known(root, found)
    problems, peeks = [], 0
    for prefix, names, fault in walk_folder(root):
        if fault:
            problems.append(
                RowProblem(prefix, prefix, f"cannot be listed: {fault}", False, counted=False)
            )
        taken = known.get(prefix, set())
        for name in names:
            extension = os.path.splitext(name)[1].lower()
            if (not extension or extension[1:].isdigit()) and name[0] != "." and peeks < PEEKS:
                peeks += 1
                extension = ".dcm" if _is_dicom(root, prefix + name) else extension
            read = extension in PHOTOGRAPHS
            if name in taken or name[0] == "." or not (read or extension in NOT_READ):
                continue
            deeper = source == "folder" and not read and prefix in known
            reason = REASONS.get(source, NO_ROW)
            if source == "folder" and any(inner and prefix.startswith(inner) for inner in known):
                deeper, reason = True, DEEPER
            if not read:
                cure = EXPORT if NOT_READ[extension] == "a DICOM" else CURE
                reason = f"{NOT_READ[extension]} file, which is not read; {cure}"
            path = prefix + name if (prefix + name).isprintable() else repr(prefix + name)
            problems.append(RowProblem(path, path, reason, False, counted=deeper))
    return problems


def _known(root: str, found: SourceContent) -> dict[str, set[str]]:
    """Prefix -> the files in it that the source took or spoke of; also by where links lead."""
    known: dict[str, set[str]] = {}
    paths = (path for row in found.columns.get("masks", ()) for _, path in row)
    masks = (parse_mask_path(path).file for path in paths)
    for paths in (found.columns.get("path", ()), masks, found.accounted):
        for path in paths:
            cut = path.rfind("/") + 1
            known.setdefault(path[:cut], set()).add(path[cut:])
    if not files.is_uri(root):
        whole = os.path.realpath(root)
        for prefix in list(known):
            real = os.path.relpath(os.path.realpath(os.path.join(whole, prefix)), whole)
            other = "" if real == "." else f"{real}/"
            if other != prefix:
                known.setdefault(other, set()).update(known[prefix])
    return known


def _is_dicom(root: str, path: str) -> bool:
    """Whether a file of this machine begins as DICOM does."""
    if files.is_uri(root):
        return False
    try:
        with open(os.path.join(root, path), "rb") as content:
            return content.read(132)[128:] == b"DICM"
    except OSError:
        return False  # what cannot be read is no image to anybody


def by_reason(rows: Iterable[dict]) -> list[str]:
    """A line for each reason among rows of `skipped` that were not taken, with their first names;
    what counts against data.max_bad or is ungradable is told elsewhere."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if not (row.get("counted", True) or row.get("ungradable", False)):
            groups.setdefault(row["reason"], []).append(row["where"])
    lines = []
    for reason, names in groups.items():
        what = "1 photograph" if len(names) == 1 else f"{len(names):,} photographs"
        more = f" and {len(names) - FIRST:,} more" if len(names) > FIRST else ""
        lines.append(f"{what} not taken, {reason}: {', '.join(names[:FIRST])}{more}")
    return lines
