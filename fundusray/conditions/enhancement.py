"""Photographs that were changed along the gradients of a network that segments, class by class: to
learn from, as stored copies (`jobs/derive.py`), or to see what a network makes of them.

    layered(eps=1/100, steps=100)                Avramidis et al., method one
    selective(eps=1/100, search=exact|greedy)    method two, which needs the true masks

With `ball=image` all stays within eps of the photograph; otherwise eps is of one class's change, so
that C classes may add up to C eps, as in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fundusray.attacks import Success
from fundusray.attacks.registry import GRADIENT_PASSES
from fundusray.attacks.segmentation.full_area import BALL_OF_CLASS, BALLS
from fundusray.attacks.segmentation.layered import class_areas, layered_examples
from fundusray.attacks.segmentation.selective import (
    choice_text,
    mean_losses,
    selective_enhancement,
)
from fundusray.attacks.segmentation.sign_search import SEARCHES, TRIES
from fundusray.conditions.attack_keywords import condition_text, length_text
from fundusray.conditions.condition import CONDITIONS, Arguments, Predict

CLASSES = 6
"""For which the cost of a condition is reckoned; it is not known what network it will meet."""
STEPS = 100


class Examples(NamedTuple):
    """Changed images and what was done to each."""

    image: Tensor
    """[B, 3, S, S] float32 in [0, 1]."""
    receipts: list[dict[str, Any]]
    """Of each image JSON values; lengths where pixels are in [0, 1]."""


@dataclass(frozen=True)
class Layered:
    """Each image is driven towards one class after the other; see `layered.layered_examples`."""

    eps: float
    steps: int = STEPS
    ball: str = BALL_OF_CLASS
    max_passes: int = 0
    """0: as many as there are classes."""

    @property
    def passes(self) -> int:
        """At most, of a network of six classes."""
        return GRADIENT_PASSES * self.steps * (self.max_passes or CLASSES)

    def examples(
        self, predict: Predict, image: Tensor, target: Tensor, classes: Sequence[str]
    ) -> Examples:
        """Layered examples of images [B, 3, S, S], whose true masks do not matter.

        A receipt has order (the classes that the passes led to), passes, single (whether the
        prediction is of one class in the end) and linf.
        """
        made = layered_examples(
            predict, image, eps=self.eps, steps=self.steps, ball=self.ball,
            max_passes=self.max_passes,
        )  # fmt: skip
        receipts = [
            {
                "order": [classes[c] for c in order[:passes]],
                "passes": passes,
                "single": single,
                "linf": linf,
            }
            for order, passes, single, linf in zip(
                *(values.tolist() for values in made[1:]), strict=True
            )
        ]
        return Examples(made.image, receipts)

    def of_stored(self, predict: Predict, image: Tensor, target: Tensor) -> list[dict[str, Any]]:
        """What holds of the examples in the levels in which they are stored."""
        areas = class_areas(predict, image, int(predict(image[:1]).shape[1]))
        return [{"single_stored": single} for single in ((areas > 0).sum(dim=1) < 2).tolist()]

    def changed(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor, success: Success
    ) -> Tensor:
        """The layered examples."""
        return layered_examples(
            predict, image, eps=self.eps, steps=self.steps, ball=self.ball,
            max_passes=self.max_passes,
        ).image  # fmt: skip

    def __str__(self) -> str:
        texts = {"eps": length_text(self.eps, "linf"), "steps": str(self.steps)}
        texts |= {"ball": self.ball} if self.ball != BALL_OF_CLASS else {}
        texts |= {"max_passes": str(self.max_passes)} if self.max_passes else {}
        return condition_text("layered", texts)


@dataclass(frozen=True)
class Selective:
    """Of each image a step for each class is added, subtracted or left, as its true mask is then
    predicted best; see `selective.selective_enhancement`."""

    eps: float
    search: str = "exact"
    ball: str = BALL_OF_CLASS

    @property
    def passes(self) -> int:
        """Of a network of six classes."""
        tries = 3**CLASSES if self.search == "exact" else TRIES * CLASSES
        return GRADIENT_PASSES * CLASSES + tries

    def examples(
        self, predict: Predict, image: Tensor, target: Tensor, classes: Sequence[str]
    ) -> Examples:
        """Enhanced images of images [B, 3, S, S] of true classes [B, S, S].

        A receipt has choice (what was done with the step of each class: "+" added, "0" left, "-"
        subtracted), loss_before, loss, linf and evaluations.
        """
        made = selective_enhancement(
            predict, image, target, eps=self.eps, search=self.search, ball=self.ball
        )
        receipts = [
            {
                "choice": choice_text(choice),
                "loss_before": before,
                "loss": loss,
                "linf": linf,
                "evaluations": evaluations,
            }
            for choice, before, loss, linf, evaluations in zip(
                made.choice, *(values.tolist() for values in made[2:]), strict=True
            )
        ]
        return Examples(made.image, receipts)

    def of_stored(self, predict: Predict, image: Tensor, target: Tensor) -> list[dict[str, Any]]:
        """What holds of the enhanced images in the levels in which they are stored."""
        return [{"loss_stored": loss} for loss in mean_losses(predict, image, target).tolist()]

    def changed(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor, success: Success
    ) -> Tensor:
        """The enhanced images. They were chosen by the true masks: what a network says of them is
        no figure of its own."""
        return selective_enhancement(
            predict, image, target, eps=self.eps, search=self.search, ball=self.ball
        ).image

    def __str__(self) -> str:
        texts = {"eps": length_text(self.eps, "linf"), "search": self.search}
        texts |= {"ball": self.ball} if self.ball != BALL_OF_CLASS else {}
        return condition_text("selective", texts)


Enhancement = Layered | Selective
"""What is made with a network that segments."""


def stored_levels(image: Tensor) -> Tensor:
    """Images in [0, 1] in the 256 levels of a prepared set, uint8; to the nearest, so that a change
    may become half a level longer or shorter."""
    return image.mul(255).round().to(torch.uint8)


@CONDITIONS.register("layered")
def layered(given: Arguments) -> Layered:
    """`layered(eps=1/100, steps=100, ball=class, max_passes=0)`"""
    return Layered(
        given.length("eps", "linf"),
        given.whole("steps", STEPS),
        given.choice("ball", BALLS, BALL_OF_CLASS),
        given.whole("max_passes", 0, least=0),
    )


@CONDITIONS.register("selective")
def selective(given: Arguments) -> Selective:
    """`selective(eps=1/100, search=exact, ball=class)`"""
    return Selective(
        given.length("eps", "linf"),
        given.choice("search", SEARCHES, "exact"),
        given.choice("ball", BALLS, BALL_OF_CLASS),
    )
