"""Trained networks as a command names them: `<bundle>`, or `<bundle>+<bundle>` for the mean answer
of several, an ensemble that is one network (`models.mean_of_networks`)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.errors import InputError
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.bundle_folders import JOIN, member_folders
from fundusray.models.load_weights import weights_digest
from fundusray.models.mean_of_networks import MeanOfNetworks
from fundusray.pipeline.augment.augmentation import view_text
from fundusray.runs.provenance import SIDES_APART, UnseenRows, require_pixels, unseen_rows


@dataclass(frozen=True)
class JoinedBundle(Bundle):
    """Several networks as one, with the first one's recipe and classes."""

    folders: tuple[str, ...]
    members: tuple[Bundle, ...]


def network_place(text: str) -> str:
    """What a command calls a network, with each of its places absolute, see `bundle_folder`."""
    return JOIN.join(member_folders(text))


def open_network(text: str) -> Bundle:
    """The bundle at a place, or the mean of those with a + between them.

    Raises:
        InputError: there is no such bundle, one is given twice, or they differ in classes or in
            the pixels they are shown.
        DamagedError: a file is missing or not what was written.
    """
    folders = member_folders(text)
    members = tuple(load_bundle(folder) for folder in folders)
    first = members[0]
    if len(members) == 1:
        return first
    digests = [weights_digest(folder) for folder in folders]
    for number, (folder, member) in enumerate(zip(folders, members, strict=True)):
        if digests[number] in digests[:number]:
            twin = folders[digests.index(digests[number])]
            raise InputError(f"{twin} and {folder} are the same network; join different ones")
        if member.classes != first.classes:
            raise InputError(
                f"{folders[0]} knows the classes {list(first.classes)}, {folder} "
                f"{list(member.classes)}; joined networks need the same ones in the same order"
            )
        require_pixels(folder, member.recipe.data, first.recipe.data)
        ours, theirs = view_text(first.recipe.data), view_text(member.recipe.data)
        if ours != theirs:
            raise InputError(
                f"{folders[0]} is judged with data.view={ours or 'none'}, {folder} with "
                f"{theirs or 'none'}: an image of the one is no image of the other; join networks "
                "of the same view"
            )
    order = {"ordered": first.info["ordered"]} if "ordered" in first.info else {}
    # No manifest: what a mean knows of photographs is what any of its members does.
    info = order | {"members": list(folders), "made as": f"the mean of {len(members)} answers"}
    model = MeanOfNetworks([member.model for member in members]).eval()
    return JoinedBundle(model, first.recipe, first.classes, info, folders, members)


def single_networks(place: str, bundle: Bundle) -> list[tuple[str, Bundle]]:
    """(place, bundle) of each member of a joined one; of any other, itself."""
    if isinstance(bundle, JoinedBundle):
        return list(zip(bundle.folders, bundle.members, strict=True))
    return [(place, bundle)]


def rows_unseen_by_all(
    data: PreparedSet, places: Sequence[str], bundles: Sequence[Bundle]
) -> UnseenRows:
    """What of a set is new to all of some networks, joined ones by each of their members.

    Raises:
        InputError: no row is, or a network's own split cannot be read.
    """
    singles = [
        one
        for place, bundle in zip(places, bundles, strict=True)
        for one in single_networks(place, bundle)
    ]
    each = [unseen_rows(data, *one) for one in singles]
    if len(each) == 1:
        return each[0]
    sides = {one.side for one in each}
    side = next(name for name in ("test", "all", "val") if name in sides)
    judged = np.all([one.sides == one.side for one in each], axis=0)
    learned = np.any([one.learned for one in each], axis=0)
    if not judged.any():
        counts = ", ".join(
            f"{len(one.rows):,} to {place}" for one, (place, _) in zip(each, singles, strict=True)
        )
        raise InputError(
            f"none of {len(data.table):,} photographs is new to all of these networks ({counts}); "
            "give networks with test rows in common (data.split_file=), or other photographs "
            "(data=<folder>)"
        )
    notes = list(dict.fromkeys(note for one in each for note in one.notes))
    if judged.sum() < max(len(one.rows) for one in each):
        notes.append(f"{judged.sum():,} photographs are new to all {len(each)} networks")
    if "val" in sides:
        notes.append("validation photographs that chose a network's epoch: optimistic")
    marked = np.where(learned, SIDES_APART[side][0], np.where(judged, side, ""))
    return UnseenRows(marked.astype(object), side, notes)
