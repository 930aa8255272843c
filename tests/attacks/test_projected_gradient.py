"""PGD and FGSM by which networks are judged: they stop where algebra says, and go as torchattacks
goes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.attacks import Budget, pgd, random_offset
from fundusray.attacks.gradient import perturbation_distance
from fundusray.errors import InputError
from tests.attacks.small_networks import Linear, attacked, convolutions, distance, pictures


class Line(nn.Module):
    """Logits (0, w x + b)."""

    def __init__(self, num: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(num, generator=generator))

    def forward(self, image: Tensor) -> Tensor:
        z = image.flatten(1) @ self.weight
        return torch.stack([torch.zeros_like(z), z], dim=1)


def test_fgsm_on_a_line_is_the_worst_there_is() -> None:
    """Target 1: the best move against w is -eps sign(w), and z falls by eps ||w||_1."""
    image, model = torch.full((2, 3, 4, 4), 0.5), Line(48)
    found = attacked("fgsm", {}, model, image, model(image).argmax(1), eps=0.1).image
    toward = -0.1 if model(image)[0, 1] > 0 else 0.1
    change = (model(found) - model(image))[:, 1] / model.weight.abs().sum()
    torch.testing.assert_close(change, torch.tensor([toward, toward]))
    sign = model.weight.detach().sign().view(3, 4, 4)
    torch.testing.assert_close(found - image, torch.stack([toward * sign] * 2))


def test_it_stops_where_the_line_is_crossed() -> None:
    """Margins of 0.5, 2.5 and 9.5 steps: crossed after steps 1, 3 and, of 5, never."""
    image, target = torch.full((3, 3, 4, 4), 0.5), torch.ones(3, dtype=torch.long)
    image[:, 0, 0, 0] += torch.tensor([0.0, 0.01, 0.02])
    steps_off, step, model = torch.tensor([0.5, 2.5, 9.5]), 0.01, Line(48)
    with torch.no_grad():
        model.weight[0] = 0.0
    worth = step * model.weight.detach().abs().sum()
    bias = steps_off * worth - (image.flatten(1) @ model.weight.detach())

    class Rows(nn.Module):
        """The bias goes with the image, whichever of them are asked for."""

        def forward(self, part: Tensor) -> Tensor:
            # Which image it is, is written where the weight is 0.
            which = part[:, 0, 0, 0].mul(100).round().long() - 50
            z = part.flatten(1) @ model.weight + bias[which]
            return torch.stack([torch.zeros_like(z), z], dim=1)

    args = {"steps": 5, "step": step, "start": "image"}
    outcome = attacked("pgd", args, Rows(), image, target, eps=0.2)
    far = perturbation_distance(outcome.image, image, "linf")
    expected = torch.tensor([0.01, 0.03, 0.05], dtype=torch.float64)
    torch.testing.assert_close(far, expected, atol=1e-6, rtol=0)
    assert outcome.success.tolist() == [True, True, False]
    # As they are and before each step; the last one as it is returned, too.
    assert outcome.queries.tolist() == [3, 5, 7]
    assert outcome.broken_by() == ["pgd", "pgd", ""]
    last = attacked("pgd", args | {"keep": "last"}, Rows(), image, target, eps=0.2)
    torch.testing.assert_close(
        perturbation_distance(last.image, image, "linf"), torch.full_like(far, 0.05), atol=1e-6,
        rtol=0,
    )  # fmt: skip
    assert last.queries.tolist() == [7, 7, 7]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_last_iterate_is_that_of_training(norm: str) -> None:
    image, model = pictures(6, 15), convolutions()
    eps = 8 / 255 if norm == "linf" else 0.5
    target, row = model(image).argmax(1), torch.arange(6) + 40
    budget = Budget(norm, eps, 2.5 * eps / 7, 7)
    theirs = pgd(model, image, target, budget, random_offset(image, row, 3, budget))
    args = {"steps": 7, "keep": "last"}
    ours = attacked("pgd", args, model, image, target, norm, eps, row, seed=3)
    assert torch.equal(ours.image, theirs)


def test_fgsm_and_momentum_are_those_of_torchattacks() -> None:
    import torchattacks

    image, model, eps = pictures(6, 15), convolutions(), 0.001
    target = model(image).argmax(1)
    theirs = torchattacks.FGSM(model, eps=eps)(image, target)
    torch.testing.assert_close(attacked("fgsm", {}, model, image, eps=eps).image, theirs)
    eps = 0.03
    peer = torchattacks.MIFGSM(model, eps=eps, alpha=eps / 3, steps=9, decay=0.9)
    args = {"steps": 9, "step": eps / 3, "start": "image", "momentum": 0.9, "keep": "last"}
    ours = attacked("pgd", args, model, image, eps=eps).image
    plain = attacked("pgd", args | {"momentum": 0.0}, model, image, eps=eps).image
    # A gradient within rounding of 0 has either sign.
    apart = [(found - peer(image, target)).abs() > 1e-6 for found in (ours, plain)]
    assert apart[0].float().mean() < 0.002 < 0.01 < apart[1].float().mean()


def test_restarts_break_more_and_touch_survivors_alone() -> None:
    """One step from a random start is a matter of luck; five tries have more of it."""
    image, model = pictures(48, 15), convolutions()
    args = {"steps": 1, "step": 0.001}
    eps = 6 / 255
    once = attacked("pgd", args, model, image, eps=eps)
    often = attacked("pgd", args | {"restarts": 5}, model, image, eps=eps)
    assert (often.success | ~once.success).all()
    assert 0 < once.success.sum() < often.success.sum() < 48
    same = once.success
    assert torch.equal(often.image[same], once.image[same])
    # A judged pass more after the try that broke it, and none of the further tries.
    assert (often.queries[same] <= once.queries[same] + 1).all()
    assert (often.queries[~often.success] == 2 + 5 + 4).all()
    with pytest.raises(InputError, match="from the image itself every restart is the same"):
        attacked("pgd", {"restarts": 2, "start": "image"}, model, image)


def test_a_class_is_led_to() -> None:
    image, model = pictures(40, 15), convolutions()
    clean = model(image).argmax(1)
    assert (clean == 2).any()
    args = {"steps": 20, "to": 2}
    for loss in ("cross_entropy", "margin"):
        outcome = attacked("pgd", args | {"loss": loss}, model, image, eps=12 / 255)
        ends = model(outcome.image).argmax(1)
        assert torch.equal(outcome.success, (ends == 2) & (clean != 2))
        assert outcome.success.sum() > 8
        # What is of the class already has nothing to be led to.
        assert torch.equal(outcome.image[clean == 2], image[clean == 2])
    anywhere = attacked("pgd", {"steps": 20}, model, image, eps=12 / 255)
    assert anywhere.success[clean != 2].sum() >= outcome.success.sum()
    with pytest.raises(InputError, match=r"pgd\(to=5\): the network knows the classes 0 to 4"):
        attacked("pgd", {"to": 5}, model, image)


def test_the_margin_finds_what_cross_entropy_is_blind_for() -> None:
    """Logits so large that the probability of the target is 1 in float32: the cross entropy is 0,
    and so is its gradient."""
    image = pictures(20, 8, 0.4, 0.6)
    model = Linear(3, image)
    with torch.no_grad():
        model.weight *= 1e4
        model.bias *= 1e4
    eps = 0.05
    blind = attacked("pgd", {"start": "image"}, model, image, eps=eps)
    seeing = attacked("pgd", {"start": "image", "loss": "margin"}, model, image, eps=eps)
    assert seeing.success.all() and blind.success.float().mean() < 0.5
    assert (blind.zero_gradients > 0).float().mean() > 0.5
    assert any("gradients were 0 in every pixel" in text for text in blind.warnings())
    assert seeing.warnings() == []


def test_the_loss_falls_towards_a_class_within_the_budget() -> None:
    image, model = pictures(6, 15), convolutions()
    goal = torch.full((6,), 2)
    before = F.cross_entropy(model(image), goal, reduction="none")
    for norm, eps in (("linf", 4 / 255), ("l2", 0.3)):
        args = {"steps": 6, "to": 2, "keep": "last"}
        found = attacked("pgd", args, model, image, norm=norm, eps=eps).image
        moved = distance(found, image, norm) > 0
        assert moved.any() and distance(found, image, norm).max() <= eps + 1e-6
        after = F.cross_entropy(model(found), goal, reduction="none")
        assert (after < before - 0.02)[moved].all()
