"""Predicting under a condition leaves the network alone and measures each image's change."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.attacks import Budget
from fundusray.conditions import AttackCondition, Clean, Condition
from fundusray.config import Recipe
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Classification
from fundusray.tasks.classification import logits_of
from fundusray.training.predicting import predictions_under, split_measured
from fundusray.training.step import predict_batches

ATTACK = AttackCondition("pgd", Budget("linf", 0.05, 0.0125, 8), 1)
TASK = Classification(Recipe(), ("a", "b", "c"))


class Said(NamedTuple):
    rows: np.ndarray
    logits: np.ndarray
    columns: dict[str, np.ndarray]


def under(
    condition: Condition,
    model: nn.Module,
    every: list[Batch],
    precision: AbstractContextManager[Any],
) -> Said:
    """What is said of images under a condition: logits, and what was measured."""
    rows, columns = predictions_under(condition, model, every, precision, TASK)
    own, measured = split_measured(columns)
    return Said(rows, logits_of(own), measured)


def network() -> nn.Module:
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 3)
    )
    net[1].running_mean.normal_()
    return net


def batches(cuts: list[int], num: int = 12) -> list[Batch]:
    """The same twelve images, cut into batches of these sizes; rows 3 and 7 do not count."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(num, 3, 8, 8, generator=generator)
    with torch.no_grad():
        target = network().eval()(image).argmax(1)
    target[::4] = (target[::4] + 1) % 3
    valid = torch.ones(num, dtype=torch.bool)
    valid[[3, 7]] = False
    whole = Batch(image, target, 50 + torch.arange(num), valid)
    pieces = [part.split(cuts) for part in whole[:4]]
    return [Batch(*piece) for piece in zip(*pieces, strict=True)]


def test_logits_are_those_of_attacked_images() -> None:
    (batch,) = batches([12])
    model = network().train()
    got = under(ATTACK, model, [batch], nullcontext())
    assert got.rows.tolist() == [50, 51, 52, 54, 55, 56, 58, 59, 60, 61]
    with torch.no_grad():
        clean = model.eval()(batch.image)[batch.valid].numpy()
    target = batch.target[batch.valid].numpy()
    was_right = clean.argmax(1) == target
    right = got.logits.argmax(1) == target
    assert was_right.sum() == 7
    assert not (right & ~was_right).any()
    assert right.sum() < was_right.sum()
    linf, l2 = got.columns["linf"], got.columns["l2"]
    # Wrong from the beginning: not attacked at all.
    assert (linf[~was_right] == 0).all()
    np.testing.assert_allclose(got.logits[~was_right], clean[~was_right], atol=1e-6)
    assert (linf[was_right] > 0).all()
    assert linf.max() <= ATTACK.budget.eps + 1e-6
    assert (l2 >= linf).all()
    assert (l2 <= np.sqrt(192) * linf + 1e-9).all()
    assert got.columns["clean_prediction"].tolist() == clean.argmax(1).tolist()
    assert got.columns["success"].tolist() == (was_right & ~right).tolist()


def test_how_images_are_batched_does_not_matter() -> None:
    model = network()
    one = under(ATTACK, model, batches([12]), nullcontext())
    many = under(ATTACK, model, batches([5, 3, 4]), nullcontext())
    assert one.rows.tolist() == many.rows.tolist()
    np.testing.assert_allclose(one.logits, many.logits, atol=1e-4)
    other = under(replace(ATTACK, seed=2), model, batches([12]), nullcontext())
    assert not np.allclose(one.logits, other.logits, atol=1e-4)


def test_the_network_is_left_alone() -> None:
    model = network().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    under(ATTACK, model, batches([6, 6]), nullcontext())
    assert all(layer.training for layer in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_larger_budget_fools_more() -> None:
    model, every = network(), batches([12])
    target = every[0].target[every[0].valid].numpy()

    def robust(eps: float, steps: int) -> int:
        budget = Budget("linf", eps, 2.5 * eps / steps, steps)
        got = under(AttackCondition("pgd", budget, 1), model, every, nullcontext())
        return int((got.logits.argmax(1) == target).sum())

    assert [robust(eps, 10) for eps in (1e-6, 0.3)] == [7, 0]


def test_in_half_precision_logits_are_full_numbers() -> None:
    precision = torch.autocast("cpu", torch.bfloat16)
    got = under(ATTACK, network(), batches([12]), precision)
    assert got.logits.dtype == np.float32
    assert got.columns["linf"].max() <= ATTACK.budget.eps + 1e-6


def test_clean_images_are_what_a_plain_pass_sees() -> None:
    model = network()
    got = under(Clean(), model, batches([5, 3, 4]), nullcontext())
    rows, columns = predict_batches(model, batches([5, 3, 4]), nullcontext(), TASK)
    assert got.rows.tolist() == rows.tolist()
    assert np.array_equal(got.logits, logits_of(columns))
    assert got.columns == {}


def test_nothing_to_judge() -> None:
    assert len(under(ATTACK, network(), [], nullcontext()).rows) == 0
    empty = [Batch(*batch[:3], torch.zeros_like(batch.valid)) for batch in batches([12])]
    assert len(under(ATTACK, network(), empty, nullcontext()).rows) == 0


def test_hidden_nan_does_not_raise() -> None:
    """A diverged network is told by its loss, not by the attack."""

    class Broken(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.flatten(1)[:, :3] * torch.nan

    got = under(ATTACK, Broken(), batches([12]), nullcontext())
    assert np.isnan(got.logits).all()
