"""The largest batch that a training step does not run out of memory with, found by trying."""

from collections.abc import Callable

import torch
from torch import nn

from fundusray.config import Train
from fundusray.errors import InputError
from fundusray.training import numeric_precision
from fundusray.training.optimizers import build_optimizer

SHARE = 0.9
"""Of a GPU's memory that is used: a real step needs a little more than a tried one."""
CPU_SHARE = 0.5
"""Of the memory that is free on a machine without one: others live there, too."""
LARGEST = 1024
"""Larger batches gain nothing in speed."""
CLEAR = 64 << 20
"""Bytes by which a step must exceed another one for the difference to be its images'."""


def largest_fitting(fits: Callable[[int], bool], most: int) -> int:
    """The largest even number up to `most` that fits: doubled while it does, then halved in.

    `fits` is asked for ever larger numbers first; 0 where not even 2 fits.
    """
    good, bad = 0, most + 2 - most % 2
    size = 2
    while size < bad and fits(size):
        good, size = size, size * 2
    bad = min(bad, size)
    while bad - good > max(2, good // 8):
        middle = (good + bad) // 4 * 2
        if middle in (good, bad):
            break
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def batch_that_fits(
    model: nn.Module,
    side: int,
    train: Train,
    device: torch.device,
    precision: str,
    most: int,
    part: float = 1.0,
) -> int:
    """The largest batch of one worker, within an eighth; 0 where not even two images fit.

    A step of training is tried, forwards, backwards and the optimiser's. On a GPU it fits if the
    device's memory holds it; on a CPU, whose system would rather kill than refuse, if what steps
    of smaller batches took says so. `part` is the worker's of that memory, which it may share with
    others.

    Raises:
        InputError: on a CPU, of a system that does not tell what a step takes.
    """
    model = model.to(device).train()
    optimizer = build_optimizer(model, train)
    way = numeric_precision.Precision(precision, "channels_last")
    numeric_precision.prepare_model(model, way)

    def step(size: int) -> None:
        image = torch.rand(size, 3, side, side, device=device)
        image = image.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with numeric_precision.autocast(way, device):
            output = model(image)
        numeric_precision.sum_of_squares(output).backward()
        optimizer.step()

    fits = _on_gpu(step, device, part) if device.type == "cuda" else _on_cpu(step, part)
    return largest_fitting(fits, min(most, LARGEST))


def _on_gpu(
    step: Callable[[int], None], device: torch.device, part: float
) -> Callable[[int], bool]:
    total = torch.cuda.get_device_properties(device).total_memory

    def fits(size: int) -> bool:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        try:
            step(size)
        except torch.OutOfMemoryError:
            return False
        return torch.cuda.max_memory_reserved(device) <= SHARE * part * total

    return fits


def _on_cpu(step: Callable[[int], None], part: float) -> Callable[[int], bool]:
    """Ever larger steps are measured until one clearly takes more than that of half as many
    images: small ones hide in what the process keeps from before. Memory grows evenly with the
    batch from there."""
    step(2)  # what the first one of all needs besides does not come again
    size, grown = 4, 0
    held = _peak_of(step, size)
    while grown < CLEAR and size < LARGEST:
        size *= 2
        before, held = held, _peak_of(step, size)
        grown = held - before
    each = max(grown, 1) / (size // 2)
    budget = CPU_SHARE * part * _free()
    return lambda number: number * each <= budget


def _peak_of(step: Callable[[int], None], size: int) -> int:
    """The most memory this process holds during a step, bytes; not what it held at any time."""
    try:
        with open("/proc/self/clear_refs", "w") as door:
            door.write("5")
    except OSError as error:
        raise _untold(error) from error
    step(size)
    return _told_by("/proc/self/status", "VmHWM")


def _free() -> int:
    """Memory that may be had on this machine, bytes."""
    return _told_by("/proc/meminfo", "MemAvailable")


def _told_by(place: str, key: str) -> int:
    """A line of kilobytes in one of the system's tables, bytes."""
    try:
        with open(place) as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
    except (OSError, StopIteration) as error:
        raise _untold(error) from error


def _untold(error: Exception) -> InputError:
    return InputError(
        f"train.batch=auto: this system does not tell what memory a step takes ({error!r}); give "
        "train.batch a number"
    )
