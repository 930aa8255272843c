"""Photographs with a folder of masks beside them: a file for each kind, or one of class indices."""

from collections import Counter

from fundusray.data.labels.class_names import name_key, natural_sort_key
from fundusray.data.labels.mask_targets import BACKGROUND, MASK_TARGETS
from fundusray.data.manifest.contract import RowProblem, SourceContent
from fundusray.data.reading.folders import (
    FolderListing,
    list_folder,
    name_stems,
    need_photographs,
)
from fundusray.data.reading.rows import TableRows, attach_masks, joined_parts, listed_rows
from fundusray.errors import InputError
from fundusray.registry import unknown_name

IMAGES, MASKS = "images", "masks"
LAYOUT = (
    f"pairs are {IMAGES}/<name>.jpg with {MASKS}/<kind>/<name>.png, or with {MASKS}/<name>.png of "
    "class indices, which data.classes=background,<kind>,... names from 0 on"
)
LARGE = ("optic_disc", "vessels")
"""Kinds that come last: where masks overlap, the first one holds."""


def holds_pairs(listing: FolderListing) -> bool:
    """Whether a folder has photographs and masks beside each other."""
    return {IMAGES, MASKS} <= set(listing.folders)


def mask_pairs(root: str, sides: dict[str, str], classes: tuple[str, ...]) -> SourceContent:
    """The photographs of folders of pairs, with their masks; there is no other label.

    The label `lesions` has the classes ("background", *kinds), and `vessels` those of that kind
    alone. Kinds are the folders of masks: the small lesions first, then those that are not known,
    disc and vessels last; those that `classes` names come before them in its order. A photograph
    that lacks a kind's file has nothing of that kind; one without any mask has no masks, and so no
    label. A mask without its photograph is set aside.

    Args:
        sides: what comes before `images` and `masks` in a path -> train, val, test or "".
        classes: of data.classes; () where it is empty.

    Raises:
        InputError: no photographs, no masks for them, or kinds that are not those of `classes`.
    """
    photographs = {place: list_folder(root, place + IMAGES) for place in sides}
    need_photographs(root, photographs.values(), LAYOUT)
    tops = {place: list_folder(root, place + MASKS) for place in sides}
    indexed = any(one.has_photographs() for one in tops.values())
    folders = list(dict.fromkeys(n for one in tops.values() for n in one.folders if n[0] != "."))
    if indexed and folders:
        raise InputError(
            f"{root}: {MASKS} holds files beside the folders {', '.join(sorted(folders))}; {LAYOUT}"
        )
    kinds = _indexed_kinds(root, classes) if indexed else _folder_kinds(root, folders, classes)
    parts = []
    for place, side in sides.items():
        rows = listed_rows(photographs[place])
        if indexed:
            _attach(rows, [("", tops[place])])
            rows.columns["masks"] = [_parts(held, kinds) for held in rows.columns["masks"]]
        else:
            own = [(kind, list_folder(root, f"{place}{MASKS}/{kind}")) for kind in kinds]
            _attach(rows, own)
        if side:
            rows.columns["split"] = [side] * len(rows.ids)
        parts.append(rows)
    if not any(any(rows.columns["masks"]) for rows in parts):
        raise InputError(f"{root}: no mask bears the name of a photograph; {LAYOUT}")
    _name_sides(parts, list(sides))
    labels = {"lesions": (BACKGROUND, *kinds)}
    labels |= {"vessels": (BACKGROUND, "vessels")} if "vessels" in kinds else {}
    return joined_parts(parts, labels)._replace(renamed=True)


def _indexed_kinds(root: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """What the class indices from 1 on mean."""
    if not classes or name_key(classes[0]) != BACKGROUND:
        given = f"data.classes={','.join(classes)}" if classes else "data.classes is empty"
        raise InputError(
            f"{root}: {MASKS}/*.png hold class indices, of which 0 is the background, but {given}; "
            f"give data.classes={BACKGROUND},<kind>,<kind>,... (a mask of one kind alone lies in "
            f"{MASKS}/<kind>/)"
        )
    return classes[1:]


def _folder_kinds(root: str, folders: list[str], classes: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds that the folders of masks are of, in their order."""
    if not folders:
        raise InputError(f"{root}: {MASKS} holds neither files nor folders; {LAYOUT}")
    if wrong := [name for name in folders if not name.isprintable() or "," in name]:
        raise InputError(f"{root}: {MASKS}/{wrong[0]!r} is no name for a kind; rename the folder")
    if classes and name_key(classes[0]) != BACKGROUND:
        raise InputError(
            f"data.classes={','.join(classes)}: the first is {BACKGROUND}, then come kinds of masks"
        )
    for kind in classes[1:]:
        if kind not in folders:
            raise unknown_name(f"folder of {MASKS} in {root}, as data.classes says,", kind, folders)
    known = [kind for kind in MASK_TARGETS.find("lesions") if kind not in LARGE]
    ranks = {kind: rank for rank, kind in enumerate((*known, "", *LARGE))}
    others = ranks[""]
    rest = [name for name in folders if name not in classes]
    rest.sort(key=lambda name: (ranks.get(name, others), natural_sort_key(name)))
    return (*classes[1:], *rest)


def _attach(rows: TableRows, folders: list[tuple[str, FolderListing]]) -> None:
    """Fills in the masks of photographs, of (kind, its folder)."""
    found = []
    for kind, folder in folders:
        stems, twins = name_stems(folder.files)
        rows.problems += folder.problems()
        rows.problems += [
            RowProblem(
                folder.prefix,
                stem,
                f"mask {stem!r} is there with another extension; keep one",
                True,
            )
            for stem in sorted(twins)
        ]
        found += [(folder, stems[stem], stem, kind) for stem in sorted(stems)]
    attach_masks(rows, found)


def _parts(held: list[tuple[str, str]], kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    """The masks of a photograph whose file holds class indices."""
    return [(kind, f"{path}#index={i}") for _, path in held for i, kind in enumerate(kinds, 1)]


def _name_sides(parts: list[TableRows], places: list[str]) -> None:
    """Ids that are on several sides get their side's name before them."""
    times = Counter(stem for rows in parts for stem in rows.names)
    for rows, place in zip(parts, places, strict=True):
        before = place.replace("/", "-")
        rows.ids = [stem if times[stem] == 1 else before + stem for stem in rows.names]
