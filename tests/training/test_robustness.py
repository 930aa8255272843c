"""Judging under attack leaves the network alone; the alarm is for a breakdown and nothing else."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fundusray.attacks import Budget
from fundusray.pipeline import Batch
from fundusray.training.robustness import alarm, attacked_logits

BUDGET = Budget("linf", 0.05, 0.0125, 8)


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
    pieces = [part.split(cuts) for part in whole]
    return [Batch(*piece) for piece in zip(*pieces, strict=True)]


def test_logits_are_those_of_attacked_images() -> None:
    (batch,) = batches([12])
    model = network().train()
    got = attacked_logits(model, [batch], BUDGET, 1, nullcontext())
    assert got.rows.tolist() == [50, 51, 52, 54, 55, 56, 58, 59, 60, 61]
    with torch.no_grad():
        clean = model.eval()(batch.image)[batch.valid].numpy()
    target = batch.target[batch.valid].numpy()
    was_right = clean.argmax(1) == target
    right = got.logits.argmax(1) == target
    assert was_right.sum() == 7
    assert not (right & ~was_right).any()
    assert right.sum() < was_right.sum()
    # Wrong from the beginning: not attacked at all.
    assert (got.linf[~was_right] == 0).all()
    np.testing.assert_allclose(got.logits[~was_right], clean[~was_right], atol=1e-6)
    assert (got.linf[was_right] > 0).all()
    assert got.linf.max() <= BUDGET.eps + 1e-6
    assert (got.l2 >= got.linf).all()
    assert (got.l2 <= np.sqrt(192) * got.linf + 1e-9).all()


def test_how_images_are_batched_does_not_matter() -> None:
    model = network()
    one = attacked_logits(model, batches([12]), BUDGET, 1, nullcontext())
    many = attacked_logits(model, batches([5, 3, 4]), BUDGET, 1, nullcontext())
    assert one.rows.tolist() == many.rows.tolist()
    np.testing.assert_allclose(one.logits, many.logits, atol=1e-4)
    other = attacked_logits(model, batches([12]), BUDGET, 2, nullcontext())
    assert not np.allclose(one.logits, other.logits, atol=1e-4)


def test_the_network_is_left_alone() -> None:
    model = network().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    attacked_logits(model, batches([6, 6]), BUDGET, 1, nullcontext())
    assert all(layer.training for layer in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_larger_budget_fools_more() -> None:
    model, every = network(), batches([12])
    target = every[0].target[every[0].valid].numpy()

    def robust(eps: float, steps: int) -> int:
        budget = Budget("linf", eps, 2.5 * eps / steps, steps)
        got = attacked_logits(model, every, budget, 1, nullcontext())
        return int((got.logits.argmax(1) == target).sum())

    assert [robust(eps, 10) for eps in (1e-6, 0.3)] == [7, 0]


def test_in_half_precision_logits_are_full_numbers() -> None:
    precision = torch.autocast("cpu", torch.bfloat16)
    got = attacked_logits(network(), batches([12]), BUDGET, 1, precision)
    assert got.logits.dtype == np.float32
    assert got.linf.max() <= BUDGET.eps + 1e-6


def test_nothing_to_judge() -> None:
    assert len(attacked_logits(network(), [], BUDGET, 1, nullcontext()).rows) == 0
    empty = [Batch(*batch[:3], torch.zeros_like(batch.valid)) for batch in batches([12])]
    assert len(attacked_logits(network(), empty, BUDGET, 1, nullcontext()).rows) == 0


def test_hidden_nan_does_not_raise() -> None:
    """A diverged network is told by its loss, not by the attack."""

    class Broken(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.flatten(1)[:, :3] * torch.nan

    got = attacked_logits(Broken(), batches([12]), BUDGET, 1, nullcontext())
    assert np.isnan(got.logits).all()


def epochs(robust: list[float], losses: list[float] | None = None) -> list[dict[str, Any]]:
    losses = losses or [1.0 / (1 + i) for i in range(len(robust))]
    return [
        {"epoch": i + 1, "val_robust_accuracy": r, "train_loss": loss}
        for i, (r, loss) in enumerate(zip(robust, losses, strict=True))
    ]


def test_a_breakdown_is_told_with_the_way_back() -> None:
    history = epochs([0.2, 0.41, 0.38, 0.0], [1.3, 1.1, 1.0, 0.4])
    told = alarm(history, 240)
    assert told is not None
    assert (told.epoch, told.back_to) == (4, 2)
    for part in ("0.410 (epoch 2)", "0.000 (epoch 4)", "1.100 to 0.400", "Go back to epoch 2"):
        assert part in told.sentence


@pytest.mark.parametrize(
    ("robust", "losses", "num"),
    [
        ([], None, 240),
        ([0.0], None, 240),  # nothing to fall from
        ([0.3, 0.35, 0.4], None, 240),  # learning
        ([0.4, 0.25], None, 240),  # a fall, not to half
        ([0.4, 0.1], [0.9, 1.5], 240),  # the loss rose as well: learning went wrong, otherwise
        ([0.4, 0.1, 0.38], None, 240),  # recovered
        ([0.4, 0.0], None, 5),  # 2 of 5 and 0 of 5: chance
        ([0.1, 0.025], None, 240),  # 24 and 6 of 240: z = 3.3
        ([0.0, 0.0], None, 240),
    ],
)
def test_no_alarm(robust: list[float], losses: list[float] | None, num: int) -> None:
    assert alarm(epochs(robust, losses), num) is None


@pytest.mark.parametrize(
    ("robust", "num"), [([1.0, 0.0], 20), ([0.12, 0.02], 240), ([0.45, 0.1], 60), ([0.5, 0.2], 240)]
)
def test_alarm(robust: list[float], num: int) -> None:
    told = alarm(epochs(robust), num)
    assert told is not None
    assert told.back_to == 1


def test_chance_rarely_rings() -> None:
    """Ten epochs at the same true accuracy of 0.2, 60 images each, the loss always falling."""
    generator = np.random.default_rng(0)
    rung = 0
    for _ in range(500):
        robust = (generator.binomial(60, 0.2, 10) / 60).tolist()
        rung += any(alarm(epochs(robust[: n + 1]), 60) is not None for n in range(10))
    assert rung <= 10
