"""The Square attack: squares of colour at random places, kept where they help; logits alone
(Andriushchenko et al. 2020).

Squares lie at places that are each image's own (the authors' code moves all images of a batch
alike), drawn from (seed, row, query).
"""

import math
from functools import lru_cache
from typing import Annotated

import torch
from torch import Tensor

from fundusray.attacks.budget import Budget
from fundusray.attacks.gradient import project_into_budget
from fundusray.attacks.losses import margin
from fundusray.attacks.registry import ATTACKS, AttackProblem
from fundusray.hashed_numbers import uniform_numbers
from fundusray.keywords import AtLeast

FIRST_SHARE = 0.8
"""Of the pixels that the first squares cover (the authors' code)."""
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After so many of 10,000 queries the share is halved (section 3.1)."""
QUERY = 1 << 32
"""Uses of a row's numbers from here on are its queries'."""
TINY = 1e-12
COLOURS = 4
"""First of a query's numbers that choose signs; the ones before choose places."""


def square_side(query: int, queries: int, pixels: int) -> int:
    """The side of the squares of a query."""
    moment = query * 10_000 // queries
    share = FIRST_SHARE / 2 ** sum(moment > after for after in HALVINGS)
    return max(round(math.sqrt(share * pixels)), 1)


@ATTACKS.register(
    "square",
    title="Square attack",
    source="Andriushchenko et al. 2020, algorithms 1 to 3",
    gradient=False,
    passes=lambda args, num_classes: args["queries"],
)
def square(problem: AttackProblem, *, queries: Annotated[int, AtLeast(1)] = 5000) -> Tensor:
    """Random search on the margin, which sees through what hides gradients."""
    image, live = problem.image, problem.places()
    moved = _stripes(problem) if problem.norm == "linf" else _tiles(problem)
    attacked, logits = moved, problem.network.logits(moved, live)
    worth = margin(logits, problem.target)
    live = live[~problem.succeeds(logits, attacked, live)]
    for query in range(1, queries):
        if not len(live):
            break
        side = square_side(query, queries, image.shape[2] * image.shape[3])
        numbers = _numbers(problem, live, query, COLOURS + image.shape[1] + 1)
        propose = _recoloured if problem.norm == "linf" else _with_moved_weight
        moved = propose(attacked[live], image[live], problem.eps, side, numbers)
        logits = problem.network.logits(moved, live)
        value = margin(logits, problem.target[live])
        reached = problem.succeeds(logits, moved, live)
        better = (value > worth[live]) | reached
        attacked[live[better]], worth[live[better]] = moved[better], value[better]
        live = live[~reached]
    return attacked


def _numbers(problem: AttackProblem, places: Tensor, query: int, num: int) -> Tensor:
    """Uniform in (0, 1), [b, num]."""
    return uniform_numbers(problem.seed, problem.row[places], QUERY + query, num)


def _signs(numbers: Tensor) -> Tensor:
    return torch.where(numbers < 0.5, -1.0, 1.0)


def _starts(numbers: Tensor, room: int) -> Tensor:
    """Whole numbers from 0 to `room`, [b]."""
    return (numbers * (room + 1)).long()


def _projected(moved: Tensor, image: Tensor, norm: str, eps: float) -> Tensor:
    return project_into_budget(moved, image, Budget(norm, eps, eps, 1))


def _stripes(problem: AttackProblem) -> Tensor:
    """Columns of plus or minus eps, each channel its own (section 3.1)."""
    image = problem.image
    num = image.shape[1] * image.shape[3]
    sign = _signs(_numbers(problem, problem.places(), 0, num))
    sign = sign.view(len(image), image.shape[1], 1, image.shape[3])
    return _projected(image + problem.eps * sign, image, "linf", problem.eps)


def _recoloured(attacked: Tensor, image: Tensor, eps: float, side: int, numbers: Tensor) -> Tensor:
    """The images with a square each whose channels go to one border of the budget (alg. 2)."""
    height, width = image.shape[2:]
    inside = (
        _covered(numbers[:, 0], height, side)[:, :, None]
        & _covered(numbers[:, 1], width, side)[:, None, :]
    )
    sign = _signs(numbers[:, COLOURS : COLOURS + image.shape[1]])[:, :, None, None]
    moved = attacked + 2 * eps * sign * inside[:, None]
    return _projected(moved, image, "linf", eps)


def _covered(numbers: Tensor, length: int, side: int) -> Tensor:
    """Which of `length` pixels are inside a window of `side`, bool [b, length]."""
    side = min(side, length)
    first = _starts(numbers, length - side)[:, None]
    pixel = torch.arange(length, device=numbers.device)
    return (pixel >= first) & (pixel < first + side)


@lru_cache(maxsize=64)
def _hill(height: int, width: int) -> Tensor:
    """A hill of rectangles in steps of 1/k^2 whose centre is the centre (section 3.2, eta)."""
    hill = torch.zeros(height, width)
    row, column = height // 2, width // 2
    for ring in range(max(height, width) // 2 + 1):
        rows = slice(max(row - ring, 0), row + ring + 1)
        columns = slice(max(column - ring, 0), column + ring + 1)
        hill[rows, columns] += 1 / (ring + 1) ** 2
    return hill


@lru_cache(maxsize=64)
def hill_and_valley(side: int) -> Tensor:
    """A hill above a valley, of length 1, [side, side] (section 3.2)."""
    hill, valley = (_hill(rows, side) for rows in (side // 2, side - side // 2))
    whole = torch.cat([hill / hill.norm().clamp_min(TINY), -valley / valley.norm()])
    return whole / whole.norm()


def _tiles(problem: AttackProblem) -> Tensor:
    """Hills and valleys side by side, five by five where there is room (section 3.2)."""
    image = problem.image
    num, channels, height, width = image.shape
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    sign = _signs(_numbers(problem, problem.places(), 0, channels * down * across))
    sign = sign.view(num, channels, down, across)
    tile = hill_and_valley(side).to(image)
    tiles = torch.kron(sign.to(image), tile)
    offset = torch.zeros_like(image)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    offset[:, :, top : top + down * side, left : left + across * side] = tiles
    return _projected(image + offset * (problem.eps / _length(offset)), image, "l2", problem.eps)


def _length(offset: Tensor, dim: tuple[int, ...] = (1, 2, 3)) -> Tensor:
    return torch.linalg.vector_norm(offset, dim=dim, keepdim=True).clamp_min(TINY)


def _with_moved_weight(
    attacked: Tensor, image: Tensor, eps: float, side: int, numbers: Tensor
) -> Tensor:
    """The images with the change of one window laid onto another one, and what is left of the
    budget with it (alg. 3)."""
    height, width = image.shape[2:]
    side = min(max(side, 3) | 1, (min(height, width) - 1) | 1)
    offset = attacked - image
    first = _window(offset, numbers[:, 0], numbers[:, 1], side)
    second = _window(offset, numbers[:, 2], numbers[:, 3], side)
    both = torch.zeros(offset.shape, dtype=torch.bool, device=offset.device)
    both[first] = True
    both[second] = True
    weight = (offset * both).square().sum(dim=(2, 3), keepdim=True)
    unused = (eps**2 - offset.square().sum(dim=(1, 2, 3), keepdim=True)).clamp_min(0)
    target = (unused / image.shape[1] + weight).sqrt()
    own = offset[first]
    sign = _signs(numbers[:, COLOURS : COLOURS + image.shape[1]])[:, :, None, None]
    shape = hill_and_valley(side).to(image)
    turned = numbers[:, -1] < 0.5
    shape = torch.where(turned[:, None, None, None], shape.T, shape)
    made = sign * shape + own / _length(own, (2, 3))
    offset[second] = 0
    offset[first] = made * (target / _length(made, (2, 3)))
    # What was clipped at black and white is given to the rest.
    return _projected(image + offset * (eps / _length(offset)), image, "l2", eps)


def _window(offset: Tensor, down: Tensor, across: Tensor, side: int) -> tuple[Tensor, ...]:
    """Indices of a window of each image and channel, [b, 3, side, side]."""
    num, channels, height, width = offset.shape
    device = offset.device
    within = torch.arange(side, device=device)
    rows = _starts(down, height - side)[:, None] + within
    columns = _starts(across, width - side)[:, None] + within
    return (
        torch.arange(num, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    )
