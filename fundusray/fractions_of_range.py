"""Lengths of pixels in [0, 1] as fractions: 8-bit levels, or hundredths of black to white."""

LEVELS = 255
"""Steps from black to white of 8 bits."""
PARTS = 100
QUARTER = 0.25
"""Of a level; levels down to it are written as such, however short their hundredths are."""


def fraction_text(length: float) -> str:
    """A length as people write it, to four digits: 2/255, or 1/100 (`scale_of_length`)."""
    scale = scale_of_length(length)
    return f"{length * scale:.4g}/{scale}"


def scale_of_length(length: float) -> int:
    """255, or 100 where whole hundredths give a length again that is no quarters of levels."""
    quarters, hundredths = length * LEVELS / QUARTER, length * PARTS
    if _is_whole(quarters) or not _is_whole(hundredths):
        return LEVELS
    return PARTS


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-9 * max(1.0, number) and round(number) > 0
