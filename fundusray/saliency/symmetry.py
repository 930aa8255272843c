"""Maps of the same images toward two classes, and how far the one is the other's opposite."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fundusray.metrics.symmetry import map_correlations
from fundusray.saliency.registry import MAPS, MapProblem

PAIR = (0, 4)
"""The classes that Li et al. compare: no retinopathy, and its last stage."""


@dataclass(frozen=True)
class SymmetryMaps:
    """Two maps of each image."""

    first: Tensor
    """[B, 1, S, S]: toward the first class."""
    second: Tensor
    classes: Tensor
    """int64 [B, 2]: which two."""
    pearson: np.ndarray
    """[B]; NaN where both classes are the same, or a map is."""
    spearman: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """What a row says of an image, [B] each."""
        first, second = self.classes.cpu().numpy().T
        columns = {"first_class": first, "second_class": second}
        return columns | {"pearson": self.pearson, "spearman": self.spearman}


def symmetry_maps(
    problem: MapProblem,
    pair: tuple[int, int | None] = PAIR,
    name: str = "lesion_detection",
    args: Mapping[str, Any] | None = None,
) -> SymmetryMaps:
    """Maps toward the two classes of a pair.

    Args:
        problem: its targets do not matter.
        pair: None in the place of the second class: what the network answers of the image.
        name, args: of MAPS.
    """
    classes = torch.zeros(len(problem.image), 2, dtype=torch.int64, device=problem.image.device)
    classes[:, 0] = pair[0]
    classes[:, 1] = _answers(problem) if pair[1] is None else pair[1]
    first, second = (
        MAPS.find(name)(replace(problem, target=target), **(args or {})).values
        for target in classes.unbind(dim=1)
    )
    found = map_correlations(first.cpu().numpy(), second.cpu().numpy())
    same = (classes[:, 0] == classes[:, 1]).cpu().numpy()
    # The same map twice says nothing of symmetry.
    pearson, spearman = (np.where(same, np.nan, found[kind]) for kind in ("pearson", "spearman"))
    return SymmetryMaps(first, second, classes, pearson, spearman)


def _answers(problem: MapProblem) -> Tensor:
    with torch.no_grad():
        parts = [problem.model(some).argmax(dim=1) for some in problem.image.split(problem.chunk)]
    return torch.cat(parts)
