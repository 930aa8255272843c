"""Operations on colour; see operations.py. Colour is a matrix on (R, G, B, 1) in [0, 1]."""

import numpy as np

from fundusray.pipeline.augment.draws import (
    EYE,
    ImageEffect,
    KeyedDice,
    no_effect,
)
from fundusray.pipeline.augment.operations import OPERATIONS, Span
from fundusray.pipeline.augment.values import (
    checked_number,
    checked_numbers,
    range_around,
)

LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
# RGB to luma and the two axes of colour in whose plane hue turns, the usual three digits.
YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
RGB = np.linalg.inv(YIQ)


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
