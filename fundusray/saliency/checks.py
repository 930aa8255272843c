"""Whether maps are what they claim: what the network says without their pixels, how they answer to
noise, and whether they depend on its weights at all. Needs no mask of anything."""

from dataclasses import replace

import torch
from torch import Tensor

from fundusray.metrics.map_agreement import map_similarity
from fundusray.saliency.faithfulness import (
    infidelity,
    max_sensitivity,
    pixel_curves,
    square_removal,
)
from fundusray.saliency.registry import MapProblem
from fundusray.saliency.run import Explanation
from fundusray.saliency.sanity import randomised_copy

SQUARE = 8
"""Of an image's side is a square that is taken away."""
DRAWS = 4
"""Noisy images by which a map's sensitivity is judged; each costs a map."""
CHECKS = (
    "deletion",
    "insertion",
    "infidelity",
    "max_sensitivity",
    "randomised_rank_correlation",
)


def map_checks(explain: Explanation, problem: MapProblem, values: Tensor) -> list[dict[str, float]]:
    """Of each image the figures of CHECKS, for maps [B, 1, S, S] that `explain` gave.

    deletion and insertion are areas under the class's probability (Petsiuk et al. 2018), infidelity
    is that of taken squares with the map scaled to fit (Yeh et al. 2019), max_sensitivity that of
    noise up to .02, randomised_rank_correlation compares with the map of a network with all weights
    drawn anew (Adebayo et al. 2018).
    """
    curves = pixel_curves(problem, values)
    squares = square_removal(max(1, problem.size() // SQUARE))
    other = explain(replace(problem, model=randomised_copy(problem.model)))
    similar = [
        map_similarity(before[0], after[0])["rank_correlation"]
        for before, after in zip(values.cpu().numpy(), other.cpu().numpy(), strict=True)
    ]
    columns = [
        curves.deletion_area(),
        curves.insertion_area(),
        infidelity(problem, values, squares, scaled=True),
        max_sensitivity(explain, problem, draws=DRAWS),
        torch.tensor(similar),
    ]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [dict(zip(CHECKS, row, strict=True)) for row in rows]
