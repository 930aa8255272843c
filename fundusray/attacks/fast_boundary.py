"""FAB: the nearest image of another class, by projections onto linearised borders between classes
(Croce and Hein 2020, "Minimally distorted adversarial examples").

torchattacks' is not used: it fills the gradients of weights, sets the seed of torch's generator,
and starts again at places that depend on the batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from fundusray.attacks.gradient import perturbation_distance
from fundusray.attacks.losses import lead, rival_classes
from fundusray.attacks.noise import border_offset
from fundusray.attacks.registry import ATTACKS, GRADIENT_PASSES, AttackProblem
from fundusray.keywords import AtLeast

ALPHA, ETA, BETA = 0.1, 1.05, 0.9
"""Largest pull to the original, how far beyond the border, how far back from a success (section
4)."""
TARGETS, MOST = 9, 1 << 30
"""Classes that the targeted attack tries at most, and the other one."""
STEPS = 100
TINY = 1e-12


def move_to_plane(image: Tensor, normal: Tensor, value: Tensor, norm: str) -> Tensor:
    """The smallest move [b, n] in a norm by which value + normal . move becomes 0 and images
    [b, n] stay in [0, 1]; where none reaches that, the one that comes nearest.

    Each pixel moves by min(t, its room) of its own speed, which is 1 for linf and |normal| for l2;
    t is found by sorting rooms (FAB, section 3.1). In float64.
    """
    image, normal, value = image.double(), normal.double(), value.double()
    largest = normal.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    normal, value = normal / largest, value / largest[:, 0]
    direction = -normal.sign() * value.sign()[:, None]
    room = torch.where(direction > 0, 1 - image, image)
    weight = normal.abs()
    speed = torch.ones_like(weight) if norm == "linf" else weight
    # Where the plane does not lean a pixel has no part in it.
    lasting = torch.where(weight > 0, room / speed.clamp_min(TINY), 0.0)
    gain = weight * speed
    ends, order = lasting.sort(dim=1)
    gains = gain.gather(1, order)
    done = (gains * ends).cumsum(dim=1) - gains * ends
    left = gains.flip(1).cumsum(dim=1).flip(1)
    # What is gained until the k-th room is used up; the first that is enough says which move on.
    enough = done + left * ends >= value.abs()[:, None]
    first = enough.int().argmax(dim=1, keepdim=True)
    time = (value.abs()[:, None] - done.gather(1, first)) / left.gather(1, first).clamp_min(TINY)
    time = torch.where(enough.any(dim=1, keepdim=True), time, ends[:, -1:])
    return direction * torch.minimum(time, lasting) * speed


@dataclass
class _Nearest:
    """The nearest images that succeed, [B] each."""

    image: Tensor
    distance: Tensor
    """float64; infinite where there is none yet."""

    def improve(self, image: Tensor, distance: Tensor, places: Tensor) -> None:
        """Takes over images at these places that are nearer."""
        nearer = distance < self.distance[places]
        self.image[places[nearer]] = image[nearer]
        self.distance[places[nearer]] = distance[nearer]


@dataclass(frozen=True)
class _Search:
    """What is the same for all steps of one try."""

    problem: AttackProblem
    rivals: Tensor
    """[B, T]: classes whose borders are looked at."""
    nearest: _Nearest

    def live(self) -> Tensor:
        """Places of images that are still attacked: a budget is met once, while without one
        nearer images are looked for to the end."""
        places = self.problem.places()
        return places[~(self.nearest.distance <= self.problem.eps)] if self._bounded else places

    @property
    def _bounded(self) -> bool:
        return self.problem.eps < torch.inf

    def step(self, attacked: Tensor, places: Tensor) -> Tensor:
        """The next iterates: from between the projections of iterate and original onto the
        nearest border, those that succeed a little back (algorithm 1)."""
        image, norm = self.problem.image[places], self.problem.norm
        normal, value = self._border(attacked, places)
        own = move_to_plane(attacked.flatten(1), normal, value, norm)
        value = value + (normal.double() * (image - attacked).flatten(1)).sum(dim=1)
        original = move_to_plane(image.flatten(1), normal, value, norm)
        lengths = [_length(move, norm).clamp_min(1e-8) for move in (own, original)]
        pull = (lengths[0] / (lengths[0] + lengths[1])).clamp_max(ALPHA)
        own = attacked.flatten(1) + ETA * own
        original = image.flatten(1) + ETA * original
        moved = (1 - pull) * own + pull * original
        moved = moved.clamp(0.0, 1.0).to(image.dtype).view(image.shape)
        logits = self.problem.network.logits(moved, places)
        reached = self.problem.succeeds(logits, moved, places)
        distance = perturbation_distance(moved, image, norm)
        self.nearest.improve(moved[reached], distance[reached], places[reached])
        back = image + BETA * (moved - image)
        return torch.where(reached[:, None, None, None], back, moved)

    def _border(self, attacked: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """(normal [b, n], value [b] float64) of the nearest of the rivals' borders, each linear
        at the iterate: the rival's lead there and its gradient."""
        normal = value = best = None
        target, dual = self.problem.target[places], "l1" if self.problem.norm == "linf" else "l2"
        for rival in self.rivals[places].unbind(1):
            goal = torch.stack([target, rival], dim=1)
            gradient, logits = self.problem.network.gradient(attacked, places, goal, lead)
            gradient, ahead = gradient.flatten(1), lead(logits, goal).double()
            distance = ahead.abs() / _length(gradient.double(), dual)[:, 0].clamp_min(TINY)
            if normal is None or value is None or best is None:
                normal, value, best = gradient, ahead, distance
                continue
            nearer = distance < best
            normal = torch.where(nearer[:, None], gradient, normal)
            value, best = torch.where(nearer, ahead, value), torch.where(nearer, distance, best)
        assert normal is not None and value is not None, "there is no other class"
        return normal, value


ORDERS = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}


def _length(move: Tensor, norm: str) -> Tensor:
    """[b, 1]"""
    return torch.linalg.vector_norm(move, ORDERS[norm], dim=1, keepdim=True)


def _started(search: _Search, places: Tensor, turn: int) -> Tensor:
    """Where a try begins: the image, later half the way to the nearest success or the budget's
    border, in any direction."""
    problem = search.problem.part(places)
    if not turn:
        return problem.image
    far = search.nearest.distance[places].clamp_max(problem.eps)
    # Without budget and success: as far as a white pixel is from a black one.
    far = torch.where(far < torch.inf, far, 1.0).to(problem.image.dtype)[:, None, None, None]
    offset = border_offset(problem.image, problem.row, problem.seed, problem.norm, turn)
    return (problem.image + far / 2 * offset).clamp(0.0, 1.0)


def _search_nearest(problem: AttackProblem, tried: list[tuple[Tensor, int]], steps: int) -> Tensor:
    """The nearest images found, within the budget; where there is none the images themselves.

    Args:
        tried: (rivals [B, T], turn) of each try.
    """
    far = torch.full(problem.target.shape, torch.inf, dtype=torch.float64).to(problem.image.device)
    nearest = _Nearest(problem.image.clone(), far)
    for rivals, turn in tried:
        search = _Search(problem, rivals, nearest)
        live = search.live()
        attacked = problem.image.clone()
        attacked[live] = _started(search, live, turn)
        for _ in range(steps):
            if not len(live):
                break
            attacked[live] = search.step(attacked[live], live)
            live = search.live()
    beyond = ~(nearest.distance <= problem.eps)
    nearest.image[beyond] = problem.image[beyond]
    return nearest.image


def _cost(targeted: bool) -> Any:
    def cost(args: Mapping[str, Any], num_classes: int) -> int:
        others = num_classes - 1
        one_step = GRADIENT_PASSES + 1 if targeted else GRADIENT_PASSES * others + 1
        tries = args["restarts"] * (min(TARGETS, others) if targeted else 1)
        return args["steps"] * tries * one_step

    return cost


@ATTACKS.register(
    "fab",
    title="fast adaptive boundary attack",
    source="Croce and Hein 2020 (FAB), algorithm 1",
    nearest=True,
    passes=_cost(targeted=False),
)
def fab(
    problem: AttackProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = STEPS,
    restarts: Annotated[int, AtLeast(1)] = 1,
) -> Tensor:
    """Projects onto the nearest of the borders to all other classes. With a budget an image is
    done as soon as it succeeds within it; without one the nearest success comes back."""
    rivals = _rivals(problem, MOST)
    return _search_nearest(problem, [(rivals, turn) for turn in range(restarts)], steps)


@ATTACKS.register(
    "fab_t",
    title="targeted fast adaptive boundary attack",
    source="Croce and Hein 2020 (auto-attack), section 5",
    nearest=True,
    passes=_cost(targeted=True),
)
def fab_t(
    problem: AttackProblem,
    *,
    steps: Annotated[int, AtLeast(1)] = STEPS,
    restarts: Annotated[int, AtLeast(1)] = 1,
) -> Tensor:
    """Projects onto the border to one class at a time: the nine likeliest others, or all where
    there are fewer."""
    rivals = _rivals(problem, TARGETS)
    orders = range(rivals.shape[1])
    tried = [(rivals[:, [order]], turn) for turn in range(restarts) for order in orders]
    return _search_nearest(problem, tried, steps)


def _rivals(problem: AttackProblem, most: int) -> Tensor:
    logits = problem.network.logits(problem.image, problem.places())
    return rival_classes(logits, problem.target, most)
