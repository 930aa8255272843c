"""The classes of a set in those of a trained network, matched by name or by meaning."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from fundusray.data.labels.class_names import class_positions, is_ordered
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.errors import InputError
from fundusray.models.bundle import Bundle
from fundusray.tasks import is_segmentation


def order_known(bundle: Bundle) -> bool:
    """Whether the order of a network's classes is known: as its training knew it, or, of one that
    does not say, by their names."""
    return bundle.info.get("ordered", is_ordered(bundle.classes))


def in_classes_of(data: PreparedSet, place: str, bundle: Bundle) -> PreparedSet:
    """The set with its labels in the classes of the network at `place`.

    A set may lack classes of the network's. One of 0 to 4, or of No_DR to Proliferate_DR, has the
    classes of a network of none to proliferative.

    Raises:
        InputError: photographs of a class that the network does not know, or other kinds of masks
            than a network of pixels knows; which, and what to do.
    """
    if tuple(bundle.classes) == tuple(data.classes):
        return data
    if is_segmentation(bundle.recipe):
        raise InputError(
            f"{place} says which of {', '.join(bundle.classes)} every pixel is; the data have "
            f"{', '.join(data.classes)}. Give data.classes={','.join(bundle.classes)}, by which "
            "masks of these kinds are kept and no others"
        )
    places = class_positions(data.classes, bundle.classes)
    targets = data.targets()
    counts = np.bincount(targets[targets >= 0], minlength=len(data.classes))
    unknown = [
        f"{name!r} ({num:,} photographs)"
        for name, place_there, num in zip(data.classes, places, counts, strict=True)
        if place_there is None and num
    ]
    if unknown:
        raise InputError(
            f"{place} knows the classes {list(bundle.classes)}; the data have "
            f"{', '.join(unknown)}, which are none of them by name or by meaning. Say which one it "
            "is (data.map.<label of the data>=<class of the network>), give the data's classes "
            "(data.classes=), or set such photographs aside (data.ungradable=<label>)"
        )
    # The last one is for photographs without a label.
    moved = np.array([-1 if p is None else p for p in [*places, None]], np.int32)[targets]
    column = data.table.schema.get_field_index("target")
    table = data.table.set_column(column, "target", pa.array(moved, pa.int32()))
    info = data.info | {"classes": list(bundle.classes), "ordered": order_known(bundle)}
    return replace(data, table=table, info=info)
