"""What is done to each image: numbers drawn without any generator, and what they come to.

Every number is a hash of (seed, epoch, row, repeat, which draw): it depends neither on the batch
nor on the worker an image falls to, nor on where a run was resumed.

Coordinates are in pixels from the image's top left corner, x to the right and y downwards, so the
centre of pixel (i, j) is x = j + 0.5, y = i + 0.5. Angles are positive counter-clockwise as seen.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

EYE = np.eye(3)
NUDGE = 2.0**-10

Lesions = Sequence[Sequence[np.ndarray]]
"""Of each image pixels (x, y) [n, 2] of its lesions, an array for each kind that it shows."""


class ImageEffect(NamedTuple):
    """What one operation, or several after another, does to B images."""

    matrix: np.ndarray  # float64 [B, 3, 3] output pixel centre -> input
    colour: np.ndarray  # float64 [B, 4, 4] (R, G, B, 1) in -> out, all in [0, 1]
    std: np.ndarray  # float64 [B] wanted of the whole image; 0 where it keeps its own
    size: int  # side of the outputs, pixels


class Draws(NamedTuple):
    """What is done to a batch: geometry, then colour, clipped to [0, 1], then its spread."""

    size: int  # side of the outputs, pixels
    geometric: np.ndarray  # bool [B] drawn bilinearly; elsewhere whole pixels only are moved
    matrix: np.ndarray  # float32 [B, 2, 3] output pixel centre -> input
    brightness: np.ndarray  # float32 [B]; brightness * (0.5 + contrast * (in - 0.5))
    contrast: np.ndarray  # float32 [B]; both 1 where not drawn
    coloured: np.ndarray  # bool [B] recoloured by `colour` instead
    colour: np.ndarray  # float32 [B, 3, 4] (R, G, B, 1) in -> (R, G, B) out
    std: np.ndarray  # float32 [B] wanted of the whole image, its mean 0.5; 0 where not drawn


class KeyedDice:
    """Draws for the rows of a batch: one number per row, another each time it is asked."""

    def __init__(
        self,
        keys: np.ndarray,
        size: int,
        places: Iterator[int] | None = None,
        lesions: Lesions | None = None,
        matrix: np.ndarray | None = None,
    ) -> None:
        self._keys = keys
        self._places = count() if places is None else places
        self._lesions, self._matrix = lesions, matrix
        self.size = size
        """Side of the images at this point, pixels."""

    def __len__(self) -> int:
        return len(self._keys)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Numbers in [low, high), float64 [B]."""
        return low + (high - low) * _unit(self._keys, next(self._places))

    def chance(self, p: float) -> np.ndarray:
        """True with probability p, bool [B]."""
        return self.uniform() < p

    def whole(self, num: int) -> np.ndarray:
        """Whole numbers from 0 to num - 1, int64 [B]."""
        return (num * self.uniform()).astype(np.int64)

    def lesion_pixels(self, wanted: np.ndarray) -> np.ndarray:
        """A pixel of a lesion that each image shows at this point, (x, y) float64 [B, 2]; NaN where
        none is to be seen, or `wanted` bool [B] is not set.

        First a kind is drawn, each that is there as likely, then a pixel of it: what is rare is met
        as often as what is not.
        """
        kind, which = self.uniform(), self.uniform()
        pixels = np.full((len(self), 2), np.nan)
        for row in np.flatnonzero(wanted) if self._lesions is not None else ():
            seen = [here for kept in self._lesions[row] if len(here := self._seen(row, kept))]
            if seen:
                points = seen[int(kind[row] * len(seen))]
                pixels[row] = points[int(which[row] * len(points))]
        return pixels

    def _seen(self, row: int, points: np.ndarray) -> np.ndarray:
        """Those of some stored pixels [n, 2] that a row's image shows at this point, and where."""
        if self._matrix is None or np.array_equal(self._matrix[row], EYE):
            return points
        there = np.linalg.inv(self._matrix[row])
        moved = np.floor((points + 0.5) @ there[:2, :2].T + there[:2, 2])
        return moved[((moved >= 0) & (moved < self.size)).all(axis=1)]

    def after(self, effect: ImageEffect) -> "KeyedDice":
        """The same rows of numbers, for the images that an effect made of those at this point."""
        matrix = effect.matrix if self._matrix is None else self._matrix @ effect.matrix
        return KeyedDice(self._keys, effect.size, self._places, self._lesions, matrix)


def draw_keys(seed: int, epoch: int, rows: np.ndarray, repeat: np.ndarray) -> np.ndarray:
    """What the draws of each row begin from, uint64 [B]: the finaliser of splitmix64 over each
    key in turn (Steele, Lea and Flood 2014)."""
    state = _mix(np.full(len(rows), seed & 0xFFFFFFFFFFFFFFFF, np.uint64))
    for key in (np.uint64(epoch), rows.astype(np.uint64), repeat.astype(np.uint64)):
        state = _mix(state ^ key)
    return state


def keyed_uniforms(
    seed: int, epoch: int, rows: np.ndarray, repeat: np.ndarray, num: int
) -> np.ndarray:
    """The first `num` draws, numbers in [0, 1), float64 [num, B]."""
    return _unit(draw_keys(seed, epoch, rows, repeat), np.arange(num, dtype=np.uint64)[:, None])


def _unit(state: np.ndarray, place: int | np.ndarray) -> np.ndarray:
    return (_mix(state ^ np.asarray(place, np.uint64)) >> np.uint64(11)) * 2.0**-53


def _mix(state: np.ndarray) -> np.ndarray:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def affine_matrices(
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


def no_effect(dice: KeyedDice) -> ImageEffect:
    """Nothing is done."""
    matrix, colour = (np.repeat(eye[None], len(dice), axis=0) for eye in (EYE, np.eye(4)))
    return ImageEffect(matrix, colour, np.zeros(len(dice)), dice.size)


def chained_effects(first: ImageEffect, second: ImageEffect) -> ImageEffect:
    """Both, one after the other; of two spreads the second holds."""
    return ImageEffect(
        first.matrix @ second.matrix,
        second.colour @ first.colour,
        np.where(second.std > 0, second.std, first.std),
        second.size,
    )


def picked_effects(which: np.ndarray, effects: Sequence[ImageEffect]) -> ImageEffect:
    """For each row the effect of that number, `which` int [B]; all have one size."""
    rows = np.arange(len(which))
    parts = zip(*(effect[:3] for effect in effects), strict=True)
    return ImageEffect(*(np.stack(part)[which, rows] for part in parts), effects[0].size)


def finished_draws(effect: ImageEffect) -> Draws:
    """What the engines work from."""
    matrix, colour = effect.matrix[:, :2], effect.colour[:, :3]
    linear, offset = matrix[:, :, :2], matrix[:, :, 2]
    upright = (np.abs(linear) == EYE[:2, :2]).all(axis=(1, 2))
    upright &= (offset == np.round(offset)).all(axis=1)
    # The same gain and lift in every channel are brightness and contrast, which is cheaper.
    gain, lift = colour[:, 0, 0], colour[:, 0, 3]
    grey = (colour[:, :, :3] == gain[:, None, None] * EYE).all(axis=(1, 2))
    grey &= (colour[:, :, 3] == lift[:, None]).all(axis=1)
    brightness = gain + 2 * lift
    grey &= brightness > 0
    brightness = np.where(grey, brightness, 1.0)
    contrast = np.where(grey, gain / brightness, 1.0)
    parts = (matrix, brightness, contrast, colour, effect.std)
    matrix, brightness, contrast, colour, std = (part.astype(np.float32) for part in parts)
    return Draws(effect.size, ~upright, matrix, brightness, contrast, ~grey, colour, std)


def mask_matrix(draws: Draws) -> np.ndarray:
    """The matrix by which masks are drawn, each pixel being the one its centre falls on, float32
    [B, 2, 3]: that of the images, moved by a thousandth of a pixel. Centres that fall on the very
    edge between two pixels, as at a scale of 3/2, would else be left to the rounding of whoever
    computes them."""
    return draws.matrix + np.array([0, 0, NUDGE], np.float32)


def pixel_window(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """(mirrored bool [B, 2], first int32 [B, 2]), both (down, across), where whole pixels are
    moved: the window of the input that begins at pixel `first` is mirrored."""
    signs, offset = draws.matrix[:, [1, 0], [1, 0]], draws.matrix[:, [1, 0], 2]
    mirrored = signs < 0
    return mirrored, (offset - np.where(mirrored, draws.size, 0)).astype(np.int32)
