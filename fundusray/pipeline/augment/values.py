"""Checks of the values an operation is given; each raises ValueError with the value's name."""

from typing import Any


def checked_number(name: str, value: Any, low: float, high: float) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not good:
        raise ValueError(
            f"{name}: needs a number from {low:g} to {high:g}, got {value_text(value)}"
        )
    return float(value)


def checked_whole_number(name: str, value: Any, low: int, high: int) -> int:
    if not (isinstance(value, int) and not isinstance(value, bool) and low <= value <= high):
        raise ValueError(
            f"{name}: needs a whole number from {low} to {high}, got {value_text(value)}"
        )
    return value


def checked_numbers(name: str, value: Any, num: int, low: float, high: float) -> tuple[float, ...]:
    if not (isinstance(value, tuple) and len(value) == num):
        raise ValueError(f"{name}: needs {num} numbers in brackets, got {value_text(value)}")
    return tuple(checked_number(name, part, low, high) for part in value)


def range_ends(name: str, value: Any, low: float, high: float) -> tuple[float, ...]:
    """The ends of a range, the lower one first."""
    found = checked_numbers(name, value, 2, low, high)
    if found[0] > found[1]:
        raise ValueError(f"{name}: the lower end comes first, got {value_text(value)}")
    return found


def range_around(
    centre: float, name: str, value: Any, low: float, high: float
) -> tuple[float, ...]:
    """The ends of a range given whole, or as the half width around a centre."""
    if isinstance(value, tuple):
        return range_ends(name, value, low, high)
    half = checked_number(name, value, 0, high - centre)
    return max(low, centre - half), centre + half


def value_text(value: Any) -> str:
    return "an operation" if callable(value) else repr(value)
