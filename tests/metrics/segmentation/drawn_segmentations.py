"""Drawn masks with a network's output that is right more often than not."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from fundusray.metrics.segmentation import segmentation_table
from fundusray.metrics.segmentation.counts import lesion_columns, pixel_columns

CLASSES = ("background", "microaneurysms", "haemorrhages", "optic_disc")


def masks(images: int, side: int, seed: int = 0) -> np.ndarray:
    """int64 [N, S, S]: dots, larger spots and a disc."""
    random = np.random.default_rng(seed)
    drawn = np.zeros((images, side, side), np.int64)
    for mask in drawn:
        disc = random.integers(0, side - side // 4)
        mask[2 : 2 + side // 4, disc : disc + side // 4] = 3
        for kind, most, size in ((2, 3, 12), (1, 5, 3)):
            for _ in range(random.integers(1, most + 1)):
                y, x = random.integers(0, side - size, 2)
                high, wide = random.integers(1, size + 1, 2)
                mask[y : y + high, x : x + wide] = kind
    return drawn


def outputs(target: np.ndarray, classes: int, sure: float = 2.0, seed: int = 1) -> Tensor:
    """float32 [N, C, S, S], noise with `sure` added to the true class."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(len(target), classes, *target.shape[1:]))
    truth = np.moveaxis(np.eye(classes)[target], -1, 1)
    return torch.from_numpy((noise + sure * truth).astype(np.float32))


def drawn_table(
    images: int = 12,
    *,
    sure: float = 2.0,
    side: int = 32,
    seed: int = 0,
    patients: Sequence[str] | None = None,
    noise: int = 1,
) -> pa.Table:
    """A table of drawn images, each of its own patient unless `patients` says otherwise."""
    target = masks(images, side, seed)
    logits, truth = outputs(target, len(CLASSES), sure, noise), torch.from_numpy(target)
    columns = pixel_columns(logits, truth) | lesion_columns(logits, truth)
    ids = [f"image{n:03d}" for n in range(images)]
    owners = [f"patient{n}" for n in range(images)] if patients is None else patients
    return segmentation_table(ids, owners, columns, CLASSES)
