"""The choice of precision and layout, remembered in the run's folder and in the storage.

Two ways of computing a step differ in the last bits, so a run that goes on must compute as it
began, whatever its workers now are, and every trial of a search as the first one did.
"""

import os
import platform
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from fundusray import files
from fundusray.config import Recipe
from fundusray.errors import DamagedError
from fundusray.pipeline.augment import augmentation
from fundusray.terminal import tell
from fundusray.training import numeric_precision
from fundusray.training.job import Job
from fundusray.training.ranks import Ranks


def agreed_mode(
    model: nn.Module, recipe: Recipe, job: Job, ranks: Ranks
) -> tuple[numeric_precision.Precision, dict[str, Any]]:
    """Precision and layout of a run, equal on every rank, and what `known_mode` says of them.

    Raises:
        InputError: the batch does not fit into the device's memory.
        DamagedError: as `known_mode`.
    """
    shape = step_shape(recipe, ranks.world)
    told = ranks.agree(lambda: known_mode(model, shape, ranks.device, recipe, job))
    return numeric_precision.Precision(**told["mode"]), told


def known_mode(
    model: nn.Module,
    shape: tuple[int, int, int, int],
    device: torch.device,
    recipe: Recipe,
    job: Job,
) -> dict[str, Any]:
    """What the run began with; else what was chosen on such a machine for such a step before, or
    by a probe now.

    {"mode": {precision, layout}, "seconds": {mode: seconds of a step}, "for": what was asked}

    Raises:
        InputError: the batch does not fit into the device's memory.
        DamagedError: what was chosen is damaged, and another choice would end in other numbers.
    """
    own = files.join(job.folder, "mode.json")
    try:
        return files.read_json(own)
    except FileNotFoundError:
        pass
    except DamagedError as error:
        begun = bool(files.list_dir(files.join(job.folder, "checkpoints")))
        if begun and len(numeric_precision.open_precisions(recipe.train)) > 1:
            raise DamagedError(
                f"{own} is damaged; it alone says in which precision and layout the run began, and "
                "in others it would end in other numbers: restore it from a copy, or delete "
                f"{job.folder} to train anew"
            ) from error
        tell(f"{str(error).partition(';')[0]}: made again")
    told = of_machine(model, shape, device, recipe, job.storage)
    files.write_json(own, told)
    return told


def step_shape(recipe: Recipe, world: int) -> tuple[int, int, int, int]:
    """Of one worker's batch [B, 3, S, S]."""
    side = augmentation.output_size(augmentation.train_text(recipe.data), recipe.data.size)
    return max(recipe.train.batch // world, 2), 3, side, side


def of_machine(
    model: nn.Module,
    shape: tuple[int, int, int, int],
    device: torch.device,
    recipe: Recipe,
    storage: str,
) -> dict[str, Any]:
    """What such a machine was found to do best, for all runs in the storage."""
    wanted = recipe.train
    asked = [recipe.model.name, shape, wanted.precision, wanted.layout, machine(device)]
    asked += [torch.get_num_threads(), torch.__version__]
    note = files.join(storage, "modes", files.hash_json(asked) + ".json")
    if len(numeric_precision.open_precisions(wanted)) == 1 or not files.exists(note):
        chosen, timings = numeric_precision.probe_precisions(model, shape, device, wanted)
        told = {"mode": asdict(chosen), "seconds": timings, "for": asked}
        # Trials side by side probe side by side; the first result is everyone's.
        if len(numeric_precision.open_precisions(wanted)) == 1 or not files.exists(note):
            files.write_json(note, told)
    try:
        return files.read_json(note)
    except DamagedError as error:
        raise DamagedError(
            f"{note} is damaged; it says in which precision and layout runs of {storage} compute "
            "on such a machine: restore it from a copy, name them (train.precision=, "
            "train.layout=), or delete it to choose anew, perhaps otherwise than for earlier runs"
        ) from error


def described(told: dict[str, Any]) -> str:
    """A mode in words, with what was measured."""
    seconds = ", ".join(f"{k} {v:.3f} s" for k, v in sorted(told["seconds"].items()))
    text = f"{told['mode']['precision']} {told['mode']['layout']}"
    return f"{text} (step: {seconds})" if seconds else text


def machine(device: torch.device) -> str:
    """The kind of device that computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = "/proc/cpuinfo"
    lines = files.read_bytes(info).decode().splitlines() if os.path.exists(info) else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
