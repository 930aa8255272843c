"""One training step and one prediction pass; knows neither Ray nor DALI.

Every random number of a step is seeded from (seed, step, rank), so a run that was broken off and
continued, or repeated, makes the same draws and there is no generator state to save.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fundusray import files
from fundusray.config import Adversarial
from fundusray.errors import FundusError
from fundusray.pipeline.engines.plain import as_float
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Columns, SampleLosses, Task
from fundusray.training.mixup import mixup_batch
from fundusray.training.objectives import OBJECTIVES


class DivergedError(FundusError):
    """The loss stopped being a number; more steps would only spoil the last good checkpoint."""


def diverged_error(
    loss: float, step: int, lr: float, names: list[str], folder: str
) -> DivergedError:
    """The error of a step whose loss is no number; `names` of the images it was taken on."""
    kept = (
        f"the last good checkpoint is in {folder}" if files.list_dir(folder) else "none was saved"
    )
    return DivergedError(
        f"loss is {loss} at step {step} (rate {lr:.2e}; images {', '.join(names[:8])}, ...); "
        f"{kept}. Lower train.lr or set train.precision=fp32."
    )


@dataclass(frozen=True)
class StepSettings:
    """How a step is taken: the same for every step of a stage."""

    network: nn.Module
    """What gradients of weights go through: the model, or it under data-parallel training."""
    model: nn.Module
    """The model itself."""
    optimizer: torch.optim.Optimizer
    objective: SampleLosses
    adversarial: Adversarial
    precision: AbstractContextManager[Any]
    mixup: float
    """Alpha of mixup; 0: none."""
    clip: float = 0.0
    """Longest gradient; 0: as long as it is."""


def step_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed that is a function of nothing but its arguments."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def train_step(
    way: StepSettings,
    batch: Batch,
    *,
    scale: float,
    seed: int,
    progress: float,
    batch_counts: Tensor | None = None,
) -> Tensor:
    """Updates from this rank's share of a global batch; the sum of its valid rows' losses.

    `scale` is world size / valid rows of the global batch: the mean over ranks that data-parallel
    training takes is then the mean over the valid rows, however they are spread. `seed` is of the
    step, the same for every rank: what is drawn from it is drawn per row. `batch_counts` [K] are
    the global batch's images per class.
    """
    per_sample = partial(way.objective.per_sample, progress=progress, batch_counts=batch_counts)
    if way.mixup:
        batch, per_sample = mixup_batch(batch, per_sample, way.mixup, seed)
    losses_of = OBJECTIVES.find(way.adversarial.method)
    each = losses_of(
        way.network, way.model, batch, partial(per_sample, valid=batch.valid), way.adversarial, seed
    )
    total = torch.zeros((), device=batch.image.device)
    while True:
        with way.precision:
            losses = next(each, None)
        if losses is None:
            return total
        way.optimizer.zero_grad(set_to_none=True)
        # Keeps the sum a number whatever losses do not count; outputs have to be finite also
        # there, or the gradient is not.
        total = torch.where(batch.valid, losses, 0.0).sum()
        (total * scale).backward()
        if way.clip:
            groups = way.optimizer.param_groups
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], way.clip)
        way.optimizer.step()
        total = total.detach()


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


# Tensors that are kept from here (blurs, discs) may later be differentiated through.
@torch.no_grad()
def predict_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    precision: AbstractContextManager[Any],
    task: Task,
) -> tuple[np.ndarray, Columns]:
    """(rows [N], what the task writes of each [N]) of the valid images, in the order given."""
    model.eval()
    rows, parts = [], []
    for batch in batches:
        with precision:
            outputs = model(batch.image)
        keep = batch.valid.cpu().numpy()
        rows.append(batch.row.cpu().numpy()[keep])
        columns = task.columns(outputs, task.target(batch))
        parts.append({name: column[keep] for name, column in columns.items()})
    return joined(rows, parts)


def joined(rows: Sequence[np.ndarray], parts: Sequence[Columns]) -> tuple[np.ndarray, Columns]:
    """(rows [N], columns [N]) of several batches, one behind the other; (none, {}) of none."""
    if not rows:
        return np.zeros(0, np.int64), {}
    names = parts[0]
    return np.concatenate(rows), {n: np.concatenate([part[n] for part in parts]) for n in names}


def to_device(batches: Iterable[Batch], device: torch.device, contiguous: bool) -> Iterator[Batch]:
    """The batches on the device that trains, images float in the layout the model wants."""
    layout = torch.contiguous_format if contiguous else torch.channels_last
    for batch in batches:
        # Images of 8 bits cross to the device as they are: a fourth of the bytes.
        image = as_float(batch.image.to(device, non_blocking=True))
        image = image.contiguous(memory_format=layout)
        rest = [None if p is None else p.to(device, non_blocking=True) for p in batch[1:]]
        yield Batch(image, *rest)


def timed_batches(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds it was waited for."""
    while True:
        clock = time.monotonic()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.monotonic() - clock
