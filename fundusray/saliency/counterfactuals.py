"""Counterfactuals: the image that a network would take for another class, made from what it looks
at (Li et al., Generating Counterfactuals), beside the one that the plain gradient makes.

    x' = clip(x + c sgn(x - b) IG(x)),    x' = clip(x + c dF/dx),    b half-grey

In the paper pixels are 0 to 255, and so `c` is read here: a pixel whose IG is 1 moves by c levels
of 255. IG is the same in either unit; dF/dx is by a level. How large either is depends on the
network, so what is swept is `levels`, how far the pixel moves that moves most before clipping: the
same for every image and both methods. c = levels / max |direction|, and both are written down.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.metrics.counterfactuals import EQUAL, METHODS, ORIGINAL, SMALLEST, SWEPT
from fundusray.saliency.integrated_gradients import integrated_gradients_of
from fundusray.saliency.path_integral import RIGHT
from fundusray.saliency.registry import CHUNK, HALF_GREY, MapProblem, chunked, class_gradient
from fundusray.saliency.run import explainable

LEVELS = 255
"""Steps from black to white, the paper's unit of pixels."""
FARTHEST = 30
"""Doublings, from a 1,024th of a level, within which a change of some length is looked for."""
HALVINGS = 26


@dataclass(frozen=True)
class Sweep:
    """Which counterfactuals are made of an image."""

    first: float = 0.25
    """The smallest step, levels of 255 of the pixel that moves most."""
    last: float = 4096.0
    """The largest: far beyond 255, so that pixels that move less get anywhere."""
    factor: float = math.sqrt(2)
    """From one step to the next."""
    halvings: int = 6
    """Of the interval between the last step that does not reach the class and the first that
    does."""
    length: float = 2.0
    """Root mean square, in levels of 255, of the change at which both methods are compared."""
    steps: int = 50
    """Gradients of the integral."""
    output: str = "logit"
    """What of the class is raised, of registry.OUTPUTS."""

    def levels(self) -> list[float]:
        """The steps, the smallest first."""
        num = round(math.log(self.last / self.first) / math.log(self.factor)) + 1
        return [self.first * self.factor**k for k in range(num)]

    @property
    def text(self) -> str:
        """All that decides a counterfactual, for keys."""
        return (
            f"sweep(first={self.first:g}, last={self.last:g}, factor={self.factor:.6g}, "
            f"halvings={self.halvings}, length={self.length:g}, steps={self.steps}, "
            f"output={self.output})"
        )


def attribution_direction(
    image: Tensor, attribution: Tensor, baseline: float = HALF_GREY
) -> Tensor:
    """sgn(x - b) IG(x), [B, 3, S, S]: what speaks for the class moves away from the baseline, what
    speaks against it towards it."""
    return (image - baseline).sign() * attribution


def gradient_direction(gradient: Tensor) -> Tensor:
    """dF/dx by a level of 255, of a gradient by pixels in [0, 1]."""
    return gradient / LEVELS


def moved_image(image: Tensor, direction: Tensor, c: float | Tensor) -> Tensor:
    """clip(x + c direction), the paper's raw formula; c [B] or one number, levels of 255 for a
    direction of 1; images in [0, 1]."""
    scale = torch.as_tensor(c, dtype=image.dtype, device=image.device) / LEVELS
    return (image + scale.reshape(-1, 1, 1, 1) * direction).clamp(0, 1)


def total_variation(values: Tensor) -> Tensor:
    """Of each [B, C, H, W] the absolute differences of neighbours, across and down, summed and
    divided by its numbers, [B]."""
    across = (values[..., :, 1:] - values[..., :, :-1]).abs().flatten(1).sum(dim=1)
    down = (values[..., 1:, :] - values[..., :-1, :]).abs().flatten(1).sum(dim=1)
    return (across + down) / values[0].numel()


class Path(NamedTuple):
    """The images that one method makes of others, by how far they go."""

    image: Tensor
    direction: Tensor
    """Its largest magnitude is 1; 0 of an image that nothing speaks for or against."""
    largest: Tensor
    """What that magnitude was, [B]."""

    def at(self, levels: Tensor) -> Tensor:
        """The images at so many levels each, [B]; without end: as they are."""
        return moved_image(self.image, self.direction, torch.where(levels.isfinite(), levels, 0))

    def part(self, places: Tensor) -> "Path":
        """Those of some images."""
        return Path(*(values[places] for values in self))


def counterfactual_paths(problem: MapProblem, sweep: Sweep) -> tuple[dict[str, Path], Tensor]:
    """(method -> its path, the completeness gap of the integrated gradients [B]).

    Raises:
        InputError: a gradient that is not finite.
    """
    image = problem.image
    attribution, gap = integrated_gradients_of(
        problem.model, image, problem.target, steps=sweep.steps, rule=RIGHT,
        output=sweep.output, chunk=problem.chunk,
    )  # fmt: skip
    gradient = torch.cat(
        [
            class_gradient(problem.model, image[some], problem.target[some], sweep.output)[0]
            for some in chunked(len(image), problem.chunk)
        ]
    )
    directions = (attribution_direction(image, attribution), gradient_direction(gradient))
    paths = {}
    for method, direction in zip(METHODS, directions, strict=True):
        if not direction.isfinite().all():
            raise InputError(
                f"the {method.replace('_', ' ')} of a photograph is not finite: the network's "
                "outputs or gradients overflow there; look at its weights"
            )
        largest = direction.abs().amax(dim=(1, 2, 3))
        scale = torch.where(largest > 0, largest, 1)[:, None, None, None]
        paths[method] = Path(image, direction / scale, largest)
    return paths, gap


def counterfactual_measures(problem: MapProblem, changed: Tensor) -> dict[str, Tensor]:
    """What a network says of changed images, and how far they are from the problem's, [B] each:
    logit, probability (both of the target), prediction, reached, l2, linf, tv_change, tv_image;
    lengths where pixels are in [0, 1], over all numbers of an image."""
    logits = torch.cat(
        [problem.model(changed[some]).float() for some in chunked(len(changed), problem.chunk)]
    )
    at, change = problem.target[:, None], changed - problem.image
    prediction = logits.argmax(dim=1)
    return {
        "logit": logits.gather(1, at)[:, 0],
        "probability": logits.softmax(dim=1).gather(1, at)[:, 0],
        "prediction": prediction,
        "reached": prediction == problem.target,
        "l2": change.flatten(1).norm(dim=1),
        "linf": change.abs().amax(dim=(1, 2, 3)),
        "tv_change": total_variation(change),
        "tv_image": total_variation(changed),
    }


def smallest_levels(
    problem: MapProblem, path: Path, sweep: Sweep, reached: Tensor | None = None
) -> Tensor:
    """How far each image has to go to be taken for the target, levels [B]: to the first step that
    does, from there back by halves; infinite where no step does.

    Args:
        reached: whether it does, [steps, B]; None: is asked for.
    """
    steps = torch.tensor(sweep.levels(), device=path.image.device)
    if reached is None:
        every = [path.at(level.expand(len(path.image))) for level in steps]
        reached = torch.stack([counterfactual_measures(problem, one)["reached"] for one in every])
    found = torch.full((len(path.image),), math.inf, device=path.image.device)
    places = reached.any(dim=0).nonzero()[:, 0]
    if not len(places):
        return found
    number = reached[:, places].int().argmax(dim=0)
    high = steps[number]
    low = torch.where(number > 0, steps[(number - 1).clamp(min=0)], 0)
    asked, there = problem.part(places), path.part(places)
    for _ in range(sweep.halvings):
        middle = (low + high) / 2
        hit = counterfactual_measures(asked, there.at(middle))["reached"]
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    found[places] = high
    return found


def equal_levels(path: Path, length: float) -> Tensor:
    """How far each image has to go so that its change has a root mean square of `length` levels of
    255 after clipping, levels [B]; infinite where it cannot get there."""
    wanted = length / LEVELS * math.sqrt(path.image[0].numel())

    def lengths(doublings: Tensor) -> Tensor:
        return (path.at(2.0**doublings) - path.image).flatten(1).norm(dim=1)

    # No pixel comes back once it has moved, so that the length never falls.
    low = torch.full((len(path.image),), -10.0, device=path.image.device)
    high = low + FARTHEST
    within = lengths(high) >= wanted
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        far = lengths(middle) >= wanted
        low, high = torch.where(far, low, middle), torch.where(far, middle, high)
    return torch.where(within, 2.0**high, math.inf)


def counterfactual_columns(
    model: nn.Module, image: Tensor, target: Tensor, sweep: Sweep, chunk: int = CHUNK
) -> dict[str, np.ndarray]:
    """Rows of counterfactuals of images [B, 3, S, S] in [0, 1] toward a class of each [B].

    Columns: place (of the image in the batch), method ("" of the image as it is), kind, levels, c,
    those of `counterfactual_measures`, and gap, the completeness gap of the image's attributions.
    An image has a row of SMALLEST only where the method reaches the class, and one of EQUAL only
    where the change can be so long.
    """
    parts: list[dict[str, np.ndarray]] = []

    def add(method: str, kind: str, levels: Tensor, c: Tensor, measures: dict[str, Tensor]) -> None:
        keep = levels.isfinite().cpu().numpy()
        columns = {"levels": levels, "c": c} | measures | {"gap": gap}
        part = {name: values.cpu().numpy()[keep] for name, values in columns.items()}
        said = {"method": method, "kind": kind}
        texts = {name: np.full(keep.sum(), text, object) for name, text in said.items()}
        parts.append({"place": np.flatnonzero(keep)} | texts | part)

    with explainable(model), torch.no_grad():
        problem = _problem(model, image, target, chunk)
        paths, gap = counterfactual_paths(problem, sweep)
        none = torch.zeros(len(image), device=image.device)
        add("", ORIGINAL, none, none, counterfactual_measures(problem, problem.image))
        for method, path in paths.items():
            reached = []
            for level in sweep.levels():
                levels = torch.full_like(none, level)
                measures = counterfactual_measures(problem, path.at(levels))
                reached.append(measures["reached"])
                add(method, SWEPT, levels, levels / path.largest, measures)
            least = smallest_levels(problem, path, sweep, torch.stack(reached))
            for kind, levels in (
                (SMALLEST, least),
                (EQUAL, equal_levels(path, sweep.length)),
            ):
                measures = counterfactual_measures(problem, path.at(levels))
                add(method, kind, levels, levels / path.largest, measures)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def counterfactual_images(
    model: nn.Module, image: Tensor, target: Tensor, sweep: Sweep, chunk: int = CHUNK
) -> dict[str, tuple[Tensor, dict[str, Tensor]]]:
    """Method -> (counterfactuals [B, 3, S, S], levels and `counterfactual_measures`): at the
    smallest step that reaches the class, or at the last one where none does."""
    found = {}
    with explainable(model), torch.no_grad():
        problem = _problem(model, image, target, chunk)
        for method, path in counterfactual_paths(problem, sweep)[0].items():
            levels = smallest_levels(problem, path, sweep)
            levels = torch.where(levels.isfinite(), levels, sweep.levels()[-1])
            changed = path.at(levels)
            measures = {"levels": levels} | counterfactual_measures(problem, changed)
            found[method] = (changed, measures)
    return found


def _problem(model: nn.Module, image: Tensor, target: Tensor, chunk: int) -> MapProblem:
    row = torch.arange(len(image), device=image.device)
    return MapProblem(model, image.float(), target, row, {}, chunk)
