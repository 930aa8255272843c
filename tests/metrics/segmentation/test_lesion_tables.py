"""Free-response curves and AUPR by size, by hand and from pixels."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score

from fundusray.errors import InputError
from fundusray.metrics import interval
from fundusray.metrics.segmentation import (
    aupr_by_size,
    froc,
    segmentation_columns_of,
    segmentation_table,
    sensitivity_at,
    size_differences,
    small_lesions_fall_first,
)
from fundusray.metrics.segmentation.counts import lesion_columns, pixel_columns
from fundusray.metrics.segmentation.sizes import ALL_LESIONS
from tests.metrics.segmentation.drawn_segmentations import CLASSES, drawn_table, masks, outputs

IDS = [f"image{n}" for n in range(10)]
TWO = ("background", "haemorrhages")


def counted(lesions: np.ndarray, detected: np.ndarray, alarms: np.ndarray) -> pa.Table:
    """A table of one kind of lesion below 10 pixels, [N], [N, 10], [N, 10]."""
    num = len(lesions)
    columns = {
        "hits": np.ones((num, 2), np.int64), "predicted": np.ones((num, 2), np.int64),
        "labelled": np.stack([np.ones(num, np.int64), lesions], axis=1), "loss": np.ones(num),
        "lesions": np.zeros((num, 1, 3), np.int64),
        "detected": np.zeros((num, 1, 3, 10), np.int64),
        "false_alarms": alarms[:, None],
    }  # fmt: skip
    columns["lesions"][:, 0, 0] = lesions
    columns["detected"][:, 0, 0] = detected
    return segmentation_table(IDS[:num], IDS[:num], columns, TWO)


def test_a_curve_by_hand() -> None:
    lesions = np.full(10, 2)
    detected = np.tile([2, 2, 2, 1, 1, 1, 1, 0, 0, 0], (10, 1))
    alarms = np.tile([8, 6, 3, 2, 0, 0, 0, 0, 0, 0], (10, 1))
    table = counted(lesions, detected, alarms)
    rows = froc(table)
    assert [row["threshold"] for row in rows][:3] == [0.05, 0.15, 0.25]
    assert [row["sensitivity"] for row in rows] == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0, 0, 0]
    assert [row["false_alarms"] for row in rows] == [8, 6, 3, 2, 0, 0, 0, 0, 0, 0]
    assert rows[0]["lesions"] == 20 and rows[0]["sensitivity_10_to_50"] is None
    assert rows[3]["sensitivity_below_10"] == 0.5
    wanted = {0.0: 0.5, 1.0: 0.5, 2.0: 0.5, 2.5: 0.75, 3.0: 1.0, 100.0: 1.0}
    for rate, sensitivity in wanted.items():
        assert sensitivity_at(table, rate)[0]["value"] == pytest.approx(sensitivity), rate


def test_sensitivity_between_thresholds_with_its_interval() -> None:
    random = np.random.default_rng(0)
    lesions = random.integers(1, 5, 10)
    shares = np.linspace(0.95, 0.05, 10)
    detected = random.binomial(lesions[:, None], shares)
    alarms = random.poisson(4 * shares**3, size=(10, 10))
    found = sensitivity_at(counted(lesions, detected, alarms))[0]

    def slow(rows: dict[str, np.ndarray]) -> float:
        """Straight between points, from nothing up."""
        points = [(0.0, 0.0)]
        for t in range(9, -1, -1):
            sensitivity = rows["detected"][:, t].sum() / rows["lesions"].sum()
            rate = rows["alarms"][:, t].mean()
            points.append((max(rate, points[-1][0]), max(sensitivity, points[-1][1])))
        below = [p for p in points if p[0] <= 1][-1]
        above = next((p for p in points if p[0] > 1), below)
        if above == below:
            return below[1]
        return below[1] + (1 - below[0]) / (above[0] - below[0]) * (above[1] - below[1])

    rows = {"lesions": lesions, "detected": detected, "alarms": alarms}
    wanted = interval(slow, rows, IDS, span=(0, 1))
    assert [found[k] for k in ("value", "low", "high")] == pytest.approx(
        [wanted[k] for k in ("value", "low", "high")], rel=1e-9
    )
    assert found["n"] == found["num_patients"] == 10 and found["lesions"] == lesions.sum()


def test_an_answer_that_is_alike_everywhere_finds_nothing() -> None:
    target = torch.from_numpy(masks(10, 32))
    logits = torch.zeros((10, 4, 32, 32))
    columns = pixel_columns(logits, target) | lesion_columns(logits, target)
    table = segmentation_table(IDS, IDS, columns, CLASSES)
    found = {row["class"]: row for row in sensitivity_at(table)}
    assert found["microaneurysms"]["value"] == 0 and found["microaneurysms"]["lesions"] > 10
    curve = [row for row in froc(table) if row["class"] == "microaneurysms"]
    assert [row["false_alarms"] for row in curve] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_aupr_of_a_size_is_that_of_its_pixels() -> None:
    target = masks(10, 32)
    logits = outputs(target, 4)
    truth = torch.from_numpy(target)
    table = segmentation_table(
        IDS, IDS, pixel_columns(logits, truth) | lesion_columns(logits, truth), CLASSES
    )
    sizes = segmentation_columns_of(table)["positives"].sum(axis=(0, 3))
    rows = aupr_by_size(table)
    assert len(rows) == (sizes > 0).sum() and {row["size"] for row in rows} == {
        "below_10",
        "10_to_50",
    }
    scores = np.rint(255 * torch.softmax(logits, dim=1).numpy())[:, 2]
    small = next(r for r in rows if (r["class"], r["size"]) == ("haemorrhages", "below_10"))
    large = np.zeros(target.shape, bool)
    for n in range(10):
        number, _ = ndimage.label(target[n] == 2, np.ones((3, 3)))
        for k, box in enumerate(ndimage.find_objects(number), 1):
            large[n] |= (number == k) & (max(s.stop - s.start for s in box) >= 10)
    kept = ~large
    wanted = average_precision_score((target == 2)[kept], scores[kept])
    assert small["value"] == pytest.approx(wanted, abs=1e-12)
    assert small["pixels"] == ((target == 2) & kept).sum()
    assert small["by_chance"] == pytest.approx(((target == 2)[kept]).mean(), abs=1e-12)
    assert small["low"] < small["value"] < small["high"] and small["n"] == 10
    without = table.drop_columns(["lesions", "detected", "false_alarms"])
    shapes = without.schema.metadata | {
        b"shapes": b'{"positives": [3, 3, 256], "negatives": [3, 256]}'
    }
    assert aupr_by_size(without.replace_schema_metadata(shapes))[0]["lesions"] is None


def attacked_pair() -> tuple[pa.Table, pa.Table]:
    """Small lesions are no longer seen under attack, large ones half as well."""
    random = np.random.default_rng(5)
    shape = (16, 1, 3, 256)
    ids = [f"image{n:02d}" for n in range(16)]

    def table(seen: tuple[float, float, float]) -> pa.Table:
        positives = np.zeros(shape, np.int64)
        for n in range(16):
            for size, share in enumerate(seen):
                high = random.binomial(30, share)
                positives[n, 0, size, 200], positives[n, 0, size, 20] = high, 30 - high
        negatives = np.zeros((16, 1, 256), np.int64)
        negatives[:, 0, 20], negatives[:, 0, 200] = 2000, random.poisson(5, 16)
        labelled = np.stack([np.full(16, 2000), np.full(16, 90)], axis=1)
        columns = {
            "hits": labelled, "predicted": labelled, "labelled": labelled, "loss": np.ones(16),
            "positives": positives, "negatives": negatives,
        }  # fmt: skip
        return segmentation_table(ids, ids, columns, TWO)

    return table((0.8, 0.8, 0.9)), table((0.1, 0.4, 0.6))


def test_small_lesions_that_fall_first_are_seen_to() -> None:
    clean, attacked = attacked_pair()
    rows = size_differences(clean, attacked)
    assert [row["size"] for row in rows] == ["below_10", "10_to_50", "above_50"]
    before, after = ({r["size"]: r["value"] for r in aupr_by_size(t)} for t in (clean, attacked))
    for row in rows:
        size = row["size"]
        assert (row["clean"], row["attacked"]) == (before[size], after[size])
        assert row["fall"] == pytest.approx(before[size] - after[size])
        assert row["relative_fall"] == pytest.approx(1 - after[size] / before[size])
        assert row["verdict"] == "fell" and row["low"] < row["fall"] < row["high"]
        assert row["relative_low"] < row["relative_fall"] < row["relative_high"]
    first = small_lesions_fall_first(clean, attacked)
    assert [row["class"] for row in first] == ["haemorrhages", ALL_LESIONS]
    apart = rows[0]["relative_fall"] - rows[2]["relative_fall"]
    assert first[0]["value"] == first[1]["value"] == pytest.approx(apart)
    assert first[0]["verdict"] == "supported" and first[0]["large"] == "above_50"
    back = size_differences(attacked, clean)
    assert {row["verdict"] for row in back} == {"rose"}
    assert small_lesions_fall_first(clean, clean)[0]["verdict"] == "undecided"
    with pytest.raises(InputError, match="16 and 3 rows"):
        size_differences(clean, attacked.slice(0, 3))


def test_one_size_says_nothing_of_sizes() -> None:
    table = drawn_table(6, side=24)
    columns = segmentation_columns_of(table)
    only = {n: v.copy() for n, v in columns.items()}
    only["positives"][:, :, 1:] = 0
    ids = table["image_id"].to_pylist()
    small = segmentation_table(ids, ids, only, CLASSES)
    assert small_lesions_fall_first(small, small) == []
