"""Wu's figure 3 as rows of captioned pictures: photographs under each kind and level."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fundusray.corruptions.receipts import corrupted, receipts
from fundusray.corruptions.registry import CORRUPTIONS
from fundusray.corruptions.text import num_levels, parse_corruption
from fundusray.corruptions.wu import WU


def sheet_rows(
    image: Tensor, captions: Sequence[str], kinds: Sequence[str] = WU, seed: int = 0
) -> list[list[tuple[np.ndarray, str]]]:
    """A row for each photograph of uint8 [N, 3, S, S]: (uint8 [S, S, 3], caption) of itself, then
    of each kind at each of its levels. `reports.contact_sheet` makes a picture of them."""
    columns = [(_pictures(image), list(captions))]
    for kind in kinds:
        for level in range(1, num_levels(kind) + 1):
            corruption = parse_corruption(f"{kind}(level={level})")
            done = receipts(corruption, seed, range(len(image)), image.shape[-1])
            titles = [f"{CORRUPTIONS.facts(each.name).title} {level}" for each in done]
            columns.append((_pictures(corrupted(image, done)), titles))
    return [
        [(pictures[place], titles[place]) for pictures, titles in columns]
        for place in range(len(image))
    ]


def _pictures(image: Tensor) -> list[np.ndarray]:
    return list(image.permute(0, 2, 3, 1).contiguous().cpu().numpy())
