"""Photographs beside every way of preparing them, for people to choose and to check."""

from typing import Any

import numpy as np
from PIL import Image

from fundusray.data.photographs.decode import BadImage
from fundusray.data.prepared.preprocess import PREPROCESS


def preprocess_sheet(
    photos: list[tuple[str, np.ndarray]], size: int
) -> list[list[tuple[np.ndarray, str]]]:
    """A row of (image, caption) per photograph: as taken, then by every preprocessing at `size`.

    Graham's is shown twice, as Wu clips it and as Graham did. What a preprocessing refuses is
    black, and its caption gives the reason.
    """
    ways: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in PREPROCESS]
    ways.insert(1 + list(PREPROCESS).index("graham"), ("graham", {"clip": 0.9}))
    rows = []
    for name, pixels in photos:
        taken = Image.fromarray(pixels)
        taken.thumbnail((size, size), Image.Resampling.LANCZOS)
        row = [(np.asarray(taken), f"{name}, as taken")]
        for way, args in ways:
            caption = " ".join([way, *(f"{key}={given}" for key, given in args.items())])
            try:
                row.append((PREPROCESS[way].function(pixels, size, **args).pixels, caption))
            except BadImage as reason:
                black = np.zeros((size, size, 3), np.uint8)
                row.append((black, f"{caption}, refused: {reason}"))
        rows.append(row)
    return rows
