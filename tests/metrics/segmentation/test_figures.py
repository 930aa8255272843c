"""Figures by hand and by scikit-learn; intervals by the package's own for any statistic."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import average_precision_score, confusion_matrix, jaccard_score

from fundusray.errors import InputError
from fundusray.metrics import interval
from fundusray.metrics.segmentation import (
    is_segmentation_table,
    segmentation_classes_of,
    segmentation_columns_of,
    segmentation_differences,
    segmentation_figures,
    segmentation_summary,
    segmentation_table,
    sensitivity_at,
)
from fundusray.metrics.segmentation.average_precision import average_precision, precision_recall
from fundusray.metrics.segmentation.counts import lesion_columns, pixel_columns
from fundusray.metrics.segmentation.repeats import (
    repeated_segmentation_differences,
    repeated_segmentation_summary,
)
from tests.metrics.segmentation.drawn_segmentations import CLASSES, drawn_table, masks, outputs


def columns_of(target: list, share: list) -> dict[str, np.ndarray]:
    """Of one picture, from classes and from probabilities of each class [C, H, W]."""
    logits = torch.tensor([share], dtype=torch.float64).log().float()
    return pixel_columns(logits, torch.tensor([target]))


def test_figures_by_hand() -> None:
    """Four by four: three of four lesion pixels called, and one beside them."""
    target = np.zeros((4, 4), int)
    target[0] = 1
    p = np.full((4, 4), 0.1)
    p[0, :3], p[1, 0] = 0.9, 0.8
    columns = columns_of(target.tolist(), [(1 - p).tolist(), p.tolist()])
    figures = segmentation_figures(columns, ("background", "vessels"))
    assert figures["pixel_accuracy"] == 14 / 16
    assert figures["iou_vessels"] == 3 / 5 and figures["iou_background"] == 11 / 13
    assert figures["miou"] == pytest.approx((3 / 5 + 11 / 13) / 2, abs=1e-15)
    assert figures["dice_vessels"] == figures["dice"] == 6 / 8
    # Recall .75 at precision 1; the fourth among 16.
    assert figures["aupr_vessels"] == figures["maupr"] == 0.75 + 0.25 * 4 / 16
    assert figures["loss"] == pytest.approx(-(14 * np.log(0.9) + np.log(0.1) + np.log(0.2)) / 16)
    assert list(figures)[:5] == ["loss", "pixel_accuracy", "miou", "dice", "maupr"]


def test_classes_that_are_not_there() -> None:
    target = np.zeros((4, 4), int)
    target[0, 0] = 1
    share = np.zeros((4, 4, 4)) + 1e-3
    share[0] = 1
    share[1, 0, 0], share[0, 0, 0] = 1, 1e-3
    share[3, 3, 3], share[0, 3, 3] = 1, 1e-3
    share /= share.sum(axis=0)
    figures = segmentation_figures(columns_of(target.tolist(), share.tolist()), CLASSES)
    # Haemorrhages are neither there nor called; the disc is called alone.
    assert figures["dice_haemorrhages"] is None and figures["iou_haemorrhages"] is None
    assert figures["dice_optic_disc"] == 0 and figures["aupr_optic_disc"] is None
    assert figures["dice"] == 1 and figures["maupr"] == 1
    assert figures["miou"] == (1 + 14 / 15) / 2
    nothing = columns_of(np.zeros((4, 4), int).tolist(), share.tolist())
    figures = segmentation_figures(nothing, CLASSES)
    assert figures["dice"] is None and figures["maupr"] is None and figures["miou"] == 14 / 16


def test_figures_are_those_of_scikit_learn() -> None:
    target = masks(5, 32)
    logits = outputs(target, 4)
    figures = segmentation_figures(pixel_columns(logits, torch.from_numpy(target)), CLASSES)
    share = torch.softmax(logits, dim=1).numpy()
    called = share.argmax(axis=1).ravel()
    counts = confusion_matrix(target.ravel(), called)
    assert figures["pixel_accuracy"] == counts.trace() / counts.sum()
    iou = jaccard_score(target.ravel(), called, average=None)
    assert [figures[f"iou_{name}"] for name in CLASSES] == pytest.approx(iou, abs=1e-12)
    assert figures["miou"] == pytest.approx(iou.mean(), abs=1e-12)
    aupr = [
        average_precision_score(target.ravel() == k, np.rint(255 * share[:, k]).ravel())
        for k in (1, 2, 3)
    ]
    assert [figures[f"aupr_{name}"] for name in CLASSES[1:]] == pytest.approx(aupr, abs=1e-12)
    # Without the disc.
    assert figures["maupr"] == pytest.approx(np.mean(aupr[:2]), abs=1e-12)


def test_average_precision_of_random_histograms() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        positives, negatives = random.integers(0, 3, (2, 256)) * (random.random((2, 256)) < 0.1)
        truth = np.repeat([True, False], [positives.sum(), negatives.sum()])
        levels = np.arange(256)
        scores = np.concatenate([np.repeat(levels, positives), np.repeat(levels, negatives)])
        ours = float(average_precision(positives, negatives))
        assert ours == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
        recall, precision = precision_recall(positives, negatives)
        area = (np.diff(recall, prepend=0) * precision).sum()
        assert ours == pytest.approx(area, abs=1e-12)
    assert np.isnan(average_precision(np.zeros(256), np.ones(256)))
    assert len(precision_recall(np.zeros(256, int), np.ones(256, int))[0]) == 0


def test_a_table_there_and_back() -> None:
    table = drawn_table(4)
    columns = segmentation_columns_of(table)
    again = segmentation_table(
        table["image_id"].to_pylist(), table["patient_id"].to_pylist(), columns, CLASSES
    )
    assert again.equals(table, check_metadata=True)
    assert segmentation_classes_of(table) == CLASSES
    assert columns["positives"].shape == (4, 3, 3, 256) and columns["detected"].dtype == np.int64
    # Rows that are taken, sliced and joined are those rows.
    parts = pa.concat_tables([table.slice(2), table.slice(0, 2)])
    for name, values in segmentation_columns_of(parts).items():
        assert (values == columns[name][[2, 3, 0, 1]]).all(), name
    halves = segmentation_table(
        table["image_id"].to_pylist(), [""] * 4, columns, CLASSES, np.array([0, 1, 1, 0])
    )
    assert halves["half"].type == pa.int8()
    assert halves["half"].to_pylist() == [0, 1, 1, 0]
    assert set(segmentation_columns_of(halves)) == set(columns)
    assert is_segmentation_table(halves) and not is_segmentation_table(pa.table({"half": [1]}))


def test_what_is_no_table_is_refused() -> None:
    columns = segmentation_columns_of(drawn_table(2))
    with pytest.raises(InputError, match="twice"):
        segmentation_table(["a", "a"], ["", ""], columns, CLASSES)
    with pytest.raises(InputError, match="3 rows of each column"):
        segmentation_table(["a", "b", "c"], ["", "", ""], columns, CLASSES)
    with pytest.raises(InputError, match="3 classes for 4"):
        segmentation_table(["a", "b"], ["", ""], columns, CLASSES[:3])
    broken = columns | {"loss": np.array([0.5, np.inf])}
    with pytest.raises(InputError, match="1 of 2 images, first 'b'"):
        segmentation_table(["a", "b"], ["", ""], broken, CLASSES)
    with pytest.raises(InputError, match="task=segmentation"):
        segmentation_summary(pa.table({"image_id": ["a"]}))
    with pytest.raises(InputError, match="the split is empty"):
        segmentation_summary(drawn_table(2).slice(0, 0))


def test_the_summary_is_what_leaving_patients_out_says() -> None:
    """Each figure's interval against `interval` of the same statistic of rows."""
    patients = [f"p{n // 2}" for n in range(20)] + ["", ""]
    table = drawn_table(22, side=24, patients=patients)
    summary, columns = segmentation_summary(table), segmentation_columns_of(table)
    assert (summary["n"], summary["num_patients"], summary["num_unknown"]) == (22, 10, 2)
    for name in ("loss", "pixel_accuracy", "miou", "dice", "maupr", "aupr_microaneurysms"):
        slow = interval(
            lambda rows, name=name: segmentation_figures(rows, CLASSES)[name],
            columns,
            patients,
            span=None if name == "loss" else (0, 1),
        )
        ours = [summary[name + end] for end in ("", "_low", "_high")]
        assert ours == pytest.approx([slow["value"], slow["low"], slow["high"]], rel=1e-9), name
        assert slow["low"] < slow["value"] < slow["high"] and summary[f"{name}_why"] == ""


def test_what_calling_everything_background_reaches() -> None:
    table = drawn_table(6)
    target = masks(6, 32)
    logits = torch.zeros((6, 4, 32, 32))
    logits[:, 0] = 5
    truth = torch.from_numpy(target)
    figures = segmentation_figures(pixel_columns(logits, truth), CLASSES)
    summary = segmentation_summary(table)
    assert summary["background_accuracy"] == figures["pixel_accuracy"] == (target == 0).mean()
    assert summary["background_miou"] == pytest.approx(figures["miou"], abs=1e-15)
    for name in ("dice", "maupr"):
        assert summary[f"background_{name}"] == pytest.approx(figures[name], abs=1e-12)
    assert summary["share_haemorrhages"] == (target == 2).mean()
    assert summary["share_haemorrhages"] == pytest.approx(figures["aupr_haemorrhages"], abs=1e-12)


def test_few_patients_are_too_few() -> None:
    ids = [f"image{n}" for n in range(12)]
    table = drawn_table(12)
    columns = {name: values.copy() for name, values in segmentation_columns_of(table).items()}
    # Haemorrhages in four images, the disc in two.
    for k, kept in ((2, 4), (3, 2)):
        for name in ("hits", "labelled"):
            columns[name][kept:, k] = 0
        columns["positives"][kept:, k - 1] = 0
    summary = segmentation_summary(segmentation_table(ids, ids, columns, CLASSES))
    assert (
        summary["aupr_microaneurysms_why"] == "" and summary["aupr_microaneurysms_low"] is not None
    )
    why = "4 patients with haemorrhages, at least 5 are needed"
    assert summary["dice_haemorrhages_why"] == why and summary["dice_haemorrhages_low"] is None
    assert summary["dice_why"] == "2 patients with optic_disc, at least 3 are needed"
    assert summary["maupr_low"] is not None
    few = segmentation_summary(drawn_table(3))
    assert few["miou"] is not None and few["miou_low"] is None
    assert few["miou_why"] == "3 patients, at least 5 are needed"


def test_a_class_that_is_missed_is_as_sure_as_those_who_have_it_are_many() -> None:
    """Everything called background, where 6 of 30 patients have haemorrhages and 9 the disc."""
    ids = [f"image{n:02d}" for n in range(30)]
    target = masks(30, 24)
    for kind, kept in ((2, 6), (3, 9)):
        target[kept:][target[kept:] == kind] = 0
    target[:, 0, :3] = 1
    logits, truth = torch.zeros((30, 4, 24, 24)), torch.from_numpy(target)
    logits[:, 0] = 5
    counts = pixel_columns(logits, truth) | lesion_columns(logits, truth)
    table = segmentation_table(ids, ids, counts, CLASSES)
    summary = segmentation_summary(table)
    # Wilson's interval of 0 in n ends at z^2 / (n + z^2).
    reach = {n: 1.959963984540054**2 / (n + 1.959963984540054**2) for n in (30, 9, 6)}
    for name, people in (("microaneurysms", 30), ("haemorrhages", 6), ("optic_disc", 9)):
        for figure in (f"dice_{name}", f"iou_{name}"):
            assert summary[figure] == summary[f"{figure}_low"] == 0
            assert summary[f"{figure}_high"] == pytest.approx(reach[people], rel=1e-6)
    assert summary["dice_high"] == pytest.approx(np.mean(list(reach.values())), rel=1e-6)
    found = {row["class"]: row for row in sensitivity_at(table)}
    assert found["haemorrhages"]["value"] == found["haemorrhages"]["low"] == 0
    assert found["haemorrhages"]["high"] == pytest.approx(reach[6], rel=1e-6)
    # A perfect answer misses none of them.
    perfect = 50 * torch.nn.functional.one_hot(truth, 4).movedim(3, 1).float()
    best = segmentation_table(ids, ids, pixel_columns(perfect, truth), CLASSES)
    assert segmentation_summary(best)["iou_optic_disc_low"] == pytest.approx(1 - reach[9], rel=1e-6)


def test_scores_of_two_networks_are_not_ranked_together() -> None:
    table = drawn_table(8)
    columns, ids = segmentation_columns_of(table), table["image_id"].to_pylist()
    half = np.array([0, 1] * 4)
    halves = segmentation_table(ids, ids, columns, CLASSES, half)
    weights, each = [], []
    for part in (0, 1):
        own = {name: values[half == part] for name, values in columns.items()}
        weights.append(own["labelled"][:, 2].sum())
        each.append(segmentation_figures(own, CLASSES)["aupr_haemorrhages"])
    found = segmentation_summary(halves)
    assert found["aupr_haemorrhages"] == pytest.approx(np.average(each, weights=weights), abs=1e-12)
    assert found["aupr_haemorrhages"] != segmentation_summary(table)["aupr_haemorrhages"]
    assert found["miou"] == segmentation_summary(table)["miou"]


def test_differences_are_paired() -> None:
    good, bad = drawn_table(14, sure=2.5), drawn_table(14, sure=1.0, noise=2)
    rows = segmentation_differences(good, bad, ["miou", "loss", "maupr"])
    assert [row["name"] for row in rows] == ["miou", "loss", "maupr"]
    for row in rows:
        assert row["verdict"] == "better" and row["p"] < 0.01 and row["n"] == 14
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["difference"] == pytest.approx(row["first"] - row["second"])
    back = segmentation_differences(bad, good.take(list(range(14))[::-1]), ["miou"])[0]
    assert back["verdict"] == "worse"
    assert back["difference"] == pytest.approx(-rows[0]["difference"])
    same = segmentation_differences(good, good)
    assert {row["why"] for row in same} == {"both answer alike here"}
    alike = segmentation_differences(drawn_table(14), drawn_table(14, noise=5), ["miou"])[0]
    assert alike["verdict"] == "undecided" and alike["low"] < 0 < alike["high"]


def test_other_images_are_refused_by_name() -> None:
    table = drawn_table(6)
    with pytest.raises(InputError, match=r"6 and 5 rows; first of one side only: 'image005'"):
        segmentation_differences(table, table.slice(0, 5))
    with pytest.raises(InputError, match="labelled differs"):
        segmentation_differences(table, drawn_table(6, seed=9))
    with pytest.raises(InputError, match="no figure named 'iou'"):
        segmentation_differences(table, table, ["iou"])


def test_several_trainings() -> None:
    tables = [drawn_table(14, noise=noise) for noise in (1, 2, 3)]
    each = [segmentation_summary(table) for table in tables]
    found = repeated_segmentation_summary(tables)
    assert found["repeats"] == 3 and found["n"] == 14
    for name in ("miou", "loss", "aupr_microaneurysms"):
        values = [one[name] for one in each]
        assert found[name] == pytest.approx(np.mean(values))
        assert found[f"{name}_seed_sd"] == pytest.approx(np.std(values, ddof=1))
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    one = repeated_segmentation_summary(tables[:1])
    assert one["miou_low"] == each[0]["miou_low"] and one["miou_seed_sd"] is None
    worse = [drawn_table(14, sure=1.0, noise=noise) for noise in (4, 5, 6)]
    row = repeated_segmentation_differences(tables, worse, ["miou"])[0]
    assert row["verdict"] == "better" and row["repeats"] == 3
    assert row["difference"] == pytest.approx(row["first"] - row["second"])
    with pytest.raises(InputError, match="3 and 2 of them"):
        repeated_segmentation_differences(tables, worse[:2])
