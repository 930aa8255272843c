"""The cascade gives the exact robust accuracy of linear networks, is as strong as torchattacks' row
by row, and says where gradients are masked."""

import pytest
import torch
from torch import Tensor, nn

from fundusray.attacks import masking_warnings, rising_robustness
from tests.attacks.small_networks import Linear, attacked, convolutions, pictures

SMALL = {"steps": 20, "queries": 20}


def largest_gain(slope: Tensor, image: Tensor, norm: str, eps: float) -> Tensor:
    """The most that slope . d reaches where d is within the budget and image + d in [0, 1], [B]."""
    if norm == "linf":
        room = torch.where(slope > 0, 1 - image, image).clamp_max(eps)
        return (slope.abs() * room).sum(1)
    # d = clip(t slope) for the t at which its length is eps, or all the room there is.
    low, high = torch.zeros(len(image), 1).double(), torch.full((len(image), 1), 1e6).double()
    for _ in range(60):
        middle = (low + high) / 2
        move = torch.minimum(torch.maximum(middle * slope, -image), 1 - image)
        far = move.norm(dim=1, keepdim=True) > eps
        low, high = torch.where(far, low, middle), torch.where(far, middle, high)
    return (slope * move).sum(1)


def least_margins(model: Linear, image: Tensor, norm: str, eps: float) -> Tensor:
    """The margin of each image's class in the worst case; below 0 it can be broken."""
    flat, weight = image.flatten(1).double(), model.weight.detach().double()
    z = flat @ weight.T + model.bias.double()
    target = z.argmax(1)
    margins = []
    for other in range(len(weight)):
        gain = largest_gain(weight[other] - weight[target], flat, norm, eps)
        own = z.gather(1, target[:, None])[:, 0] - z[:, other] - gain
        margins.append(torch.where(target == other, torch.inf, own))
    return torch.stack(margins).amin(0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("near_the_box", [False, True])
def test_robust_accuracy_of_linear_networks_is_exact(
    classes: int, norm: str, near_the_box: bool
) -> None:
    """But for margins within a hundredth of the median one; with the box where many pixels are
    black or white, and the budget is so large that they end there."""
    image = pictures(48, 6, 0.4, 0.6)
    if near_the_box:
        image = (2.5 * (pictures(48, 6) - 0.5) + 0.5).clamp(0, 1)
    model = Linear(classes, image)
    # The budget that breaks about half.
    low, high = 0.0, 10.0
    for _ in range(16):
        eps = (low + high) / 2
        broken = (least_margins(model, image, norm, eps) < 0).float().mean()
        low, high = (low, eps) if broken > 0.5 else (eps, high)
    exact = least_margins(model, image, norm, eps)
    sure = exact.abs() > 0.01 * least_margins(model, image, norm, 1e-9).median()
    assert sure.sum() >= 44
    outcome = attacked("autoattack", SMALL, model, image, norm=norm, eps=eps)
    assert torch.equal(outcome.success[sure], (exact < 0)[sure])
    assert not (outcome.success & (exact > 1e-4)).any()
    assert 0.3 < outcome.success.float().mean() < 0.7 and outcome.warnings() == []


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [4, 6])
def test_it_breaks_what_that_of_torchattacks_breaks(classes: int, norm: str) -> None:
    import torchattacks

    image, model = pictures(16, 15), convolutions(classes)
    target = model(image).argmax(1)
    eps = 2.5 / 255 if norm == "linf" else 0.15
    sizes = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps}
    peer = torchattacks.MultiAttack([
        torchattacks.APGD(model, steps=10, **sizes),
        torchattacks.APGDT(model, steps=10, n_classes=classes, **sizes),
        torchattacks.FAB(model, steps=10, n_classes=classes, multi_targeted=True, **sizes),
        torchattacks.Square(model, n_queries=10, **sizes),
    ])  # fmt: skip
    theirs = model(peer(image, target)).argmax(1) != target
    ours = attacked(
        "autoattack", {"steps": 10, "queries": 10}, model, image, norm=norm, eps=eps
    )  # fmt: skip
    assert 0.1 < theirs.float().mean() < 0.95
    assert (ours.success | ~theirs).all()


def test_each_stage_works_on_what_the_ones_before_left() -> None:
    image, model = pictures(40, 15), convolutions()
    outcome = attacked("autoattack", {"steps": 4, "queries": 6}, model, image, eps=1.5 / 255)
    stages = outcome.broken_by()
    assert set(stages) >= {"apgd_ce", "apgd_t", ""} and outcome.stages == (
        "apgd_ce", "apgd_t", "fab_t", "square",
    )  # fmt: skip
    alone = attacked("apgd_ce", {"steps": 4}, model, image, eps=1.5 / 255)
    assert [stage == "apgd_ce" for stage in stages] == alone.success.tolist()
    assert torch.equal(outcome.image[alone.success], alone.image[alone.success])
    assert outcome.queries[alone.success].max() < outcome.queries[~outcome.success].min()
    # What holds comes back with the largest cross entropy.
    held = ~outcome.success
    assert torch.equal(outcome.image[held], alone.image[held])


class Rounded(nn.Module):
    """Sees its images in steps of a 64th: the gradient is 0 everywhere, and nothing is robust."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net((image * 64).round() / 64)


def test_masked_gradients_are_warned_of() -> None:
    image, plain = pictures(30, 8, 0.2, 0.8), Linear(4, pictures(30, 8, 0.2, 0.8))
    args = {"steps": 5, "queries": 200}
    open_to_all = attacked("autoattack", args, plain, image, eps=8 / 255)
    assert open_to_all.success.all() and open_to_all.warnings() == []
    masked = attacked("autoattack", args, Rounded(plain), image, eps=8 / 255)
    assert masked.success.float().mean() > 0.5
    zeros, blind = masked.warnings()
    assert "gradients were 0 in every pixel for 30 of 30 images" in zeros
    square = masked.broken_by().count("square")
    assert square and f"attacks without gradients broke {square} of 30 images" in blind
    # Without an attack along gradients nothing is said of them.
    assert attacked("square", {"queries": 99}, Rounded(plain), image, eps=8 / 255).warnings() == []


def test_logits_of_an_absurd_scale_are_warned_of() -> None:
    image = pictures(30, 8, 0.4, 0.6)
    model = Linear(4, image)
    with torch.no_grad():
        model.weight *= 1e4
        model.bias *= 1e4
    outcome = attacked("autoattack", SMALL, model, image, eps=0.02)
    # The cross entropy is 0, the ratio is not.
    assert outcome.success.all() and "apgd_t" in outcome.broken_by()
    (warning,) = outcome.warnings()
    assert "gradients were 0 in every pixel" in warning


def test_probabilities_are_warned_of() -> None:
    image, net = pictures(12, 15), convolutions()
    for model, said in ((nn.Sequential(net, nn.Softmax(dim=1)), True), (net, False)):
        outcome = attacked("pgd", {"steps": 2}, model, image)
        assert any("look like probabilities" in text for text in outcome.warnings()) == said


def test_warnings_are_of_any_number_of_images() -> None:
    assert masking_warnings(("pgd",), [], []) == []
    assert masking_warnings(("pgd", "square"), ["pgd"] * 98 + ["square"] * 2, [0] * 100) == []
    (text,) = masking_warnings(("pgd", "square"), ["pgd"] * 97 + ["square"] * 3, [0] * 100)
    assert "broke 3 of 100 images" in text


def test_more_steps_that_break_less_are_told() -> None:
    few, many = [True] * 10 + [False] * 90, [False] * 10 + [False] * 90
    text = rising_robustness(few, many)
    assert "robust accuracy rises with more steps: of 100 images 10 were broken" in text
    assert rising_robustness(many, few) == rising_robustness(few, few) == ""
    assert rising_robustness([], []) == ""
