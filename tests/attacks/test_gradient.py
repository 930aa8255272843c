"""Attacks on linear networks do what algebra says; on others, what torchattacks does."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.attacks import Budget, evaluation_mode, pgd, random_offset
from fundusray.attacks.gradient import (
    checked_within_budget,
    cross_entropy,
    input_gradient,
    perturbation_distance,
    project_into_budget,
    steepest_move,
)

BUDGETS = [Budget("linf", 8 / 255, 2 / 255, 5), Budget("l2", 0.5, 0.15, 5)]


def network(seed: int = 0) -> nn.Sequential:
    """Convolution, batch statistics, dropout: all that could go wrong."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 4),
    )  # fmt: skip
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    nn.init.normal_(net[6].weight, std=0.5)
    return net


def pictures(num: int = 6, side: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(num, 3, side, side, generator=generator)
    return image, torch.arange(num) % 4, 10 + torch.arange(num)


class Linear(nn.Module):
    """Logits (0, w x + b): the gradient's direction is w everywhere."""

    def __init__(self, num: int, bias: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(num, generator=generator))
        self.bias = bias

    def forward(self, image: Tensor) -> Tensor:
        z = image.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(z), z], dim=1)


def test_l2_on_a_line_goes_along_the_weight() -> None:
    """z changes by eps ||w||_2 once step x steps reaches eps; before that, by step x steps."""
    image, target = torch.full((1, 3, 4, 4), 0.5), torch.tensor([1])
    model = Linear(48)
    length = model.weight.detach().norm()
    for steps, reached in ((2, 0.2), (9, 0.3)):
        found = pgd(model, image, target, Budget("l2", 0.3, 0.1, steps))
        fall = (model(image) - model(found))[0, 1] / length
        assert fall.item() == pytest.approx(reached, rel=1e-5)


def test_pgd_on_a_line_reaches_the_corner_and_stays_in_range() -> None:
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    model, eps = Linear(48), 0.3
    found = pgd(model, image, torch.ones(2, dtype=torch.long), Budget("linf", eps, 0.1, 5))
    corner = (image - eps * model.weight.detach().sign().view(3, 4, 4)).clamp(0, 1)
    torch.testing.assert_close(found, corner)


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.norm)
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_is_that_of_torchattacks(
    budget: Budget, random_start: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchattacks

    image, target, row = pictures()
    model = network().eval()
    offset = random_offset(image, row, 0, budget) if random_start else None
    kind = torchattacks.PGD if budget.norm == "linf" else torchattacks.PGDL2
    peer = kind(model, eps=budget.eps, alpha=budget.step, steps=budget.steps, random_start=False)
    if offset is None:
        theirs = peer(image, target)
    else:
        # Theirs starts anywhere; it is led to our place by what it draws.
        peer.random_start = True
        if budget.norm == "linf":
            monkeypatch.setattr(Tensor, "uniform_", lambda self, low, high: self.copy_(offset))
        else:
            monkeypatch.setattr(Tensor, "normal_", lambda self: self.copy_(offset))
            length = (offset.flatten(1).norm(dim=1) / budget.eps).view(-1, 1, 1, 1)
            monkeypatch.setattr(Tensor, "uniform_", lambda self, low, high: self.copy_(length))
        theirs = peer(image, target)
        monkeypatch.undo()
    ours = pgd(model, image, target, budget, offset)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert perturbation_distance(ours, image, budget.norm).min() > 0.9 * budget.eps


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_best_step_is_the_one_with_the_largest_loss(norm: str) -> None:
    """Steps longer than the radius overshoot, so that the last one often is not the worst."""
    image, target, row = pictures(24)
    model, eps = network().eval(), {"linf": 8 / 255, "l2": 0.5}[norm]
    budget = Budget(norm, eps, 3 * eps, 6)
    offset = random_offset(image, row, 0, budget)
    iterates = torch.stack(
        [pgd(model, image, target, replace(budget, steps=k), offset) for k in range(7)]
    )
    losses = torch.stack([cross_entropy(model(each), target) for each in iterates])
    found = pgd(model, image, target, replace(budget, best=True), offset)
    assert torch.equal(found, iterates[losses.argmax(0), torch.arange(24)])
    assert (losses.argmax(0) < 6).any() and len(losses.argmax(0).unique()) > 1


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.norm)
def test_the_rest_of_the_batch_does_not_matter(budget: Budget) -> None:
    image, _, row = pictures()
    model = network().eval()
    target = model(image).argmax(1)
    whole = pgd(model, image, target, budget, random_offset(image, row, 9, budget))
    for part in ([0, 1, 2], [5, 3], [4]):
        offset = random_offset(image[part], row[part], 9, budget)
        alone = pgd(model, image[part], target[part], budget, offset)
        torch.testing.assert_close(alone, whole[part], atol=1e-5, rtol=0)
    assert not torch.equal(whole, pgd(model, image, target, budget, None))


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.norm)
def test_images_stay_within_the_budget_and_in_range(budget: Budget) -> None:
    image, target, row = pictures()
    image = (image * 1.4 - 0.2).clamp(0, 1)  # many pixels on the border
    model = network().eval()
    found = pgd(model, image, target, budget, random_offset(image, row, 0, budget))
    order = float("inf") if budget.norm == "linf" else 2
    far = torch.linalg.vector_norm((found - image).flatten(1).double(), order, dim=1)
    assert far.max() <= budget.eps + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    before = F.cross_entropy(model(image), target, reduction="none")
    assert (F.cross_entropy(model(found), target, reduction="none") > before).all()


def test_beyond_the_budget_is_our_own_mistake() -> None:
    image = torch.full((2, 3, 2, 2), 0.5)
    with pytest.raises(AssertionError, match="beyond"):
        checked_within_budget(image + 0.1001, image, Budget("linf", 0.1, 0.1, 1))
    with pytest.raises(AssertionError, match="beyond"):
        checked_within_budget(image * torch.nan, image, Budget("linf", 0.1, 0.1, 1))
    with pytest.raises(AssertionError, match=r"not in \[0, 1\]"):
        checked_within_budget(image + 0.6, image, Budget("linf", 0.7, 0.1, 1))


def test_projection_on_a_sphere_and_a_cube() -> None:
    image = torch.full((2, 3, 1, 1), 0.5)
    moved = image + torch.tensor([[0.3, 0.0, 0.4], [0.03, 0.0, 0.04]]).view(2, 3, 1, 1)
    ball = project_into_budget(moved, image, Budget("l2", 0.25, 0.1, 1)) - image
    expected = torch.tensor([[0.15, 0.0, 0.2], [0.03, 0.0, 0.04]]).view(2, 3, 1, 1)
    torch.testing.assert_close(ball, expected)
    cube = project_into_budget(moved, image, Budget("linf", 0.35, 0.1, 1)) - image
    expected = torch.tensor([[0.3, 0.0, 0.35], [0.03, 0.0, 0.04]]).view(2, 3, 1, 1)
    torch.testing.assert_close(cube, expected)


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.norm)
def test_gradients_of_nothing_and_next_to_nothing(budget: Budget) -> None:
    none = steepest_move(torch.zeros(1, 3, 2, 2), budget)
    assert torch.equal(none, torch.zeros(1, 3, 2, 2))
    direction = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        steepest_move(direction * 1e-30, budget), steepest_move(direction, budget)
    )
    torch.testing.assert_close(
        steepest_move(direction * 1e30, budget), steepest_move(direction, budget)
    )


def test_a_network_that_diverged_moves_nothing() -> None:
    image, target, _ = pictures()
    model = network().eval()
    model[6].weight.data.fill_(torch.nan)
    for budget in BUDGETS:
        assert torch.equal(pgd(model, image, target, budget), image)


@pytest.mark.parametrize("outside", [torch.enable_grad, torch.no_grad])
def test_the_network_stays_as_it_was(outside: Callable[[], AbstractContextManager]) -> None:
    image, target, row = pictures()
    model = network().train()
    model[3].eval()  # a layer that is held in another mode keeps it
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [layer.training for layer in model.modules()]
    drawn = torch.get_rng_state()
    with outside(), evaluation_mode(model):
        assert not any(layer.training for layer in model.modules())
        for budget in BUDGETS:
            offset = random_offset(image, row, 0, budget)
            found = pgd(model, image, target, budget, offset)
            assert not found.requires_grad
    assert [layer.training for layer in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_the_mode_comes_back_after_an_error() -> None:
    model = network().train()
    with pytest.raises(RuntimeError, match="broken"), evaluation_mode(model):
        raise RuntimeError("broken")
    assert all(layer.training for layer in model.modules())


def test_losses_are_taken_in_full_precision() -> None:
    image, target, _ = pictures()
    model = network().eval()

    def ascend(logits: Tensor, goal: Tensor) -> Tensor:
        assert logits.dtype == torch.float32
        return F.cross_entropy(logits, goal, reduction="none")

    with torch.autocast("cpu", torch.bfloat16):
        assert model(image).dtype == torch.bfloat16
        gradient, logits = input_gradient(model, image, target, ascend)
        found = pgd(model, image, target, BUDGETS[0])
    assert gradient.dtype == logits.dtype == found.dtype == torch.float32
    exact, _ = input_gradient(model, image, target)
    alike = F.cosine_similarity(gradient.flatten(1), exact.flatten(1))
    assert alike.min() > 0.98


def test_the_layout_in_memory_is_kept() -> None:
    image, target, row = pictures()
    model = network().eval().to(memory_format=torch.channels_last)
    image = image.contiguous(memory_format=torch.channels_last)
    for budget in BUDGETS:
        found = pgd(model, image, target, budget, random_offset(image, row, 0, budget))
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_another_goal_is_descended_to() -> None:
    """A targeted attack is the loss with its sign changed."""
    image, _, _ = pictures()
    model = network().eval()
    goal = torch.full((len(image),), 2)
    before = F.cross_entropy(model(image), goal, reduction="none")
    for budget in BUDGETS:
        found = pgd(model, image, goal, budget, None, towards)
        assert (F.cross_entropy(model(found), goal, reduction="none") < before - 0.05).all()


def towards(logits: Tensor, goal: Tensor) -> Tensor:
    """The log-probability of the goal."""
    return -F.cross_entropy(logits, goal, reduction="none")


def test_no_images_are_no_trouble() -> None:
    model = network().eval()
    image, target = torch.zeros(0, 3, 12, 12), torch.zeros(0, dtype=torch.long)
    for budget in BUDGETS:
        assert pgd(model, image, target, budget).shape == image.shape


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("budget", BUDGETS)
def test_images_of_another_type_keep_to_the_budget(budget: Budget, kind: torch.dtype) -> None:
    """Pixels of bf16 are up to a level of 255 apart; what is attacked is float32 at least."""
    net = network().eval().to(kind)
    image, target, rows = pictures()
    image = image.to(kind)
    seen = []

    def predict(shown: Tensor) -> Tensor:
        seen.append(shown.dtype)
        return net(shown)

    offset = random_offset(image, rows, 3, budget)
    for found in (
        pgd(predict, image, target, budget, offset),
        pgd(predict, image, target, replace(budget, best=True)),
    ):
        assert found.dtype == torch.promote_types(kind, torch.float32)
        assert (
            0
            < perturbation_distance(found, image.to(found.dtype), budget.norm).max()
            <= budget.eps + 1e-6
        )
    assert set(seen) == {kind}
