"""Training on several versions of the same photographs: clean ones, and corrupted or attacked
copies, one set of them or more.

Every showing of an image is of a copy with probability data.mix_share, of each set as often, so an
epoch is as long as without copies, and every image is seen in all versions over the epochs: with
two sets and a share of 2/3 each is a third of what is shown. Which showings these are is a function
of (seed, epoch, place in the epoch): not of the number of workers.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import EpochPlan, keyed_uniform
from fundusray.errors import InputError


def with_copies(own: PreparedSet, *copies: PreparedSet) -> PreparedSet:
    """The sets as one: image i is own's, image k len(own) + i its copy in the k-th of `copies`,
    counted from 1.

    Raises:
        InputError: other images, classes, sides or encoding.
    """
    joined = own
    for each in copies:
        joined = _followed_by(joined, own, each)
    return joined


def _followed_by(joined: PreparedSet, own: PreparedSet, copies: PreparedSet) -> PreparedSet:
    """The images of `joined`, and behind them the copy of each of own's."""
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
    masks = joined.stored_masks
    if masks is not None and copies.stored_masks is not None:
        masks = masks.followed_by(copies.stored_masks, rows)
    return replace(
        joined,
        # One of an earlier version has fewer columns.
        table=pa.concat_tables([joined.table, copies.table.take(rows)], promote_options="default"),
        images=joined.images.followed_by(copies.images, rows),
        stored_masks=masks,
    )


def mix_copies(
    plan: EpochPlan, share: float, num: int, seed: int, epoch: int, sets: int = 1
) -> EpochPlan:
    """The plan with a share of its showings moved to copies, `num` rows further on for each set of
    them; every one of so many `sets` has the same part of the share."""
    drawn = keyed_uniform(plan.rows.size, seed, epoch).reshape(plan.rows.shape)
    # The same showings are of copies, however many sets there are.
    number = 1 + np.minimum(drawn * sets / max(share, 1e-9), sets - 1).astype(np.int64)
    return plan._replace(rows=plan.rows + num * np.where(drawn < share, number, 0))
