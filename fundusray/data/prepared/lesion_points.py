"""Where the lesions of a prepared set's images are: some pixels of each, to draw windows about."""

from collections.abc import Sequence

import numpy as np

from fundusray.data.prepared.masks import lesion_kinds
from fundusray.data.prepared.prepared_set import PreparedSet

MOST = 256
"""Pixels that are kept of a kind and an image."""


class LesionPoints:
    """Pixels of the lesions of a set's rows, found when a row first comes and then kept: at most
    MOST of a kind, 1 KB."""

    def __init__(self, prepared: PreparedSet) -> None:
        self._kinds = lesion_kinds(prepared.mask_kinds)
        self._held: dict[int, list[np.ndarray]] = {}

    def of(self, rows: np.ndarray, planes: np.ndarray) -> list[list[np.ndarray]]:
        """Of each row the pixels of each kind that it shows, int16 [n, 2] (x, y); see
        `marked_points`.

        Args:
            rows: [B] of the set.
            planes: their masks as bit planes, uint8 [B, S, S, P].
        """
        for row, own in zip(rows.tolist(), planes, strict=True):
            if row not in self._held:
                self._held[row] = marked_points(own, self._kinds)
        return [self._held[row] for row in rows.tolist()]


def marked_points(planes: np.ndarray, kinds: Sequence[int]) -> list[np.ndarray]:
    """Pixels of each of some kinds that is marked at all, int16 [n, 2] (x, y), n at most MOST.

    They are the middles of the marked stretches of every line, so a lesion counts by its height
    and not by its area, and small ones are met beside large ones. Of more than MOST stretches as
    many are taken at even steps.

    Args:
        planes: bit planes of an image, uint8 [S, S, P].
        kinds: by their number.
    """
    found = []
    side = planes.shape[1]
    # What is marked at all is a few percent, and is looked for once.
    flat = planes.reshape(-1, planes.shape[-1]).T
    marked = [np.flatnonzero(plane != 0) for plane in flat]
    bits = [plane[places] for plane, places in zip(flat, marked, strict=True)]
    for kind in kinds:
        plane, bit = divmod(kind, 8)
        places = marked[plane][bits[plane] & np.uint8(1 << bit) != 0]
        if not len(places):
            continue
        fresh = np.diff(places, prepend=-2) != 1
        fresh |= places % side == 0
        first = np.flatnonzero(fresh)
        last = np.append(first[1:], len(places)) - 1
        middle = places[(first + last) // 2]
        if len(middle) > MOST:
            middle = middle[np.linspace(0, len(middle) - 1, MOST).round().astype(np.int64)]
        found.append(np.stack([middle % side, middle // side], axis=-1).astype(np.int16))
    return found
