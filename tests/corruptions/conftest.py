"""Framed photographs for corruptions: drawn ones, and real ones where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fundusray.data.drawn.source import draw_photograph
from fundusray.data.photographs.decode import decode_photograph
from fundusray.data.prepared.preprocess import resize

SIDE = 96


def framed(photographs: list[np.ndarray], side: int) -> Tensor:
    pixels = np.stack([resize(each, side).pixels for each in photographs])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="session")
def drawn() -> Tensor:
    """Eight drawn photographs, uint8 [8, 3, 96, 96]."""
    grades = (0, 0, 1, 2, 2, 3, 4, 4)
    made = [
        draw_photograph(3, i, grade, 160, lifelike=True).image for i, grade in enumerate(grades)
    ]
    return framed(made, SIDE)


@pytest.fixture(scope="session")
def real(real_data: Path) -> Tensor:
    """Twelve real photographs, uint8 [12, 3, 256, 256]."""
    paths = sorted(real_data.glob("odir_graded_256/train/*.jpeg"))[::245][:12]
    if len(paths) < 12:
        pytest.skip(f"fewer than 12 photographs in {real_data}/odir_graded_256/train")
    return framed([decode_photograph(path.read_bytes()).pixels for path in paths], 256)
