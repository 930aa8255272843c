"""Mean and spread of the colours of a prepared set's rows, summed up all over the cluster."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.units import Unit
from fundusray.data.photographs.decode import BadImage
from fundusray.data.prepared.colour_statistics import LevelSums, add_sums, describe_sums, sum_levels
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.pipeline.engines import plain

LENGTH = 256
"""Rows of one unit."""


def set_colour_statistics(prepared: str, rows: np.ndarray) -> dict[str, Any]:
    """Mean [3], std [3] and covariance [3][3] of RGB over all pixels of some rows, in [0, 1].

    "the mean and standard deviation of the data set" (Kon, 4): give it the train side of the split.
    What lies outside the fundus counts, as it does for a network. Equal to the bit whatever the
    number of workers and the order of rows; JPEG is decoded by Pillow.

    Returns:
        {"images", "pixels", "mean", "std", "covariance"}, plain numbers.

    Raises:
        InputError: no rows, or an image of the set does not decode.
    """
    rows = np.sort(np.asarray(rows, np.int64))
    if not len(rows):
        raise InputError("statistics of 0 images; the train side of the split needs some")
    chunks = [rows[start : start + LENGTH] for start in range(0, len(rows), LENGTH)]
    units = [Unit(str(i), (chunk,), len(chunk)) for i, chunk in enumerate(chunks)]
    with Pool("measuring", partial(_sums, prepared)) as pool:
        return describe_sums(add_sums(pool.values(units).values()))


def _sums(prepared: str, rows: np.ndarray) -> LevelSums:
    return sum_levels(_images(open_set(prepared), rows))


def _images(prepared: PreparedSet, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The pixels of each row, uint8 [S, S, 3]."""
    for row in rows:
        if prepared.encoding == "raw":
            yield prepared.pixels(np.array([row]))[0]
            continue
        (content,) = prepared.encoded(np.array([row]))
        try:
            yield plain.decode_image(content, prepared.size)
        except BadImage as error:
            image_id = prepared.image_ids()[row]
            raise InputError(f"{prepared.folder}: image {image_id!r} {error}") from error
