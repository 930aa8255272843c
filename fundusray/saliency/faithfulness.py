"""Whether a map says what the network goes by: the network is asked again with pixels changed.

No graph is kept. Changed images are never held all at once: those of all images of a batch, and of
all steps of each, are one stream that is cut into passes of `problem.chunk` images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks import folded
from fundusray.errors import InputError
from fundusray.hashed_numbers import normal_numbers, uniform_numbers
from fundusray.keywords import AtLeast, OneOf
from fundusray.saliency.registry import HALF_GREY, OUTPUTS, MapProblem, class_output
from fundusray.saliency.run import Explanation, explainable

STARTS = ("half_grey", "blurred")
"""What is where a pixel is not, or not yet."""
BLUR = 1 / 32
"""Standard deviation of the blur, as a share of the side."""
USE = 1 << 24
"""Of a row's random numbers the use that perturbs; draws follow one another from there."""

Perturbation = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(images [b, 3, S, S], their rows [b], number of the draw) -> (what the map is multiplied by
[b, 1, S, S], the perturbed images)."""


@dataclass(frozen=True)
class PixelCurves:
    """What a class's output does while the pixels go, or come, the strongest first."""

    pixels: Tensor
    """int64 [T + 1]: how many are changed at each step, from none to all."""
    deletion: Tensor
    """float32 [B, T + 1]: the output while pixels go."""
    insertion: Tensor
    """float32 [B, T + 1]: while they come."""

    def deletion_area(self) -> Tensor:
        """The mean height of each deletion curve, [B]; of a faithful map it is small."""
        return _area(self.pixels, self.deletion)

    def insertion_area(self) -> Tensor:
        """The mean height of each insertion curve, [B]; of a faithful map it is large."""
        return _area(self.pixels, self.insertion)


def pixel_curves(
    problem: MapProblem,
    values: Tensor,
    *,
    step: int = 0,
    deleted: Annotated[str, OneOf(*STARTS)] = "half_grey",
    inserted: Annotated[str, OneOf(*STARTS)] = "blurred",
    output: Annotated[str, OneOf(*OUTPUTS)] = "probability",
    folding: bool = True,
) -> PixelCurves:
    """Insertion and deletion (Petsiuk et al. 2018, section 4.2) of B images.

    Pixels are taken by their signed value, the largest first; equal ones row by row, so that a map
    in which all are equal takes them as one reads.

    Args:
        problem: the model is left as it was.
        values: [B, 1, S, S].
        step: pixels that are changed at a time; 0: a hundredth of all.
        deleted, inserted: what is where a pixel is gone, and where it has not come yet (half-grey
            and blurred are the authors').
        output: of the class, its probability or its logit.
        folding: a copy of the network is asked whose norms are folded into its convolutions, in
            about half the time (see `attacks.folded`: its answers differ by rounding); else the
            network itself.

    Raises:
        InputError: maps that do not go with the images, or a start that there is not.
    """
    _check_values(problem, values)
    image, num = problem.image, values[0].numel()
    step = step or -(-num // 100)
    if step < 1:
        raise InputError(f"step is a number of pixels, at least 1 (0: a hundredth), got {step}")
    pixels = torch.tensor([*range(0, num, step), num], device=image.device)
    order = values.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).view(values.shape)
    judged = _folded(problem) if folding else problem
    gone, not_yet = (start_image(image, start) for start in (deleted, inserted))
    curves = []
    for first, second in ((image, gone), (not_yet, image)):

        def changed(place: Tensor, at: Tensor, a: Tensor = first, b: Tensor = second) -> Tensor:
            return torch.where(rank[place] < pixels[at, None, None, None], b[place], a[place])

        curves.append(_outputs(judged, changed, len(pixels), output))
    return PixelCurves(pixels, *curves)


def start_image(image: Tensor, start: str) -> Tensor:
    """Images [B, C, S, S] without what is to be seen on them, of the same shape.

    Raises:
        InputError: none of STARTS.
    """
    if start == "half_grey":
        return torch.full_like(image, HALF_GREY)
    if start != "blurred":
        raise InputError(f"pixels give way to {' or '.join(STARTS)}, got {start}")
    deviation = max(BLUR * image.shape[-1], 0.5)
    reach = min(int(3 * deviation) + 1, image.shape[-1] - 1)
    places = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    weight = torch.exp(-(places**2) / (2 * deviation**2))
    weight = (weight / weight.sum()).expand(image.shape[1], 1, 1, -1)
    padded = F.pad(image, (reach,) * 4, mode="reflect")
    along = F.conv2d(padded, weight, groups=image.shape[1])
    return F.conv2d(along, weight.transpose(2, 3), groups=image.shape[1])


def square_removal(side: int, *, seed: int = 0, fill: float = HALF_GREY) -> Perturbation:
    """A square somewhere on each image is filled: for maps whose values sum to what the network
    says more of the image than of `fill` (Yeh et al. 2019, section 2.2, "square removal").

    The map is multiplied by 1 on the square and by 0 elsewhere, as its values stand for the whole
    of what a pixel does.
    """

    def perturb(image: Tensor, row: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        size = image.shape[-1]
        if not 1 <= side <= size:
            raise InputError(f"a square of {side} pixels does not fit images of {size}")
        corner = (uniform_numbers(seed, row, USE + draw, 2) * (size - side + 1)).long()
        place = torch.arange(size, device=image.device)
        inside = [
            (place >= corner[:, k, None]) & (place < corner[:, k, None] + side) for k in (0, 1)
        ]
        square = (inside[0][:, :, None] & inside[1][:, None])[:, None]
        return square.to(image.dtype), torch.where(square, image.new_tensor(fill), image)

    return perturb


def normal_noise(std: float, *, seed: int = 0) -> Perturbation:
    """The same normal noise is taken off each channel: for maps that are gradients (Yeh et al.
    2019, section 2.2), whose values say what a pixel does per unit."""

    def perturb(image: Tensor, row: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        size = image.shape[-1]
        noise = normal_numbers(seed, row, USE + draw, size * size).mul_(std)
        noise = noise.view(-1, 1, size, size)
        return noise, image - noise

    return perturb


def infidelity(
    problem: MapProblem,
    values: Tensor,
    perturb: Perturbation,
    *,
    draws: int = 10,
    output: Annotated[str, OneOf(*OUTPUTS)] = "logit",
    scaled: bool = False,
) -> Tensor:
    """By how much maps are wrong about what perturbations do, [B] (Yeh et al. 2019, def. 2.1).

    The mean over perturbations I of (sum of I * values - (F(image) - F(perturbed)))^2.

    Args:
        problem: the model is left as it was.
        values: [B, 1, S, S].
        perturb: square_removal, normal_noise, or another.
        scaled: the map is first multiplied by the number that serves it best (their section 2.3),
            so that maps of any unit can be compared.

    Raises:
        InputError: maps that do not go with the images.
    """
    _check_values(problem, values)
    image, row = problem.image, problem.row
    weight = torch.empty(len(image), draws, device=image.device)

    def perturbed(place: Tensor, at: Tensor) -> Tensor:
        parts = image[place].clone()
        for draw in at.unique().tolist():
            some = at == draw
            where, parts[some] = perturb(image[place[some]], row[place[some]], draw)
            weight[place[some], draw] = (where * values[place[some]]).flatten(1).sum(dim=1)
        return parts

    after = _outputs(problem, perturbed, draws, output)
    before = _outputs(problem, lambda place, _: image[place], 1, output)
    difference = before - after
    if scaled:
        square = (weight * weight).sum(dim=1, keepdim=True)
        fit = (weight * difference).sum(dim=1, keepdim=True)
        weight = weight * torch.where(square > 0, fit / square, fit)
    return (weight - difference).square().mean(dim=1)


def max_sensitivity(
    explain: Explanation,
    problem: MapProblem,
    *,
    radius: Annotated[float, AtLeast(0)] = 0.02,
    draws: int = 10,
    seed: int = 0,
) -> Tensor:
    """By how much a map changes at most under small noise, [B] (Yeh et al. 2019, definition 3.1).

    The largest |map(image + noise) - map(image)| / |map(image)| over `draws` of uniform noise in
    [-radius, radius], lengths by the root of the sum of squares; undivided where the map is 0. Rows
    are those of the images throughout, so that a map's own random numbers stay the same.
    """
    image, num = problem.image, len(problem.image)
    with explainable(problem.model), torch.no_grad():
        parts = [explain(problem.part(some)) for some in _places(num, problem)]
        own = torch.cat(parts).flatten(1)
        length = own.norm(dim=1)
        length = torch.where(length > 0, length, torch.ones_like(length))
        most = torch.zeros_like(length)
        for place, draw in _pairs(num, draws, problem):
            part = problem.part(place)
            noise = uniform_offset(part.image, part.row, draw, radius, seed)
            maps = explain(replace(part, image=image[place] + noise)).flatten(1)
            change = (maps - own[place]).norm(dim=1) / length[place]
            most.scatter_reduce_(0, place, change, "amax")
    return most


def uniform_offset(image: Tensor, row: Tensor, draw: Tensor, radius: float, seed: int) -> Tensor:
    """Noise in [-radius, radius] for images [b, 3, S, S], of the draw [b] of each."""
    numbers = uniform_numbers(seed, row, USE + draw, image[0].numel())
    return numbers.mul_(2).sub_(1).mul_(radius).view(image.shape)


def _outputs(
    problem: MapProblem, changed: Callable[[Tensor, Tensor], Tensor], num: int, output: str
) -> Tensor:
    """Of each image [B] the class's output at each of `num` changes, [B, num].

    Args:
        changed: (places of images [b], numbers of changes [b]) -> images [b, 3, S, S].
    """
    target = problem.target
    found = torch.empty(len(target), num, device=target.device)
    with explainable(problem.model) as model, torch.no_grad():
        for place, at in _pairs(len(target), num, problem):
            pixels = changed(place, at).contiguous(memory_format=torch.channels_last)
            found[place, at] = class_output(model(pixels), target[place], output)
    return found


def _folded(problem: MapProblem) -> MapProblem:
    """The problem of a copy of its model that answers alike and faster, where there is one."""
    copied = folded(problem.model, problem.image[:1])
    if copied is problem.model:
        return problem
    return replace(problem, model=copied.to(memory_format=torch.channels_last))


def _pairs(num: int, changes: int, problem: MapProblem) -> Iterator[tuple[Tensor, Tensor]]:
    """(places of images, numbers of changes), each image's changes one after the other."""
    for some in _places(num * changes, problem):
        yield some // changes, some % changes


def _places(num: int, problem: MapProblem) -> tuple[Tensor, ...]:
    return torch.arange(num, device=problem.image.device).split(problem.chunk) if num else ()


def _area(pixels: Tensor, curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, pixels.to(curve) / pixels[-1], dim=1)


def _check_values(problem: MapProblem, values: Tensor) -> None:
    image = problem.image
    if values.shape != (len(image), 1, *image.shape[2:]):
        raise InputError(
            f"maps of images {tuple(image.shape)} are {(len(image), 1, *image.shape[2:])}, got "
            f"{tuple(values.shape)}"
        )
