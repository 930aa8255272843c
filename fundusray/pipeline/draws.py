"""What an augmentation does to each image, drawn without any generator.

Every number is a hash of (seed, epoch, row, repeat, which draw): it depends neither on the batch
nor on the worker an image falls to, nor on where a run was resumed.

Coordinates are in pixels from the image's top left corner, x to the right and y downwards, so the
centre of pixel (i, j) is x = j + 0.5, y = i + 0.5. Angles are positive counter-clockwise as seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fundusray.registry import Registry


class Draws(NamedTuple):
    """What is done to a batch: geometry or flip, then brightness * (0.5 + contrast * (in - 0.5)),
    clipped to [0, 1]."""

    flip: np.ndarray  # bool [B] mirrored left to right
    geometric: (
        np.ndarray
    )  # bool [B] warped by `matrix`; where False the matrix holds the flip alone
    matrix: np.ndarray  # float32 [B, 2, 3] output pixel centre -> input, the flip included
    brightness: np.ndarray  # float32 [B]; 1 where not drawn
    contrast: np.ndarray  # float32 [B]; 1 where not drawn


Work = tuple[list[np.ndarray], Draws]
"""One batch to make: B encoded images, each uint8 [bytes], and what is done to them."""

Augmentation = Callable[[int, int, np.ndarray, np.ndarray, int], Draws]
"""(seed, epoch, rows [B], repeat [B], side in pixels) -> Draws."""

AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation")

_WU = (
    "flip", "geometric", "scale", "across", "down", "angle", "shear",
    "brighten", "brightness", "contrasted", "contrast",
)  # fmt: skip


def uniforms(seed: int, epoch: int, rows: np.ndarray, repeat: np.ndarray, num: int) -> np.ndarray:
    """Numbers in [0, 1), float64 [num, B]: the finaliser of splitmix64 over each key in turn
    (Steele, Lea and Flood 2014)."""
    state = _mix(np.full(len(rows), seed & 0xFFFFFFFFFFFFFFFF, np.uint64))
    for key in (np.uint64(epoch), rows.astype(np.uint64), repeat.astype(np.uint64)):
        state = _mix(state ^ key)
    draws = _mix(state ^ np.arange(num, dtype=np.uint64)[:, None])
    return (draws >> np.uint64(11)) * 2.0**-53


def _mix(state: np.ndarray) -> np.ndarray:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def matrices(
    size: int,
    flip: np.ndarray,
    *,
    scale: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
    angle: np.ndarray,
    shear: np.ndarray,
) -> np.ndarray:
    """Output pixel centre -> input, float64 [B, 2, 3]; every argument [B].

    An image is flipped, enlarged by `scale`, sheared (upper part to the right where positive),
    turned by `angle` (both in degrees), all about its centre c, then moved right by `across` and
    down by `down` (shares of the side): out = c + t + R H s F (in - c). The matrix is the inverse.
    """
    turn, lean = np.deg2rad(angle), np.tan(np.deg2rad(shear))
    cos, sin, zero, one = np.cos(turn), np.sin(turn), np.zeros_like(turn), np.ones_like(turn)
    # With y downwards a turn counter-clockwise as seen takes (1, 0) to (cos, -sin).
    unturn = _stack([[cos, -sin], [sin, cos]])
    unlean = _stack([[one, lean], [zero, one]])
    unflip = _stack([[np.where(flip, -1.0, 1.0), zero], [zero, one]])
    linear = unflip @ unlean @ unturn / scale[:, None, None]
    centre = np.full(2, size / 2)
    moved = centre + size * np.stack([across, down], axis=-1)
    offset = centre - (linear @ moved[..., None])[..., 0]
    return np.concatenate([linear, offset[..., None]], axis=-1)


def _stack(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Matrices [B, 2, 2] from their entries [B]."""
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


@AUGMENTATIONS.register("wu")
def _wu(seed: int, epoch: int, rows: np.ndarray, repeat: np.ndarray, size: int) -> Draws:
    """Flip, one affine transform, brightness and contrast, each with probability 0.5 (Wu).

    The affine scales by 0.9-1.1, moves by up to 5 % of the side both ways, turns by -30 to 10
    degrees and shears by up to 10 degrees. Wu prints the move as 0.05 %, a quarter of a pixel:
    0.05 of the side is meant.
    """
    drawn = dict(zip(_WU, uniforms(seed, epoch, rows, repeat, len(_WU)), strict=True))
    flip, geometric = drawn["flip"] < 0.5, drawn["geometric"] < 0.5

    def spread(name: str, low: float, high: float, neutral: float, apply: np.ndarray) -> np.ndarray:
        return np.where(apply, low + (high - low) * drawn[name], neutral)

    matrix = matrices(
        size,
        flip,
        scale=spread("scale", 0.9, 1.1, 1.0, geometric),
        across=spread("across", -0.05, 0.05, 0.0, geometric),
        down=spread("down", -0.05, 0.05, 0.0, geometric),
        angle=spread("angle", -30.0, 10.0, 0.0, geometric),
        shear=spread("shear", -10.0, 10.0, 0.0, geometric),
    )
    brightness = spread("brightness", 0.85, 1.15, 1.0, drawn["brighten"] < 0.5)
    contrast = spread("contrast", 0.85, 1.15, 1.0, drawn["contrasted"] < 0.5)
    single = (part.astype(np.float32) for part in (matrix, brightness, contrast))
    return Draws(flip, geometric, *single)


@AUGMENTATIONS.register("none")
def _none(seed: int, epoch: int, rows: np.ndarray, repeat: np.ndarray, size: int) -> Draws:
    """Nothing is done to any image."""
    no = np.zeros(len(rows), bool)
    identity = np.tile(np.eye(2, 3, dtype=np.float32), (len(rows), 1, 1))
    one = np.ones(len(rows), np.float32)
    return Draws(no, no, identity, one, one)
