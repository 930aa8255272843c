"""The attacks by name with their facts, and the one way in which each is called.

An attack is a function `(problem, **its keywords) -> images [B, 3, S, S]`: what becomes of the
problem's images. It asks the problem's network alone, which counts; success and budget are measured
by `run.run_attack`. One that is made of several gives `StagedImages`.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fundusray.attacks.gradient import Ascend, Predict, Success, cross_entropy, input_gradient
from fundusray.registry import Registry

PASSED = frozenset({"problem"})
"""Parameters of an attack that the runner passes, not the user."""
GRADIENT_PASSES = 3
"""Forward passes that a gradient costs: the pass itself, and about two on the way back."""
FEW = 0.6
"""Share of images for which a pass there and back costs less than the way back for all."""


class QueriedNetwork:
    """A network as an attack sees it; counts what it is asked, image by image."""

    def __init__(self, predict: Predict, num: int, device: torch.device) -> None:
        self._predict = predict
        self._within: Tensor | None = None
        self.queries = torch.zeros(num, dtype=torch.int64, device=device)
        """Passes of each of the problem's images, [B]; a gradient is one."""
        self.zero_gradients = torch.zeros(num, dtype=torch.int64, device=device)
        """How many of an image's gradients were 0 in every pixel, [B]."""

    def logits(self, image: Tensor, places: Tensor) -> Tensor:
        """Class logits [b, K] float32 of images [b, 3, S, S] that stand at `places` int64 [b] of
        the problem; a place may occur more than once."""
        self._count(self.queries, places)
        with torch.no_grad():
            return self._predict(image).float()

    def gradient(
        self,
        image: Tensor,
        places: Tensor,
        goal: Tensor,
        ascend: Ascend = cross_entropy,
        wanted: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(gradient of `ascend` by each image [b, 3, S, S], logits [b, K] float32).

        `wanted` says of the logits which images need one, bool [b]: where none does, none is
        computed, and 0 comes back.

        Raises:
            InputError: the network gives none.
        """
        self._count(self.queries, places)
        needed = torch.ones_like(places, dtype=torch.bool)

        def asked(logits: Tensor) -> Tensor:
            if wanted is not None:
                needed.copy_(wanted(logits))
            return needed

        gradient, logits = input_gradient(self._predict, image, goal, ascend, asked)
        flat = ~gradient.any(dim=(1, 2, 3)) & needed
        self._count(self.zero_gradients, places[flat])
        return gradient, logits

    def part(self, places: Tensor) -> "QueriedNetwork":
        """The network of the images at some places [b]; what it counts is counted here."""
        part = copy(self)
        part._within = places if self._within is None else self._within[places]
        return part

    def _count(self, counts: Tensor, places: Tensor) -> None:
        places = places if self._within is None else self._within[places]
        counts.index_add_(0, places, torch.ones_like(places))


class Verdicts:
    """The last image that was judged at each place, and whether it had reached its end; so that
    what an attack gives back is not asked of the judge once more."""

    def __init__(self, image: Tensor) -> None:
        self._image = torch.full_like(image, torch.nan)
        self._reached = torch.zeros(len(image), dtype=torch.bool, device=image.device)

    def note(self, image: Tensor, places: Tensor, reached: Tensor) -> None:
        """Notes what images [b, 3, S, S] at `places` were judged to be, bool [b]."""
        self._image[places], self._reached[places] = image, reached

    def known(self, image: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """(which images are the very ones that were judged last, their verdicts), bool [b]."""
        same = (self._image[places] == image).flatten(1).all(dim=1)
        return same, self._reached[places] & same


@dataclass(frozen=True)
class AttackProblem:
    """Images that a network is right of, and how far they may be changed."""

    network: QueriedNetwork
    image: Tensor
    """[B, 3, S, S] float32 or float64 in [0, 1]."""
    target: Tensor
    """[B] int64: the class that an attack leads away from."""
    row: Tensor
    """[B] int64: what is random is a function of (seed, row), so that no image depends on the
    others of its batch."""
    norm: str
    """linf or l2."""
    eps: float
    """Pixels in [0, 1]; infinite where an attack looks for the nearest image that succeeds."""
    success: Success
    """(logits [b, K], target [b]) -> whether an image has reached its end, bool [b]."""
    seed: int = 0
    judge: QueriedNetwork | None = None
    """The network that decides, where it is another one than is searched."""
    copied: bool = False
    """Whether the searched one is a copy of it that differs by rounding alone."""
    verdicts: Verdicts | None = None
    """What was judged already, by places in `whole`."""
    whole: Tensor | None = None
    """Places of these images where verdicts are noted, [B]; None: as they stand here."""

    def succeeds(self, logits: Tensor, image: Tensor, places: Tensor) -> Tensor:
        """Whether images [b, 3, S, S] at `places` [b], of which the network says `logits`, have
        reached their end, bool [b]; where another network decides, it is asked of those."""
        reached = self.success(logits, self.target[places])
        if not reached.any():
            return reached
        where = reached.nonzero()[:, 0]
        if self.judge is not None:
            reached[where] = self._asked(image[where], places[where])
        self._note(image[where], places[where], reached[where])
        return reached

    def gradient_of_survivors(
        self, image: Tensor, places: Tensor, goal: Tensor, ascend: Ascend = cross_entropy
    ) -> tuple[Tensor, Tensor]:
        """(which images at `places` have not reached their end, bool [b]; the gradient of `ascend`
        by those); none is computed where all have."""
        survive = torch.ones_like(places, dtype=torch.bool)
        # The way back is as long for few images as for all; a copy may go there and back once more
        # for these alone. The judging network does not: rounding would decide otherwise.
        anew = False

        def still(logits: Tensor) -> Tensor:
            nonlocal anew
            survive.copy_(~self.succeeds(logits, image, places))
            anew = self.judge is not None and survive.float().mean().item() < FEW
            return torch.zeros_like(survive) if anew else survive

        gradient, _ = self.network.gradient(image, places, goal, ascend, still)
        if not anew or not survive.any():
            return survive, gradient[survive]
        few = (image[survive], places[survive], goal[survive])
        return survive, self.network.gradient(*few, ascend)[0]

    def judged(self, image: Tensor, places: Tensor) -> Tensor:
        """Whether images [b, 3, S, S] at `places` [b] have reached their end, bool [b], by the
        network that decides."""
        reached = torch.zeros_like(places, dtype=torch.bool)
        fresh = torch.ones_like(reached)
        if self.verdicts is not None:
            same, reached = self.verdicts.known(image, self._in_whole(places))
            fresh = ~same
        where = fresh.nonzero()[:, 0]
        if len(where):
            reached[where] = self._asked(image[where], places[where])
            self._note(image[where], places[where], reached[where])
        return reached

    def _asked(self, image: Tensor, places: Tensor) -> Tensor:
        logits = (self.judge or self.network).logits(image, places)
        return self.success(logits, self.target[places])

    def _in_whole(self, places: Tensor) -> Tensor:
        return places if self.whole is None else self.whole[places]

    def _note(self, image: Tensor, places: Tensor, reached: Tensor) -> None:
        if self.verdicts is not None:
            self.verdicts.note(image, self._in_whole(places), reached)

    def places(self) -> Tensor:
        """Of all images, [B]."""
        return torch.arange(len(self.image), device=self.image.device)

    def part(self, places: Tensor) -> "AttackProblem":
        """The problem of the images at some places [b]."""
        judge = self.judge.part(places) if self.judge else None
        return replace(
            self,
            network=self.network.part(places),
            image=self.image[places],
            target=self.target[places],
            row=self.row[places],
            judge=judge,
            whole=self._in_whole(places),
        )


class StagedImages(NamedTuple):
    """What an attack gives that is made of several, one after the other."""

    image: Tensor
    """[B, 3, S, S]"""
    stage: Tensor
    """int64 [B]: which of the stages broke each image, -1: none."""
    stages: tuple[str, ...]


Try = Callable[[AttackProblem, Tensor], Tensor]
"""(the problem of some images, their places [b] in the whole) -> what becomes of them."""


def images_after_tries(problem: AttackProblem, tries: Sequence[Try]) -> Tensor:
    """Attacked images [B, 3, S, S] after several tries, each at what the earlier ones left."""
    attacked, live = problem.image.clone(), problem.places()
    for number, attempt in enumerate(tries, 1):
        attacked[live] = attempt(problem.part(live), live)
        if number < len(tries):
            live = live[~problem.judged(attacked[live], live)]
            if not len(live):
                break
    return attacked


def cost_of_steps(args: Mapping[str, Any], num_classes: int) -> int:
    """Forward passes of an attack that takes `steps` gradients, `restarts` times."""
    return GRADIENT_PASSES * int(args["steps"]) * int(args.get("restarts", 1))


def success_itself(args: Mapping[str, Any], success: Success) -> Success:
    """Success as the caller measures it."""
    return success


@dataclass(frozen=True, kw_only=True)
class AttackFacts:
    """What is to be known of an attack."""

    title: str
    """What its authors call it."""
    source: str
    """Who, where: Madry et al. 2018, section 2.1."""
    norms: tuple[str, ...] = ("linf", "l2")
    """Budgets it knows; the first one unless given."""
    gradient: bool = True
    """Whether it looks at gradients; without, at outputs alone."""
    nearest: bool = False
    """Whether it looks for the nearest image that succeeds, so that a budget may be left out."""
    passes: Callable[[Mapping[str, Any], int], int] = cost_of_steps
    """(all its keywords, classes) -> forward passes that an image costs at most."""
    success: Callable[[Mapping[str, Any], Success], Success] = success_itself
    """(all its keywords, success as the caller measures it) -> what this attack is after; of a
    targeted one, that its class is reached."""
    needs_order: bool = False
    """Whether it means nothing of three and more classes without a known order."""
    concerns: Callable[[Tensor, int], Tensor] | None = None
    """(targets [B], classes) -> which images it is about, bool [B], None: all; the others come back
    as they are and have no part in its rate of success."""


ATTACKS: Registry[Callable[..., Tensor | StagedImages]] = Registry("attack", AttackFacts)
