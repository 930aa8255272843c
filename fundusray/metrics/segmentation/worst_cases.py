"""The worst of several attacks on the same images, from counts alone: SEA's ensemble (Croce, Singh
and Hein 2024) takes the worst image by image for pixel accuracy; mean IoU is no mean over images,
so there the images are gone through and each takes what makes the pooled one lowest.
"""

from collections.abc import Mapping

import numpy as np

from fundusray.errors import InputError
from fundusray.metrics.segmentation.table import Columns

MEASURES = ("pixel_accuracy", "miou")
ROUNDS = 20
"""Times the images are gone through again; a round that changes nothing is the last."""


def worst_by_image(columns_of: Mapping[str, Columns], by: str = "pixel_accuracy") -> np.ndarray:
    """Of each image the number of the attack, in the mapping's order, that is worst for it, int64
    [N]; the first of those that are alike.

    By pixel accuracy, the accuracy of all pixels together is the lowest that any choice has; by
    miou, the mean over images of each one's mean IoU over its own classes is.

    Args:
        columns_of: the columns of the same images under each attack.
        by: "pixel_accuracy" or "miou".

    Raises:
        InputError: no attack, columns of other images or another measure.
    """
    if by not in MEASURES:
        raise InputError(f"the worst attack is chosen by {' or '.join(MEASURES)}; got {by!r}")
    hits, union, labelled = _counts(columns_of)
    if by == "pixel_accuracy":
        return hits.sum(axis=2).argmin(axis=0)
    there = labelled > 0
    shares = np.where(there, hits / np.maximum(union, 1), 0.0)
    return (shares.sum(axis=2) / there.sum(axis=1)).argmin(axis=0)


def worst_by_running_miou(columns_of: Mapping[str, Columns]) -> np.ndarray:
    """Of each image the number of the attack, int64 [N], that makes the mean IoU of all images
    together low.

    The images are gone through in their order, and each takes what makes the mean IoU of those so
    far lowest. Then, from that, from one attack for all or from `worst_by_image`, whichever is
    lowest, each image changes to another attack as long as the mean IoU of all of them falls; so
    neither is worse. The order of the images can matter, and the lowest of all A^N choices is not
    promised.

    Args, Raises: as `worst_by_image`.
    """
    hits, union, labelled = _counts(columns_of)
    present, rows = labelled.sum(axis=0) > 0, np.arange(len(labelled))
    hits, union = hits[:, :, present], union[:, :, present]

    def miou(choice: np.ndarray) -> float:
        return float(_miou(hits[choice, rows].sum(axis=0), union[choice, rows].sum(axis=0)))

    singles = [np.full(len(rows), attack) for attack in range(len(hits))]
    starts = [_one_by_one(hits, union), *singles, worst_by_image(columns_of)]
    return _descended(min(starts, key=miou), hits, union)


def chosen_columns(columns_of: Mapping[str, Columns], choices: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of each image under the attack that is chosen for it, [N, ...] by name.

    Args:
        choices: [N] numbers of attacks in the mapping's order.
    """
    first, *others = columns_of.values()
    chosen = {name: np.array(values) for name, values in first.items()}
    for number, columns in enumerate(others, 1):
        own = choices == number
        for name, values in columns.items():
            chosen[name][own] = values[own]
    return chosen


def _one_by_one(hits: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Of each image in turn the attack that makes the mean IoU of those so far lowest, [N]."""
    choice = np.zeros(hits.shape[1], np.int64)
    hit, all_ = np.zeros(hits.shape[2]), np.zeros(hits.shape[2])
    for n in range(len(choice)):
        choice[n] = _miou(hit + hits[:, n], all_ + union[:, n]).argmin()
        hit, all_ = hit + hits[choice[n], n], all_ + union[choice[n], n]
    return choice


def _descended(choice: np.ndarray, hits: np.ndarray, union: np.ndarray) -> np.ndarray:
    """The choice after each image has changed to what makes the mean IoU lower, round by round."""
    choice, rows = choice.copy(), np.arange(len(choice))
    hit, all_ = hits[choice, rows].sum(axis=0), union[choice, rows].sum(axis=0)
    for _ in range(ROUNDS):
        before = choice.copy()
        for n in rows:
            hit, all_ = hit - hits[choice[n], n], all_ - union[choice[n], n]
            each = _miou(hit + hits[:, n], all_ + union[:, n])
            if each.min() < each[choice[n]]:
                choice[n] = each.argmin()
            hit, all_ = hit + hits[choice[n], n], all_ + union[choice[n], n]
        if (choice == before).all():
            break
    return choice


def _miou(hits: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Mean over classes [..., C]; a class that no image so far has counts as not there."""
    there = union > 0
    return (hits / np.maximum(union, 1)).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)


def _counts(columns_of: Mapping[str, Columns]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hits, unions) [A, N, C] of each attack and labelled [N, C]."""
    if not columns_of:
        raise InputError("the worst of no attack: give the columns of one at least")
    every = list(columns_of.values())
    labelled = np.asarray(every[0]["labelled"])
    for name, columns in columns_of.items():
        if not np.array_equal(columns["labelled"], labelled):
            raise InputError(
                f"the worst of several attacks is of the same images in the same order; {name!r} "
                "has other masks than the first"
            )
    hits = np.stack([np.asarray(columns["hits"]) for columns in every])
    predicted = np.stack([np.asarray(columns["predicted"]) for columns in every])
    return hits, predicted + labelled - hits, labelled
