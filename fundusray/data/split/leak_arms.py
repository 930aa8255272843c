"""Two splits that differ in one thing: whether the other eye of a tested patient is trained on.

A split by image sends one eye of a patient to the test side and the other to the train side. To
measure what that adds, the same eyes are tested twice: once by a network that never saw their
patients, and once by one whose train side holds their fellow eyes, in place of as many other eyes
of the same classes. Size and class counts of both train sides are equal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fundusray.data.split import assign_sides
from fundusray.errors import InputError


class SplitArms(NamedTuple):
    """Both splits: "train", "val", "test" or "" (left out) for each row, [N]."""

    patient: np.ndarray
    image: np.ndarray
    tested: int
    """Eyes on the test side of both."""
    swapped: int
    """Fellow eyes on the train side of the second, in place of others."""


def arrange_arms(table: pa.Table, fractions: Sequence[float], seed: int) -> SplitArms:
    """The two splits of a manifest with image_id, patient_id, twin and target.

    Tested is one eye, the first by id, of each known patient of the test side who has another.

    Raises:
        InputError: no patient of the test side has two images, or there is no test share.
    """
    by_patient = assign_sides.stratified_split(table, "patient", fractions, seed)
    group, _ = assign_sides.linked_groups(table)
    targets = table["target"].to_numpy()
    ids = np.array(table["image_id"].to_pylist())
    test = np.flatnonzero(by_patient == "test")
    test = test[np.argsort(ids[test], kind="stable")]
    _, first = np.unique(group[test], return_index=True)
    tested, fellows = test[np.sort(first)], np.delete(test, first)
    known = np.array(table["patient_id"].to_pylist(), dtype=object) != ""
    tested = tested[np.isin(group[tested], group[fellows]) & known[tested]]
    if not len(tested):
        raise InputError(
            f"no patient on the test side ({len(test)} images, the patients of "
            f"{int(known[test].sum())} known) has two images, so no split can divide them; a leak "
            "premium needs a set with both eyes of known patients (data.patient_pattern reads "
            "them from file names)"
        )
    patient = by_patient.copy()
    patient[by_patient == "test"] = ""
    patient[tested] = "test"
    image = patient.copy()
    given = _like(fellows, np.flatnonzero(by_patient == "train"), targets, seed)
    image[given[:, 0]] = "train"
    image[given[:, 1]] = ""
    return SplitArms(patient, image, len(tested), len(given))


def _like(fellows: np.ndarray, train: np.ndarray, targets: np.ndarray, seed: int) -> np.ndarray:
    """Pairs (fellow eye, train row of the same class), int64 [M, 2]; no row twice.

    A class keeps at least one of its own rows; fellow eyes beyond that stay out.
    """
    draws = np.random.Generator(np.random.Philox(seed)).permutation(len(train))
    shuffled, pairs = train[draws], []
    for target in np.unique(targets[fellows]):
        own = shuffled[targets[shuffled] == target][:-1]
        mine = fellows[targets[fellows] == target][: len(own)]
        pairs.append(np.stack([mine, own[: len(mine)]], axis=1))
    return np.concatenate(pairs)
