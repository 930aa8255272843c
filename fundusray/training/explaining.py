"""Maps of a trained network for the photographs of some batches, one photograph at a time."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.attacks import evaluation_mode
from fundusray.conditions import AttackCondition, Condition, WorstCase
from fundusray.errors import InputError
from fundusray.pipeline.loader import Batch
from fundusray.saliency import (
    Attribution,
    MapMethod,
    MapProblem,
    explainable,
    explanation,
    run_map,
)
from fundusray.saliency.checks import map_checks
from fundusray.saliency.registry import images_at_once


@dataclass(frozen=True)
class ExplainedImage:
    """What one map says of one image."""

    row: int
    method: MapMethod
    target: int
    """The class that is explained."""
    prediction: int
    """The network's answer of this very image."""
    probability: float
    """Of the class that is explained."""
    image: np.ndarray
    """float32 [3, S, S] in [0, 1], as the network saw it."""
    values: np.ndarray
    """float32 [S, S]: positive speaks for the class."""
    gap: float | None
    """The completeness gap; None of maps that have none."""
    gradients: int | None
    """That it took, where that differs between images."""
    seconds: float
    """Its share of the batch's time."""
    checks: dict[str, float]
    """The figures of `saliency.checks`; nothing where they are not asked for."""


def answers(model: nn.Module, batches: Iterable[Batch]) -> dict[int, int]:
    """Row -> the class that a network answers, of the valid images of some batches."""
    found: dict[int, int] = {}
    with evaluation_mode(model), torch.no_grad():
        for batch in batches:
            image, row = batch.image[batch.valid], batch.row[batch.valid]
            if len(row):
                answer = model(image).argmax(dim=1)
                found |= dict(zip(row.tolist(), answer.tolist(), strict=True))
    return found


def explained_images(
    model: nn.Module,
    batches: Iterable[Batch],
    methods: Sequence[MapMethod],
    targets: Mapping[int, int],
    condition: Condition,
    layers: Mapping[str, str],
    checks: bool = False,
) -> Iterator[ExplainedImage]:
    """Every map of every valid image, of the class that `targets` says of its row.

    Args:
        condition: an attack leads the images away from the network's answers before they are
            explained; anything else is in the batches already.
        checks: whether each map is also checked, which costs several maps.

    Raises:
        InputError: as `saliency.run_map`, or the worst of several damages, which no batch holds.
    """
    if isinstance(condition, WorstCase):
        raise InputError(
            f"condition={condition}: which damage is the worst differs between photographs and is "
            "not explained; give the damage itself, e.g. light_leakage(level=2)"
        )
    for batch in batches:
        image, row = batch.image[batch.valid].float(), batch.row[batch.valid]
        if not len(row):
            continue
        target = torch.tensor([targets[one] for one in row.tolist()], device=image.device)
        if isinstance(condition, AttackCondition):
            image = _attacked(model, image, row, condition)
        with evaluation_mode(model), torch.no_grad():
            shares = model(image).float().softmax(dim=1)
        for method in methods:
            began = time.perf_counter()
            found = run_map(
                method.name, dict(method.args), model, image, target, row=row, layers=layers
            )
            if image.is_cuda:
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - began) / len(row)
            checked: list[dict[str, float]] = [{} for _ in range(len(row))]
            if checks:
                explain = explanation(method.name, dict(method.args))
                with explainable(model):
                    problem = MapProblem(model, image, target, row, layers, images_at_once(image))
                    checked = map_checks(explain, problem, found.values)
            yield from _each(method, image, row, target, shares, found, seconds, checked)


def _attacked(model: nn.Module, image: Tensor, row: Tensor, attack: AttackCondition) -> Tensor:
    """The images, led away from what the network answers of them."""

    def predict(shown: Tensor) -> Tensor:
        return model(shown).float()

    with evaluation_mode(model):
        with torch.no_grad():
            answer = predict(image).argmax(dim=1)
        return attack.changed(
            predict, image, answer, row, lambda logits, own: logits.argmax(dim=1) != own
        )


def _each(
    method: MapMethod,
    image: Tensor,
    row: Tensor,
    target: Tensor,
    shares: Tensor,
    found: Attribution,
    seconds: float,
    checked: list[dict[str, float]],
) -> Iterator[ExplainedImage]:
    probability = shares.gather(1, target[:, None])[:, 0]
    columns = [row, target, shares.argmax(dim=1), probability]
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    images, values = image.cpu().numpy(), found.values[:, 0].cpu().numpy()
    for place, (one, wanted, answer, share) in enumerate(numbers):
        yield ExplainedImage(
            one,
            method,
            wanted,
            answer,
            share,
            images[place],
            values[place],
            None if found.gap is None else float(found.gap[place]),
            None if found.gradients is None else int(found.gradients[place]),
            seconds,
            checked[place],
        )
