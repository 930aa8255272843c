"""Masks beside the images of a prepared set: which kinds, how they are read and how they are kept.

The masks of a photograph are bit planes, uint8 [S, S, P]: bit i % 8 of plane i // 8 is kind i, so
that up to eight kinds take a byte a pixel. On a disk they are compressed without loss (zstd), which
takes the mostly empty planes of 512 pixels down to a few hundred bytes and reads them in a
fraction of a millisecond. A kind without a file is an empty plane; which kinds have one stays in
the manifest's column `masks`.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.config import Data
from fundusray.data.labels.mask_targets import is_mask_target
from fundusray.data.photographs.decode import BadImage
from fundusray.data.photographs.read import PhotographMasks
from fundusray.data.prepared.geometry import Geometry, prepared_mask
from fundusray.errors import InputError
from fundusray.registry import unknown_name

EVERY, WHERE_THERE = "all", "any"
"""In place of kinds: all that a manifest has; the same, and none where it has none."""
CODEC = "zstd"
ANATOMY = ("optic_disc", "disc", "macula", "fovea", "vessel", "vessels", "vessels_1", "vessels_2")
"""Kinds that every eye has, be it ill or not."""


def mask_kinds(data: Data, table: pa.Table) -> tuple[str, ...]:
    """The kinds of masks that a recipe keeps, in the order of data.masks; of "all" every kind that
    a row of the manifest has, in alphabetical order; none where it asks for none, or of "any" where
    there are none. Where masks are what is learned, its classes but for the background, also those
    that no row has.

    Raises:
        InputError: no row has such a mask; the nearest kind is named.
    """
    if is_mask_target(data.target):
        return tuple(json.loads(table.schema.metadata[b"classes"])[1:])
    if not data.masks:
        return ()
    kinds = {kind for masks in table["masks"].to_pylist() for kind, _ in masks}
    if not kinds:
        if data.masks == (WHERE_THERE,):
            return ()
        raise InputError(
            f"data.masks={','.join(data.masks)}: no photograph of source {data.source!r} has a "
            "mask; leave it empty"
        )
    if data.masks in ((EVERY,), (WHERE_THERE,)):
        return tuple(sorted(kinds))
    for kind in data.masks:
        if kind not in kinds:
            raise unknown_name("kind of mask in data.masks", kind, kinds)
    return data.masks


def lesion_kinds(kinds: Sequence[str]) -> list[int]:
    """Which of some kinds are lesions, by their place; all of them where every eye has them all."""
    return [i for i, kind in enumerate(kinds) if kind not in ANATOMY] or [*range(len(kinds))]


def num_planes(num_kinds: int) -> int:
    """Bytes of a pixel that hold so many kinds."""
    return -(-num_kinds // 8)


def read_planes(
    row: dict[str, Any],
    root: str,
    kinds: tuple[str, ...],
    geometry: Geometry,
    named: bool = True,
) -> np.ndarray:
    """A photograph's masks where its prepared image shows them, uint8 [S, S, P].

    Args:
        row: of a manifest.
        geometry: of the prepared image in the whole photograph.
        named: whether an error may say what a mask's file is called.

    Raises:
        BadImage: a mask cannot be decoded, is of another size than its photograph, or holds a
            class index that no kind names; names the mask.
        OSError: a mask cannot be read.
        InputError: a path leads out of the root.
    """
    planes = np.zeros((geometry.size, geometry.size, num_planes(len(kinds))), np.uint8)
    masks = PhotographMasks(root, row["masks"], named)
    for kind, _ in row["masks"]:
        if kind not in kinds:
            continue
        try:
            mask = prepared_mask(geometry, masks.read(kind))
        except (BadImage, ValueError) as error:
            raise BadImage(f"mask of {kind}: {error}") from error
        plane, bit = divmod(kinds.index(kind), 8)
        planes[..., plane] |= mask.astype(np.uint8) << bit
    return planes


def unpacked_masks(planes: np.ndarray, num_kinds: int) -> np.ndarray:
    """Bit planes [..., S, S, P] as masks, one a kind: uint8 [..., M, S, S], 0 or 1."""
    layers = [planes[..., i // 8] >> np.uint8(i % 8) & np.uint8(1) for i in range(num_kinds)]
    return np.stack(layers, axis=-3)


def compressed_planes(planes: np.ndarray) -> bytes:
    """The bit planes as they lie on a disk."""
    return pa.compress(planes.tobytes(), CODEC, asbytes=True)


def decompressed_planes(content: np.ndarray, out: np.ndarray) -> None:
    """Fills `out`, uint8 [S, S, P], from what `compressed_planes` gave, uint8 [bytes]."""
    plain = pa.decompress(pa.py_buffer(content), out.nbytes, CODEC)
    out[:] = np.frombuffer(plain, np.uint8).reshape(out.shape)
