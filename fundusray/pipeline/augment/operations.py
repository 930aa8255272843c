"""The operations an augmentation is composed of: a function each, entered under its name.

An operation is `(dice, *values) -> Effect`. It draws what it needs from the dice, always the same
number of times, and says with ValueError what is wrong with its values. Geometry is a matrix from
the centres of output pixels to places in the input, colour a matrix on (R, G, B, 1) in [0, 1].
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fundusray.pipeline.augment.draws import (
    EYE,
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
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
# RGB to luma and the two axes of colour in whose plane hue turns, the usual three digits.
YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
RGB = np.linalg.inv(YIQ)


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


@OPERATIONS.register("jitter")
def jitter(
    dice: KeyedDice,
    brightness: Span = 0,
    contrast: Span = 0,
    saturation: Span = 0,
    hue: Span = 0,
    p: float = 1.0,
) -> ImageEffect:
    """brightness * (0.5 + contrast * (in - 0.5)), then saturation, then hue, each with chance p."""
    checked_number("p", p, 0, 1)
    values = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    light, hard, full = (_factor(dice, name, value, p) for name, value in values.items())
    on, turns = dice.chance(p), dice.uniform(*range_around(0, "hue", hue, -0.5, 0.5))
    colour = _saturation(full) @ _brightness(light) @ _contrast(hard)
    return _painted(dice, _hue(np.where(on, turns, 0)) @ colour)


@OPERATIONS.register("brightness")
def brightness(dice: KeyedDice, by: Span) -> ImageEffect:
    """Times a factor around 1."""
    return _painted(dice, _brightness(_factor(dice, "by", by)))


@OPERATIONS.register("contrast")
def contrast(dice: KeyedDice, by: Span) -> ImageEffect:
    """The distance from half-grey times a factor around 1."""
    return _painted(dice, _contrast(_factor(dice, "by", by)))


@OPERATIONS.register("saturation")
def saturation(dice: KeyedDice, by: Span) -> ImageEffect:
    """The distance from the grey of the same luma (Rec. 601) times a factor around 1."""
    return _painted(dice, _saturation(_factor(dice, "by", by)))


@OPERATIONS.register("hue")
def hue(dice: KeyedDice, by: Span) -> ImageEffect:
    """Colours turned about grey in YIQ by a share of a full turn."""
    return _painted(dice, _hue(dice.uniform(*range_around(0, "by", by, -0.5, 0.5))))


@OPERATIONS.register("greyscale")
def greyscale(dice: KeyedDice, p: float = 0.1) -> ImageEffect:
    """The luma (Rec. 601) in all three channels, with probability p."""
    return _painted(dice, _saturation(1.0 - dice.chance(checked_number("p", p, 0, 1))))


@OPERATIONS.register("whiten")
def whiten(
    dice: KeyedDice,
    mean: tuple[float, float, float],
    std: tuple[float, float, float] | None = None,
    matrix: tuple[tuple[float, ...], ...] | None = None,
    spread: float = 0.2,
) -> ImageEffect:
    """0.5 + spread * W (in - mean), W the matrix (of ZCA, say) or 1 / std for each channel."""
    if (std is None) == (matrix is None):
        raise ValueError("give either std or matrix")
    if std is not None:
        whitening = np.diag(1 / np.array(checked_numbers("std", std, 3, 0.001, 1)))
    elif isinstance(matrix, tuple) and len(matrix) == 3:
        whitening = np.array([checked_numbers("matrix", row, 3, -1000, 1000) for row in matrix])
    else:
        raise ValueError(f"matrix: needs three rows of three numbers, got {matrix!r}")
    gain = checked_number("spread", spread, 0, 1) * whitening
    lift = 0.5 - gain @ np.array(checked_numbers("mean", mean, 3, 0, 1))
    return _painted(dice, _colour(gain, lift))


@OPERATIONS.register("standardize")
def standardize(dice: KeyedDice, std: float = 0.2) -> ImageEffect:
    """Each picture shifted and stretched to mean 0.5 and this deviation; always the last step."""
    wanted = checked_number("std", std, 0.001, 1)
    return no_effect(dice)._replace(std=np.full(len(dice), wanted))


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


def _painted(dice: KeyedDice, colour: np.ndarray) -> ImageEffect:
    """Colour [B, 4, 4] or [4, 4]."""
    effect = no_effect(dice)
    effect.colour[:] = colour
    return effect


def _colour(gain: np.ndarray, lift: np.ndarray | float = 0.0) -> np.ndarray:
    """Matrix [..., 4, 4] from gain [..., 3, 3] and lift [..., 3]."""
    matrix = np.zeros((*gain.shape[:-2], 4, 4))
    matrix[..., :3, :3], matrix[..., :3, 3], matrix[..., 3, 3] = gain, lift, 1
    return matrix


def _brightness(factor: np.ndarray) -> np.ndarray:
    return _colour(factor[:, None, None] * EYE)


def _contrast(factor: np.ndarray) -> np.ndarray:
    return _colour(factor[:, None, None] * EYE, 0.5 * (1 - factor[:, None]))


def _saturation(factor: np.ndarray) -> np.ndarray:
    factor = factor[:, None, None]
    # Written so that a factor of 1 is exactly the identity.
    return _colour(np.where(factor == 1, EYE, factor * EYE + (1 - factor) * LUMA))


def _hue(turns: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * turns
    turn = np.repeat(EYE[None], len(turns), axis=0)
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle), np.sin(angle)
    gain = RGB @ turn @ YIQ
    return _colour(np.where(turns[:, None, None] == 0, EYE, gain))


def _factor(dice: KeyedDice, name: str, value: Span, p: float | None = None) -> np.ndarray:
    """Factors around 1 [B]; with probability p, where given, else 1."""
    on = True if p is None else dice.chance(p)
    return np.where(on, dice.uniform(*range_around(1, name, value, 0, 100)), 1.0)


def _room(dice: KeyedDice, size: int) -> int:
    """Pixels left over beside a square of `size`."""
    if checked_whole_number("size", size, 1, LARGEST) > dice.size:
        raise ValueError(
            f"{size} pixels are more than the picture's {dice.size} at this point; "
            "pad or resize it before, or set data.size"
        )
    return dice.size - size
