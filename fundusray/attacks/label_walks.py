"""Attacks that see labels alone: each image's walk asks, and one batch answers many walks.

A walk is written as its paper has it, for one image, and yields the images that it asks about.
All walks advance in lock step: each round of the network is one batch, filled from what the walks
ask; where one has ended, the next image's walk takes its place. A walk's random numbers are of its
row, so that it is the same in any batch.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks.folding import within_rounding
from fundusray.attacks.gradient import perturbation_distance
from fundusray.attacks.registry import AttackProblem
from fundusray.hashed_numbers import uniform_numbers

Walk = Generator[Tensor, list[bool], None]
"""Yields images [m, 3, S, S] in [0, 1] and is sent, of each, whether the attack's end is reached.
It ends by itself where it can go no further."""

STARTS = 1 << 32
DIRECTIONS = 1 << 33
"""Uses of a row's numbers: from here on, one a try."""
TRIES = 50
"""Starts that are tried before an image is given up."""
CELLS = ((3, 0), (1, 1), (3, 1), (3, 4), (3, 16))
"""The noise that starts are, in turn: (colours, cells a side); 0: each pixel is a cell."""
SPARE = 1e-6
"""Of a budget: what rounding of a length in float32 may hide."""


@dataclass
class _Walker:
    """A walk under way, and what it still waits to hear."""

    place: int
    walk: Walk
    images: Tensor
    answers: list[bool] = field(default_factory=list)
    queries: int = 0

    @property
    def num_waiting(self) -> int:
        return len(self.images) - len(self.answers)

    def next_request(self) -> bool:
        """Takes the answers to the walk; whether it asks again."""
        try:
            self.images = self.walk.send(self.answers)
        except StopIteration:
            return False
        self.answers = []
        return True


def nearest_images(
    problem: AttackProblem, walk: Callable[[AttackProblem, int], Walk], queries: int, batch: int
) -> Tensor:
    """The nearest image of all that a walk asked about and that reached its end, [B, 3, S, S].

    An image comes back as it was where none did, or none within a budget that is not infinite; with
    such a budget a walk ends at the first image within it.

    Args:
        walk: from (the problem, an image's place in it) to that image's walk.
        queries: what each walk may ask at most; all of it unless the walk ends before.
        batch: how many images go through the network at a time.
    """
    search = _Search(problem, queries)
    places, active = iter(range(len(problem.image))), list[_Walker]()
    while True:
        while sum(walker.num_waiting for walker in active) < batch:
            place = next(places, None)
            if place is None:
                break
            begun = walk(problem, place)
            first = next(begun, None)
            if first is not None:
                active.append(_Walker(place, begun, first))
        if not active:
            return search.within_budget()
        search.answer(active, batch)
        active = [walker for walker in active if search.goes_on(walker)]


class _Search:
    """The nearest image of each place so far."""

    def __init__(self, problem: AttackProblem, queries: int) -> None:
        self.problem = problem
        self.queries = queries
        self.nearest = problem.image.clone()
        self.distance = [math.inf] * len(problem.image)

    def answer(self, active: list[_Walker], batch: int) -> None:
        """One batch for the first walkers that wait, as much as it holds."""
        owners, parts = list[_Walker](), list[Tensor]()
        for walker in active:
            left = min(batch - len(owners), self.queries - walker.queries)
            first = len(walker.answers)
            part = walker.images[first : first + left]
            owners += [walker] * len(part)
            parts.append(part)
        image = torch.cat(parts)
        places = torch.tensor([walker.place for walker in owners], device=image.device)
        reached = label_success(self.problem, image, places)
        self._keep_nearest(image, places, reached)
        for walker, answer in zip(owners, reached.tolist(), strict=True):
            walker.queries += 1
            walker.answers.append(answer)

    def _keep_nearest(self, image: Tensor, places: Tensor, reached: Tensor) -> None:
        image, places = image[reached], places[reached]
        order = math.inf if self.problem.norm == "linf" else 2
        offset = image - self.problem.image[places]
        lengths = torch.linalg.vector_norm(offset, order, dim=(1, 2, 3)).tolist()
        for index, (place, length) in enumerate(zip(places.tolist(), lengths, strict=True)):
            if length < self.distance[place]:
                self.distance[place] = length
                self.nearest[place] = image[index]

    def goes_on(self, walker: _Walker) -> bool:
        """Whether a walker asks, or waits, for more."""
        eps = self.problem.eps
        near = self.distance[walker.place] <= eps * (1 - SPARE)
        if (near and math.isfinite(eps)) or walker.queries >= self.queries:
            walker.walk.close()
            return False
        return walker.num_waiting > 0 or walker.next_request()

    def within_budget(self) -> Tensor:
        image, norm = self.problem.image, self.problem.norm
        near = perturbation_distance(self.nearest, image, norm) <= self.problem.eps
        return torch.where(near[:, None, None, None], self.nearest, image)


def label_success(problem: AttackProblem, image: Tensor, places: Tensor) -> Tensor:
    """Whether images [b, 3, S, S] of these places have reached their end, bool [b], by nothing but
    the class that the network answers; where another network decides, by that one's, too.

    A copy of the deciding network answers for it wherever rounding cannot change the class.
    """
    logits = problem.network.logits(image, places)
    reached = _labelled_success(problem, logits, places)
    if problem.judge is None:
        return reached
    asked = within_rounding(logits) if problem.copied else reached
    where = asked.nonzero()[:, 0]
    if len(where):
        decided = problem.judge.logits(image[where], places[where])
        reached[where] = _labelled_success(problem, decided, places[where])
    return reached


def _labelled_success(problem: AttackProblem, logits: Tensor, places: Tensor) -> Tensor:
    label = F.one_hot(logits.argmax(dim=1), logits.shape[1]).float()
    return problem.success(label, problem.target[places])


def far_start(problem: AttackProblem, place: int) -> Generator[Tensor, list[bool], Tensor | None]:
    """An offset from the image to one that has reached its end; None where none was found.

    Uniform noise, as Brendel et al. start from, and in turn plain greys and colours and noise of
    coarser cells: a network may take any noise of single pixels for one class.
    """
    image, row = problem.image[place], problem.row[place : place + 1]
    for number in range(TRIES):
        colours, side = CELLS[number % len(CELLS)]
        shape = (colours, side, side) if side else tuple(image.shape)
        noise = uniform_numbers(problem.seed, row, STARTS + number, math.prod(shape))
        cells = noise.view(1, *shape).expand(1, *image.shape[:1], *shape[1:])
        whole = F.interpolate(cells, size=image.shape[1:]).to(image)
        (reached,) = yield whole
        if reached:
            return whole[0] - image
    return None


def to_boundary(
    image: Tensor, offset: Tensor, norm: str, halvings: int
) -> Generator[Tensor, list[bool], Tensor]:
    """The offset [3, S, S] after bisection between the image and where its end is reached.

    l2: along the line; linf: by cutting off at a level in between (Chen et al. 2020, section 4.1).
    What comes back has reached its end, too.
    """
    low, high = 0.0, 1.0
    most = offset.abs().amax()
    for _ in range(halvings):
        middle = (low + high) / 2
        (reached,) = yield moved(image, _nearer(offset, norm, middle, most))
        low, high = (low, middle) if reached else (middle, high)
    return _nearer(offset, norm, high, most)


def _nearer(offset: Tensor, norm: str, share: float, most: Tensor) -> Tensor:
    if norm == "l2":
        return offset * share
    return offset.clamp(-share * most, share * most)


def moved(image: Tensor, offset: Tensor, share: float = 1.0) -> Tensor:
    """The image with a share of the offset, in [0, 1], as a request of one: [1, 3, S, S]."""
    return torch.add(image, offset, alpha=share).clamp_(0.0, 1.0)[None]
