"""The largest batch that fits into memory, found by trying."""

import resource
from collections.abc import Callable

import torch
from torch import nn

from fundusray.config import Train
from fundusray.training import mode
from fundusray.training.optimizers import build_optimizer

SHARE = 0.9
"""Of a GPU's memory that is used: a real step needs a little more than a tried one."""
CPU_SHARE = 0.5
"""Of the memory that is free on a machine without one: others live there, too."""
LARGEST = 1024
"""Larger batches gain nothing in speed."""
MEBIBYTE = 1 << 20


def largest(fits: Callable[[int], bool], most: int) -> int:
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
    model: nn.Module, side: int, train: Train, device: torch.device, precision: str, most: int
) -> int:
    """The largest batch of one worker, within an eighth; 0 where not even two images fit.

    A step of training is tried, forwards, backwards and the optimiser's. On a GPU it fits if the
    device's memory holds it; on a CPU, whose system would rather kill than refuse, if what steps
    of smaller batches took says so.
    """
    model = model.to(device).train()
    optimizer = build_optimizer(model, train)
    way = mode.Mode(precision, "channels_last")
    mode.prepare(model, way)

    def step(size: int) -> None:
        image = torch.rand(size, 3, side, side, device=device)
        image = image.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with mode.autocast(way, device):
            output = model(image)
        mode.sum_of_squares(output).backward()
        optimizer.step()

    fits = _on_gpu(step, device) if device.type == "cuda" else _on_cpu(step)
    return largest(fits, min(most, LARGEST))


def _on_gpu(step: Callable[[int], None], device: torch.device) -> Callable[[int], bool]:
    total = torch.cuda.get_device_properties(device).total_memory

    def fits(size: int) -> bool:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        try:
            step(size)
        except torch.OutOfMemoryError:
            return False
        return torch.cuda.max_memory_reserved(device) <= SHARE * total

    return fits


def _on_cpu(step: Callable[[int], None]) -> Callable[[int], bool]:
    """Two small steps are measured; memory grows evenly with the batch from there."""
    step(2)
    at_two = _peak()
    step(8)
    each = max(_peak() - at_two, MEBIBYTE) / 6
    budget = CPU_SHARE * _free()
    return lambda size: (size - 8) * each <= budget


def _peak() -> int:
    """The most memory this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _free() -> int:
    """Memory that may be had on this machine, bytes."""
    with open("/proc/meminfo") as lines:
        found = {line.split(":")[0]: line.split()[1] for line in lines}
    return int(found["MemAvailable"]) * 1024
