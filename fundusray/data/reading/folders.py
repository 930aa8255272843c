"""Folders of photographs: one listing of each, which file an id means, what leads out of the root.

A listing gives names and sizes: a photograph's bytes are first touched when it is prepared.
"""

import errno
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple
from urllib.parse import unquote

from fundusray import files
from fundusray.data.manifest.contract import RowProblem
from fundusray.errors import InputError

PHOTOGRAPHS = (".jpeg", ".jpg", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm")
"""Extensions of files that are read; of two files of one name the earlier one is listed."""
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".rar", ".7z")
PATH_PART = re.compile(r"[/\\]|\.\.|^\.$|^[A-Za-z]:")
NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""What listing a folder fails with that is not there."""
LINK = "is a link out of the data root; copy the file there"


class FolderListing(NamedTuple):
    """What one listing of a folder says."""

    prefix: str
    """What comes before a name in a path seen from the root: empty, or `train/`."""
    files: dict[str, int]
    """Name on disk -> bytes; links that lead nowhere, pipes and devices are left out."""
    folders: list[str]
    outside: set[str]
    """Links that lead out of the root."""
    broken: list[str]
    """Links that lead nowhere."""
    unnamed: list[bytes]
    """Photographs whose names are not UTF-8."""

    def has_photographs(self) -> bool:
        """Whether any file here is a photograph by its name."""
        return any(map(is_photograph, self.files))

    def problems(self) -> list[RowProblem]:
        """What is wrong whatever a table says: names that are not UTF-8."""
        where = self.prefix or "./"
        cure = "rename it, as nothing else can name it"
        return [
            RowProblem(where, "", f"the file name {name!r} is not UTF-8; {cure}", True)
            for name in self.unnamed
        ]


def need_folder(root: str, layout: str) -> str:
    """The root as a local path where it is one (also of a `file://` URI), otherwise as given.

    Raises:
        InputError: it is no folder; an archive is asked to be unpacked first.
    """
    if root and files.is_dir(root):
        return local_path(root) or root
    if root.lower().endswith(ARCHIVES):
        raise InputError(f"data.root={root} is an archive: unpack it first and give the folder")
    if root and files.exists(root):
        raise InputError(f"data.root={root} is a file, not a folder; {layout}")
    raise InputError(f"data.root={root}: no such folder; {layout}")


def list_folder(root: str, name: str = "") -> FolderListing:
    """Everything in a folder of the root ("" the root itself); nothing where there is none.

    Raises:
        InputError: the folder is a link out of the root, or cannot be listed.
    """
    prefix = f"{name}/" if name else ""
    place = files.join(root, name) if name else root
    if name and not is_inside(root, name):
        raise InputError(f"{place} is a link out of the data root; give the folder it leads to")
    if files.is_uri(place):
        entries = files.list_dir(place)
        sizes = {entry: num_bytes for entry, is_folder, num_bytes in entries if not is_folder}
        folders = [entry for entry, is_folder, _ in entries if is_folder]
        return FolderListing(prefix, sizes, folders, set(), [], [])
    try:
        sizes, folders, links = _scan(place)
    except OSError as error:
        if error.errno in NOWHERE:
            return FolderListing(prefix, {}, [], set(), [], [])
        raise InputError(f"{place} cannot be listed: {error.strerror}; check it") from error
    broken = links - sizes.keys() - set(folders)
    outside = {link for link in links - broken if not is_inside(root, prefix + link)}
    strange = [entry for entry in chain(sizes, broken) if not _is_utf8(entry)]
    for entry in strange:
        sizes.pop(entry, None)
    unnamed = [os.fsencode(entry) for entry in sorted(strange) if is_photograph(entry)]
    folders = sorted(filter(_is_utf8, folders))
    return FolderListing(prefix, sizes, folders, outside, sorted(broken - set(strange)), unnamed)


def need_photographs(root: str, folders: Iterable[FolderListing], layout: str) -> None:
    """Raises InputError unless one of the folders holds a photograph."""
    if not any(folder.has_photographs() for folder in folders):
        raise InputError(f"{root}: no images found; {layout}")


def _scan(place: str) -> tuple[dict[str, int], list[str], set[str]]:
    """Files with their sizes, folders, and which names are links, of a local folder."""
    sizes: dict[str, int] = {}
    folders: list[str] = []
    links: set[str] = set()
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(files.TEMPORARY):
                continue
            linked = entry.is_symlink()
            if linked:
                links.add(entry.name)
            try:
                if entry.is_file():
                    sizes[entry.name] = entry.stat().st_size
                elif entry.is_dir():
                    folders.append(entry.name)
            except OSError:
                # A link in a circle; it is among the links and in neither of the others.
                if not linked:
                    raise
    return sizes, folders, links


def _is_utf8(name: str) -> bool:
    """Whether a name came from UTF-8: other bytes are kept as lone surrogates."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def local_path(location: str) -> str | None:
    """The path of a local location, also of a `file://` URI; None for a remote one."""
    if location.startswith("file://"):
        return unquote(location[7:])
    return None if files.is_uri(location) else location


def is_inside(root: str, path: str) -> bool:
    """Whether a path seen from the root stays in it when all links are followed."""
    local = local_path(root)
    if local is None:
        return True
    whole = os.path.realpath(local)
    target = os.path.realpath(os.path.join(whole, path))
    return target == whole or target.startswith(os.path.join(whole, ""))


def is_photograph(name: str) -> bool:
    """Whether a file name ends like a photograph's, in either case.

    Hidden files (._10_left.jpeg, which some systems leave beside every photograph) are none.
    """
    return name.lower().endswith(PHOTOGRAPHS) and name[0] != "."


def plain_id(image: str) -> str:
    """The id as NFC (some systems store é as two characters) and without an image's extension."""
    if not image.isascii():
        image = unicodedata.normalize("NFC", image)
    return image.rpartition(".")[0] if "." in image and is_photograph(image) else image


def bad_id(image_id: str) -> str:
    """Why an id cannot name a file inside the root; empty when it can."""
    if not image_id:
        return "image is empty, expected a name such as 10_left"
    if PATH_PART.search(image_id) or not image_id.isprintable():
        return f"image {image_id!r}, expected a plain name such as 10_left, not a path"
    return ""


def bad_path(path: str) -> str:
    """Why a path cannot lie in the root; empty when it can. Folders in it are separated by /."""
    if not path:
        return "image is empty, expected a name or a path such as photos/10.jpg"
    if any(bad_id(part) for part in path.split("/")):
        return f"image {path!r}, expected a path inside the root such as photos/10.jpg"
    return ""


def name_stems(names: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """Id -> name on disk of photographs, and the ids that more than one file has.

    Of those, the one that comes first in PHOTOGRAPHS.
    """
    kinds: dict[str, list[str]] = {extension: [] for extension in PHOTOGRAPHS}
    for name in names:
        if is_photograph(name):
            kinds[name[name.rfind(".") :].lower()].append(name)
    stems: dict[str, str] = {}
    twins: set[str] = set()
    for name in (name for members in kinds.values() for name in sorted(members)):
        stem = plain_id(name)
        if stems.setdefault(stem, name) is not name:
            twins.add(stem)
    return stems, twins


class PhotographMatches(NamedTuple):
    """Which file of a folder each id means."""

    names: list[str | None]
    """On disk; None where there is none."""
    sizes: list[int | None]
    """Bytes."""
    twins: set[str]
    """Ids that two files share."""


def match_photographs(
    folder: FolderListing, ids: Sequence[str], cells: Sequence[str]
) -> PhotographMatches:
    """The photograph that each id means; a table's cell that is a file's whole name means that."""
    held = folder.files
    extensions = {"." + name.rpartition(".")[2] for name in held}
    extensions = {extension for extension in extensions if extension.lower() in PHOTOGRAPHS}
    stems: dict[str, str] = {}
    twins: set[str] = set()
    names: list[str | None]
    if len(extensions) == 1 and all(map(str.isascii, held)):
        # All alike, as in nearly every set: no second dictionary of names has to be made.
        extension = extensions.pop()
        names = [image_id + extension for image_id in ids]
        sizes = list(map(held.get, names))
    else:
        stems, twins = name_stems(held)
        names, sizes = [None] * len(ids), [None] * len(ids)
    if None in sizes:
        for row, size in enumerate(sizes):
            if size is None:
                cell = cells[row]
                names[row] = name = cell if cell in held else stems.get(ids[row])
                sizes[row] = None if name is None else held[name]
    if twins:
        twins -= {image_id for image_id, cell in zip(ids, cells, strict=True) if cell in held}
    return PhotographMatches(names, sizes, twins)
