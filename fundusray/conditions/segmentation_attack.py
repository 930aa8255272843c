"""Photographs whose segmentation is under attack: the attack's name, budget, keywords and draws.

Every attack of SEGMENTATION_ATTACKS is a condition by its name: `segpgd(eps=2/255, steps=20)`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fundusray.attacks import ATTACKS, Success
from fundusray.attacks.segmentation import (
    SEGMENTATION_ATTACKS,
    SegmentationOutcome,
    check_segmentation_attack,
    run_segmentation_attack,
    whole_segmentation_args,
)
from fundusray.attacks.segmentation.losses import right_pixels
from fundusray.attacks.segmentation.maps import images_of_pass
from fundusray.conditions.attack import AttackCondition
from fundusray.conditions.attack_keywords import (
    condition_text,
    differing_keywords,
    keyword_texts,
    length_text,
    read_keywords,
)
from fundusray.conditions.condition import Arguments, Condition, Predict
from fundusray.errors import InputError

NORM = "linf"


@dataclass(frozen=True)
class SegmentationAttack:
    """Every image is attacked to the end, within linf.

    Raises:
        InputError: no such attack, budget, keyword or value.
    """

    name: str
    """Of SEGMENTATION_ATTACKS."""
    eps: float
    """Where pixels are in [0, 1]."""
    seed: int = 0
    """What is random is a function of (seed, row)."""
    args: tuple[tuple[str, Any], ...] = ()
    """The attack's keywords that are not what they are by default."""

    def __post_init__(self) -> None:
        args = dict(self.args)
        check_segmentation_attack(self.name, args, self.eps)
        usual = whole_segmentation_args(self.name, {})
        whole = whole_segmentation_args(self.name, args)
        kept = differing_keywords(SEGMENTATION_ATTACKS[self.name], usual, whole, self.eps)
        object.__setattr__(self, "args", kept)

    @property
    def passes(self) -> int:
        """What the attack costs in forward passes; one more looks at what came of each image."""
        facts = SEGMENTATION_ATTACKS.facts(self.name)
        whole = whole_segmentation_args(self.name, dict(self.args))
        return facts.passes(whole) + len(facts.candidates)

    def outcome(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor
    ) -> SegmentationOutcome:
        """All that became of images [B, 3, S, S] whose pixels have the classes `target`
        [B, S, S]; see `run_segmentation_attack`."""
        return run_segmentation_attack(
            self.name, dict(self.args), predict, image, target,
            row=row, eps=self.eps, seed=self.seed,
        )  # fmt: skip

    def changed(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor, success: Success
    ) -> Tensor:
        """The attacked images, measured to be within the budget; of several candidates of an image
        the one that leaves the fewest pixels right, of equal ones the first. An attack on pixels
        has no end, so `success` is not asked. So many images are in work as a pass has."""
        length = images_of_pass(image)
        parts = zip(*(whole.split(length) for whole in (image, target, row)), strict=True)
        return torch.cat([self._of_fewest_right_pixels(predict, *part) for part in parts])

    def _of_fewest_right_pixels(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor
    ) -> Tensor:
        candidates = list(self.outcome(predict, image, target, row).candidates.values())
        if len(candidates) == 1 or not len(image):
            return candidates[0]
        with torch.no_grad():
            right = torch.stack(
                [
                    right_pixels(predict(one.to(image.dtype)), target).flatten(1).sum(dim=1)
                    for one in candidates
                ]
            )
        worst = right.argmin(dim=0)
        return torch.stack(candidates)[worst, torch.arange(len(image), device=worst.device)]

    def __str__(self) -> str:
        given, attack = dict(self.args), SEGMENTATION_ATTACKS[self.name]
        whole = whole_segmentation_args(self.name, given)
        texts = {"eps": length_text(self.eps, NORM)} | keyword_texts(attack, given, whole, NORM)
        return condition_text(self.name, texts | ({"seed": str(self.seed)} if self.seed else {}))


def segmentation_attack(given: Arguments) -> SegmentationAttack:
    """The condition that an attack's name and arguments say.

    Raises:
        InputError: a length without its unit, or what no keyword may be.
    """
    attack = SEGMENTATION_ATTACKS.find(given.name)
    eps, seed = given.length("eps", NORM), given.whole("seed", 0, least=0)
    args = read_keywords(given, attack, whole_segmentation_args(given.name, {}))
    given.require_none_left()
    return SegmentationAttack(given.name, eps, seed, tuple(args.items()))


def require_attack_of_task(condition: Condition, segmentation: bool) -> None:
    """Refuses an attack on classes of whole images where a network segments, and one on classes of
    pixels where it does not.

    Raises:
        InputError: which attacks there are.
    """
    if segmentation and isinstance(condition, AttackCondition):
        raise InputError(
            f"{condition}: {condition.name} attacks the class of a whole image, this network gives "
            f"a class to each pixel (have: {', '.join(sorted(SEGMENTATION_ATTACKS))})"
        )
    if not segmentation and isinstance(condition, SegmentationAttack):
        raise InputError(
            f"{condition}: {condition.name} attacks the classes of pixels, this network gives one "
            f"class to a whole image (have: {', '.join(sorted(ATTACKS))})"
        )
