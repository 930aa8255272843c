"""A trained network as one folder: weights, recipe, classes and a card, each byte verified.

model.safetensors  the weights, normalisation included; no pickle is ever read
recipe.json        how it was made
card.md            what it is and what it is not for
MANIFEST.json      sha256 of each file, classes, info, versions
"""

import dataclasses
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import safetensors.torch
from torch import Tensor, nn

import fundusray
from fundusray import config, files
from fundusray.errors import InputError
from fundusray.harmless import escaped_markdown
from fundusray.models.load_weights import BUNDLE_WEIGHTS, bundle_folder, rounded_numbers
from fundusray.models.segmenters import SegmentationNetwork, build_network
from fundusray.verified import DamagedError, read_info, read_part, read_verified, write_verified

__all__ = [
    "Bundle",
    "DamagedError",
    "library_versions",
    "load_bundle",
    "read_about",
    "read_recipe",
    "read_verified",
    "save_bundle",
    "write_verified",
]

LIMITS = """\
- For research on retinal fundus photographs. Not a medical device: no diagnosis may rest on it.
- Measured on the data source above only. Another camera, population or grading protocol changes
  every figure; measure again there before use.
- Expects one photograph of a fundus, prepared as the recipe says. It answers for any other image
  just as confidently.
- Rare grades rest on few images: read their intervals, not their values.
"""


@dataclass(frozen=True)
class Bundle:
    """A loaded network, in evaluation mode on the CPU, and what it came with."""

    model: nn.Module
    recipe: config.Recipe
    classes: tuple[str, ...]
    info: dict[str, Any]


def library_versions() -> dict[str, str]:
    """What computed a result."""
    packages = {name: version(name) for name in ("torch", "timm", "torchvision")}
    return {"fundusray": fundusray.__version__, "python": platform.python_version()} | packages


def save_bundle(
    folder: str,
    state: dict[str, Tensor],
    recipe: config.Recipe,
    classes: Sequence[str],
    info: dict[str, Any],
) -> None:
    """Writes a bundle whole; `state` is a built model's `state_dict()`, `info` JSON without NaN.

    In the card, a dict in `info` with "accuracy" is shown as a table of metrics under its key,
    "counts" as images per class, "patients" as a sentence, plain values as a list. The same
    arguments give the same bytes. Places in the storage (what holds the bundle's run) are kept as
    seen from the bundle, so that the storage can be moved.
    """
    folder = files.absolute(folder)
    root = folder.rpartition("/")[0].rpartition("/")[0]
    recipe = config.with_places(recipe, lambda place: files.relative(place, folder, root))
    if "members" in info:
        info = info | {"members": [files.relative(m, folder, root) for m in info["members"]]}
    # Each tensor on its own in plain order: channels_last strides and shared memory are
    # properties of a run, not of the weights.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    content = {
        BUNDLE_WEIGHTS: safetensors.torch.save(tensors),
        "recipe.json": config.to_json(recipe).encode(),
        "card.md": model_card(recipe, classes, info, _pixels(tensors)).encode(),
    }
    about = {"classes": list(classes), "info": info, "versions": library_versions()}
    write_verified(folder, content, about)


def load_bundle(folder: str) -> Bundle:
    """The bundle in a folder or under a URI, verified, its weights loaded strictly.

    The folder of its run, or the weights file in it, stand for it.

    Raises:
        InputError: there is no such folder, or it is no bundle of this version's networks.
        DamagedError: a file is missing or not what was written.
    """
    folder = bundle_folder(folder)
    if not files.exists(folder):
        raise InputError(f"no bundle at {folder}; give the folder that holds {BUNDLE_WEIGHTS}")
    content, about = read_verified(folder)
    if BUNDLE_WEIGHTS not in content or "classes" not in about:
        raise InputError(f"{folder} is intact but no bundle: it has no {BUNDLE_WEIGHTS} or classes")
    recipe = _resolved(content["recipe.json"], folder)
    # The weights come from the bundle, not from where the training once started.
    start = dataclasses.replace(recipe.model, weights="", init_from="")
    model = build_network(start, len(about["classes"]), seed=0)
    try:
        model.load_state_dict(safetensors.torch.load(content[BUNDLE_WEIGHTS]), strict=True)
    except RuntimeError as error:
        raise InputError(
            f"{folder}: its weights do not fit {recipe.model.name} as {library_versions()} "
            f"builds it; it "
            f"was written by {about['versions']}: {error}"
        ) from error
    if isinstance(model, SegmentationNetwork):
        model.tile, model.overlap = recipe.segmentation.tile, recipe.segmentation.overlap
    return Bundle(model.eval(), recipe, tuple(about["classes"]), _info(about, folder))


def read_recipe(folder: str) -> config.Recipe | None:
    """The recipe in a bundle, its weights unread; None in a folder that has none.

    Raises:
        DamagedError: it is not what was written.
    """
    folder = files.absolute(folder)
    content = read_part(folder, "recipe.json")
    return None if content is None else _resolved(content, folder)


def read_about(folder: str) -> dict[str, Any]:
    """What a bundle says of itself, its weights unread; nothing of a folder that is none.

    Raises:
        DamagedError: it is not what was written.
    """
    folder = files.absolute(folder)
    return _info(read_info(folder), folder)


def _resolved(content: bytes, folder: str) -> config.Recipe:
    """A bundle's recipe with the places that it keeps as seen from the bundle."""
    recipe = config.stored_recipe(content.decode(), folder)
    return config.with_places(recipe, lambda place: files.resolve(place, folder))


def _info(about: dict[str, Any], folder: str) -> dict[str, Any]:
    info = about.get("info", {})
    if "members" not in info:
        return info
    return info | {"members": [files.resolve(place, folder) for place in info["members"]]}


def _pixels(tensors: dict[str, Tensor]) -> str:
    """How the network normalises pixels, in words."""
    if not {"mean", "std"} <= set(tensors):
        return ""
    return f"by mean {rounded_numbers(tensors['mean'])} and std {rounded_numbers(tensors['std'])}"


def model_card(
    recipe: config.Recipe, classes: Sequence[str], info: dict[str, Any], pixels: str = ""
) -> str:
    """The model card, Markdown; `pixels` says how the network normalises them."""
    data, model = recipe.data, recipe.model
    split = "data.split_file" if data.split_file else data.split
    if split == "patient" and "patients" in info:
        split = "patient where one is known, near-duplicates together"
    length = recipe.train.phases or f"{recipe.train.epochs} epochs"
    sparsity = f", sparsity {recipe.loss.sparsity:g}" if recipe.loss.sparsity else ""
    lines = [
        f"# {escaped_markdown(recipe.name)}",
        "",
        f"- Network: {_network(model)}",
        *([f"- Pixels in [0, 1] are normalised {pixels}"] if pixels else []),
        f"- Data: {data.source}, {data.preprocess} at {data.size} px, split by {split}",
        f"- Loss: {recipe.loss.name} {recipe.loss.args or ''}".rstrip() + sparsity,
        f"- Sampling: {recipe.sampling.name}; {length}, seed {recipe.seed}",
        f"- Classes: {', '.join(escaped_markdown(name) for name in classes)}",
        f"- Versions: "
        f"{', '.join(f'{name} {number}' for name, number in library_versions().items())}",
    ]
    for key, value in info.items():
        if key == "counts":
            lines.append(f"- Training images per class: {_counts(value, classes)}")
        elif key == "patients":
            lines.append(f"- {escaped_markdown(value[:1].upper() + value[1:])}")
        elif not isinstance(value, (dict, list)):
            lines.append(f"- {escaped_markdown(key)}: {escaped_markdown(str(value))}")
    for key, value in info.items():
        if isinstance(value, dict) and "accuracy" in value:
            lines += _table(key, value)
    return "\n".join([*lines, "", "## Intended use and limits", "", LIMITS])


def _network(model: config.Model) -> str:
    hidden = f", hidden layers {','.join(map(str, model.hidden))}" if model.hidden else ""
    start = escaped_markdown(model.init_from or model.weights) or "random weights"
    flips = f", judged under flips ({model.flips})" if model.flips != "none" else ""
    return f"{model.name}{hidden}, output {model.output}{flips}, started from {start}"


def _table(split: str, summary: dict[str, Any]) -> list[str]:
    rows = [
        "",
        f"## Measured on {escaped_markdown(split)}",
        "",
        f"{_people(summary)}; intervals are 95 %, by patient.",
        "",
        "| metric | value | low | high |",
        "|---|---|---|---|",
    ]
    names = [name for name in summary if f"{name}_low" in summary or name == "majority_accuracy"]
    for name in names or [key for key, value in summary.items() if isinstance(value, float)]:
        numbers = [summary.get(name), summary.get(f"{name}_low"), summary.get(f"{name}_high")]
        cells = ["-" if number is None else f"{number:.4f}" for number in numbers]
        if summary.get(f"{name}_why") and summary.get(name) is not None:
            cells[1:] = ["too few to say", "-"]
        rows.append(f"| {escaped_markdown(name)} | {' | '.join(cells)} |")
    return rows


def _people(summary: dict[str, Any]) -> str:
    """How many images of how many patients, and how many more of unknown ones."""
    unknown = summary.get("num_unknown", 0)
    whole = f"{summary.get('n', '?')} images of {summary.get('num_patients', '?')} patients"
    return whole + (
        f", {unknown} of them of unknown patients, each counted alone" if unknown else ""
    )


def _counts(counts: Any, classes: Sequence[str]) -> str:
    pairs = counts.items() if isinstance(counts, dict) else zip(classes, counts, strict=True)
    return ", ".join(f"{escaped_markdown(name)} {count}" for name, count in pairs)
