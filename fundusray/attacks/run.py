"""Runs any attack on a batch and measures what came of it: budget, range, success."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fundusray.attacks.gradient import SLACK, Predict, Success, perturbation_distance
from fundusray.attacks.registry import ATTACKS, AttackProblem, QueriedNetwork
from fundusray.errors import InputError


class AttackOutcome(NamedTuple):
    """What became of a batch."""

    image: Tensor
    """[B, 3, S, S]: within the budget and in [0, 1], measured. Images that succeeded from the
    beginning are as they were."""
    success: Tensor
    """bool [B]: by the network itself, of the images as they are returned."""
    queries: Tensor
    """int64 [B]: how often the network was asked of each image."""


def run_attack(
    name: str,
    args: Mapping[str, Any],
    predict: Predict,
    image: Tensor,
    target: Tensor,
    *,
    row: Tensor,
    norm: str,
    eps: float,
    success: Success,
    seed: int = 0,
) -> AttackOutcome:
    """Attacks images [B, 3, S, S] in [0, 1] that a network is asked about.

    Raises:
        InputError: no such attack, or pixels that are no numbers or outside [0, 1].
    """
    attack = ATTACKS.find(name)
    _require_pixels(image)
    wide = image.to(torch.promote_types(image.dtype, torch.float32))
    asked: Predict = lambda shown: predict(shown.to(image.dtype))  # noqa: E731
    queries = torch.ones(len(image), dtype=torch.int64, device=image.device)
    if not len(image):
        return AttackOutcome(wide, torch.zeros_like(queries, dtype=torch.bool), queries)
    with torch.no_grad():
        live = (~success(asked(wide).float(), target)).nonzero()[:, 0]
    attacked = wide.clone()
    if len(live):
        network = QueriedNetwork(asked, len(live), image.device)
        problem = AttackProblem(
            network, wide[live], target[live], row[live], norm, eps, success, seed
        )
        attacked[live] = attack(problem, **args)
        queries[live] += network.queries + 1
        _require_budget(name, attacked[live], problem)
    with torch.no_grad():
        reached = success(asked(attacked).float(), target)
    return AttackOutcome(attacked, reached, queries)


def _require_pixels(image: Tensor) -> None:
    if not len(image):
        return
    low, high = (bound.item() for bound in image.aminmax())
    if not 0 <= low <= high <= 1:
        raise InputError(
            f"an attack needs pixels in [0, 1], got [{low:.4g}, {high:.4g}]: a network holds its "
            "own normalisation (model.mean, model.std), its images are not normalised before"
        )


def _require_budget(name: str, attacked: Tensor, problem: AttackProblem) -> None:
    """A fault of the attack, and no success of it: images beyond the budget, outside [0, 1] or no
    numbers."""
    assert attacked.isfinite().all(), f"{name}: pixels that are no numbers"
    low, high = (bound.item() for bound in attacked.aminmax())
    assert 0 <= low <= high <= 1, f"{name}: attacked pixels in [{low}, {high}], not in [0, 1]"
    far = perturbation_distance(attacked, problem.image, problem.norm).max().item()
    most = problem.eps + SLACK * max(1.0, problem.eps)
    assert far <= most, f"{name}: {far} is beyond {problem.norm} {problem.eps}"
