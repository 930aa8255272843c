"""The average of the weights: its closed form, its place in checkpoints, what is judged."""

import copy

import pytest
import torch
from torch import nn

from fundusray import config
from fundusray.training.average import AVERAGE, averaged
from fundusray.training.checkpoints import Position, load_checkpoint, save_checkpoint
from fundusray.training.optimizers import build_optimizer


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


def step(net: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    image = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    net.train()(image).square().mean().backward()
    optimizer.step()


def settings(**changes: object) -> config.Train:
    return config.Train(lr=0.1, average=0.5, **changes)


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_it_is_the_moving_average_of_weights_and_statistics(optimizer: str) -> None:
    """By hand: at update t the decay is the smaller of (1 + t) / (10 + t) and the recipe's."""
    net = network()
    chosen = build_optimizer(net, settings(optimizer=optimizer, momentum=0.0))
    expected: dict[str, torch.Tensor] = {}
    for t in range(14):
        step(net, chosen, seed=t)
        for name, value in state(net).items():
            decay = min(0.5, (1 + t) / (10 + t)) if expected.get(name) is not None else 0.0
            expected[name] = decay * expected.get(name, 0) + (1 - decay) * value
    own = state(net)
    with averaged(net, chosen):
        inside = state(net)
    for name in ("0.weight", "1.weight", "1.running_mean", "1.running_var", "3.bias"):
        torch.testing.assert_close(inside[name], expected[name])
        assert not torch.equal(inside[name], own[name])
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())


def test_training_itself_is_not_changed() -> None:
    plain, followed = network(), network()
    optimizers = [
        build_optimizer(plain, config.Train(lr=0.1)),
        build_optimizer(followed, settings()),
    ]
    for t in range(5):
        step(plain, optimizers[0], t)
        step(followed, optimizers[1], t)
        with averaged(followed, optimizers[1]), averaged(plain, optimizers[0]):
            pass
    assert all(map(torch.equal, plain.state_dict().values(), followed.state_dict().values()))
    assert not any(AVERAGE in entries for entries in optimizers[0].state.values())


def test_a_checkpoint_holds_it_to_the_bit(tmp_path) -> None:
    whole = network()
    optimizer = build_optimizer(whole, settings())
    for t in range(3):
        step(whole, optimizer, t)
    save_checkpoint(str(tmp_path), whole, optimizer, Position(step=3), "key")
    broken = network(seed=5)
    again = build_optimizer(broken, settings())
    load_checkpoint(str(tmp_path / "step-00000003"), broken, again)
    for t in range(3, 6):
        step(whole, optimizer, t)
        step(broken, again, t)
    with averaged(whole, optimizer), averaged(broken, again):
        assert all(map(torch.equal, whole.state_dict().values(), broken.state_dict().values()))


def test_what_does_not_learn_stays() -> None:
    net = network()
    for parameter in net[0].parameters():
        parameter.requires_grad_(False)
    before = copy.deepcopy(net[0].state_dict())
    optimizer = build_optimizer(net, settings())
    for t in range(4):
        step(net, optimizer, t)
    with averaged(net, optimizer):
        assert torch.equal(net[0].weight, before["weight"])


def test_an_error_inside_gives_the_weights_back() -> None:
    net = network()
    optimizer = build_optimizer(net, settings())
    for t in range(4):
        step(net, optimizer, t)
    own = state(net)
    with pytest.raises(KeyError), averaged(net, optimizer):
        raise KeyError
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())
