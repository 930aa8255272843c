"""Checks of the values an operation is given; each raises ValueError with the value's name."""

from typing import Any


def number(name: str, value: Any, low: float, high: float) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not good:
        raise ValueError(f"{name}: needs a number from {low:g} to {high:g}, got {shown(value)}")
    return float(value)


def whole(name: str, value: Any, low: int, high: int) -> int:
    if not (isinstance(value, int) and not isinstance(value, bool) and low <= value <= high):
        raise ValueError(f"{name}: needs a whole number from {low} to {high}, got {shown(value)}")
    return value


def several(name: str, value: Any, num: int, low: float, high: float) -> tuple[float, ...]:
    if not (isinstance(value, tuple) and len(value) == num):
        raise ValueError(f"{name}: needs {num} numbers in brackets, got {shown(value)}")
    return tuple(number(name, part, low, high) for part in value)


def ends(name: str, value: Any, low: float, high: float) -> tuple[float, ...]:
    """The ends of a range, the lower one first."""
    found = several(name, value, 2, low, high)
    if found[0] > found[1]:
        raise ValueError(f"{name}: the lower end comes first, got {shown(value)}")
    return found


def around(centre: float, name: str, value: Any, low: float, high: float) -> tuple[float, ...]:
    """The ends of a range given whole, or as the half width around a centre."""
    if isinstance(value, tuple):
        return ends(name, value, low, high)
    half = number(name, value, 0, high - centre)
    return max(low, centre - half), centre + half


def shown(value: Any) -> str:
    return "an operation" if callable(value) else repr(value)
