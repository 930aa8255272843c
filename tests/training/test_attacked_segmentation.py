"""Rows of attacked segmentations are of the images that came of the attack, whatever the batch."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fundusray.conditions import SegmentationAttack, parse_attacks_of_any_task
from fundusray.config import Recipe, override
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Columns, Segmentation
from fundusray.tasks.column_tables import column_table, table_columns
from fundusray.training.attacked_segmentation import attacked_segmentation_columns
from tests.attacks.coloured_squares import found, squares

CLASSES = ("background", "red", "green")
TASK = Segmentation(override(Recipe(), {"data.target": "lesions"}), CLASSES)


class Finder(nn.Module):
    """The network of `coloured_squares`, image by image."""

    def forward(self, image: Tensor) -> Tensor:
        return found(image)


def batches(cuts: list[int]) -> list[Batch]:
    """Twelve images in batches of these sizes; rows 53 and 57 do not count."""
    image, target = squares(12)
    masks = torch.stack([target == 1, target == 2], dim=1).to(torch.uint8)
    valid = torch.ones(12, dtype=torch.bool)
    valid[[3, 7]] = False
    whole = (image, torch.zeros(12, dtype=torch.int64), 50 + torch.arange(12), valid)
    pieces = zip(*(part.split(cuts) for part in whole), masks.split(cuts), strict=True)
    return [Batch(*piece[:4], masks=piece[4]) for piece in pieces]


def attacked(text: str, cuts: list[int]) -> Columns:
    model = Finder().train()
    columns = attacked_segmentation_columns(
        parse_attacks_of_any_task(text), model, batches(cuts), nullcontext(), TASK
    )
    assert model.training
    return columns


def test_rows_are_clean_and_then_of_each_budget_and_candidate() -> None:
    text = "segpgd(eps=2/255|12/255, steps=3, seed=5)"
    columns = attacked(text, [12])
    rows = [k for k in range(50, 62) if k not in (53, 57)]
    assert sorted(columns["row"].tolist()) == sorted(rows * 3)
    image, target = squares(12)
    for eps in (0.0, 2 / 255, 12 / 255):
        for k in np.flatnonzero(columns["eps"] == eps).tolist():
            place = int(columns["row"][k]) - 50
            own, truth = image[place : place + 1], target[place : place + 1]
            if eps:
                attack = SegmentationAttack("segpgd", eps, 5, (("steps", 3),))
                row = torch.tensor([place + 50])
                outcome = attack.outcome(found, own, truth, row)
                own = outcome.candidates[""]
                assert columns["linf"][k] == outcome.linf[""].item() <= eps + 1e-6
            called = found(own).argmax(dim=1)
            for c in range(3):
                assert columns["hits"][k, c] == ((called == c) & (truth == c)).sum()
                assert columns["predicted"][k, c] == (called == c).sum()
            assert columns["queries"][k] == (3 if eps else 0)
    total = [columns["hits"][columns["eps"] == eps].sum() for eps in (0, 2 / 255, 12 / 255)]
    assert total[0] > total[1] > total[2]


@pytest.mark.parametrize("text", ["cospgd(eps=4/255, steps=2)", "sea(eps=4/255, steps=3)"])
def test_rows_do_not_depend_on_the_cut(text: str) -> None:
    whole, cut = attacked(text, [12]), attacked(text, [3, 1, 8])
    for columns in (whole, cut):
        order = np.lexsort((columns["candidate"].astype(str), columns["eps"], columns["row"]))
        columns |= {name: values[order] for name, values in columns.items()}
    for name, values in whole.items():
        assert np.array_equal(values, cut[name]), name


def test_rows_travel_as_a_table() -> None:
    columns = attacked("sea(eps=4/255, steps=1)", [12])
    again = table_columns(column_table(columns))
    assert list(again) == list(columns)
    for name, values in columns.items():
        assert np.array_equal(again[name], values), name
    names = set(columns["candidate"].tolist())
    assert names == {
        "", "jensen_shannon", "masked_cross_entropy", "masked_spherical", "balanced_cross_entropy",
    }  # fmt: skip
