"""The step: padding weighs nothing, splitting a batch changes nothing, seeds are functions."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from fundusray.config import Adversarial, Loss, Recipe
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Classification
from fundusray.tasks.classification import AUXILIARY_WEIGHT, Objective
from fundusray.training.step import StepSettings, predict_batches, step_seed, train_step


def batch_of(num: int, valid: list[bool] | None = None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(num, 3, 8, 8, generator=generator)
    target = torch.arange(num) % 3
    keep = torch.tensor(valid if valid is not None else [True] * num)
    return Batch(image, target, torch.arange(num), keep)


def linear() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))


OBJECTIVE = Objective(Loss(), torch.tensor([4.0, 3.0, 3.0]))


def way(model: nn.Module, rate: float = 0.0) -> StepSettings:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    return StepSettings(model, model, optimizer, OBJECTIVE, Adversarial(), nullcontext(), mixup=0.0)


def updated(batches: list[Batch], scale: float) -> torch.Tensor:
    """Weights after one step of gradients averaged over the batches, as workers average them."""
    model, gradients = linear(), []
    for batch in batches:
        model.zero_grad()
        train_step(way(model), batch, scale=scale, seed=0, progress=0.0)
        gradients.append(model[1].weight.grad.clone())
    return torch.stack(gradients).mean(0)


def test_padding_weighs_nothing() -> None:
    padded = batch_of(6, [True] * 4 + [False] * 2)
    short = Batch(*(part[:4] for part in padded[:4]))
    torch.testing.assert_close(updated([padded], 1 / 4), updated([short], 1 / 4))


def test_two_workers_equal_one() -> None:
    whole = batch_of(6, [True] * 5 + [False])
    halves = [Batch(*(part[cut] for part in whole[:4])) for cut in (slice(3), slice(3, None))]
    torch.testing.assert_close(updated([whole], 1 / 5), updated(halves, 2 / 5))


def test_the_sum_of_losses_comes_back() -> None:
    model, batch = linear(), batch_of(4)
    expected = nn.functional.cross_entropy(model(batch.image), batch.target, reduction="sum")
    total = train_step(way(model, 0.1), batch, scale=0.25, seed=0, progress=0.0)
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_long_gradient_is_shortened_and_a_short_one_is_not() -> None:
    def moved(clip: float) -> torch.Tensor:
        model = linear()
        before = nn.utils.parameters_to_vector(model.parameters()).detach()
        train_step(
            replace(way(model, 1.0), clip=clip), batch_of(4), scale=0.25, seed=0, progress=0.0
        )
        return before - nn.utils.parameters_to_vector(model.parameters()).detach()

    whole = moved(0.0)
    length = whole.norm().item()
    torch.testing.assert_close(moved(2 * length), whole)
    torch.testing.assert_close(moved(length / 4), whole / 4, rtol=1e-4, atol=1e-6)


def test_a_step_in_bf16_sums_its_losses_in_full_precision() -> None:
    model, batch = linear(), batch_of(6, [True] * 5 + [False])
    narrow = torch.autocast("cpu", dtype=torch.bfloat16)
    with narrow:
        output = model(batch.image)
    assert output.dtype == torch.bfloat16
    for loss in ("cross_entropy", "quadratic_kappa"):
        objective = Objective(Loss(name=loss), OBJECTIVE.counts)
        taken = replace(way(model), objective=objective, precision=narrow)
        total = train_step(taken, batch, scale=0.2, seed=0, progress=0.0)
        each = objective.per_sample(output.float(), batch.target, batch.valid, 0.0)
        assert total.dtype == torch.float32
        assert total.item() == pytest.approx(each[batch.valid].sum().item(), rel=1e-6)


def test_the_auxiliary_head_weighs_four_tenths() -> None:
    logits, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    valid = torch.ones(4, dtype=torch.bool)
    alone = OBJECTIVE.per_sample(logits, target, valid, 0.0)
    both = OBJECTIVE.per_sample((logits, logits), target, valid, 0.0)
    torch.testing.assert_close(both, (1 + AUXILIARY_WEIGHT) * alone)


def test_seeds_differ_by_step_and_rank_and_repeat() -> None:
    seeds = {step_seed(s, t, r) for s in range(3) for t in range(50) for r in range(4)}
    assert len(seeds) == 3 * 50 * 4
    assert step_seed(1, 2, 3) == step_seed(1, 2, 3)


def test_predict_leaves_padding_out() -> None:
    batch = batch_of(5, [True, True, False, True, False])
    model, task = linear(), Classification(Recipe(), ("a", "b", "c"))
    rows, columns = predict_batches(model, [batch], nullcontext(), task)
    assert rows.tolist() == [0, 1, 3]
    assert list(columns) == ["target", "logit_0", "logit_1", "logit_2"]
    assert columns["target"].tolist() == [0, 1, 0]
    logits = model(batch.image)[[0, 1, 3], 2].detach().numpy()
    assert (columns["logit_2"] == logits).all() and logits.dtype == columns["logit_2"].dtype
