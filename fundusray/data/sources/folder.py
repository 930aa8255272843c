"""One sub-folder of photographs per class, or photographs with a folder of masks beside them; with
or without folders for the sides of a split."""

from collections import Counter
from itertools import chain

from fundusray.config import Data
from fundusray.data.labels.class_names import arrange_classes, natural_sort_key
from fundusray.data.labels.read_labels import SetLabels, folder_labels, set_ungradable
from fundusray.data.manifest.contract import SOURCES, RowProblem, SourceContent
from fundusray.data.reading.file_names import eye_word
from fundusray.data.reading.folders import FolderListing, bad_id, list_folder, need_folder
from fundusray.data.reading.mask_pairs import holds_pairs, mask_pairs
from fundusray.data.reading.rows import joined_parts, listed_rows, quoted_cell, read_split
from fundusray.errors import InputError

LAYOUT = (
    "source 'folder' expects one sub-folder of images per class, root/<class>/*.jpg, "
    "or root/<train|val|test>/<class>/*.jpg; or photographs and masks, root/images/<name>.jpg and "
    "root/masks/<kind>/<name>.png, also below train, val and test"
)


@SOURCES.register("folder", title="folders of photographs")
def folder(data: Data, root: str, seed: int) -> SourceContent:
    """Photographs in root/<class>/ or root/<train|val|test>/<class>/; or with masks beside them, in
    root/images/ and root/masks/ or below the folders of the sides (`mask_pairs`).

    Classes are in the order of their meaning, those whose order is not known in that of their
    names. An id is the file's name without extension, with its folders before it where several
    have a file of that name. The classes are those of the train folder; val and test may lack
    some, and have others where all are grades that are known by their names.

    Raises:
        InputError: no class folders, a single one, one without images, other classes in val or
            test than in train, or names that cannot be meant.
    """
    root = need_folder(root, LAYOUT)
    top = list_folder(root)
    inner = _visible(top)
    sides = {name: side for name in inner if (side := read_split(name))}
    if holds_pairs(top):
        return mask_pairs(root, {"": ""}, data.classes)
    if any(holds_pairs(list_folder(root, name)) for name in sides):
        _check_sides(root, sides)
        return mask_pairs(root, {f"{name}/": side for name, side in sides.items()}, data.classes)
    if sides and len(sides) == len(inner):
        names, folders = _split_folders(root, sides)
    else:
        names = inner
        folders = [(name, "", list_folder(root, name)) for name in names]
    if len(names) < 2:
        raise InputError(f"{root}: {len(names)} class folders, at least 2 needed; {LAYOUT}")
    for _, side, one in folders:
        if side in ("", "train") and not one.has_photographs():
            hint = f"; it holds folders: give data.root={root}/{one.prefix[:-1]}?"
            hint = hint if _visible(one) else ""
            raise InputError(f"{root}/{one.prefix[:-1]}: no images in this class folder{hint}")
    wrong = [RowProblem(repr(name), "", f"class folder: {bad_id(name)}", True) for name in names]
    wrong = [problem for problem, name in zip(wrong, names, strict=True) if bad_id(name)]
    if wrong:
        return SourceContent({"image_id": []}, wrong, {"grade": tuple(names)})
    return _gather(folders, folder_labels(names, data, root))


def _visible(one: FolderListing) -> list[str]:
    return sorted((name for name in one.folders if name[0] != "."), key=natural_sort_key)


def _split_folders(
    root: str, sides: dict[str, str]
) -> tuple[list[str], list[tuple[str, str, FolderListing]]]:
    """Classes, and (class, side, listing) of every class folder in the folders of the sides."""
    _check_sides(root, sides)
    held = {name: _visible(list_folder(root, name)) for name in sides}
    (train,) = (name for name, side in sides.items() if side == "train")
    names = held[train]
    # A side may lack a grade that is known by its name, also train; other names must be train's.
    whole = list(dict.fromkeys(chain(names, *held.values())))
    if not arrange_classes(whole).ordered:
        _refuse_extra(root, held, names)
        whole = names
    folders = [
        (one, side, list_folder(root, f"{name}/{one}"))
        for name, side in sides.items()
        for one in held[name]
    ]
    return whole, folders


def _check_sides(root: str, sides: dict[str, str]) -> None:
    if sorted(sides.values()) != sorted(set(sides.values())) or "train" not in sides.values():
        got = ", ".join(sides)
        raise InputError(f"{root}: folders {got}, expected train and one each of val, test")


def _refuse_extra(root: str, held: dict[str, list[str]], names: list[str]) -> None:
    for side, own in held.items():
        if extra := [one for one in own if one not in names]:
            raise InputError(
                f"{root}/{side}: class folders {', '.join(map(repr, extra))} that train has not "
                f"({', '.join(map(repr, names)) or 'none'}); rename or remove them"
            )


def _gather(folders: list[tuple[str, str, FolderListing]], labels: SetLabels) -> SourceContent:
    parts = [listed_rows(one) for _, _, one in folders]
    times = Counter(stem for rows in parts for stem in rows.names)
    for rows, (name, side, one) in zip(parts, folders, strict=True):
        before = one.prefix.replace("/", "-")
        rows.ids = [stem if times[stem] == 1 else before + stem for stem in rows.names]
        for row, stem in enumerate(rows.names):
            if times[stem] > 1 and eye_word(stem):
                rows.refuse(row, f"image {stem!r} is in {times[stem]} class folders; keep one")
        rows.columns["grade"] = [labels.places[name]] * len(rows.ids)
        if name in labels.ungradable:
            for row in range(len(rows.ids)):
                set_ungradable(rows, row, f"folder {quoted_cell(name)}")
        if side:
            rows.columns["split"] = [side] * len(rows.ids)
    return joined_parts(parts, {"grade": labels.classes})._replace(renamed=True)
