"""Runs any attack on a batch and measures what came of it: budget, range, success."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fundusray.attacks.gradient import SLACK, Predict, Success, perturbation_distance
from fundusray.attacks.masking import masking_warnings
from fundusray.attacks.registry import (
    ATTACKS,
    PASSED,
    AttackProblem,
    QueriedNetwork,
    StagedImages,
    Verdicts,
)
from fundusray.errors import InputError
from fundusray.keywords import check_keywords, default_values
from fundusray.registry import unknown_name

SAMPLE = 2
"""Images that a network sees twice before it is attacked."""
REPEATABLE = 1e-4
"""By how much of the largest logit two passes may differ: sums in another order, no draws."""
NO_STAGE = -1


@dataclass(frozen=True)
class AttackOutcome:
    """What became of a batch."""

    image: Tensor
    """[B, 3, S, S]: within the budget and in [0, 1], measured. Images that succeeded from the
    beginning are as they were."""
    success: Tensor
    """bool [B]: by the judging network, of the images as they are returned; of a targeted attack,
    that its class is reached."""
    queries: Tensor
    """int64 [B]: how often networks were asked of each image."""
    zero_gradients: Tensor
    """int64 [B]: how many of an image's gradients were 0 in every pixel."""
    stage: Tensor
    """int64 [B]: which of `stages` broke each image; -1: none, or it was wrong from the
    beginning."""
    stages: tuple[str, ...]
    """The attacks that were run, one after the other; of most one alone."""
    attacked: Tensor
    """bool [B]: what was not wrong from the beginning."""
    probabilities: Tensor
    """bool [B]: whether the network's outputs look like probabilities instead of logits."""

    def broken_by(self) -> list[str]:
        """Of each image the attack that broke it, "" where none did."""
        return [self.stages[k] if k >= 0 else "" for k in self.stage.tolist()]

    def warnings(self) -> list[str]:
        """Signs in this batch that gradients are masked (`masking.masking_warnings`)."""
        columns = (self.broken_by(), self.zero_gradients.tolist(), self.probabilities.tolist())
        where = self.attacked.nonzero()[:, 0].tolist()
        broken, zeros, alike = ([column[k] for k in where] for column in columns)
        return masking_warnings(self.stages, broken, zeros, alike)


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
    search: Predict | None = None,
    copied: bool = False,
    clean: Tensor | None = None,
) -> AttackOutcome:
    """Attacks images [B, 3, S, S] in [0, 1] that a network is asked about.

    Args:
        predict: the network that decides on success, in full precision.
        search: the network that is attacked where it is another one: a faster copy, or a surrogate
            whose images are transferred. An image that fools it alone is attacked on.
        copied: that `search` is the deciding network but for rounding (`folding.folded`).
        clean: what the deciding network says of the images, [B, K], where that is known already.

    Raises:
        InputError: no such attack, keyword, norm or budget; pixels that are no numbers or outside
            [0, 1]; a network that does not say the same twice, or has one logit alone, or gives no
            gradient where the attack needs one.
    """
    check_attack(name, args, norm, eps)
    success = attack_success(name, args, success)
    require_pixels(image)
    wide = image.to(torch.promote_types(image.dtype, torch.float32))
    judge = QueriedNetwork(_narrowed(predict, image), len(image), image.device)
    searched = QueriedNetwork(_narrowed(search or predict, image), len(image), image.device)
    places = torch.arange(len(image), device=image.device)
    reached = torch.zeros(len(image), dtype=torch.bool, device=image.device)
    alike = reached.clone()
    if len(image):
        # A copy repeats itself as the network does.
        require_repeatable([predict, search if search and not copied else None], image)
        logits = _require_classes(judge.logits(wide, places) if clean is None else clean.float())
        reached, alike = success(logits, target), _like_probabilities(logits)
    live = (~reached).nonzero()[:, 0]
    attacked, stage, stages = wide.clone(), torch.full_like(places, NO_STAGE), (name,)
    if len(live):
        asked, decides = (searched, judge) if search else (judge, None)
        whole = (asked, wide, target, row, norm, eps, success, seed, decides, copied)
        problem = AttackProblem(*whole, Verdicts(wide)).part(live)
        made = _made(name, args, problem)
        attacked[live], stages = made.image, made.stages
        broken = problem.judged(made.image, problem.places())
        reached[live] = broken
        stage[live] = torch.where(broken, made.stage, NO_STAGE)
    queries = judge.queries + searched.queries
    tried = torch.zeros_like(reached)
    tried[live] = True
    zeros = judge.zero_gradients + searched.zero_gradients
    return AttackOutcome(attacked, reached, queries, zeros, stage, stages, tried, alike)


def _made(name: str, args: Mapping[str, Any], problem: AttackProblem) -> StagedImages:
    """What the attack gives, measured to be within the budget."""
    made = ATTACKS.find(name)(problem, **args)
    if not isinstance(made, StagedImages):
        made = StagedImages(made, torch.zeros_like(problem.target), (name,))
    _require_budget(name, made.image, problem)
    return made


def whole_args(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """An attack's keywords with the defaults of those that are not given.

    Raises:
        InputError: no such attack.
    """
    return default_values(ATTACKS.find(name), PASSED) | dict(args)


def attack_success(name: str, args: Mapping[str, Any], success: Success) -> Success:
    """What an attack is after: `success` as it is, or of a targeted one that its class is reached.

    Raises:
        InputError: no such attack.
    """
    return ATTACKS.facts(name).success(whole_args(name, args), success)


def check_attack(name: str, args: Mapping[str, Any], norm: str, eps: float) -> None:
    """Refuses what no attack can be called with.

    Raises:
        InputError: no such attack, keyword, norm or budget; what would be right.
    """
    attack, facts = ATTACKS.find(name), ATTACKS.facts(name)
    check_keywords(name, f"argument of {name}", attack, PASSED, dict(args))
    if norm not in facts.norms:
        raise unknown_name(f"norm of {name}", norm, facts.norms)
    if not eps > 0 or (math.isinf(eps) and not facts.nearest):
        raise InputError(f"{name} needs eps, a length above 0 where pixels are in [0, 1]: {eps}")


def _narrowed(predict: Predict, image: Tensor) -> Predict:
    """The network for wide images, which it sees in the type of the ones that were given."""
    return lambda shown: predict(shown.to(image.dtype))


def _like_probabilities(logits: Tensor) -> Tensor:
    """Whether outputs [B, K] are all in [0, 1] and sum to 1, bool [B]."""
    inside = ((logits >= 0) & (logits <= 1)).all(dim=1)
    return inside & ((logits.sum(dim=1) - 1).abs() < 1e-5)


def _require_classes(logits: Tensor) -> Tensor:
    """The logits, [B, K] of two classes or more."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(
            f"an attack needs logits of at least two classes, [B, K], got {tuple(logits.shape)}; "
            "a network of one logit z is given as [0, z]"
        )
    return logits


def require_repeatable(networks: Sequence[Predict | None], image: Tensor) -> None:
    """Refuses networks that draw at random.

    Raises:
        InputError: one does not say the same of the same images twice; what to do.
    """
    for predict in filter(None, networks):
        with torch.no_grad():
            first, second = (predict(image[:SAMPLE]).float() for _ in range(2))
        apart = (first - second).abs().nan_to_num().max().item()
        if apart > REPEATABLE * max(first.abs().nan_to_num().max().item(), 1e-30):
            raise InputError(
                f"the network says two things of the same images (logits differ by {apart:.3g}): "
                "it draws at random, as dropout does; put it into evaluation mode, model.eval()"
            )


def require_pixels(image: Tensor) -> None:
    """Refuses images [B, 3, S, S] that are no pixels as networks here take them.

    Raises:
        InputError: numbers outside [0, 1], or none.
    """
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
