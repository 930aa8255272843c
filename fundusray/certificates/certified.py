"""Certified accuracy and sensitivity against the L2 radius, with intervals by patient."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from fundusray.certificates.smoothing import Certificates
from fundusray.errors import InputError
from fundusray.metrics.any_statistic import interval
from fundusray.metrics.by_patient import share

CERTIFIED_COLUMNS = pa.schema(
    [
        ("radius", pa.float64()),  # L2, pixels in [0, 1]
        ("certified", pa.float64()),  # share of images answered rightly within it for certain
        ("low", pa.float64()),  # its 95 % interval, patients as units
        ("high", pa.float64()),
        ("why", pa.string()),  # the reason where there is no interval
        ("abstained", pa.float64()),  # share of images without an answer
        ("images", pa.int64()),
    ]
)


def certified_table(
    certificates: Certificates,
    target: Sequence[int] | np.ndarray,
    patients: Sequence[str] | np.ndarray,
    radii: Sequence[float],
    of: int | None = None,
) -> pa.Table:
    """A row for each radius: the share of images whose right answer no change within it can undo.

    Args:
        target: of each image [B], as `certificates` answers: a class, or with `certify_referable`
            0 or 1.
        patients: of each image; "" where not known.
        of: only images of this target: 1 with `certify_referable` is the certified sensitivity.

    Raises:
        InputError: no images, of that target; or not as many of them as certificates.
    """
    targets, names = np.asarray(target), np.asarray(patients)
    answer, radius = (part.cpu().numpy() for part in certificates[:2])
    if not len(targets) == len(names) == len(answer):
        raise InputError(
            f"{len(answer)} certificates need as many targets and patients, got {len(targets)} and "
            f"{len(names)}"
        )
    meant = np.ones(len(targets), bool) if of is None else targets == of
    if not meant.any():
        raise InputError("no images to certify" + ("" if of is None else f" of target {of}"))
    right, within, names = (answer == targets)[meant], radius[meant], names[meant]
    abstained = float((answer[meant] < 0).mean())
    rows = []
    for each in radii:
        # A radius holds for changes that are shorter than it, so one of 0 needs an answer alone.
        found = interval(share, right & (within > each), names)
        rows.append(
            {"radius": each, "certified": found["value"], "abstained": abstained}
            | {name: found[name] for name in ("low", "high", "why")}
            | {"images": int(meant.sum())}
        )
    return pa.Table.from_pylist(rows, schema=CERTIFIED_COLUMNS)
