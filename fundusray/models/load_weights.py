"""Weights from a file into a network: no code is run, and nothing is left out unsaid."""

import json
import re
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fundusray import config, files
from fundusray.errors import InputError
from fundusray.models.bundle_folders import (
    BUNDLE_WEIGHTS,
    JOIN,
    bundle_folder,
    member_folders,
)
from fundusray.models.weight_files import (
    AROUND,
    layer_names,
    matching_part,
    parse_weights,
    unwrapped_state,
)
from fundusray.verified import read_verified


class StoredWeights(NamedTuple):
    """Tensors by plain name, and of a bundle, the network that they are of."""

    state: dict[str, Tensor]
    model: config.Model | None = None
    num_classes: int = 0
    normalisation: tuple[Tensor, Tensor] | None = None
    """Mean and std that pixels were normalised by; None where the file does not hold them."""


def no_file(location: str) -> InputError:
    """The error for weights that are not there."""
    return InputError(
        f"model.weights: no file {location}; give a .safetensors or .pth file, a bundle's folder, "
        "imagenet, or nothing for a random start"
    )


def weights_digest(location: str) -> str:
    """A hash of the weights that `model.weights` names; published ones, and "", are their name. Of
    joined bundles, `<bundle>+<bundle>`, one of all of them, in whichever order they stand. Of a
    bundle that goes through pictures by tiles, of these, too: other tiles are other answers.

    Raises:
        InputError: there is no such file, or a folder without weights.
    """
    if not location or config.is_published(location):
        return location
    if JOIN in location and not files.exists(files.absolute(location)):
        members = member_folders(location)
        if len(members) > 1:
            return files.hash_json(sorted(weights_digest(one) for one in members), 16)
    location = bundle_folder(location)
    if not files.exists(location):
        raise no_file(location)
    whole = files.join(location, BUNDLE_WEIGHTS) if files.is_dir(location) else location
    if not files.exists(whole):
        raise InputError(f"model.weights: {location} holds no {BUNDLE_WEIGHTS}")
    digest, tiles = files.sha256_file(whole)[:16], _tiles_of(location)
    return files.hash_json([digest, tiles], 16) if tiles else digest


def _tiles_of(location: str) -> dict[str, Any]:
    """How the network of a bundle's folder cuts pictures into tiles; nothing where it does not."""
    place = files.join(location, "recipe.json")
    try:
        own = json.loads(files.read_bytes(place)).get("segmentation", {})
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        return {}  # no bundle; or whoever opens it says what is wrong with it
    return {key: own[key] for key in ("tile", "overlap")} if own.get("tile") else {}


def start_digest(model: config.Model) -> str:
    """A hash of what a run starts from: `model.weights`, or the bundle it goes on from.

    Raises:
        InputError: there is no such file or bundle.
    """
    if not model.init_from:
        return weights_digest(model.weights)
    weights = files.join(bundle_folder(model.init_from), BUNDLE_WEIGHTS)
    if not files.exists(weights):
        raise _no_bundle(model.init_from)
    return f"bundle {files.sha256_file(weights)[:16]}"


def read_weights(location: str) -> StoredWeights:
    """The tensors of a .safetensors or .pth file, or of a bundle, by plain name.

    A bundle may be given as its folder, as the weights file in it, or as the run it is of.

    Raises:
        InputError: no such file, unreadable, or with code in it.
        DamagedError: a bundle whose files are not what was written.
    """
    location = bundle_folder(location)
    if not files.exists(location):
        raise no_file(location)
    if files.is_dir(location):
        bundle = _read_bundle(location, "model.weights")
        return bundle._replace(state=unwrapped_state(bundle.state, location))
    state = parse_weights(files.read_bytes(location), location)
    plain = unwrapped_state(state, location)
    return StoredWeights(plain, normalisation=_normalisation(state) or _hub_normalisation(location))


def _hub_normalisation(location: str) -> tuple[Tensor, Tensor] | None:
    """The mean and std in the config.json that the hub keeps beside a file of timm's weights."""
    beside = files.join(location.rpartition("/")[0], "config.json")
    if not files.exists(beside):
        return None
    try:
        about = json.loads(files.read_bytes(beside))
    except ValueError:
        return None  # of something else
    about = about.get("pretrained_cfg", about) if isinstance(about, dict) else {}
    pair = [about.get(name) for name in AROUND[:2]] if isinstance(about, dict) else []
    if not all(isinstance(value, list) and len(value) == 3 for value in pair) or not pair:
        return None
    if not all(isinstance(number, int | float) for value in pair for number in value):
        return None
    return torch.tensor(pair[0]), torch.tensor(pair[1])


def _normalisation(state: Any) -> tuple[Tensor, Tensor] | None:
    """The mean and std that our own networks keep beside their weights."""
    pair = [state.get(name) for name in AROUND[:2]] if isinstance(state, dict) else []
    if not all(isinstance(value, Tensor) and value.numel() == 3 for value in pair):
        return None
    return (pair[0], pair[1]) if pair else None


def read_state(location: str) -> dict[str, Tensor]:
    """The tensors alone of what `read_weights` reads."""
    return read_weights(location).state


def _read_bundle(location: str, setting: str) -> StoredWeights:
    """A bundle with its tensors under their full names; `setting` is what errors speak of."""
    content, about = read_verified(location)
    if BUNDLE_WEIGHTS not in content:
        raise InputError(f"{setting}: {location} holds no {BUNDLE_WEIGHTS}")
    state = parse_weights(content[BUNDLE_WEIGHTS], files.join(location, BUNDLE_WEIGHTS))
    if "recipe.json" not in content or "classes" not in about:
        return StoredWeights(state, normalisation=_normalisation(state))
    recipe = config.stored_recipe(content["recipe.json"].decode(), location)
    return StoredWeights(state, recipe.model, len(about["classes"]), _normalisation(state))


def _no_bundle(location: str) -> InputError:
    return InputError(
        f"model.init_from: no bundle at {location}; give the folder of one, "
        "<run folder>/bundle, that a finished training wrote; a recipe's name stands for the run "
        "that has to be done first"
    )


def check_start(model: config.Model, num_classes: int | None) -> StoredWeights:
    """The bundle that `model.init_from` names, whole and of this very network.

    Raises:
        InputError: no bundle there, or one of another network, head or number of classes.
        DamagedError: a file of it is missing or not what was written.
    """
    location = bundle_folder(model.init_from)
    if not files.is_dir(location):
        raise _no_bundle(model.init_from)
    bundle = _read_bundle(location, "model.init_from")
    if bundle.model is None:
        raise InputError(f"model.init_from: {location} is intact but no bundle of a classifier")
    wanted = num_classes or bundle.num_classes
    theirs, ours = _told(bundle.model, bundle.num_classes), _told(model, wanted)
    if theirs == ours:
        return bundle
    hint = (
        f"set model.name={bundle.model.name}"
        if bundle.model.name != model.name
        else f"to keep all but the last layers give model.weights={location}/{BUNDLE_WEIGHTS} "
        "instead of model.init_from"
    )
    raise InputError(f"model.init_from={location} is {theirs}; this run is {ours}; {hint}")


def _told(model: config.Model, num_classes: int) -> str:
    """A network in words that differ exactly where its layers do."""
    hidden = f", hidden layers {','.join(map(str, model.hidden))}" if model.hidden else ""
    size = f" for {model.image_size} pixels" if model.image_size else ""
    return f"{model.name}{size}{hidden}, output {model.output}, {num_classes} classes"


def load_start_bundle(built: nn.Module, model: config.Model, num_classes: int) -> list[str]:
    """Loads the bundle of `model.init_from` whole into a built network; notes on what differs.

    The recipe says how pixels are normalised; where it does not, the bundle.

    Raises:
        InputError, DamagedError: as `check_start`.
    """
    bundle = check_start(model, num_classes)
    assert bundle.model is not None, "check_start refuses what is no bundle"
    own = {name: built.get_buffer(name).clone() for name in AROUND[:2] if getattr(model, name)}
    _require_same(built.state_dict(), bundle.state, "init_from", model.init_from)
    built.load_state_dict(bundle.state | own, strict=True)
    if all(torch.equal(value, bundle.state[name]) for name, value in own.items()):
        return []
    before = tuple(rounded_numbers(bundle.state[name]) for name in AROUND[:2])
    now = tuple(rounded_numbers(built.get_buffer(name)) for name in AROUND[:2])
    return [
        f"{model.init_from} was trained with model.mean and model.std {before}, "
        f"this run normalises with {now}"
    ]


def rounded_numbers(tensor: Tensor) -> tuple[float, ...]:
    """The numbers of a small float32 tensor as people write them."""
    return tuple(round(value, 6) for value in tensor.flatten().tolist())


def other_head(found: StoredWeights, model: config.Model, num_classes: int) -> str:
    """How a bundle's last layers differ in meaning from a network's; "" if not, or not known."""
    if found.model is None or found.model.name != model.name:
        return ""
    theirs, ours = _told(found.model, found.num_classes), _told(model, num_classes)
    return "" if theirs == ours else f"is of {theirs} in the bundle, of {ours} here"


def fit_state(
    net: nn.Module,
    state: dict[str, Tensor],
    heads: tuple[str, ...],
    what: str,
    other: str = "",
) -> list[str]:
    """Loads a state into a network, which keeps its own random last layers where they differ.

    Notes on what was kept; if one of the `heads` differs, all of them are kept. `other` says why
    they differ although they may be of the same size. Every other name and shape must agree.

    Raises:
        InputError: another architecture; the first names and shapes that differ.
    """
    own = net.state_dict()
    state, beside = matching_part(dict(state), _features(own, heads))
    state, foreign = _without_foreign(state, own, heads)
    beside += foreign
    notes = [f"{what}: left out {layer_names(beside)}"] if beside else []
    differ = {head: _difference(state, own, head) for head in heads}
    if other or any(differ.values()):
        for head in heads:
            if not _replaceable(state, own, head):
                continue
            notes.append(f"{what}: layer {head} {other or differ[head]}; it starts at random")
            state = {n: v for n, v in state.items() if not n.startswith(f"{head}.")}
            state |= {n: v for n, v in own.items() if n.startswith(f"{head}.")}
    for name, value in own.items():
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, value)
    _require_same(own, state, "weights", what)
    net.load_state_dict(state, strict=True)
    return notes


def _features(own: dict[str, Tensor], heads: tuple[str, ...]) -> set[str]:
    """Names of all that is no last layer and that every file has."""
    starts = tuple(f"{head}." for head in heads)
    # Files from before torch 0.4.1 do not have this counter, which nothing here reads.
    return {n for n in own if not n.startswith(starts) and not n.endswith("num_batches_tracked")}


def _without_foreign(
    state: dict[str, Tensor], own: dict[str, Tensor], heads: tuple[str, ...]
) -> tuple[dict[str, Tensor], list[str]]:
    """(a state, the names left out of it): parts beside a network that the file has whole.

    A decoder of masked pretraining, another head, a projector stand under names of their own.
    """
    if not _features(own, heads) <= state.keys():
        return state, []
    roots = {name.partition(".")[0] for name in own}
    foreign = [name for name in state if name.partition(".")[0] not in roots]
    return {name: value for name, value in state.items() if name not in foreign}, foreign


def _layers(state: dict[str, Tensor], head: str) -> dict[str, tuple[int, ...]]:
    """name -> shape of a head's tensors, the first layer's first."""
    names = [name for name in state if re.fullmatch(rf"{re.escape(head)}\.(\d+\.)?\w+", name)]
    names.sort(key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    return {name: tuple(state[name].shape) for name in names}


def _difference(state: dict[str, Tensor], own: dict[str, Tensor], head: str) -> str:
    """How a head in a file differs from the network's; "" where it does not."""
    given, wanted = _layers(state, head), _layers(own, head)
    if given == wanted:
        return ""
    if not given:
        return "is not in the file"
    bias = f"{head}.bias"
    if set(given) == set(wanted) and bias in given:
        return f"has {given[bias][0]} outputs in the file, {wanted[bias][0]} here"
    widths = [
        ",".join(str(shape[0]) for name, shape in each.items() if name.endswith(".bias"))
        for each in (given, wanted)
    ]
    return f"has widths {widths[0]} in the file, {widths[1]} here"


def _replaceable(state: dict[str, Tensor], own: dict[str, Tensor], head: str) -> bool:
    """Whether a file has some whole head on top of the same number of features, or none at all."""
    given, wanted = _layers(state, head), _layers(own, head)
    if not any(name.startswith(f"{head}.") for name in state):
        return True
    weights = [name for name in given if name.endswith(".weight")]
    whole = set(given) == {name for w in weights for name in (w, f"{w[: -len('weight')]}bias")}
    features = next(iter(wanted.values()))[1:]
    return (
        bool(weights)
        and whole
        and all(len(given[w]) in (2, 4) for w in weights)
        and (given[weights[0]][1:] == features)
    )


def _require_same(
    own: dict[str, Tensor], state: dict[str, Tensor], setting: str, what: str
) -> None:
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
            f"model.{setting}={what}: another architecture: {'; '.join(differences)}; "
            "set model.name to the network the file was saved from"
        )
