"""Several networks as one: the mean of their weights (Kon's composite of per-data-set networks)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fundusray.config import Recipe
from fundusray.errors import InputError
from fundusray.models.bundle import Bundle, load_bundle, save_bundle
from fundusray.models.load_weights import rounded_numbers

DECIDING = ("name", "image_size", "hidden", "output")
"""Settings of a model that make tensors of one name mean the same in two bundles."""


def mean_of_weights(
    bundles: Sequence[str],
    folder: str,
    recipe: Recipe | None = None,
    info: dict[str, Any] | None = None,
) -> None:
    """Writes a bundle whose floating-point tensors are the means of those of `bundles`.

    Batch statistics are averaged like weights: means of means and of variances, without the
    spread of the means between networks. They fit the averaged weights as far as the networks lie
    close together: after a common start (`model.init_from`, or the same `model.weights`). Networks
    from different random starts have their features in different places, and their mean is of no
    use; measure it before use. Counters and other whole numbers are the first bundle's.

    Args:
        recipe: what the bundle holds as its own; without it, the first bundle's.
        info: what it says of itself, beside `members`.

    Raises:
        InputError: fewer than two bundles, or they differ in network, head, normalisation or
            classes.
        DamagedError: a bundle's files are not what was written.
    """
    if len(bundles) < 2:
        raise InputError(f"a mean needs two bundles or more, got {len(bundles)}")
    sums: dict[str, Tensor] = {}
    for place in bundles:
        bundle = load_bundle(place)
        if not sums:
            first, kept = bundle, bundle.model.state_dict()
        require_alike(bundles[0], first, place, bundle)
        for name, value in bundle.model.state_dict().items():
            if value.is_floating_point():
                sums[name] = sums.get(name, 0) + value.double()
    means = {name: (total / len(bundles)).to(kept[name].dtype) for name, total in sums.items()}
    for name, value in means.items():
        if not torch.isfinite(value).all():
            raise InputError(f"the mean of {name} is not finite: one of the networks diverged")
    own = recipe or replace(first.recipe, name=f"{first.recipe.name}.mean")
    about = {"members": list(bundles), "made as": f"the mean of {len(bundles)} networks' weights"}
    manifest = {"manifest": first.info["manifest"]} if "manifest" in first.info else {}
    save_bundle(folder, kept | means, own, first.classes, manifest | about | (info or {}))


def require_alike(first_place: str, first: Bundle, place: str, bundle: Bundle) -> None:
    """Refuses a bundle that is of another network, head, normalisation or classes than the first.

    Raises:
        InputError: both bundles and what differs.
    """
    if first.classes != bundle.classes:
        raise InputError(
            f"{first_place} knows the classes {list(first.classes)}, {place} "
            f"{list(bundle.classes)}; an ensemble needs the same ones in the same order"
        )
    for key, ours, theirs in _settings(first, bundle):
        if ours != theirs:
            raise InputError(
                f"{first_place} has model.{key} {ours!r}, {place} {theirs!r}; weights are averaged "
                "over networks that are built alike"
            )


def _settings(*bundles: Bundle) -> Iterator[tuple[Any, ...]]:
    """(setting, its value in each bundle); the normalisation as it is in the networks."""
    for key in DECIDING:
        yield key, *(getattr(bundle.recipe.model, key) for bundle in bundles)
    for key in ("mean", "std"):
        yield key, *(rounded_numbers(bundle.model.get_buffer(key)) for bundle in bundles)
