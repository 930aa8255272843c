"""Attacks on the images of some rows, budget after budget, and what was measured of each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.attacks import (
    ATTACKS,
    AttackOutcome,
    Success,
    attack_success,
    evaluation_mode,
    sweep,
)
from fundusray.attacks.folding import folded
from fundusray.attacks.gradient import perturbation_distance
from fundusray.attacks.survival import survival
from fundusray.conditions import AttackCondition
from fundusray.hashed_numbers import uniform_numbers
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Task

JPEG_QUALITY = 90
SAVED = {
    "success_rounded": "rounded",
    "success_png": "png",
    "success_jpeg": f"jpeg_{JPEG_QUALITY}",
}
"""Column -> what became of the image, as `attacks.survival` calls it."""
Columns = dict[str, np.ndarray]
Network = Callable[[Tensor], Tensor]


def attacked_columns(
    attacks: Sequence[AttackCondition],
    model: nn.Module,
    batches: Iterable[Batch],
    precision: AbstractContextManager[Any],
    task: Task,
    surrogate: nn.Module | None = None,
) -> Columns:
    """What becomes of the valid images of some batches under an attack at budgets that rise; a row
    for each image and budget: row, eps, clean_prediction, prediction, success, changed, linf, l2
    (pixels in [0, 1]), queries, stage (which of several attacks in a row broke it, else ""),
    concerned (whether the attack is about such an image), success_rounded, success_png,
    success_jpeg (whether it still succeeds from 8 bits and from a file), zero_gradients,
    probabilities (by which `attacks.masking` knows masked gradients).

    An image is led away from what the network answers of it as it is: where that is right, success
    is to be wrong; of the others, too, it is then known whether the answer changes.

    Args:
        attacks: one attack at its budgets, the smallest first; what a smaller one broke is not
            attacked again, and stands at the larger ones as it is.
        surrogate: the network whose gradients are followed, where it is another one; success is
            found by `model`.
    """

    def network(asked: nn.Module) -> Network:
        def predict(image: Tensor) -> Tensor:
            with precision:
                return asked(image).float()

        return predict

    parts: list[Columns] = []
    search: nn.Module | None = surrogate
    with evaluation_mode(model):
        for batch in batches:
            image, row = batch.image[batch.valid], batch.row[batch.valid]
            if not len(row):
                continue
            # The same network with fewer passes over memory finds, the network itself decides. Its
            # copy is tried out on pictures of noise: which is taken must not depend on the batch.
            search = search or folded(model, _noise(image))
            target = task.target(batch)[batch.valid]
            networks = _Networks(network(model), network(search), surrogate is None)
            parts += _of_batch(attacks, networks, image, target, row, task)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _noise(image: Tensor) -> Tensor:
    """Two images of noise like these, the same for every batch."""
    row, num = torch.arange(2, device=image.device), image[0].numel()
    return uniform_numbers(0, row, 0, num).view(2, *image.shape[1:]).to(image)


class _Networks(NamedTuple):
    judge: Network
    search: Network
    copied: bool
    """Whether it is the judge's copy that is searched, and not another network."""


def _of_batch(
    attacks: Sequence[AttackCondition],
    networks: _Networks,
    image: Tensor,
    target: Tensor,
    row: Tensor,
    task: Task,
) -> Iterator[Columns]:
    """The columns of one batch, budget after budget."""
    judge = networks.judge
    with torch.no_grad():
        logits = judge(image)
    clean, right = task.answers(logits), ~task.attack_success(logits, target)
    first = attacks[0]
    success = attack_success(first.name, dict(first.args), task.attack_success)
    concerns = ATTACKS.facts(first.name).concerns
    concerned = torch.ones_like(right) if concerns is None else concerns(target, logits.shape[1])
    outcomes = sweep(
        first.name, dict(first.args), judge, image, clean, row=row, norm=first.budget.norm,
        eps=[attack.budget.eps for attack in attacks], success=task.attack_success,
        seed=first.seed, search=networks.search, copied=networks.copied, clean=logits,
    )  # fmt: skip
    for attack, outcome in zip(attacks, outcomes, strict=True):
        measured = _measured(outcome, judge, image, clean, right & concerned, task)
        measured |= _in_files(measured["success"], outcome.image, judge, image, clean, success)
        measured |= {"concerned": concerned}
        measured |= {
            "row": row,
            "eps": torch.full_like(row, attack.budget.eps, dtype=torch.float64),
        }
        columns = {name: value.cpu().numpy() for name, value in measured.items()}
        yield columns | {"stage": np.array(outcome.broken_by(), dtype=object)}


def _in_files(
    succeeded: Tensor,
    attacked: Tensor,
    judge: Network,
    image: Tensor,
    clean: Tensor,
    success: Success,
) -> dict[str, Tensor]:
    """Of the images that succeeded, which still do from 8 bits, from a PNG and from a JPEG."""
    columns = {name: torch.zeros_like(succeeded) for name in SAVED}
    where = succeeded.nonzero()[:, 0]
    if len(where):
        parts = (part[where] for part in (image, attacked, clean))
        found = survival(judge, *parts, success, JPEG_QUALITY)
        for name, way in SAVED.items():
            columns[name][where] = found[way]
    return columns


def _measured(
    outcome: AttackOutcome,
    judge: Network,
    image: Tensor,
    clean: Tensor,
    right: Tensor,
    task: Task,
) -> dict[str, Tensor]:
    """What is said of each attacked image, as it was returned."""
    attacked = outcome.image
    with torch.no_grad():
        now = judge(attacked.to(image.dtype))
    return {
        "clean_prediction": clean,
        "prediction": task.answers(now),
        "success": right & outcome.success,
        "changed": task.attack_success(now, clean),
        "linf": perturbation_distance(attacked, image, "linf"),
        "l2": perturbation_distance(attacked, image, "l2"),
        "queries": outcome.queries,
        "zero_gradients": outcome.zero_gradients,
        "probabilities": outcome.probabilities,
    }
