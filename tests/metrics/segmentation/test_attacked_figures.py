"""Figures of attacked segmentations are those of the candidates they are chosen from."""

import numpy as np
import pytest
import torch

from fundusray.metrics.segmentation import segmentation_columns_of, segmentation_summary
from fundusray.metrics.segmentation.attacked import (
    attacked_segmentation_figures,
    attacked_segmentation_tables,
)
from fundusray.metrics.segmentation.counts import lesion_columns, pixel_columns
from tests.metrics.segmentation.drawn_segmentations import CLASSES, masks, outputs

NUM = 12
LOSSES = ("one", "two", "three")


def rows(cases: dict[tuple[float, str], float]) -> dict[str, np.ndarray]:
    """Rows of the same images where the network is more or less sure of the truth, in an order in
    which each image's rows stand together."""
    target = masks(NUM, 24)
    parts = []
    for number, ((eps, name), sure) in enumerate(cases.items()):
        logits, truth = outputs(target, len(CLASSES), sure, number), torch.from_numpy(target)
        counts = pixel_columns(logits, truth) | lesion_columns(logits, truth)
        parts.append(
            {
                "image_id": np.array([f"image{n:03d}" for n in range(NUM)], dtype=object),
                "patient_id": np.array([f"patient{n // 2}" for n in range(NUM)], dtype=object),
                "condition": np.full(NUM, "clean", dtype=object),
                "attack": np.full(NUM, "sea(steps=3)", dtype=object),
                "eps": np.full(NUM, eps),
                "candidate": np.full(NUM, name, dtype=object),
                "linf": np.linspace(0, eps, NUM),
                "queries": np.full(NUM, 7 if eps else 0),
            }
            | counts
        )
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(whole["image_id"].astype(str), kind="stable")
    return {name: values[order] for name, values in whole.items()}


def test_one_candidate_is_one_row_for_each_budget_after_the_clean_one() -> None:
    whole = rows({(0.0, ""): 3.0, (0.01, ""): 1.0, (0.02, ""): 0.5})
    figures = attacked_segmentation_figures(whole, attacked_segmentation_tables(whole, CLASSES))
    assert [(row["eps"], row["case"]) for row in figures] == [
        (0, "clean"), (0.01, "attacked"), (0.02, "attacked"),
    ]  # fmt: skip
    for row in figures:
        here = whole["eps"] == row["eps"]
        hits, true = whole["hits"][here].sum(), whole["labelled"][here].sum()
        assert row["pixel_accuracy"] == pytest.approx(hits / true)
        called = whole["predicted"][here]
        assert row["background_called"] == pytest.approx(called[:, 0].sum() / called.sum())
        assert row["n"] == NUM and row["num_patients"] == NUM // 2
        assert row["queries"] == (7 if row["eps"] else 0)
        assert row["linf"] == row["eps"]
        assert row["background_accuracy"] == figures[0]["background_accuracy"]
        change = row["miou"] - figures[0]["miou"]
        assert row["miou_change"] == pytest.approx(change, abs=1e-12)
    assert figures[2]["miou_change_high"] < 0 < figures[2]["miou"]
    assert not [name for name in figures[0] if name.endswith("_why")]


def test_of_several_candidates_each_and_both_worst_cases_are_said() -> None:
    whole = rows({(0.0, ""): 3.0} | {(0.01, name): 1.0 + 0.1 * k for k, name in enumerate(LOSSES)})
    tables = attacked_segmentation_tables(whole, CLASSES)
    worst = ("worst_by_image", "worst_by_running_miou")
    assert list(tables) == [(0.0, "clean"), *((0.01, case) for case in (*LOSSES, *worst))]
    hits = {
        case: segmentation_columns_of(tables[0.01, case])["hits"].sum(axis=1)
        for case in (*LOSSES, *worst)
    }
    lowest = np.min([hits[name] for name in LOSSES], axis=0)
    assert np.array_equal(hits["worst_by_image"], lowest)
    miou = {case: segmentation_summary(tables[0.01, case])["miou"] for case in (*LOSSES, *worst)}
    assert miou["worst_by_running_miou"] <= min(miou[name] for name in LOSSES)
    figures = attacked_segmentation_figures(whole, tables)
    assert [row["case"] for row in figures] == ["clean", *LOSSES, *worst]
    assert figures[-1]["linf"] == 0.01
