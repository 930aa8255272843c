"""Weights from a file into a network: no code is run, and nothing is left out unsaid."""

import io
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from fundusray import files
from fundusray.errors import InputError
from fundusray.verified import read_verified

BUNDLE_WEIGHTS = "model.safetensors"
PREFIXES = ("module.", "net.")
"""What wrappers put before a name: data-parallel training, and our own normalisation."""
NORMALISATION = ("mean", "std")


def no_file(location: str) -> InputError:
    """The error for weights that are not there."""
    return InputError(
        f"model.weights: no file {location}; give a .safetensors or .pth file, a bundle's folder, "
        "imagenet, or nothing for a random start"
    )


def digest(location: str) -> str:
    """A hash of the weights that `model.weights` names; "" and "imagenet" stand for themselves."""
    if location in ("", "imagenet"):
        return location
    location = files.absolute(location)
    if not files.exists(location):
        raise no_file(location)
    whole = files.join(location, BUNDLE_WEIGHTS) if files.is_dir(location) else location
    if not files.exists(whole):
        raise InputError(f"model.weights: {location} holds no {BUNDLE_WEIGHTS}")
    return files.sha256_file(whole)[:16]


def read_state(location: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file, or of a bundle's folder, by plain name.

    Raises:
        InputError: no such file, unreadable, or with code in it.
        DamagedError: a bundle whose files are not what was written.
    """
    location = files.absolute(location)
    if not files.exists(location):
        raise no_file(location)
    if files.is_dir(location):
        content = read_verified(location)[0].get(BUNDLE_WEIGHTS)
        if content is None:
            raise InputError(f"model.weights: {location} holds no {BUNDLE_WEIGHTS}")
        return unwrapped(_parse(content, location, safe=True), location)
    content = files.read_bytes(location)
    return unwrapped(_parse(content, location, safe=location.endswith(".safetensors")), location)


def _parse(content: bytes, location: str, safe: bool) -> Any:
    try:
        if safe:
            return safetensors.torch.load(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file trips the parsers anywhere: IndexError, KeyError...
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InputError(
            f"model.weights: {location} is no weights file or holds more than tensors, and such a "
            f"file is never run; save its state_dict as .safetensors ({reason})"
        ) from error


def unwrapped(state: Any, location: str) -> dict[str, Tensor]:
    """Plain name to tensor, out of the wrappings training scripts put around a state dict.

    Raises:
        InputError: there is no state dict in it.
    """
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    good = isinstance(state, dict) and bool(state)
    if not (good and all(isinstance(value, Tensor) for value in state.values())):
        raise InputError(f"model.weights: {location} holds no names and tensors (a state_dict)")
    plain = dict(state)
    for prefix in PREFIXES:
        names = [name for name in plain if name not in NORMALISATION]
        if names and all(name.startswith(prefix) for name in names):
            # The recipe says how pixels are normalised, not the file.
            plain = {name.removeprefix(prefix): plain[name] for name in names}
    return plain


def fit(net: nn.Module, state: dict[str, Tensor], heads: tuple[str, ...], what: str) -> list[str]:
    """Loads a state into a network, keeping its own last layers where only their size differs.

    Notes on what was kept. Every other name and shape must agree.

    Raises:
        InputError: another architecture; the first names and shapes that differ.
    """
    own = net.state_dict()
    state = dict(state)
    notes = []
    for head in heads:
        given = state.get(f"{head}.weight")
        wanted = own[f"{head}.weight"]
        if given is None or given.ndim != 2 or given.shape[1:] != wanted.shape[1:]:
            continue
        if len(given) != len(wanted):
            notes.append(
                f"{what}: layer {head} has {len(given)} classes in the file, {len(wanted)} here; "
                "it starts at random"
            )
            for part in ("weight", "bias"):
                state[f"{head}.{part}"] = own[f"{head}.{part}"]
    for name, value in own.items():
        # Files from before torch 0.4.1 do not have this counter, which nothing here reads.
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, value)
    _require_same(own, state, what)
    net.load_state_dict(state, strict=True)
    return notes


def _require_same(own: dict[str, Tensor], state: dict[str, Tensor], what: str) -> None:
    missing = [name for name in own if name not in state]
    extra = [name for name in state if name not in own]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, needs {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    differences = [
        f"{len(found)} {kind} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for kind, found in (("missing", missing), ("unknown", extra), ("of another shape", shapes))
        if found
    ]
    if differences:
        raise InputError(
            f"model.weights={what}: another architecture: {'; '.join(differences)}; "
            "set model.name to the network the file was saved from"
        )
