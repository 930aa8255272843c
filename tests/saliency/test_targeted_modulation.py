"""Modulation towards a class: the closed form of linear networks, budgets kept, sweeps."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.attacks.gradient import perturbation_distance
from fundusray.errors import InputError
from fundusray.saliency import MAPS, explainable, parse_methods, run_map
from fundusray.saliency.targeted_modulation import (
    goal_classes,
    modulated,
    modulated_within,
    modulation_budget,
    modulation_strength,
)
from tests.attacks.linear_networks import convolutional_network, grey_images

SIDE = 8


class Linear(nn.Module):
    """Logits W x + b of images in [0, 1]."""

    def __init__(self, num_classes: int, seed: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shape = (num_classes, 3 * SIDE * SIDE)
        self.weight = nn.Parameter(torch.randn(shape, generator=generator))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, image: Tensor) -> Tensor:
        return F.linear(image.flatten(1), self.weight, self.bias)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return grey_images(6)


@pytest.fixture(scope="module")
def linear(image: Tensor) -> Linear:
    """Two classes, whose border lies amid the images."""
    model = Linear(2)
    with torch.no_grad():
        model.bias -= model(image).mean(dim=0)
    return model


def far_to(model: Linear, image: Tensor, goal: Tensor, order: float) -> Tensor:
    """How far each image is from where the other class begins: lead / dual norm of the normal."""
    with torch.no_grad():
        normal = model.weight[goal] - model.weight[1 - goal]
        logits = model(image)
        behind = logits.gather(1, 1 - goal[:, None]) - logits.gather(1, goal[:, None])
        return behind[:, 0] / normal.norm(p=2 if order == 2 else 1, dim=1)


@pytest.mark.parametrize(("norm", "order"), [("l2", 2.0), ("linf", math.inf)])
def test_a_linear_network_is_led_along_its_normal(
    linear: Linear, image: Tensor, norm: str, order: float
) -> None:
    goal = 1 - linear(image).argmax(dim=1)
    eps = 0.05 if norm == "linf" else 0.5
    with explainable(linear):
        done = modulated(linear, image, goal, modulation_budget(eps, norm, steps=10))
    normal = (linear.weight[goal] - linear.weight[1 - goal]).detach().view(image.shape)
    along = normal.sign() * eps
    if norm == "l2":
        along = normal * (eps / normal.flatten(1).norm(dim=1))[:, None, None, None]
    assert torch.allclose(done.image - image, along, atol=2e-6)
    assert torch.allclose(done.distance, torch.full((6,), eps, dtype=torch.float64), atol=1e-5)
    assert done.reached.tolist() == (far_to(linear, image, goal, order) < eps).tolist()


def test_a_sweep_finds_the_budget_that_the_closed_form_says(linear: Linear, image: Tensor) -> None:
    goal = 1 - linear(image).argmax(dim=1)
    far = far_to(linear, image, goal, 2)
    edges = [*(far.sort().values[[0, 2, 4]] * 1.01).tolist()]
    with explainable(linear):
        done = modulated_within(linear, image, goal, [modulation_budget(eps) for eps in edges])
    for number, eps in enumerate(edges):
        rate = (done.reached & (done.budget <= number)).sum().item()
        assert rate == (far < eps).sum().item() == 2 * number + 1
    last = ~done.reached
    assert last.sum() == 1 and (done.budget[last] == 2).all()
    # What a smaller budget reaches keeps the smaller change.
    radius = torch.tensor(edges, dtype=torch.float64)[done.budget]
    assert (done.distance <= radius + 1e-6).all()
    for budgets in ([], [modulation_budget(2.0), modulation_budget(1.0)]):
        with pytest.raises(InputError, match="ascend"):
            modulated_within(linear, image, goal, budgets)


def test_the_map_of_a_linear_network_is_its_normal_and_all_for_the_class(
    linear: Linear, image: Tensor
) -> None:
    target = linear(image).argmax(dim=1)
    found = run_map(
        "targeted_modulation", {"eps": "0.5unit01"}, linear, image, target,
        row=torch.arange(6), layers={},
    ).values  # fmt: skip
    normal = (linear.weight[1] - linear.weight[0]).detach().view(3, SIDE, SIDE)
    expected = normal.abs().amax(dim=0) * 0.5 / normal.norm()
    assert torch.allclose(found, expected.expand(6, 1, SIDE, SIDE), atol=2e-6)


def test_the_sign_is_that_of_a_hand_written_product(image: Tensor) -> None:
    network = convolutional_network(image, num_classes=2)
    target = network(image).argmax(dim=1)
    goal = 1 - target
    led = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    led = led.clamp(0, 1)
    found = modulation_strength(network, image, led, target, goal)
    for i in range(len(image)):
        one = image[i : i + 1].clone().requires_grad_(True)
        logits = network(one)[0]
        (logits[target[i]] - logits[goal[i]]).backward()
        effect = ((led[i] - image[i]) * one.grad[0]).sum(dim=0)
        size = (led[i] - image[i]).abs().amax(dim=0)
        assert torch.equal(found[i, 0].abs(), size)
        assert torch.equal(found[i, 0] < 0, (effect > 0) & (size > 0))
    assert (found < 0).any() and (found > 0).any()


@pytest.mark.parametrize(("norm", "eps"), [("l2", "1unit01"), ("linf", "8/255")])
def test_budgets_are_kept_and_goals_reached_or_said_not_to_be(
    image: Tensor, norm: str, eps: str
) -> None:
    network = convolutional_network(image)
    logits = network(image)
    target = logits.argmax(dim=1)
    goal = goal_classes(logits, target)
    assert goal.tolist() == logits.topk(2, dim=1).indices[:, 1].tolist()
    radius = 1.0 if norm == "l2" else 8 / 255
    with explainable(network):
        done = modulated(network, image, goal, modulation_budget(radius, norm), chunk=4)
        whole = modulated(network, image, goal, modulation_budget(radius, norm))
    assert (perturbation_distance(done.image, image, norm) <= radius + 1e-6).all()
    assert done.image.min() >= 0 and done.image.max() <= 1
    assert done.reached.tolist() == (network(done.image).argmax(dim=1) == goal).tolist()
    assert done.reached.sum() >= 4
    assert torch.allclose(done.image, whole.image, atol=1e-5)
    values = run_map(
        "targeted_modulation", {"eps": eps, "norm": norm}, network, image, target,
        row=torch.arange(6), layers={},
    ).values  # fmt: skip
    assert torch.allclose(
        values.abs(), (whole.image - image).abs().amax(1, keepdim=True), atol=1e-5
    )


def test_a_named_goal_and_images_that_are_of_it() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [0.0, 1.0, 5.0], [1.0, 4.0, 2.0]])
    target = logits.argmax(dim=1)
    assert goal_classes(logits, target, 2).tolist() == [2, 1, 2]
    with pytest.raises(InputError, match="the classes 0 to 2"):
        goal_classes(logits, target, 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [("eps=3", "unit"), ("eps=far", "unit"), ("goal=-2", "at least"), ("steps=0", "at least"),
     ("norm=l1", "linf or l2")],
)  # fmt: skip
def test_keywords_are_checked(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_methods(f"targeted_modulation({text})")


def test_the_text_of_a_method_gives_its_budget_again(linear: Linear, image: Tensor) -> None:
    (method,) = parse_methods("targeted_modulation(eps=2/255, norm=linf)")
    assert str(method) == "targeted_modulation(eps=2/255, norm=linf)"
    assert MAPS.facts(method.name).passes(method.keywords, 64) > 60
    with pytest.raises(InputError, match="levels"):
        run_map(
            "targeted_modulation", {"eps": "2unit01", "norm": "linf"}, linear, image,
            torch.zeros(6, dtype=torch.int64), row=torch.arange(6), layers={},
        )  # fmt: skip
