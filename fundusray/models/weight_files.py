"""What a weights file from elsewhere holds: tensors by plain name, or a sentence on why not.

No code in a file is ever run. What people save besides the bare names is taken off (wrappers of
training scripts, prefixes of data-parallel and compiled networks), and what cannot be weights is
named as what it is: a web page, a Git LFS pointer, tensors without values, numbers that are none.
"""

import io
import pickletools
import re
import zipfile
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from fundusray.errors import InputError

AROUND = ("mean", "std", "thresholds")
"""What our own networks keep beside `net`: normalisation, and a regression's thresholds."""
INSIDE = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
"""Keys under which training scripts keep a state dict, the first that is there counts."""
PREFIXES = ("module.", "_orig_mod.", "net.", "model.", "backbone.", "encoder.")
"""What wrappers put before every name: data-parallel training, torch.compile, our normalisation,
Lightning modules, networks with a head of their own."""
MOST_INSTRUCTIONS = 1_000_000
"""Of a .pth file's pickle: a large network needs some ten thousand."""


def parse_weights(content: bytes, location: str) -> Any:
    """The value in a .safetensors or .pth file; nothing in it is run.

    Raises:
        InputError: it is no weights file, or holds more than tensors; what it seems to be.
    """
    if what := _mistaken(content):
        raise InputError(f"model.weights: {location} {what}")
    try:
        if location.endswith(".safetensors"):
            return safetensors.torch.load(content)
        _require_short(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file trips the parsers anywhere: IndexError, KeyError...
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InputError(
            f"model.weights: {location} is no weights file or holds more than tensors, and such a "
            f"file is never run; save its state_dict as .safetensors ({reason})"
        ) from error


def _mistaken(content: bytes) -> str:
    """What a file is that only bears the name of weights; "" where it may be some."""
    head = content[:512].lstrip().lower()
    if not head:
        return "is empty; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights themselves; run `git lfs pull` where it lies"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return (
            "is a web page, not weights: the download was refused or wants a login; fetch the file"
        )
    return ""


def _require_short(content: bytes) -> None:
    """Refuses a pickle whose reading alone would take minutes or all memory.

    Raises:
        ValueError: too many instructions, or packed members.
    """
    stream = io.BytesIO(content)
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("its members are compressed, which torch.save never does")
            programs = [archive.read(m) for m in members if m.filename.endswith("/data.pkl")]
        left = MOST_INSTRUCTIONS
        for program in programs:
            left = _counted(io.BytesIO(program), left)
        return
    stream.seek(0)
    left = MOST_INSTRUCTIONS
    # A number, a version, the machine, the tensors' names and shapes, then the keys of storages.
    for _ in range(5):
        left = _counted(stream, left)


def _counted(stream: io.BytesIO, left: int) -> int:
    """How many instructions are left after the next pickle in a stream."""
    for _ in pickletools.genops(stream):
        left -= 1
        if left < 0:
            raise ValueError(f"its pickle has over {MOST_INSTRUCTIONS:,} instructions")
    return left


def unwrapped_state(state: Any, location: str) -> dict[str, Tensor]:
    """Plain name to tensor, out of the wrappings training scripts put around a state dict.

    Raises:
        InputError: there is no state dict in it, or its tensors hold no numbers.
    """
    while isinstance(state, dict):
        inner = next((key for key in INSIDE if isinstance(state.get(key), dict)), None)
        if inner is None:
            break
        state = state[inner]
    good = isinstance(state, dict) and bool(state)
    if not (good and all(isinstance(value, Tensor) for value in state.values())):
        raise InputError(f"model.weights: {location} holds no names and tensors (a state_dict)")
    strange = [name for name in state if not isinstance(name, str)]
    if strange:
        raise InputError(
            f"model.weights: {location} holds tensors under {strange[0]!r} and the like, where "
            "names of layers are needed; save the network's state_dict"
        )
    for name, value in state.items():
        if reason := _without_values(value):
            raise InputError(f"model.weights: {location}: {name} {reason}")
    return unprefixed_state(dict(state))


def _without_values(value: Tensor) -> str:
    """Why a tensor cannot be a layer's; "" where it can."""
    if value.device.type == "meta":
        return "is a meta tensor, a shape without numbers; save the network after it was loaded"
    if value.layout != torch.strided or value.is_quantized:
        kind = "quantised" if value.is_quantized else "sparse"
        return f"is {kind}; save it as a dense tensor of floating-point numbers"
    if value.is_floating_point() and not torch.isfinite(value.float()).all():
        return "holds NaN or infinity: the training it comes from diverged; take an earlier one"
    return ""


def unprefixed_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state without the prefixes that all of its names share, one inside the other."""
    plain = state
    while True:
        names = [name for name in plain if name not in AROUND]
        shared = [p for p in PREFIXES if names and all(name.startswith(p) for name in names)]
        if not shared:
            return plain
        # The recipe says how pixels are normalised, not the file.
        plain = {name.removeprefix(shared[0]): plain[name] for name in names}


def matching_part(
    state: dict[str, Tensor], wanted: set[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """(the part of a state that is the wanted network, the names beside it).

    A file may hold the network under one of PREFIXES and another head, a projector or a decoder
    beside it. The state comes back as it is where its own names fit, or no part of it does.

    Args:
        wanted: names that must be there, those of the last layers apart.
    """
    if wanted <= state.keys():
        return state, []
    for prefix in PREFIXES:
        inner = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        inner = unprefixed_state(inner)
        if wanted <= inner.keys():
            return inner, [name for name in state if not name.startswith(prefix)]
    return state, []


def layer_names(names: list[str]) -> str:
    """A few layers of many tensors' names, in words."""
    layers = list(dict.fromkeys(re.sub(r"\.[^.]+$", "", name) for name in names))
    return ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
