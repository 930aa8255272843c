"""Figure 3's rows."""

import numpy as np
import torch
from torch import Tensor

from fundusray.corruptions import corrupted, parse_corruption, receipts
from fundusray.corruptions.sheet import sheet_rows


def test_a_sheet_has_photographs_by_kinds_and_levels(drawn: Tensor) -> None:
    rows = sheet_rows(drawn[:2], ["one eye", "another"], seed=4)
    assert [len(row) for row in rows] == [17, 17]
    captions = [caption for _, caption in rows[1]]
    assert captions[0] == "another" and captions[1] == "light leakage 1"
    assert captions[-1] == "over-exposure 4"
    assert np.array_equal(rows[0][0][0], drawn[0].permute(1, 2, 0).numpy())
    expected = corrupted(
        drawn[:2], receipts(parse_corruption("motion_blur(level=3)"), 4, [0, 1], 96)
    )
    assert torch.equal(torch.from_numpy(rows[1][7][0]).permute(2, 0, 1), expected[1])
