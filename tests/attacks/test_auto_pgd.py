"""APGD looks at its steps when the paper says and finds what torchattacks' finds."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks.auto_pgd import looks_at_step
from fundusray.attacks.losses import (
    difference_of_logits_ratio,
    lead,
    margin,
    rival_classes,
    targeted_ratio,
)
from tests.attacks.small_networks import Linear, attacked, convolutions, pictures


def test_steps_are_looked_at_where_the_paper_says() -> None:
    """p_0 = 0, p_1 = 0.22, p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06), of 100 steps; the periods
    are whole, as in the authors' code."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    looks = [step for step, period in enumerate(looks_at_step(100), 1) if period]
    assert looks == [round(100 * share) for share in shares[1:] if share <= 1]
    assert sum(period for period in looks_at_step(100)) == looks[-1]
    assert list(looks_at_step(1)) == [1]


def test_losses_are_what_their_equations_say() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, -1.0, 0.5], [0.0, 4.0, 1.0, 2.0, 5.0]])
    target = torch.tensor([0, 2])
    torch.testing.assert_close(margin(logits, target), torch.tensor([2.0 - 3, 5.0 - 1]))
    ratio = torch.tensor([(2.0 - 3) / (3 - 1), (5.0 - 1) / (5 - 2)])
    torch.testing.assert_close(difference_of_logits_ratio(logits, target), ratio)
    goal = torch.stack([target, torch.tensor([4, 0])], 1)
    torch.testing.assert_close(lead(logits, goal), torch.tensor([0.5 - 3, 0.0 - 1]))
    ratio = torch.tensor([(0.5 - 3) / (3 - (1 + 0.5) / 2), (0.0 - 1) / (5 - (2 + 1) / 2)])
    torch.testing.assert_close(targeted_ratio(logits, goal), ratio)
    # What a scale does to the logits it does not do to the ratios.
    for loss, where in ((difference_of_logits_ratio, target), (targeted_ratio, goal)):
        torch.testing.assert_close(loss(1e4 * logits, where), loss(logits, where))
    assert rival_classes(logits, target, 9).tolist() == [[2, 1, 4, 3], [4, 1, 3, 0]]
    assert rival_classes(logits, target, 2).tolist() == [[2, 1], [4, 1]]


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_take_the_margin(classes: int) -> None:
    logits = torch.randn(6, classes, generator=torch.Generator().manual_seed(0))
    target = torch.arange(6) % classes
    rivals = rival_classes(logits, target, 9)
    assert rivals.shape == (6, classes - 1)
    for rival in rivals.unbind(1):
        goal = torch.stack([target, rival], 1)
        torch.testing.assert_close(targeted_ratio(logits, goal), lead(logits, goal))
    if classes == 2:
        own = difference_of_logits_ratio(logits, target)
        torch.testing.assert_close(own, margin(logits, target))
        assert torch.equal(rivals[:, 0], 1 - target)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["apgd_ce", "apgd_dlr", "apgd_t"])
def test_it_breaks_what_torchattacks_breaks(name: str, norm: str) -> None:
    import torchattacks

    image, model = pictures(24, 15), convolutions()
    target = model(image).argmax(1)
    eps = 3 / 255 if norm == "linf" else 0.2
    sizes = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps, "steps": 15}
    if name == "apgd_t":
        peer = torchattacks.APGDT(model, n_classes=5, **sizes)
    else:
        peer = torchattacks.APGD(model, loss=name.removeprefix("apgd_"), **sizes)
    theirs = model(peer(image, target)).argmax(1) != target
    ours = attacked(name, {"steps": 15}, model, image, norm=norm, eps=eps)
    assert 0.1 < theirs.float().mean() < 0.9
    assert (ours.success | ~theirs).all()


def test_its_losses_rise_above_those_of_pgd() -> None:
    image, model = pictures(16, 15), convolutions()
    target = model(image).argmax(1)

    def loss(found: Tensor) -> Tensor:
        return F.cross_entropy(model(found), target, reduction="none").detach()

    eps = 0.5 / 255
    ours = attacked("apgd_ce", {"steps": 20}, model, image, eps=eps)
    theirs = attacked("pgd", {"steps": 20, "step": eps / 4}, model, image, eps=eps)
    held = ~ours.success & ~theirs.success
    assert held.sum() > 4
    assert (loss(ours.image)[held] >= loss(theirs.image)[held] - 1e-5).all()


def test_restarts_are_of_survivors_and_from_other_places() -> None:
    image, model = pictures(24, 15), convolutions()
    once = attacked("apgd_ce", {"steps": 3}, model, image, eps=2 / 255)
    twice = attacked("apgd_ce", {"steps": 3, "restarts": 3}, model, image, eps=2 / 255)
    assert (twice.success | ~once.success).all() and 0 < once.success.sum() < 24
    assert (twice.queries[once.success] <= once.queries[once.success] + 1).all()
    # A result that is the very one of the try before is not judged again.
    asked = twice.queries[~twice.success]
    assert (asked <= 2 + 3 * 4 + 2).all() and (asked >= 2 + 3 * 4).all()


def test_a_scale_of_the_logits_hides_nothing_from_the_ratio() -> None:
    image = pictures(30, 8, 0.4, 0.6)
    model = Linear(4, image)
    plain = attacked("apgd_t", {"steps": 10}, model, image, eps=0.002)
    with torch.no_grad():
        model.weight *= 1e4
        model.bias *= 1e4
    scaled = attacked("apgd_t", {"steps": 10}, model, image, eps=0.002)
    assert 0 < plain.success.sum() < 30 and torch.equal(plain.success, scaled.success)
