"""One training step and one prediction pass; knows neither Ray nor DALI.

Every random number of a step is seeded from (seed, step, rank), so a run that was broken off and
continued, or repeated, makes the same draws and there is no generator state to save.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.config import Loss
from fundusray.errors import FundusError
from fundusray.losses import LOSSES
from fundusray.pipeline import Batch
from fundusray.pipeline.plain import as_float

AUXILIARY_WEIGHT = 0.4
"""Weight of Inception's auxiliary head in the loss (Szegedy et al. 2015; torchvision's custom)."""


class DivergedError(FundusError):
    """The loss stopped being a number; more steps would only spoil the last good checkpoint."""


@dataclass(frozen=True)
class Objective:
    """The loss of a recipe over class counts of its train rows."""

    loss: Loss
    counts: Tensor
    """[K] float, on the device that trains."""

    def per_sample(self, output: Tensor | tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        """[B] losses of logits [B, K], or of (logits, auxiliary logits) in training Inception."""
        function = LOSSES.find(self.loss.name)
        main, auxiliary = output if isinstance(output, tuple) else (output, None)
        losses = function(main.float(), target, counts=self.counts, **self.loss.args)
        if auxiliary is None:
            return losses
        extra = function(auxiliary.float(), target, counts=self.counts, **self.loss.args)
        return losses + AUXILIARY_WEIGHT * extra


def step_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed that is a function of nothing but its arguments."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    objective: Objective,
    precision: AbstractContextManager[Any],
    scale: float,
) -> Tensor:
    """One update from this rank's share of a global batch; the sum of its valid rows' losses.

    `scale` is world size / valid rows of the global batch: the mean over ranks that data-parallel
    training takes is then the mean over the valid rows, however they are spread.
    """
    optimizer.zero_grad(set_to_none=True)
    with precision:
        output = network(batch.image)
    losses = objective.per_sample(output, batch.target)
    total = (losses * batch.valid).sum()
    (total * scale).backward()
    optimizer.step()
    return total.detach()


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.inference_mode()
def predict(
    model: nn.Module, batches: Iterable[Batch], precision: AbstractContextManager[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """(rows [N], logits [N, K] float32) of the valid images, in the order given."""
    model.eval()
    rows, logits = [], []
    for batch in batches:
        with precision:
            output = model(batch.image)
        keep = batch.valid.cpu().numpy()
        rows.append(batch.row.cpu().numpy()[keep])
        logits.append(output.float().cpu().numpy()[keep])
    if not rows:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    return np.concatenate(rows), np.concatenate(logits)


def to_device(batches: Iterable[Batch], device: torch.device, contiguous: bool) -> Iterator[Batch]:
    """The batches on the device that trains, images float in the layout the model wants."""
    layout = torch.contiguous_format if contiguous else torch.channels_last
    for batch in batches:
        # Images of 8 bits cross to the device as they are: a fourth of the bytes.
        image = as_float(batch.image.to(device, non_blocking=True))
        image = image.contiguous(memory_format=layout)
        rest = [part.to(device, non_blocking=True) for part in batch[1:]]
        yield Batch(image, *rest)
