"""Numeric precision and memory layout: which of four ways a step runs fastest here, measured.

On one machine bfloat16 doubles the speed of a resnet and slows an efficientnet down; another
behaves the other way. Four ways times four steps tell.
"""

import copy
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fundusray.config import Train
from fundusray.errors import InputError
from fundusray.terminal import tell

PRECISIONS = ("fp32", "bf16")
LAYOUTS = ("contiguous", "channels_last")
STEPS = 3
MARGIN = 0.95
"""bf16 has to take less than this share of fp32's time: within the noise, fp32 it is."""
HOPELESS = 3.0
"""A way this many times slower than the best is not timed further."""
CPU_IMAGES = 4
"""Images in a timed batch on a CPU, whose time grows evenly with them: a probe takes seconds."""
ENOUGH_SECONDS = 3.0
"""After this long a way has one timed step at least, and no more are made."""


@dataclass(frozen=True)
class Precision:
    """How a step is computed."""

    precision: str
    """fp32, or bf16 (autocast; weights and their gradients stay fp32)."""
    layout: str
    """contiguous or channels_last."""

    def __str__(self) -> str:
        return f"{self.precision} {self.layout}"


def open_precisions(train: Train) -> list[Precision]:
    """The ways a recipe leaves open, fp32 first."""
    precisions = PRECISIONS if train.precision == "auto" else (train.precision,)
    layouts = LAYOUTS if train.layout == "auto" else (train.layout,)
    return [Precision(precision, layout) for precision in precisions for layout in layouts]


def probe_precisions(
    model: nn.Module,
    shape: tuple[int, int, int, int],
    device: torch.device | str,
    train: Train,
    steps: int = STEPS,
) -> tuple[Precision, dict[str, float]]:
    """(the fastest way, seconds per forward and backward by `str(Mode)`).

    On a CPU the seconds are those of CPU_IMAGES images, if the batch has more. Times a copy on
    random images [B, 3, S, S], so weights, batch statistics and the global random state stay as
    they are. Where the recipe pins both precision and layout nothing is timed. The optimiser's
    step is the same in every way and is left out, and so is a way that a GPU's memory cannot hold.

    Raises:
        InputError: no way fits into the device's memory.
    """
    device = torch.device(device)
    if device.type == "cpu":
        shape = (min(shape[0], CPU_IMAGES), *shape[1:])
    ways = open_precisions(train)
    if len(ways) == 1:
        return ways[0], {}
    seconds: dict[Precision, float] = {}
    used: list[int] = []
    if device.type == "cuda":
        used = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=used):
        for way in ways:
            limit = HOPELESS * min(seconds.values(), default=float("inf"))
            try:
                seconds[way] = _time(model, shape, device, way, steps, limit)
            except torch.OutOfMemoryError:
                tell(f"{way}: {shape[0]} images do not fit")
            if device.type == "cuda":
                torch.cuda.empty_cache()
    if not seconds:
        raise InputError(
            f"train.batch: {shape[0]} images of {shape[2]} pixels do not fit into the memory of "
            f"{device} for one worker; give a smaller train.batch, train.batch=auto or more workers"
        )
    return fastest_precision_mode(seconds), {str(way): taken for way, taken in seconds.items()}


def fastest_precision_mode(seconds: dict[Precision, float]) -> Precision:
    """The quickest way; bf16 only where it clearly beats the quickest fp32."""
    quickest = min(seconds, key=seconds.__getitem__)
    exact = [way for way in seconds if way.precision == "fp32"]
    if not exact:
        return quickest
    best = min(exact, key=seconds.__getitem__)
    return quickest if seconds[quickest] < MARGIN * seconds[best] else best


def _time(
    model: nn.Module,
    shape: tuple[int, int, int, int],
    device: torch.device,
    way: Precision,
    steps: int,
    limit: float,
) -> float:
    """Least seconds of a forward and backward pass, after one that does not count."""
    trial = copy.deepcopy(model).to(device).train()
    prepare_model(trial, way)
    generator = torch.Generator(device).manual_seed(0)
    image = torch.rand(shape, generator=generator, device=device)
    image = image.contiguous(memory_format=memory_format(way))
    taken: list[float] = []
    for _ in range(1 + steps):
        start = _now(device)
        trial.zero_grad(set_to_none=True)
        with autocast(way, device):
            output = trial(image)
        sum_of_squares(output).backward()
        taken.append(_now(device) - start)
        if len(taken) > 1 and (taken[-1] > limit or sum(taken) > ENOUGH_SECONDS):
            break
    # The least: whatever else the machine does only ever adds to a step.
    return min(taken[1:])


def sum_of_squares(output: Tensor | tuple[Tensor | None, ...]) -> Tensor:
    """A number that every parameter, those of an auxiliary head too, has a gradient of."""
    parts = output if isinstance(output, tuple) else (output,)
    parts = [part for part in parts if part is not None]
    return sum((part.float().square().sum() for part in parts), torch.zeros(()).to(parts[0].device))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def memory_format(way: Precision) -> torch.memory_format:
    """The layout as torch calls it."""
    return torch.channels_last if way.layout == "channels_last" else torch.contiguous_format


def prepare_model(model: nn.Module, way: Precision) -> nn.Module:
    """The model with its weights in the layout, changed in place."""
    return model.to(memory_format=memory_format(way))


def autocast(way: Precision, device: torch.device | str) -> torch.autocast:
    """The context for forward passes; may be entered again and again."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=way.precision == "bf16")
