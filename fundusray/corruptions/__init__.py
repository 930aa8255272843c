"""Damage of a photograph as a bad camera or operator does it, on pixels of 8 bits.

A corruption is applied to the framed photograph: the square around the fundus, black outside
(preprocessing `resize`), before its light is evened out. Lengths are shares of the side, so that a
level looks the same at 256 and at 512 pixels. What happens to an image is a function of (the
corruption's text, seed, row).

A new one is a file here, or a plugin's: a function under `@CORRUPTIONS.register("name", **facts)`.
"""

from fundusray.corruptions.receipts import Receipt, corrupted, receipts
from fundusray.corruptions.registry import (
    CORRUPTIONS,
    MIXTURES,
    CorruptionFacts,
    MixtureFacts,
    chain,
    uniform_draw,
    whole_within,
    within,
)
from fundusray.corruptions.text import Corruption, num_levels, parse_corruption
from fundusray.registry import import_folder

__all__ = [
    "CORRUPTIONS",
    "MIXTURES",
    "Corruption",
    "CorruptionFacts",
    "MixtureFacts",
    "Receipt",
    "chain",
    "corrupted",
    "num_levels",
    "parse_corruption",
    "receipts",
    "uniform_draw",
    "whole_within",
    "within",
]

import_folder(__name__, __path__)
