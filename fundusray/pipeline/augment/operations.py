"""The operations an augmentation is composed of: a function each, entered under its name.

An operation is `(dice, *values) -> Effect`. It draws what it needs from the dice, always the same
number of times, and says with ValueError what is wrong with its values. Geometry is a matrix from
the centres of output pixels to places in the input, colour a matrix on (R, G, B, 1) in [0, 1].
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fundusray.pipeline.augment.draws import (
    ImageEffect,
    KeyedDice,
    affine_matrices,
    chained_effects,
    no_effect,
    picked_effects,
)
from fundusray.pipeline.augment.values import (
    checked_number,
    checked_numbers,
    checked_whole_number,
    range_around,
    range_ends,
)
from fundusray.registry import Registry

Step = Callable[[KeyedDice], ImageEffect]
"""An operation with its values, or several after another."""

Span = float | tuple[float, float]
"""Half the width of a range, or its two ends."""
Mask = np.ndarray | bool

OPERATIONS: Registry[Callable[..., ImageEffect]] = Registry("augmentation")

LARGEST = 8192  # side, pixels


@OPERATIONS.register("hflip")
def hflip(dice: KeyedDice, p: float = 0.5) -> ImageEffect:
    """Mirrored left to right with probability p."""
    return _flipped(dice, across=dice.chance(checked_number("p", p, 0, 1)))


@OPERATIONS.register("vflip")
def vflip(dice: KeyedDice, p: float = 0.5) -> ImageEffect:
    """Mirrored top to bottom with probability p."""
    return _flipped(dice, down=dice.chance(checked_number("p", p, 0, 1)))


@OPERATIONS.register("rotate")
def rotate(dice: KeyedDice, degrees: Span) -> ImageEffect:
    """Turned about the centre, counter-clockwise where positive; outside lies the fill."""
    return affine(dice, rotate=range_around(0, "degrees", degrees, -360, 360))


@OPERATIONS.register("affine")
def affine(
    dice: KeyedDice, scale: Span = 0, translate: Span = 0, rotate: Span = 0, shear: Span = 0
) -> ImageEffect:
    """Enlarged, sheared, turned (both in degrees), then moved; see draws.matrices.

    translate: the largest move as a share of the side, both ways, or (across, down).
    """
    scales = range_around(1, "scale", scale, 0.01, 100)
    if isinstance(translate, tuple):
        most = checked_numbers("translate", translate, 2, 0, 1)
    else:
        most = (checked_number("translate", translate, 0, 1),) * 2
    turns, leans = (
        range_around(0, "rotate", rotate, -360, 360),
        range_around(0, "shear", shear, -80, 80),
    )
    drawn = {"scale": dice.uniform(*scales)}
    drawn |= {name: dice.uniform(-m, m) for name, m in zip(("across", "down"), most, strict=True)}
    drawn |= {"angle": dice.uniform(*turns), "shear": dice.uniform(*leans)}
    effect = no_effect(dice)
    effect.matrix[:, :2] = affine_matrices(dice.size, np.zeros(len(dice), bool), **drawn)
    return effect


@OPERATIONS.register("crop")
def crop(dice: KeyedDice, size: int, x: int = 0, y: int = 0) -> ImageEffect:
    """The square of `size` pixels whose top left corner is (x, y)."""
    room = _room(dice, size)
    return _window(
        dice, size, checked_whole_number("x", x, 0, room), checked_whole_number("y", y, 0, room)
    )


@OPERATIONS.register("center_crop")
def center_crop(dice: KeyedDice, size: int) -> ImageEffect:
    """The square of `size` pixels in the middle."""
    middle = round(_room(dice, size) / 2)
    return _window(dice, size, middle, middle)


@OPERATIONS.register("random_crop")
def random_crop(dice: KeyedDice, size: int) -> ImageEffect:
    """A square of `size` pixels anywhere within."""
    room = _room(dice, size)
    return _window(dice, size, dice.whole(room + 1), dice.whole(room + 1))


@OPERATIONS.register("lesion_crop")
def lesion_crop(dice: KeyedDice, size: int, share: float = 0.5) -> ImageEffect:
    """A square of `size` pixels: with probability `share` one that shows a lesion, where there is
    any, else anywhere within.

    Kinds of lesions that are there are drawn equally often, and the lesion lies anywhere in the
    square.
    """
    room = _room(dice, size)
    sought = dice.chance(checked_number("share", share, 0, 1))
    anywhere = np.stack([dice.whole(room + 1), dice.whole(room + 1)], axis=-1)
    before = np.stack([dice.whole(size), dice.whole(size)], axis=-1)
    corner = dice.lesion_pixels(sought) - before
    corner = np.where(np.isnan(corner), anywhere, np.clip(corner, 0, room))
    return _window(dice, size, *corner.T)


@OPERATIONS.register("five_crop")
def five_crop(dice: KeyedDice, size: int) -> ImageEffect:
    """One of five squares: in the corners and in the middle."""
    return _corner(dice, size, dice.whole(5))


@OPERATIONS.register("ten_crop")
def ten_crop(dice: KeyedDice, size: int) -> ImageEffect:
    """One of ten squares: the five of the picture and the five of its mirror image."""
    which = dice.whole(10)
    return chained_effects(_flipped(dice, across=which >= 5), _corner(dice, size, which % 5))


@OPERATIONS.register("resize")
def resize(dice: KeyedDice, size: int) -> ImageEffect:
    """The whole picture at another size."""
    scale = dice.size / checked_whole_number("size", size, 1, LARGEST)
    return _placed(dice, size, scale, scale, 0, 0)


@OPERATIONS.register("random_resized_crop")
def random_resized_crop(
    dice: KeyedDice,
    size: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (0.75, 4 / 3),
) -> ImageEffect:
    """A rectangle of a share `scale` of the area and of width over height `ratio`, as a square.

    The ratio is uniform in its logarithm. A side longer than the picture is cut to it.
    """
    checked_whole_number("size", size, 1, LARGEST)
    area = dice.uniform(*range_ends("scale", scale, 0.0001, 1))
    shape = np.exp(dice.uniform(*np.log(range_ends("ratio", ratio, 0.1, 10))))
    wide, high = (np.minimum(np.sqrt(part), 1) * dice.size for part in (area * shape, area / shape))
    x, y = dice.uniform() * (dice.size - wide), dice.uniform() * (dice.size - high)
    return _placed(dice, size, wide / size, high / size, x, y)


@OPERATIONS.register("pad")
def pad(dice: KeyedDice, pixels: int) -> ImageEffect:
    """So many pixels of the fill on every side."""
    pixels = checked_whole_number("pixels", pixels, 0, LARGEST)
    size = checked_whole_number("the padded side", dice.size + 2 * pixels, 1, LARGEST)
    return _window(dice, size, -pixels, -pixels)


@OPERATIONS.register("apply")
def apply(dice: KeyedDice, p: float, operation: Step) -> ImageEffect:
    """The operation with probability p."""
    on = dice.chance(checked_number("p", p, 0, 1))
    return picked_effects(on.astype(np.int64), [no_effect(dice), _kept(dice, operation)])


@OPERATIONS.register("choice")
def choice(dice: KeyedDice, *operations: Step) -> ImageEffect:
    """One of the operations, each as likely."""
    if not operations:
        raise ValueError("needs at least one operation")
    which = dice.whole(len(operations))
    effects = [_step(operation)(dice) for operation in operations]
    sizes = sorted({effect.size for effect in effects})
    if len(sizes) > 1:
        raise ValueError(f"its operations end in different sizes: {sizes} pixels")
    return picked_effects(which, effects)


@OPERATIONS.register("order")
def order(dice: KeyedDice, *operations: Step) -> ImageEffect:
    """All the operations, in an order of their own for each picture."""
    if not operations:
        raise ValueError("needs at least one operation")
    turns = np.argsort([dice.uniform() for _ in operations], axis=0, kind="stable")
    effects = [_kept(dice, operation) for operation in operations]
    done = no_effect(dice)
    for which in turns:
        done = chained_effects(done, picked_effects(which, effects))
    return done


def _kept(dice: KeyedDice, operation: Any) -> ImageEffect:
    """What a part does that not every picture gets, or not at the same time."""
    effect = _step(operation)(dice)
    if effect.size != dice.size:
        raise ValueError(
            f"its operations must keep the size, which changes from {dice.size} to {effect.size} "
            "pixels; put what changes it before or after"
        )
    return effect


def _step(value: Any) -> Step:
    if not callable(value):
        raise ValueError(f"needs an operation, got {value!r}")
    return value


def _placed(
    dice: KeyedDice,
    size: int,
    wide: np.ndarray | float,
    high: np.ndarray | float,
    x: np.ndarray | float,
    y: np.ndarray | float,
) -> ImageEffect:
    """Output pixels of this width and height in input pixels, the first corner at (x, y)."""
    effect = no_effect(dice)._replace(size=size)
    effect.matrix[:, 0, 0], effect.matrix[:, 1, 1] = wide, high
    effect.matrix[:, 0, 2], effect.matrix[:, 1, 2] = x, y
    return effect


def _window(dice: KeyedDice, size: int, x: np.ndarray | int, y: np.ndarray | int) -> ImageEffect:
    """Whole pixels from (x, y) on."""
    return _placed(dice, size, 1, 1, x, y)


def _corner(dice: KeyedDice, size: int, which: np.ndarray) -> ImageEffect:
    room = _room(dice, size)
    places = np.array([(0, 0), (room, 0), (0, room), (room, room), (round(room / 2),) * 2])
    return _window(dice, size, *places[which].T)


def _flipped(dice: KeyedDice, *, across: Mask = False, down: Mask = False) -> ImageEffect:
    signs = [np.where(mirrored, -1.0, 1.0) for mirrored in (across, down)]
    starts = [np.where(mirrored, dice.size, 0) for mirrored in (across, down)]
    return _placed(dice, dice.size, *signs, *starts)


def _room(dice: KeyedDice, size: int) -> int:
    """Pixels left over beside a square of `size`."""
    if checked_whole_number("size", size, 1, LARGEST) > dice.size:
        raise ValueError(
            f"{size} pixels are more than the picture's {dice.size} at this point; "
            "pad or resize it before, or set data.size"
        )
    return dice.size - size
