"""APGD: steps along gradients whose length is chosen on the way (Croce and Hein 2020, alg. 1).

Differs from the authors' code in that an image is done as soon as it succeeds, and in that the
first step counts as a rise of the loss if it is one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from fundusray.attacks.budget import Budget
from fundusray.attacks.gradient import (
    Ascend,
    cross_entropy,
    project_into_budget,
    steepest_move,
)
from fundusray.attacks.losses import difference_of_logits_ratio, rival_classes, targeted_ratio
from fundusray.attacks.noise import border_offset
from fundusray.attacks.registry import (
    ATTACKS,
    GRADIENT_PASSES,
    AttackProblem,
    images_after_tries,
)
from fundusray.keywords import AtLeast

MOMENTUM = 0.75
"""Share of a move that is the step's own; the rest is the move before (alg. 1, alpha)."""
RISING = 0.75
"""Share of steps that have to raise the loss, else their length is halved (alg. 1, rho)."""
FIRST_STEP = 2.0
"""Of the radius (alg. 1, eta)."""
FIRST, FEWER, LEAST = 0.22, 0.03, 0.06
"""Of all steps: those before the first look at the length, how many fewer before each further one,
and how many at least (section 3.3)."""
TARGETS = 9
"""Classes that a targeted attack tries at most."""
STEPS = 100


def looks_at_step(steps: int) -> Iterator[int]:
    """Of each step how many lie between two looks at its length if there is one after it, else
    0."""
    period, least, fewer = (max(int(share * steps), 1) for share in (FIRST, LEAST, FEWER))
    since = 0
    for _ in range(steps):
        since += 1
        if since < period:
            yield 0
            continue
        yield period
        since, period = 0, max(period - fewer, least)


@dataclass
class Ascent:
    """Where the images are that have not succeeded yet, [b] each."""

    places: Tensor
    attacked: Tensor
    before: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    """The iterate with the largest loss, its gradient, its loss."""
    best_gradient: Tensor
    best_loss: Tensor
    step: Tensor
    """[b, 1, 1, 1]."""
    rises: Tensor
    """Steps since the last look that raised the loss."""
    halved: Tensor
    """Whether the last look halved the length, and the best loss then."""
    loss_looked_at: Tensor

    @classmethod
    def starting(
        cls, places: Tensor, start: Tensor, gradient: Tensor, loss: Tensor, step: float
    ) -> "Ascent":
        """The state at the images from which the ascent starts."""
        none, wide = torch.zeros_like(places), torch.full_like(loss, step)[:, None, None, None]
        return cls(
            places, start, start, gradient, loss, start, gradient, loss, wide.to(start.dtype),
            none, none > 0, loss,
        )  # fmt: skip

    def next_images(self, image: Tensor, budget: Budget, first: bool) -> Tensor:
        """Where the next step leads within a budget of unit steps around `image`: along the
        gradient, and except at the `first` step a little as the last one did (alg. 1, lines 7 and
        8)."""
        ahead = self.attacked + self.step * steepest_move(self.gradient, budget)
        ahead = project_into_budget(ahead, image, budget)
        share = 1.0 if first else MOMENTUM
        moved = self.attacked + share * (ahead - self.attacked)
        moved += (1 - share) * (self.attacked - self.before)
        return project_into_budget(moved, image, budget)

    def kept(self, stay: Tensor) -> "Ascent":
        """The state of some images, bool [b]."""
        if stay.all():
            return self
        return Ascent(**{field.name: getattr(self, field.name)[stay] for field in fields(self)})

    def advance(self, attacked: Tensor, gradient: Tensor, loss: Tensor) -> None:
        """Goes on to new iterates."""
        self.before, self.attacked, self.gradient = self.attacked, attacked, gradient
        self.rises = self.rises + (loss > self.loss)
        self.loss, better = loss, loss > self.best_loss
        wide = better[:, None, None, None]
        self.best = torch.where(wide, attacked, self.best)
        self.best_gradient = torch.where(wide, gradient, self.best_gradient)
        self.best_loss = torch.where(better, loss, self.best_loss)

    def look_at_step(self, period: int) -> None:
        """Halves the step, and goes back to the best iterate, where too few steps raised the loss
        or where the largest loss is what it was (section 3.3, conditions 1 and 2)."""
        unchanged = ~self.halved & (self.loss_looked_at >= self.best_loss)
        self.halved = (self.rises <= RISING * period) | unchanged
        wide = self.halved[:, None, None, None]
        self.step = torch.where(wide, self.step / 2, self.step)
        self.attacked = torch.where(wide, self.best, self.attacked)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)
        self.loss_looked_at = self.best_loss
        self.rises = torch.zeros_like(self.rises)


def _started(
    problem: AttackProblem, goal: Tensor, ascend: Ascend, turn: int
) -> tuple[Ascent, Tensor]:
    """(the state of what the start did not break, images)."""
    image, places = problem.image, problem.places()
    unit = Budget(problem.norm, problem.eps, 1.0, 1)
    offset = border_offset(image, problem.row, problem.seed, problem.norm, turn)
    start = project_into_budget(image + problem.eps * offset, image, unit)
    gradient, logits = problem.network.gradient(start, places, goal, ascend)
    loss = ascend(logits, goal)
    state = Ascent.starting(places, start, gradient, loss, FIRST_STEP * problem.eps)
    return state.kept(~problem.succeeds(logits, start, places)), start.clone()


def ascended(
    problem: AttackProblem, goal: Tensor, ascend: Ascend, steps: int, turn: int = 0
) -> Tensor:
    """Attacked images [B, 3, S, S]: each the first iterate that succeeds, else the one with the
    largest `ascend`."""
    state, result = _started(problem, goal, ascend, turn)
    unit = Budget(problem.norm, problem.eps, 1.0, steps)
    for number, period in enumerate(looks_at_step(steps)):
        if not len(state.places):
            break
        image, places = problem.image[state.places], state.places
        moved = state.next_images(image, unit, first=not number)
        gradient, logits = problem.network.gradient(moved, places, goal[places], ascend)
        reached = problem.succeeds(logits, moved, places)
        result[places[reached]] = moved[reached]
        state.advance(moved, gradient, ascend(logits, goal[places]))
        if period:
            state.look_at_step(period)
        state = state.kept(~reached)
    result[state.places] = state.best
    return result


def _away(problem: AttackProblem, ascend: Ascend, steps: int, restarts: int) -> Tensor:
    def attempt(part: AttackProblem, _: Tensor, turn: int) -> Tensor:
        return ascended(part, part.target, ascend, steps, turn)

    return images_after_tries(problem, [partial(attempt, turn=turn) for turn in range(restarts)])


@ATTACKS.register(
    "apgd_ce", title="auto-PGD on the cross entropy", source="Croce and Hein 2020, algorithm 1"
)
def apgd_ce(
    problem: AttackProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = STEPS,
    restarts: Annotated[int, AtLeast(1)] = 1,
) -> Tensor:
    """Raises the cross entropy, by steps that are halved where they do not help."""
    return _away(problem, cross_entropy, steps, restarts)


@ATTACKS.register(
    "apgd_dlr",
    title="auto-PGD on the difference-of-logits ratio",
    source="Croce and Hein 2020, equation 6",
)
def apgd_dlr(
    problem: AttackProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = STEPS,
    restarts: Annotated[int, AtLeast(1)] = 1,
) -> Tensor:
    """Raises the ratio, which no scale of the logits hides; of two classes the margin."""
    return _away(problem, difference_of_logits_ratio, steps, restarts)


@ATTACKS.register(
    "apgd_t",
    title="targeted auto-PGD on the difference-of-logits ratio",
    source="Croce and Hein 2020, equation 7",
    passes=lambda args, num_classes: (
        GRADIENT_PASSES * args["steps"] * args["restarts"] * min(TARGETS, num_classes - 1)
    ),
)
def apgd_t(
    problem: AttackProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = STEPS,
    restarts: Annotated[int, AtLeast(1)] = 1,
) -> Tensor:
    """Leads to each of the nine likeliest other classes in turn, or to all where there are fewer;
    below four classes by the margin. An image is done as soon as the network is wrong of it."""
    rivals = rival_classes(
        problem.network.logits(problem.image, problem.places()), problem.target, TARGETS
    )

    def attempt(part: AttackProblem, places: Tensor, order: int, turn: int) -> Tensor:
        goal = torch.stack([part.target, rivals[places, order]], dim=1)
        return ascended(part, goal, targeted_ratio, steps, turn)

    pairs = [(order, turn) for order in range(rivals.shape[1]) for turn in range(restarts)]
    # Each class is led to from another place.
    tries = [partial(attempt, order=order, turn=order * restarts + turn) for order, turn in pairs]
    return images_after_tries(problem, tries)
