"""Runs any attack on segmentations on a batch and measures that it kept its budget."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fundusray.attacks.gradient import SLACK, Predict, perturbation_distance
from fundusray.attacks.run import require_pixels, require_repeatable
from fundusray.attacks.segmentation.maps import require_pixel_logits
from fundusray.attacks.segmentation.registry import (
    PASSED,
    SEGMENTATION_ATTACKS,
    SegmentationProblem,
)
from fundusray.errors import InputError
from fundusray.keywords import check_keywords, default_values


@dataclass(frozen=True)
class SegmentationOutcome:
    """What became of a batch."""

    candidates: dict[str, Tensor]
    """Name -> images [B, 3, S, S] float32: within the budget and in [0, 1], measured. An attack
    that makes one of each calls it ""."""
    linf: dict[str, Tensor]
    """Name -> the largest change of a pixel, float64 [B]."""
    queries: Tensor
    """int64 [B]: how often the network was asked of each image."""


def run_segmentation_attack(
    name: str,
    args: Mapping[str, Any],
    predict: Predict,
    image: Tensor,
    target: Tensor,
    *,
    row: Tensor,
    eps: float,
    seed: int = 0,
) -> SegmentationOutcome:
    """Attacks images [B, 3, S, S] in [0, 1] whose pixels have the classes `target` int64 [B, S, S];
    `predict` gives logits [B, C, S, S].

    Raises:
        InputError: no such attack, keyword or budget; pixels that are no numbers or outside
            [0, 1]; a network that does not say the same twice, has no logits for each pixel, or
            gives no gradient.
    """
    check_segmentation_attack(name, args, eps)
    require_pixels(image)
    wide = image.to(torch.promote_types(image.dtype, torch.float32))
    if len(image):
        require_repeatable([predict], image)
        _require_maps(predict, image, target)
    problem = SegmentationProblem(
        lambda changed: predict(changed.to(image.dtype)), wide, target, row, eps, seed
    )
    facts = SEGMENTATION_ATTACKS.facts(name)
    if not len(image):
        return SegmentationOutcome(
            dict.fromkeys(facts.candidates, wide),
            dict.fromkeys(facts.candidates, torch.zeros(0, dtype=torch.float64)),
            problem.queries,
        )
    made = SEGMENTATION_ATTACKS.find(name)(problem, **args)
    candidates = made if isinstance(made, dict) else {"": made}
    linf = {key: _measured(f"{name} {key}", one, wide, eps) for key, one in candidates.items()}
    return SegmentationOutcome(candidates, linf, problem.queries)


def whole_segmentation_args(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """An attack's keywords with the defaults of those that are not given.

    Raises:
        InputError: no such attack.
    """
    return default_values(SEGMENTATION_ATTACKS.find(name), PASSED) | dict(args)


def check_segmentation_attack(name: str, args: Mapping[str, Any], eps: float) -> None:
    """Refuses what no attack can be called with.

    Raises:
        InputError: no such attack, keyword or budget; what would be right.
    """
    attack = SEGMENTATION_ATTACKS.find(name)
    check_keywords(name, f"argument of {name}", attack, PASSED, dict(args))
    if not 0 < eps <= 1 or math.isnan(eps):
        raise InputError(
            f"{name} needs eps, a length above 0 and up to 1 where pixels are in [0, 1]: {eps}"
        )


def _require_maps(predict: Predict, image: Tensor, target: Tensor) -> None:
    """Refuses a network without logits for each pixel, and a target without classes for each."""
    with torch.no_grad():
        logits = predict(image[:1])
    require_pixel_logits(logits, image)
    needed = (len(image), *image.shape[2:])
    if target.shape != needed:
        raise InputError(
            f"the target needs a class for each pixel, {needed}, got {tuple(target.shape)}"
        )


def _measured(name: str, attacked: Tensor, image: Tensor, eps: float) -> Tensor:
    """How far each image was changed, float64 [B]. A fault of the attack is an assertion: images
    beyond the budget, outside [0, 1] or no numbers."""
    assert attacked.shape == image.shape, f"{name}: {tuple(attacked.shape)}"
    assert attacked.isfinite().all(), f"{name}: pixels that are no numbers"
    low, high = (bound.item() for bound in attacked.aminmax())
    assert 0 <= low <= high <= 1, f"{name}: attacked pixels in [{low}, {high}], not in [0, 1]"
    far = perturbation_distance(attacked, image, "linf")
    assert far.max().item() <= eps + SLACK, f"{name}: {far.max().item()} is beyond linf {eps}"
    return far
