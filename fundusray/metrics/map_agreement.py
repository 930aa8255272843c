"""How alike two maps of the same image are: of another network, another method, a changed image."""

from typing import Any

import numpy as np

from fundusray.errors import InputError


def average_ranks(values: np.ndarray) -> np.ndarray:
    """From 1 for the smallest, equals with their mean, float64 [N]."""
    _, which, num = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(num) - (num - 1) / 2)[which.reshape(values.shape)]


def linear_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of two sets of N numbers.

    It is not defined where one side is all equal. Here such a side agrees with nothing (0), except
    with another that is all equal (1): a map that is flat whatever the network says is not taken
    for one that reacts to it.
    """
    flat = [bool(values.max() == values.min()) for values in (first, second)]
    if any(flat):
        return float(all(flat))
    # Scaled first: squares of gradients are soon below what a float can hold.
    a, b = ((values - values.mean()) / np.abs(values).max() for values in (first, second))
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1, 1))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two sets of N numbers, equals with their mean rank; of flat ones
    see `linear_correlation`."""
    return linear_correlation(average_ranks(first), average_ranks(second))


def map_similarity(
    before: np.ndarray, after: np.ndarray, fundus: np.ndarray | None = None
) -> dict[str, float]:
    """How alike two maps of an image are: rank_correlation, absolute_rank_correlation (of the
    values without their signs: Adebayo et al. 2018) and linear_correlation, each within [-1, 1].

    Args:
        before, after: of one shape, e.g. [S, S].
        fundus: truth values of that shape: what is looked at; None: all.

    Raises:
        InputError: other shapes, or a map that is not finite.
    """
    before, after = (np.asarray(values, np.float64) for values in (before, after))
    inside = np.ones(before.shape, bool) if fundus is None else np.asarray(fundus).astype(bool)
    if not before.shape == after.shape == inside.shape or not inside.any():
        raise InputError(
            f"maps of the same image have one shape, got {before.shape} and {after.shape} with a "
            f"fundus mask {inside.shape}, of {int(inside.sum())} pixels"
        )
    first, second = before[inside], after[inside]
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("maps with numbers that are not finite cannot be compared")
    return {
        "rank_correlation": rank_correlation(first, second),
        "absolute_rank_correlation": rank_correlation(np.abs(first), np.abs(second)),
        "linear_correlation": linear_correlation(first, second),
    }


def map_stability(
    before: np.ndarray, after: np.ndarray, fundus: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """`map_similarity` of each image's map as it is and as it is changed (corrupted, attacked).

    Args:
        before, after: [B, 1, S, S] or [B, S, S], map by map of the same images.
        fundus: truth values of that shape, or None.

    Raises:
        InputError: as `map_similarity`, or another number of maps.
    """
    if np.shape(before) != np.shape(after):
        raise InputError(f"two maps are needed of each image, got {np.shape(before)} and "
                         f"{np.shape(after)}")  # fmt: skip
    places: Any = [None] * len(before) if fundus is None else fundus
    return [map_similarity(*three) for three in zip(before, after, places, strict=True)]
