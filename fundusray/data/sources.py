"""Published layouts of photographs on disk or in a store, read in one pass.

One listing per folder gives names and sizes: a photograph's bytes are first touched when it is
prepared, so a table of a million rows is checked in seconds.
"""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

from fundusray import files
from fundusray.config import Data
from fundusray.data.found import GRADES, SOURCES, Found, Problem
from fundusray.errors import InputError

LABELS = "trainLabels.csv"
LAYOUT = (
    "source 'eyepacs' expects trainLabels.csv (image,level) and train/<patient>_<left|right>.jpeg"
)
EXTENSIONS = (".jpeg", ".jpg", ".png")
EYE = re.compile(r"(.+)_(left|right)")
USUAL = re.compile(r"([A-Za-z0-9]+)_(left|right)")
PATH_PART = re.compile(r"[/\\]|\.\.|^\.$|^[A-Za-z]:")
COLUMNS = ("image_id", "path", "patient_id", "eye", "grade", "num_bytes")
NEED = "expected 0, 1, 2, 3 or 4"
LINK = "is a link out of the data root; copy the file there"
LEVELS = {str(grade): grade for grade in range(len(GRADES))}


class _Folder(NamedTuple):
    """What one listing of a folder says."""

    images: dict[str, tuple[str, int]]
    """Name without extension (NFC) -> (name on disk, bytes)."""
    twins: list[str]
    """Images whose name, but for the extension, another one has."""
    folders: list[str]
    outside: set[str]
    """Links that lead out of the root."""
    broken: list[str]
    """Links that lead nowhere."""


@SOURCES.register("eyepacs")
def eyepacs(data: Data, root: str, seed: int) -> Found:
    """The Kaggle EyePACS layout: trainLabels.csv and train/<patient>_<left|right>.jpeg.

    Images may also lie beside the table and be .jpg or .png. A row without an image is set aside.

    Raises:
        InputError: no table, or one that cannot be read.
    """
    _need_folder(root, LAYOUT)
    table = files.join(root, LABELS)
    if not files.exists(table):
        raise InputError(f"{table} is not there; {LAYOUT}")
    rows = read_csv(LABELS, files.read_bytes(table), ("image", "level"))
    images: dict[str, tuple[str, int]] = {}
    outside: set[str] = set()
    beside = _list_folder(root, "")
    if "train" in beside.outside:
        raise InputError(f"{root}/train is a link out of the data root; give its target's folder")
    folders = {"": beside}
    if "train" in beside.folders:
        folders["train/"] = _list_folder(root, "train")
    for prefix, folder in folders.items():
        images |= {k: (prefix + name, size) for k, (name, size) in folder.images.items()}
        outside |= {prefix + name for name in folder.outside}
    if not images:
        raise InputError(f"{root}: no images found; {LAYOUT}")
    return check_rows(rows, images, outside)


def check_rows(
    rows: Iterator[tuple[int, str, str]],
    images: dict[str, tuple[str, int]],
    outside: set[str],
) -> Found:
    """Columns and problems of label rows (line, image, level), every row looked at.

    `images` is id -> (path in the root, bytes); `outside` are paths that link out of the root.
    """
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    ids, paths, patients, eyes, grades, sizes = columns.values()
    problems: list[Problem] = []
    missing: list[tuple[int, str]] = []
    lines: dict[str, int] = {}
    for line, image, level in rows:
        usual = USUAL.fullmatch(image)
        image_id = image if usual else _plain_id(image)
        grade = LEVELS.get(level)
        found = images.get(image_id)
        first = lines.setdefault(image_id, line)
        wrong = "" if usual else bad_id(image_id)
        path = found[0] if found else ""
        if wrong or first != line or grade is None or path in outside:
            again = first != line and f"image {image_id!r} again, first in line {first}"
            level = grade is None and f"level {level!r} of image {image_id!r}, {NEED}"
            out = path in outside and f"{path!r} {LINK}"
            reasons = [reason for reason in (wrong, again, level, out) if reason]
            problems += [Problem(f"{LABELS}:{line}", image_id, text, True) for text in reasons]
        elif found is None:
            missing.append((line, image_id))
        else:
            patient, eye = usual.groups() if usual else patient_and_eye(image_id)
            ids.append(image_id)
            paths.append(path)
            patients.append(patient)
            eyes.append(eye)
            grades.append(grade)
            sizes.append(found[1])
    return Found(columns, problems + _missing(missing, images), GRADES)


def _missing(rows: list[tuple[int, str]], images: dict[str, tuple[str, int]]) -> list[Problem]:
    """Problems of rows without an image; a name that differs in case only is offered."""
    folded = {name.casefold(): path for name, (path, _) in images.items()} if rows else {}
    problems = []
    for line, image_id in rows:
        near = folded.get(image_id.casefold())
        hint = f"; there is {near!r}, which differs in case" if near else ""
        reason = f"no image file of {image_id!r} (train/{image_id}.jpeg){hint}"
        problems.append(Problem(f"{LABELS}:{line}", image_id, reason, False))
    return problems


@SOURCES.register("folder")
def folder(data: Data, root: str, seed: int) -> Found:
    """One sub-folder per class, root/<class>/*.{jpg,jpeg,png}; classes in natural order.

    An id is the file's name without extension, with the class before it where several classes have
    a file of that name.

    Raises:
        InputError: no class folders, a single one, or one without images.
    """
    layout = "source 'folder' expects one sub-folder of images per class, root/<class>/*.jpg"
    _need_folder(root, layout)
    top = _list_folder(root, "")
    classes = sorted((name for name in top.folders if name[0] != "."), key=_natural)
    if len(classes) < 2:
        raise InputError(f"{root}: {len(classes)} class folders, at least 2 needed; {layout}")
    problems = [
        Problem(repr(name), "", "class folder: " + (bad_id(name) or "a link out of the root"), True)
        for name in classes
        if bad_id(name) or name in top.outside
    ]
    if problems:
        return Found({name: [] for name in COLUMNS}, problems, tuple(classes))
    listings = {name: _list_folder(root, name) for name in classes}
    for name, listing in listings.items():
        if not listing.images:
            inner = listing.folders and f"; it holds folders: give data.root={root}/{name}?"
            raise InputError(
                f"{root}/{name}: no images in this class folder{inner or ''}; {layout}"
            )
    return _found_in_folders(listings)


def _found_in_folders(listings: dict[str, _Folder]) -> Found:
    times: dict[str, int] = {}
    for listing in listings.values():
        for stem in listing.images:
            times[stem] = times.get(stem, 0) + 1
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    problems: list[Problem] = []
    for grade, (name, listing) in enumerate(listings.items()):
        for twin in listing.twins:
            reason = f"{twin!r} is there with another extension; keep one"
            problems.append(Problem(f"{name}/", twin, reason, True))
        for link in listing.broken:
            problems.append(Problem(f"{name}/{link}", link, "a link that leads nowhere", False))
        for stem, (file_name, num_bytes) in sorted(listing.images.items()):
            named_eye = EYE.fullmatch(stem) is not None
            wrong = bad_id(stem)
            if file_name in listing.outside:
                wrong = f"{file_name!r} {LINK}"
            elif named_eye and times[stem] > 1:
                wrong = f"image {stem!r} is in {times[stem]} class folders; keep one"
            if wrong:
                problems.append(Problem(f"{name}/", stem, wrong, True))
                continue
            image_id = stem if times[stem] == 1 else f"{name}-{stem}"
            patient, eye = patient_and_eye(image_id)
            values = (image_id, f"{name}/{file_name}", patient, eye, grade, num_bytes)
            for column, value in zip(COLUMNS, values, strict=True):
                columns[column].append(value)
    return Found(columns, problems, tuple(listings))


def read_csv(name: str, content: bytes, columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    """(line, value, value) of two named columns of a CSV text; blank rows are left out.

    UTF-8 with or without a BOM, any line ends, quoted commas, more columns and spaces around
    values are all fine; a row that is too short gives empty values.

    Raises:
        InputError: not UTF-8, a missing or doubled column, no rows, or not CSV.
    """
    text = _decode_text(name, content)
    # A generator's body runs late: everything about the header is raised at once, here.
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [cell.strip() for cell in next(reader, [])]
    except csv.Error as error:
        raise InputError(f"{name}:1: not CSV: {error}") from error
    if [header.count(column) for column in columns] != [1, 1]:
        need = f"expected the columns {','.join(columns)} once each"
        raise InputError(f"{name}:1: {need}, got {','.join(header)!r}")
    first, second = (header.index(column) for column in columns)
    return _rows(name, reader, first, second)


def _rows(name: str, reader: Any, first: int, second: int) -> Iterator[tuple[int, str, str]]:
    need = max(first, second) + 1
    line, empty = reader.line_num + 1, True
    try:
        for row in reader:
            if len(row) < need:
                row = row + [""] * (need - len(row))
            one, two = row[first].strip(), row[second].strip()
            if one or two or any(cell.strip() for cell in row):
                empty = False
                yield line, one, two
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{name}:{line}: not CSV: {error}") from error
    if empty:
        raise InputError(f"{name}: a header and no rows; add one row per image")


def _decode_text(name: str, content: bytes) -> str:
    if not content.strip():
        raise InputError(f"{name} is empty; expected a header and one row per image")
    cure = "save it as CSV in UTF-8"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or content[:64].count(b"\0") > 8:
        raise InputError(f"{name}:1: UTF-16 text; {cure}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise InputError(f"{name}:{line}: byte 0x{byte:02x} is not UTF-8; {cure}") from error


def _plain_id(image: str) -> str:
    """The id as NFC (some systems store é as two characters) and without an image's extension."""
    if not image.isascii():
        image = unicodedata.normalize("NFC", image)
    if "." in image and image.lower().endswith(EXTENSIONS):
        image = image.rpartition(".")[0]
    return image


def bad_id(image_id: str) -> str:
    """Why an id cannot name a file inside the root; empty when it can."""
    if not image_id:
        return "image is empty, expected a name such as 10_left"
    if PATH_PART.search(image_id) or not image_id.isprintable():
        return f"image {image_id!r}, expected a plain name such as 10_left, not a path"
    return ""


def patient_and_eye(image_id: str) -> tuple[str, str]:
    """Patient and eye of `<patient>_<left|right>`; any other id is a patient with one eye, ""."""
    match = EYE.fullmatch(image_id)
    return (match[1], match[2]) if match else (image_id, "")


def _natural(name: str) -> list:
    """Sorts 2 before 10."""
    parts = re.split(r"([0-9]+)", name)
    return [*[int(p) if i % 2 else p.casefold() for i, p in enumerate(parts)], name]


def _need_folder(root: str, layout: str) -> None:
    if not root or not files.is_dir(root):
        raise InputError(f"data.root={root}: no such folder; {layout}")


def _list_folder(root: str, name: str) -> _Folder:
    place = files.join(root, name) if name else root
    try:
        entries = files.list_dir(place)
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: a file's name is not UTF-8 ({error.object!r})") from error
    images: dict[str, tuple[str, int]] = {}
    twins: list[str] = []
    # .jpeg before .jpg before .png where there are several of one name.
    for extension in EXTENSIONS:
        for entry, is_folder, num_bytes in entries:
            if is_folder or not entry.lower().endswith(extension):
                continue
            stem = unicodedata.normalize("NFC", entry[: -len(extension)])
            if stem in images:
                twins.append(stem)
            else:
                images[stem] = (entry, num_bytes)
    links, outside = _links(root, place)
    broken = sorted(links - {entry for entry, _, _ in entries})
    folders = [entry for entry, is_folder, _ in entries if is_folder]
    return _Folder(images, twins, folders, outside, broken)


def _links(root: str, place: str) -> tuple[set[str], set[str]]:
    """Names of a local folder's links, and of those that lead out of the root."""
    root, place = (unquote(p[7:]) if p.startswith("file://") else p for p in (root, place))
    if files.is_uri(root):
        return set(), set()
    with os.scandir(place) as entries:
        links = {entry.name for entry in entries if entry.is_symlink()}
    if not links:
        return links, links
    inside = os.path.join(os.path.realpath(root), "")
    targets = {name: os.path.realpath(os.path.join(place, name)) for name in links}
    return links, {name for name, target in targets.items() if not target.startswith(inside)}
