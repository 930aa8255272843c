"""Checkpoints of a training run: verified folders, the newest good one wins.

`<run>/checkpoints/step-00000120/` holds `model.safetensors`, `optimizer.safetensors`, `state.json`
and, written last, MANIFEST.json with the hash of each. Nothing in it can run code.

An object store has no rename. There a folder without MANIFEST.json is a write that was cut off and
counts for nothing, and a step that is written once more gets a folder beside the first one
(`step-00000120-01`), so that a kill leaves a good one.
"""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from fundusray import files
from fundusray.errors import NoCheckpointError
from fundusray.training.optimizers import state_to_tensors, tensors_to_state
from fundusray.verified import ASIDE, MANIFEST, DamagedError, read_verified, write_verified

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
    stage: int = 0
    """Of the phases: which optimiser the state beside it belongs to."""
    ended: str = ""
    """Why the run ended before its last epoch."""


def checkpoint_name(step: int) -> str:
    """The folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def cpu_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in memory of its own, as safetensors wants them."""
    layout = torch.contiguous_format
    return {k: v.detach().to("cpu").clone(memory_format=layout) for k, v in state.items()}


def save_checkpoint(
    folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position, key: str
) -> str:
    """Writes a checkpoint, drops those beyond KEEP; where it is.

    `key` names the run (its recipe's and data's hash), so that no other run can continue from it.
    """
    tensors, meta = state_to_tensors(optimizer)
    state = asdict(position) | {"optimizer": meta}
    content = {
        "model.safetensors": safetensors.torch.save(cpu_tensors(model.state_dict())),
        "optimizer.safetensors": safetensors.torch.save(cpu_tensors(tensors)),
        "state.json": json.dumps(state).encode(),
    }
    name = _fresh_name(folder, position.step)
    write_verified(files.join(folder, name), content, {"key": key, "step": position.step})
    found = _names(folder)
    # Later ones were refused when the run went back to before them; counted among those to keep,
    # they would push out the good one behind this.
    later = [other for other in found if other > name]
    earlier = [other for other in found if other <= name]
    for other in [*later, *earlier[:-KEEP]]:
        files.remove(files.join(folder, other))
    return files.join(folder, name)


def _fresh_name(folder: str, step: int) -> str:
    """The folder to write a step's checkpoint into; on an object store none that holds one."""
    name = checkpoint_name(step)
    there = [n for n in _names(folder) if _step_part(n) == name] if files.is_uri(folder) else []
    if not there:
        return name
    _, _, number = there[-1].removeprefix(name).partition("-")
    return f"{name}-{int(number or 0) + 1:02d}"


def _step_part(name: str) -> str:
    """A folder's name without the number of a step that was written more than once."""
    return "-".join(name.split("-")[:2])


def sweep_checkpoints(folder: str) -> None:
    """Clears up after writers that were killed at any moment; for the run's only writer.

    What was half written goes, what was being replaced comes back.
    """
    files.sweep(folder)
    if files.is_uri(folder):
        whole = _names(folder)
        for name in _folders(folder):
            if name not in whole:
                files.remove(files.join(folder, name))
        return
    if not os.path.isdir(folder):
        return
    for entry in os.listdir(folder):
        if entry.startswith(ASIDE):
            aside, place = (os.path.join(folder, n) for n in (entry, entry.removeprefix(ASIDE)))
            files.remove(aside) if os.path.isdir(place) else os.rename(aside, place)


def _folders(folder: str) -> list[str]:
    return [n for n, is_folder, _ in files.list_dir(folder) if is_folder and n.startswith("step-")]


def _names(folder: str) -> list[str]:
    """Every checkpoint, the earliest first; one whose MANIFEST is gone from a disk, where it
    cannot have been cut off, is among them and is told as damaged."""
    found = _folders(folder)
    if files.is_uri(folder):
        found = [name for name in found if files.exists(files.join(folder, name, MANIFEST))]
    return found


def newest_checkpoint(folder: str, key: str) -> tuple[str, list[str]]:
    """(name of the newest checkpoint that verifies or "", what is wrong with newer ones).

    Raises:
        NoCheckpointError: there are checkpoints and not one can be used.
    """
    problems: list[str] = []
    names = _names(folder)
    for name in reversed(names):
        try:
            content, info = read_verified(files.join(folder, name))
        except DamagedError as error:
            problems.append(str(error))
            continue
        problem = _unfit(name, content, info, key)
        if not problem:
            return name, problems
        problems.append(f"{name}: {problem}")
    if names:
        raise NoCheckpointError(
            f"{folder}: no usable checkpoint: {'; '.join(problems)}. "
            "Restore one of them, or delete the run's folder to start over."
        )
    return "", problems


def _unfit(name: str, content: dict[str, bytes], info: dict[str, Any], key: str) -> str:
    """Why an intact checkpoint is not one to go on from; "" where it is."""
    if info.get("key") != key:
        return f"belongs to another run ({info.get('key')}, this is {key})"
    if _step_part(name) != checkpoint_name(info["step"]):
        return f"holds step {info['step']}; was it renamed?"
    return _foreign(json.loads(content["state.json"]))


def _foreign(state: dict[str, Any]) -> str:
    """How a state differs from what this version writes; "" where it does not."""
    known = {part.name for part in fields(Position)} | {"optimizer"}
    missing, unknown = sorted(known - set(state)), sorted(set(state) - known)
    if not missing and not unknown:
        return ""
    told = [f"lacks {', '.join(missing)}"] if missing else []
    told += [f"has {', '.join(unknown)}"] if unknown else []
    return f"written by another version of fundusray ({'; '.join(told)})"


def stage_of(location: str) -> int:
    """The stage a checkpoint was written in: who learned, and whose state it holds."""
    return state_of(location)["stage"]


def state_of(location: str) -> dict[str, Any]:
    """A checkpoint's position, as plain values."""
    content, _ = read_verified(location)
    return json.loads(content["state.json"])


def load_checkpoint(location: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Puts a checkpoint into model and optimiser; where the run stands.

    The optimiser is one of the checkpoint's stage, see `stage_of`.

    Raises:
        NoCheckpointError: another version of fundusray wrote it.
        DamagedError: a file of it is not what was written.
    """
    content, _ = read_verified(location)
    state = json.loads(content["state.json"])
    if problem := _foreign(state):
        raise NoCheckpointError(f"{location}: {problem}; go on with that version, or start over")
    model.load_state_dict(safetensors.torch.load(content["model.safetensors"]), strict=True)
    tensors = safetensors.torch.load(content["optimizer.safetensors"])
    tensors_to_state(optimizer, tensors, state.pop("optimizer"))
    return Position(**state)
