"""Counts of pixels and lesions by hand, by scipy's components and by loops."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fundusray.errors import InputError
from fundusray.metrics.segmentation.counts import lesion_columns, pixel_columns
from fundusray.metrics.segmentation.lesions import SIZES, THRESHOLDS, lesion_counts
from tests.metrics.segmentation.drawn_segmentations import masks, outputs

TOUCHING = np.ones((3, 3))


def test_a_picture_of_two_by_two() -> None:
    """Right, right, a lesion missed, a lesion called."""
    target = torch.tensor([[[0, 1], [1, 0]]])
    p = torch.tensor([[[0.9, 0.2], [0.6, 0.3]]])
    logits = torch.stack([p.log(), (1 - p).log()], dim=1)
    columns = pixel_columns(logits, target)
    assert columns["hits"].tolist() == [[1, 1]]
    assert columns["predicted"].tolist() == [[2, 2]] and columns["labelled"].tolist() == [[2, 2]]
    assert columns["loss"] == pytest.approx([-np.log([0.9, 0.8, 0.4, 0.3]).mean()], abs=1e-6)
    # The two pixels of the lesion touch at a corner: one component of two pixels across.
    assert np.argwhere(columns["positives"]).tolist() == [[0, 0, 0, 102], [0, 0, 0, 204]]
    assert np.argwhere(columns["negatives"]).tolist() == [[0, 0, 26], [0, 0, 178]]


def test_counts_are_those_of_loops_and_of_scipy() -> None:
    target = masks(3, 64)
    logits = outputs(target, 4)
    columns = pixel_columns(logits, torch.from_numpy(target))
    share = torch.softmax(logits, dim=1).numpy()
    called = share.argmax(axis=1)
    for n in range(3):
        for c in range(4):
            own = target[n] == c
            assert columns["hits"][n, c] == (own & (called[n] == c)).sum()
            assert columns["predicted"][n, c] == (called[n] == c).sum()
            assert columns["labelled"][n, c] == own.sum()
            if not c:
                continue
            scores = np.rint(255 * share[n, c]).astype(int)
            wanted = np.zeros((3, 256), int)
            number, num = ndimage.label(own, TOUCHING)
            for k, (rows, cols) in enumerate(ndimage.find_objects(number), 1):
                across = max(rows.stop - rows.start, cols.stop - cols.start)
                size = 0 if across < 10 else 1 if across < 50 else 2
                for score in scores[number == k]:
                    wanted[size, score] += 1
            assert num and (columns["positives"][n, c - 1] == wanted).all()
            empty = np.bincount(scores[~own], minlength=256)
            assert (columns["negatives"][n, c - 1] == empty).all()
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(target), reduction="none")
    assert columns["loss"] == pytest.approx(loss.double().mean(dim=(1, 2)).numpy())


def test_sizes_are_those_at_the_photograph() -> None:
    target = torch.zeros((2, 32, 32), dtype=torch.int64)
    target[:, 4:9, 4:8] = 1
    logits = torch.zeros((2, 2, 32, 32))
    pixels = pixel_columns(logits, target, photograph_pixels=[1.0, 2.0])["positives"].sum(axis=3)
    assert pixels[:, 0].tolist() == [[20, 0, 0], [0, 20, 0]]
    lesions = lesion_columns(logits, target, photograph_pixels=11.0)["lesions"]
    assert lesions[:, 0].tolist() == [[0, 0, 1], [0, 0, 1]]
    assert SIZES == ("below_10", "10_to_50", "above_50")


def test_batches_do_not_matter() -> None:
    target = torch.from_numpy(masks(4, 32))
    logits = outputs(target.numpy(), 4)
    for count in (pixel_columns, lesion_columns):
        whole, single = (
            count(logits, target),
            [count(logits[n : n + 1], target[n : n + 1]) for n in range(4)],
        )
        for name, values in whole.items():
            assert (values == np.concatenate([one[name] for one in single])).all(), name


def slow_lesion_counts(scores: np.ndarray, truth: np.ndarray) -> tuple[list, list, list]:
    """By scipy's components and a loop over every pair."""
    number, num = ndimage.label(truth, TOUCHING)
    across = [max(s.stop - s.start for s in box) for box in ndimage.find_objects(number)]
    size = [0 if a < 10 else 1 if a < 50 else 2 for a in across]
    detected = np.zeros((3, len(THRESHOLDS)), int)
    alarms = np.zeros(len(THRESHOLDS), int)
    for t, threshold in enumerate(THRESHOLDS):
        marks, count = ndimage.label(scores / 255 >= threshold, TOUCHING)
        hits = [k for k in range(1, count + 1) if truth[marks == k].mean() > 0.2 + 1e-12]
        alarms[t] = count - len(hits)
        for k in range(1, num + 1):
            detected[size[k - 1], t] += np.isin(marks[number == k], hits).mean() > 0.2 + 1e-12
    return np.bincount(size, minlength=3).tolist(), detected.tolist(), alarms.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_lesions_are_those_of_scipy(seed: int) -> None:
    target = masks(1, 64, seed)
    logits = outputs(target, 4, sure=3.0, seed=seed)
    share = torch.softmax(logits, dim=1).numpy()
    columns = lesion_columns(logits, torch.from_numpy(target))
    for k in range(3):
        scores = np.rint(255 * share[0, k + 1]).astype(np.uint8)
        counts = slow_lesion_counts(scores, target[0] == k + 1)
        for name, wanted in zip(("lesions", "detected", "false_alarms"), counts, strict=True):
            assert columns[name][0, k].tolist() == wanted, name


def test_what_is_detected_by_hand() -> None:
    truth = np.zeros((16, 16), bool)
    truth[2:4, 2:7] = True  # ten pixels
    scores = np.zeros((16, 16), np.uint8)
    scores[2, 2:4] = 200
    counts = lesion_counts(scores, truth)
    # Two of ten are a fifth, and not more.
    assert counts[0].tolist() == [1, 0, 0] and not counts[1].any() and not counts[2].any()
    scores[3, 2] = 100
    scores[10, 10:12] = 250
    _, detected, alarms = lesion_counts(scores, truth)
    assert detected[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert alarms.tolist() == [1] * 10
    # A mark over the whole image touches the lesion, and says nothing of where it is.
    _, detected, alarms = lesion_counts(np.full((16, 16), 128, np.uint8), truth)
    assert not detected.any() and alarms.tolist() == [1] * 5 + [0] * 5
    _, detected, alarms = lesion_counts(np.where(truth, 255, 0).astype(np.uint8), truth)
    assert detected[0].tolist() == [1] * 10 and not alarms.any()


def test_without_a_lesion_or_without_a_finite_output() -> None:
    target = torch.zeros((1, 8, 8), dtype=torch.int64)
    columns = pixel_columns(torch.full((1, 3, 8, 8), float("nan")), target)
    assert np.isnan(columns["loss"]).all()
    assert columns["negatives"].sum() == 2 * 64 and not columns["positives"].any()
    counts = lesion_columns(torch.zeros((1, 3, 8, 8)), target)
    assert not counts["lesions"].any()
    # A third everywhere is one false alarm up to .25, of both classes.
    assert counts["false_alarms"].tolist() == [[[1, 1, 1, 0, 0, 0, 0, 0, 0, 0]] * 2]


def test_what_is_no_target_is_refused() -> None:
    logits = torch.zeros((1, 3, 4, 4))
    for wrong in (torch.full((1, 4, 4), 3), torch.full((1, 4, 4), -1)):
        with pytest.raises(InputError, match="a class from 0 to 2"):
            pixel_columns(logits, wrong)
    with pytest.raises(InputError, match=r"\(1, 3, 4, 4\) and \(1, 4, 5\)"):
        lesion_columns(logits, torch.zeros((1, 4, 5), dtype=torch.int64))
