"""Training on two versions of the same photographs: clean ones, and corrupted or attacked copies.

Every showing of an image is of the copy with probability data.mix_share, so an epoch is as long as
without copies, and every image is seen in both versions over the epochs. Which showings these are
is a function of (seed, epoch, place in the epoch): not of the number of workers.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import EpochPlan, keyed_uniform
from fundusray.errors import InputError


def with_copies(own: PreparedSet, copies: PreparedSet) -> PreparedSet:
    """Both sets as one: image i is own's, image len(own) + i its copy.

    Raises:
        InputError: other images, classes, sides or encoding.
    """
    for what in ("size", "encoding", "classes", "mask_kinds"):
        given, needed = getattr(copies, what), getattr(own, what)
        if given != needed:
            raise InputError(f"data.mix={copies.folder}: {what} is {given}, needs {needed}")
    place = {name: row for row, name in enumerate(copies.image_ids())}
    missing = [name for name in own.image_ids() if name not in place]
    if missing:
        raise InputError(
            f"data.mix={copies.folder} has no copy of {len(missing):,} of {len(own):,} images, "
            f"e.g. {missing[0]!r}; make it from {own.folder}"
        )
    rows = np.array([place[name] for name in own.image_ids()], np.int64)
    if (copies.targets()[rows] != own.targets()).any():
        raise InputError(f"data.mix={copies.folder}: its labels are others than the set's own")
    masks = own.stored_masks
    if masks is not None and copies.stored_masks is not None:
        masks = masks.followed_by(copies.stored_masks, rows)
    return replace(
        own,
        # One of an earlier version has fewer columns.
        table=pa.concat_tables([own.table, copies.table.take(rows)], promote_options="default"),
        images=own.images.followed_by(copies.images, rows),
        stored_masks=masks,
    )


def mix_copies(plan: EpochPlan, share: float, num: int, seed: int, epoch: int) -> EpochPlan:
    """The plan with a share of its showings moved to the copies, `num` rows further on."""
    drawn = keyed_uniform(plan.rows.size, seed, epoch).reshape(plan.rows.shape)
    return plan._replace(rows=plan.rows + num * (drawn < share))
