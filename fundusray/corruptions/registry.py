"""The corruptions by name with their facts, and what a mixture of them is.

A corruption is a function `(image uint8 [B, 3, S, S], parameters of each image) -> uint8
[B, 3, S, S]`, on any device. Its levels are its facts: of each level from which interval every
parameter is drawn.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fundusray.registry import Registry

Parameters = Mapping[str, Any]
"""What is done to one image: JSON values by name. Lengths are shares of the image's side."""
Intervals = Mapping[str, tuple[float, float]]
"""Parameter -> smallest and largest value within a level."""
Corrupt = Callable[[Tensor, Sequence[Parameters]], Tensor]
Smooth = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""(image float [B, 3, S, S] in [0, 1], parameters [B, ...]) -> the same."""
Draw = Callable[[Intervals, Iterator[float], int], dict[str, Any]]
"""(intervals of the level, numbers within (0, 1), side of the image) -> parameters."""


def within(interval: tuple[float, float], number: float) -> float:
    """The value at `number`, a share, of the way through an interval."""
    low, high = interval
    return low + (high - low) * number


def whole_within(interval: tuple[float, float], number: float) -> int:
    """A whole number of an interval, its ends included, each as likely as the others."""
    low, high = (round(end) for end in interval)
    return min(high, low + int(number * (high - low + 1)))


def uniform_draw(intervals: Intervals, numbers: Iterator[float], side: int) -> dict[str, Any]:
    """Every parameter uniform within its interval, in their order."""
    return {name: within(interval, next(numbers)) for name, interval in intervals.items()}


@dataclass(frozen=True, kw_only=True)
class CorruptionFacts:
    """What is to be known of a corruption."""

    title: str
    source: str
    """Who, where; or that it is ours."""
    levels: tuple[Intervals, ...]
    """From level 1, the mildest, on."""
    draw: Draw = uniform_draw
    smooth: Smooth | None = None
    """The same without rounding, with gradients by its parameters: within 1.5 levels of 255."""
    per_pixel: bool = False
    """Whether pixels have random numbers of their own: parameters then hold the `seed` and `row`
    that these are hashes of."""
    version: int = 1
    """Goes up when the same parameters give other pixels: older receipts are then refused."""


@dataclass(frozen=True, kw_only=True)
class MixtureFacts:
    """What is to be known of a mixture."""

    title: str
    source: str


CORRUPTIONS: Registry[Corrupt] = Registry("corruption", CorruptionFacts)

MIXTURES: Registry[tuple[str, ...]] = Registry("corruption", MixtureFacts)
"""Names of which each image draws one."""


def chain(*names: str) -> tuple[Corrupt, Draw]:
    """(function, draw) of several corruptions, one after the other; parameters stand by name."""

    def corrupt(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
        for name in names:
            image = CORRUPTIONS.find(name)(image, [each[name] for each in parameters])
        return image

    def draw(intervals: Intervals, numbers: Iterator[float], side: int) -> dict[str, Any]:
        level = int(intervals["level"][0])
        facts = [CORRUPTIONS.facts(name) for name in names]
        drawn = [each.draw(each.levels[level - 1], numbers, side) for each in facts]
        return dict(zip(names, drawn, strict=True))

    return corrupt, draw
