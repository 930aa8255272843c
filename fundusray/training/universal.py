"""One change for all images: learned from the rows of some batches, judged on those of others."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.attacks import Budget, Predict, evaluation_mode
from fundusray.attacks.universal import (
    UniversalPerturbation,
    judge_universal,
    learn_universal,
    sign_noise,
)
from fundusray.pipeline.loader import Batch

Passes = Callable[[], Iterator[Batch]]
"""The same batches, from the beginning."""
Triple = tuple[Tensor, Tensor, Tensor]


class AnsweredBatches:
    """The valid images of some batches, each with what the network answers of it as it is, and its
    row; as often as they are gone through. A perturbation that leads away from the answers changes
    as many of them as it can, right or wrong."""

    def __init__(self, passes: Passes, predict: Predict) -> None:
        self._passes, self._predict = passes, predict
        self._answers: dict[int, Tensor] = {}

    def __iter__(self) -> Iterator[Triple]:
        for number, (image, row) in enumerate(_valid(self._passes())):
            if number not in self._answers:
                with torch.no_grad():
                    self._answers[number] = self._predict(image).argmax(dim=1)
            yield image, self._answers[number], row


def learned_universal(
    model: nn.Module, passes: Passes, budget: Budget, goal: int | None, seed: int
) -> UniversalPerturbation:
    """The perturbation after `budget.steps` passes over some batches, see
    `attacks.universal.learn_universal`; fp32, however the network was trained."""
    with evaluation_mode(model):
        predict = _predict(model)
        return learn_universal(predict, AnsweredBatches(passes, predict), budget, goal, seed)


def universal_columns(
    model: nn.Module, passes: Passes, learned: UniversalPerturbation, budget: Budget, seed: int
) -> dict[str, np.ndarray]:
    """What a perturbation does to the valid images of some batches, [N] each: row,
    clean_prediction, prediction, linf, l2 (pixels in [0, 1]), and noise_prediction, the answer
    where noise of the same length is added in its place.

    Raises:
        InputError: it was learned from one of these rows, or from images of another size.
    """
    with evaluation_mode(model):
        predict = _predict(model)

        def judged(perturbation: Tensor) -> dict[str, Tensor]:
            triples = ((image, row, row) for image, row in _valid(passes()))
            return judge_universal(predict, triples, perturbation, learned.row)

        moved = judged(learned.perturbation)
        noisy = judged(sign_noise(learned.perturbation, budget, seed))
    moved["noise_prediction"] = noisy["prediction"]
    del moved["target"]
    return {name: values.cpu().numpy() for name, values in moved.items()}


def _valid(batches: Iterator[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
    """(images, rows) of each batch that has any."""
    for batch in batches:
        if batch.valid.any():
            yield batch.image[batch.valid], batch.row[batch.valid]


def _predict(model: nn.Module) -> Predict:
    def predict(image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            return model(image).float()

    return predict
