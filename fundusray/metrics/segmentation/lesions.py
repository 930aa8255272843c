"""Lesions one by one: which are detected at a threshold of the probability, and the false alarms.

A lesion is a connected component of the true mask of its class, a mark one of the pixels whose
score reaches the threshold; pixels that touch at a corner are connected. What counts follows Zhang
et al. (2014, e-ophtha EX, sigma = 0.2), carried from pixels to components:

- a mark of which more than a fifth lies on lesions of the class is a hit, any other a false alarm;
- a lesion is detected where hits cover more than a fifth of it.

So a mark over half of the fundus detects nothing and is a false alarm, though it touches every
lesion: by touch alone, a network that answers everywhere alike would have found them all. A lesion
of up to four pixels is detected by one pixel of a hit.

Free-response curves over thresholds are those of Bunch et al. (1978), as the Retinopathy Online
Challenge has them (Niemeijer et al. 2010): sensitivity against false alarms an image.
"""

import numpy as np

from fundusray.metrics.lesion_sizes import Components, LesionSizes, lesion_components

EDGES = LesionSizes().edges
SIZES = tuple(LesionSizes().names())
"""below_10, 10_to_50, above_50: pixels along the longer side of a component's bounding box; who is
on an edge is above it."""
THRESHOLDS = tuple(round(0.05 + 0.1 * step, 2) for step in range(10))
"""Of the probability; between two levels of 8 bits each."""
FIFTHS = 5
"""More than one in so many pixels have to lie on each other."""


def size_bands(parts: Components, photograph_pixels: float = 1.0) -> np.ndarray:
    """Of each component [N] the number of its size in SIZES."""
    across = np.maximum(parts.height, parts.width) * photograph_pixels
    return np.searchsorted(EDGES, across, side="right")


def lesion_counts(
    scores: np.ndarray, truth: np.ndarray, photograph_pixels: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lesions int64 [3], detected int64 [3, T], false alarms int64 [T]) of a class in an image.

    Args:
        scores: uint8 [H, W], probabilities in 8 bits.
        truth: bool [H, W].
    """
    parts = lesion_components(truth)
    band = size_bands(parts, photograph_pixels)
    lesions = np.bincount(band, minlength=len(SIZES)).astype(np.int64)
    detected = np.zeros((len(SIZES), len(THRESHOLDS)), np.int64)
    false_alarms = np.zeros(len(THRESHOLDS), np.int64)
    for place, threshold in enumerate(THRESHOLDS):
        above = scores >= 255 * threshold
        if not above.any():
            # A higher threshold has no mark either.
            break
        marks = lesion_components(above)
        right = np.bincount(marks.number[truth], minlength=len(marks.area) + 1)[1:]
        hits = FIFTHS * right > marks.area
        false_alarms[place] = len(hits) - hits.sum()
        within = np.concatenate([[False], hits])[marks.number[truth]]
        covered = np.bincount(parts.number[truth][within], minlength=len(parts.area) + 1)[1:]
        detected[:, place] = np.bincount(band[FIFTHS * covered > parts.area], minlength=len(SIZES))
    return lesions, detected, false_alarms
