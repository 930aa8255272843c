"""Optimisers, rates against torch's own schedulers, and state through files bit for bit."""

import json
import math
import warnings

import pytest
import safetensors.torch
import torch
from torch import nn

from fundusray.config import Train
from fundusray.training.optimizers import (
    build_optimizer,
    plateau_factor,
    rate_at_step,
    state_to_tensors,
    tensors_to_state,
)

OPTIMIZERS = [
    {"optimizer": "adam"},
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-3},
    {"optimizer": "sgd", "momentum": 0.0},
]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)
        )
    return net.to(memory_format=torch.channels_last)


def steps(net, optimizer, first, count):
    """Steps that depend on their number alone."""
    for step in range(first, first + count):
        image = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        net(image).square().sum().backward()
        optimizer.step()


class TestBuild:
    @pytest.mark.parametrize("settings", OPTIMIZERS)
    def test_every_learned_parameter_once_at_the_recipes_rate(self, settings):
        net = network()
        net[0].weight.requires_grad_(False)
        optimizer = build_optimizer(net, Train(lr=0.02, **settings))
        held = [p for group in optimizer.param_groups for p in group["params"]]
        learned = [p for p in net.parameters() if p.requires_grad]
        assert sorted(map(id, held)) == sorted(map(id, learned))
        assert {group["lr"] for group in optimizer.param_groups} == {0.02}

    @pytest.mark.parametrize("name", ["adamw", "sgd"])
    def test_norms_and_biases_do_not_decay(self, name):
        """With zero gradients only the decay moves a parameter."""
        net = network()
        optimizer = build_optimizer(net, Train(optimizer=name, lr=0.1, weight_decay=0.5))
        before = {key: value.clone() for key, value in net.named_parameters()}
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for key, value in net.named_parameters():
            expected = before[key] * (1 - 0.1 * 0.5) if value.ndim > 1 else before[key]
            torch.testing.assert_close(value, expected)

    def test_kinds_and_momentum(self):
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        for name, kind in kinds.items():
            assert type(build_optimizer(network(), Train(optimizer=name))) is kind
        sgd = build_optimizer(network(), Train(optimizer="sgd", momentum=0.7))
        assert sgd.param_groups[0]["momentum"] == 0.7


def torch_rates(make, total, lr=0.3):
    """The rates a torch scheduler gives at steps 0 to total - 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(optimizer)
        rates = []
        for _ in range(total):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step() if len(rates) < total else None
    return rates


class TestRate:
    @pytest.mark.parametrize("total", [1, 2, 3, 4, 10, 97, 1000])
    def test_onecycle_is_torchs(self, total):
        expected = torch_rates(
            lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.3, total_steps=total), total
        )
        train = Train(schedule="onecycle", lr=0.3)
        assert [rate_at_step(s, total, 5, train) for s in range(total)] == pytest.approx(
            expected, rel=1e-9
        )

    @pytest.mark.parametrize("total", [1, 7, 100])
    def test_cosine_is_torchs(self, total):
        expected = torch_rates(
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=total), total
        )
        train = Train(schedule="cosine", lr=0.3)
        assert [rate_at_step(s, total, 5, train) for s in range(total)] == pytest.approx(
            expected, rel=1e-9
        )

    @pytest.mark.parametrize("schedule", ["cosine", "constant"])
    def test_warmup_rises_evenly_to_the_peak(self, schedule):
        train = Train(schedule=schedule, lr=1.0, warmup=0.1)
        rates = [rate_at_step(s, 100, 10, train) for s in range(100)]
        assert rates[:11] == pytest.approx([(s + 1) / 11 for s in range(11)])
        if schedule == "constant":
            assert rates[10:] == [1.0] * 90
        else:
            falling = [(1 + math.cos(math.pi * s / 90)) / 2 for s in range(90)]
            assert rates[10:] == pytest.approx(falling)

    def test_step_falls_every_so_many_epochs(self):
        train = Train(schedule="step", lr=1.0, step_epochs=2, step_factor=0.1)
        rates = [rate_at_step(s, 25, 5, train) for s in range(25)]
        assert rates == pytest.approx([1.0] * 10 + [0.1] * 10 + [0.01] * 5)

    @pytest.mark.parametrize("schedule", ["cosine", "onecycle", "step", "constant"])
    @pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
    @pytest.mark.parametrize("total", [1, 2, 33])
    def test_is_always_between_0_and_the_peak(self, schedule, warmup, total):
        train = Train(schedule=schedule, lr=0.1, warmup=warmup)
        rates = [rate_at_step(s, total, 3, train) for s in range(total)]
        assert all(0 < value <= 0.1 * (1 + 1e-12) for value in rates)


@pytest.mark.parametrize("settings", OPTIMIZERS)
class TestState:
    def through_files(self, optimizer):
        tensors, meta = state_to_tensors(optimizer)
        plain = {name: value.contiguous().clone() for name, value in tensors.items()}
        return safetensors.torch.load(safetensors.torch.save(plain)), json.loads(json.dumps(meta))

    def test_continued_equals_never_stopped(self, settings):
        train = Train(lr=0.01, **settings)
        whole = network()
        steps(whole, build_optimizer(whole, train), 0, 7)

        first = network()
        optimizer = build_optimizer(first, train)
        steps(first, optimizer, 0, 3)
        stored = self.through_files(optimizer)
        second = network()
        second.load_state_dict(first.state_dict())
        continued = build_optimizer(second, train)
        tensors_to_state(continued, *stored)
        steps(second, continued, 3, 4)
        for key, value in whole.state_dict().items():
            assert torch.equal(value, second.state_dict()[key]), key

    def test_round_trip_is_exact_and_keeps_the_layout(self, settings):
        net = network()
        optimizer = build_optimizer(net, Train(lr=1 / 3, **settings))
        steps(net, optimizer, 0, 3)
        other = build_optimizer(net, Train(lr=0.1, **settings))
        tensors_to_state(other, *self.through_files(optimizer))
        before, after = optimizer.state_dict(), other.state_dict()
        assert before["param_groups"] == after["param_groups"]
        assert before["state"].keys() == after["state"].keys()
        for index, entries in before["state"].items():
            for name, value in entries.items():
                again = after["state"][index][name]
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, again) and value.stride() == again.stride()
                else:
                    assert value == again

    def test_before_the_first_step_there_is_nothing_to_lose(self, settings):
        net = network()
        optimizer = build_optimizer(net, Train(**settings))
        other = build_optimizer(network(), Train(**settings))
        tensors_to_state(other, *self.through_files(optimizer))
        assert other.state_dict() == optimizer.state_dict()

    def test_state_of_another_network_is_refused(self, settings):
        net = network()
        optimizer = build_optimizer(net, Train(**settings))
        steps(net, optimizer, 0, 1)
        other = build_optimizer(nn.Linear(2, 2), Train(**settings))
        with pytest.raises(ValueError):
            tensors_to_state(other, *self.through_files(optimizer))


def test_an_adaptive_rate_falls_where_the_loss_stands_still() -> None:
    """Twice after two epochs without a lower loss than any before; a lower one begins anew."""
    train = Train(plateau=2, step_factor=0.5)
    losses = [3.0, 2.0, 2.0, 2.1, 1.9, 2.5, 2.5, 1.0]
    expected = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]
    found = [plateau_factor(losses[: n + 1], train) for n in range(len(losses))]
    assert found == expected
    assert plateau_factor(losses, Train()) == 1.0
