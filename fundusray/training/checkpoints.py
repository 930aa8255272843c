"""Checkpoints of a training run: verified folders, the newest good one wins.

`<run>/checkpoints/step-00000120/` holds `model.safetensors`, `optimizer.safetensors`, `state.json`
and, written last, MANIFEST.json with the hash of each. Nothing in it can run code.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from fundusray import files
from fundusray.errors import NoCheckpointError
from fundusray.training.optimizers import state_to_tensors, tensors_to_state
from fundusray.verified import DamagedError, read_verified, write_verified

KEEP = 2
"""Checkpoints that stay on disk: the newest, and one to fall back to."""


@dataclass
class Position:
    """Where a run stands; everything else follows from the recipe."""

    step: int = 0
    """Steps done since the start of the run."""
    loss_sum: float = 0.0
    """Of this epoch's rows so far, over all ranks."""
    seen: int = 0
    seconds: float = 0.0
    """Wall time spent training, over all attempts."""
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    """The best epoch so far: epoch, metric, value."""


def name_of(step: int) -> str:
    """The folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in memory of its own, as safetensors wants them."""
    layout = torch.contiguous_format
    return {k: v.detach().to("cpu").clone(memory_format=layout) for k, v in state.items()}


def save(
    folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position, key: str
) -> str:
    """Writes a checkpoint, drops those beyond KEEP; where it is.

    `key` names the run (its recipe's and data's hash), so that no other run can continue from it.
    """
    tensors, meta = state_to_tensors(optimizer)
    state = asdict(position) | {"optimizer": meta}
    content = {
        "model.safetensors": safetensors.torch.save(plain(model.state_dict())),
        "optimizer.safetensors": safetensors.torch.save(plain(tensors)),
        "state.json": json.dumps(state).encode(),
    }
    target = files.join(folder, name_of(position.step))
    write_verified(target, content, {"key": key, "step": position.step})
    for old in _names(folder)[:-KEEP]:
        files.remove(files.join(folder, old))
    return target


def _names(folder: str) -> list[str]:
    return [n for n, is_folder, _ in files.list_dir(folder) if is_folder and n.startswith("step-")]


def newest(folder: str, key: str) -> tuple[str, list[str]]:
    """(name of the newest checkpoint that verifies or "", what is wrong with newer ones).

    Raises:
        NoCheckpointError: there are checkpoints and not one can be used.
    """
    problems: list[str] = []
    names = _names(folder)
    for name in reversed(names):
        try:
            _, info = read_verified(files.join(folder, name))
        except DamagedError as error:
            problems.append(str(error))
            continue
        if info.get("key") == key:
            return name, problems
        problems.append(f"{name}: belongs to another run ({info.get('key')}, this is {key})")
    if names:
        raise NoCheckpointError(
            f"{folder}: no usable checkpoint: {'; '.join(problems)}. "
            "Restore one of them, or delete the run's folder to start over."
        )
    return "", problems


def load(location: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Puts a checkpoint into model and optimiser; where the run stands."""
    content, _ = read_verified(location)
    state = json.loads(content["state.json"])
    model.load_state_dict(safetensors.torch.load(content["model.safetensors"]), strict=True)
    tensors = safetensors.torch.load(content["optimizer.safetensors"])
    tensors_to_state(optimizer, tensors, state.pop("optimizer"))
    return Position(**state)
