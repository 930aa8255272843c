"""What is kept of a segmented image: counts of its pixels and of its lesions, never a map.

Both functions run where the logits are, before anything is gathered, and give arrays whose first
axis is the images [B], which may be concatenated over batches in any order: nothing in them depends
on the batch. Scores are probabilities in 8 bits, round(255 p), as IDRiD's maps are judged (Porwal
et al. 2020, sub-challenge 1).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fundusray.errors import InputError
from fundusray.metrics.lesion_sizes import lesion_components
from fundusray.metrics.segmentation.lesions import SIZES, THRESHOLDS, lesion_counts, size_bands

LEVELS = 256
_Boxes = Iterator[tuple[int, int, tuple[slice, slice]]]


def pixel_columns(
    logits: Tensor, target: Tensor, *, photograph_pixels: Sequence[float] | float = 1.0
) -> dict[str, np.ndarray]:
    """Counts of pixels: hits, predicted, labelled int64 [B, C], loss float64 [B], positives int64
    [B, C - 1, 3, 256], negatives int64 [B, C - 1, 256].

    `hits`, `predicted`, `labelled`: pixels of each class that are rightly called, called (argmax)
    and truly of it. `loss`: mean cross entropy. `positives`: histograms of a foreground class's
    scores over the pixels of that class, by the size of the connected component they lie in
    (`lesions.SIZES`); `negatives`: over all other pixels.

    Args:
        logits: [B, C, H, W].
        target: int64 [B, H, W], a class for each pixel.
        photograph_pixels: pixels of the photograph along a pixel of the mask, of each image or of
            all; sizes are those at the photograph.

    Raises:
        InputError: a target that is no class, or of another size than the logits.
    """
    truth = _checked(logits, target)
    batch, num_classes, pixels = logits.shape[0], logits.shape[1], truth[0].size
    logarithm = torch.log_softmax(logits.detach().float(), dim=1)
    loss = -logarithm.gather(1, target[:, None])[:, 0].double().mean(dim=(1, 2))
    called = logarithm.argmax(dim=1).cpu().numpy()
    shape = (num_classes, num_classes)
    confusion = np.array(
        [
            _histogram(own * num_classes + mine, shape)
            for own, mine in zip(truth, called, strict=True)
        ]
    )
    scores = _scores(logarithm)
    # One class at a time: of a whole photograph, numbers of all of them would be half a gigabyte.
    everything = np.array([[_histogram(each, [LEVELS]) for each in image] for image in scores])
    positives = np.zeros((batch, num_classes - 1, len(SIZES), LEVELS), np.int64)
    scale = np.broadcast_to(np.asarray(photograph_pixels, np.float64), batch)
    for n, k, box in _present(truth, confusion.sum(axis=2)):
        own = truth[n][box] == k + 1
        parts = lesion_components(own)
        band = size_bands(parts, float(scale[n]))[parts.number[own] - 1]
        positives[n, k] = _histogram(band * LEVELS + scores[n, k][box][own], positives.shape[2:])
    assert confusion.sum() == batch * pixels
    return {
        "hits": np.diagonal(confusion, axis1=1, axis2=2).copy(),
        "predicted": confusion.sum(axis=1),
        "labelled": confusion.sum(axis=2),
        "loss": loss.cpu().numpy(),
        "positives": positives,
        "negatives": everything - positives.sum(axis=2),
    }


def lesion_columns(
    logits: Tensor, target: Tensor, *, photograph_pixels: Sequence[float] | float = 1.0
) -> dict[str, np.ndarray]:
    """Counts of lesions: lesions int64 [B, C - 1, 3], detected int64 [B, C - 1, 3, T], false_alarms
    int64 [B, C - 1, T], at the T `lesions.THRESHOLDS` of a foreground class's probability.

    A lesion is a connected component of the class's true mask; which are detected is said in
    `lesions`.

    Args, Raises: as `pixel_columns`.
    """
    truth = _checked(logits, target)
    batch, kinds = logits.shape[0], logits.shape[1] - 1
    scores = _scores(torch.log_softmax(logits.detach().float(), dim=1))
    lesions = np.zeros((batch, kinds, len(SIZES)), np.int64)
    detected = np.zeros((batch, kinds, len(SIZES), len(THRESHOLDS)), np.int64)
    false_alarms = np.zeros((batch, kinds, len(THRESHOLDS)), np.int64)
    scale = np.broadcast_to(np.asarray(photograph_pixels, np.float64), batch)
    for n in range(batch):
        for k in range(kinds):
            counts = lesion_counts(scores[n, k], truth[n] == k + 1, float(scale[n]))
            lesions[n, k], detected[n, k], false_alarms[n, k] = counts
    return {"lesions": lesions, "detected": detected, "false_alarms": false_alarms}


def _checked(logits: Tensor, target: Tensor) -> np.ndarray:
    """The target as an array [B, H, W]."""
    wanted = (logits.shape[0], *logits.shape[2:])
    if logits.ndim != 4 or logits.shape[1] < 2 or tuple(target.shape) != wanted:
        raise InputError(
            "a segmentation is judged by logits [B, C, H, W] of two classes or more and a target "
            f"[B, H, W]; got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    truth = target.cpu().numpy()
    if truth.size and not 0 <= truth.min() <= truth.max() < logits.shape[1]:
        raise InputError(
            f"each pixel of a target is a class from 0 to {logits.shape[1] - 1}; got "
            f"{truth.min()} to {truth.max()}"
        )
    return truth


def _scores(logarithm: Tensor) -> np.ndarray:
    """uint8 [B, C - 1, H, W]: the foreground classes' probabilities in 8 bits; 0 where a network's
    output is not finite, which its loss says."""
    share = logarithm[:, 1:].exp().nan_to_num_(nan=0.0)
    return share.mul_(LEVELS - 1).round_().to(torch.uint8).cpu().numpy()


def _histogram(cells: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """How often each cell occurs, int64, in a shape."""
    counts = np.bincount(cells.ravel(), minlength=int(np.prod(shape)))
    return counts.reshape(shape).astype(np.int64)


def _present(truth: np.ndarray, labelled: np.ndarray) -> _Boxes:
    """(image, foreground class, its bounding box) of each class that is in an image."""
    for n, k in zip(*np.nonzero(labelled[:, 1:]), strict=True):
        own = truth[n] == k + 1
        box = []
        for axis in (1, 0):
            lines = np.flatnonzero(own.any(axis=axis))
            box.append(slice(int(lines[0]), int(lines[-1]) + 1))
        yield int(n), int(k), (box[0], box[1])
