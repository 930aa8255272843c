"""Losses against the formulas of their papers."""

import math

import pytest
import torch
import torch.nn.functional as F

from fundusray.errors import InputError
from fundusray.losses import LOSSES, WEIGHTS, check_args, effective_weights, weight_ratio

WU = (18134, 1710, 3659, 603, 480)
"""Images per grade of Wu's training split."""
YU = (20655, 1955, 4210, 698, 581)
YU_PRINTED = (1.0, 10.5652173913043, 4.9061757719714, 29.5916905444126, 35.5507745266781)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(64, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


@pytest.fixture
def target() -> torch.Tensor:
    return torch.arange(64) % 5


def loss(name, logits, target, counts=WU, **args):
    return LOSSES[name](logits, target, counts=torch.tensor(counts, dtype=torch.float32), **args)


@pytest.mark.parametrize("name", LOSSES)
class TestContract:
    def test_one_finite_number_per_sample(self, name, logits, target):
        for scale in (1, 1e4):
            values = loss(name, (logits * scale).float(), target)
            assert values.shape == target.shape and values.dtype == torch.float32
            assert torch.isfinite(values).all() and (values >= 0).all()

    def test_half_precision_logits_lose_nothing_further(self, name, logits, target):
        half = logits.bfloat16()
        assert torch.equal(loss(name, half, target), loss(name, half.float(), target))

    def test_gradient_is_finite_even_where_the_answer_is_certain(self, name, target):
        certain = (F.one_hot(target, 5) * 200.0).requires_grad_(True)
        loss(name, certain, target).sum().backward()
        assert torch.isfinite(certain.grad).all()

    def test_gradient_flows_into_the_target_logit(self, name, logits, target):
        logits.requires_grad_(True)
        loss(name, logits, target).sum().backward()
        assert (logits.grad[torch.arange(64), target] < 0).all()

    def test_a_sample_does_not_depend_on_its_batch(self, name, logits, target):
        whole = loss(name, logits, target)
        parts = [loss(name, logits[i : i + 7], target[i : i + 7]) for i in range(0, 64, 7)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=0)

    def test_an_empty_class_makes_nothing_infinite(self, name, logits, target):
        values = loss(name, logits, target, counts=(100, 0, 30, 0, 7))
        assert torch.isfinite(values).all()
        weights = effective_weights(name, {}, (100, 0, 30, 0, 7))
        assert all(map(math.isfinite, weights))
        if name in WEIGHTS:
            assert weights[1] == weights[3] == 0 and (values[target == 1] == 0).all()

    def test_weights_are_those_the_loss_applies(self, name, logits, target):
        plain = F.cross_entropy(logits, target, reduction="none")
        weights = torch.tensor(effective_weights(name, {}, WU), dtype=torch.float64)
        expected = plain * weights[target]
        if name == "focal":
            expected = expected * (1 - torch.exp(-plain)) ** 2
        torch.testing.assert_close(loss(name, logits, target), expected, rtol=1e-12, atol=1e-14)

    def test_analytic_gradient_equals_differences(self, name, logits, target):
        small = logits[:10].clone().requires_grad_(True)
        assert torch.autograd.gradcheck(lambda x: loss(name, x, target[:10]), small)


NEUTRAL = [
    ("focal", {"gamma": 0.0}),
    ("class_balanced", {"beta": 0.0}),
    ("class_weights", {"power": 0.0}),
    ("class_weights", {"weights": (3.0,) * 5}),
]


@pytest.mark.parametrize("name, args", NEUTRAL)
@pytest.mark.parametrize("counts", [WU, (10, 10, 10, 10, 10)])
def test_neutral_argument_is_cross_entropy(name, args, counts, logits, target):
    plain = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(
        loss(name, logits, target, counts, **args), plain, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("name", ["class_balanced", "inverse_frequency", "class_weights"])
def test_equal_counts_make_a_weighted_loss_cross_entropy(name, logits, target):
    plain = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(loss(name, logits, target, (9,) * 5), plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 4.0])
def test_focal_gradient_is_the_papers(gamma, logits, target):
    """Appendix B of Lin et al. in softmax form:

    dL/dz_j = (gamma p (1-p)^(gamma-1) log p - (1-p)^gamma) ([j = t] - p_j).
    """
    logits.requires_grad_(True)
    loss("focal", logits, target, gamma=gamma).sum().backward()
    every = logits.detach().softmax(1)
    p = every.gather(1, target[:, None])
    factor = gamma * p * (1 - p) ** (gamma - 1) * p.log() - (1 - p) ** gamma
    torch.testing.assert_close(
        logits.grad, factor * (F.one_hot(target, 5) - every), rtol=1e-9, atol=1e-12
    )


def test_focal_by_hand():
    value = loss("focal", torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]), (1, 1), gamma=2)
    assert value.item() == pytest.approx(0.25**2 * -math.log(0.75))


RATIOS = [(0.9, 1.0000, 4), (0.99, 1.008, 3), (0.999, 2.62, 2), (0.9999, 17.9, 1)]


@pytest.mark.parametrize("beta, ratio, digits", [*RATIOS, (0.99999, 34.6, 1)])
def test_class_balanced_ratio_on_wus_counts(beta, ratio, digits):
    weights = effective_weights("class_balanced", {"beta": beta}, WU)
    assert round(weight_ratio(weights), digits) == ratio
    assert sum(weights) == pytest.approx(5, abs=1e-12)
    closed = [(1 - beta) / (1 - beta**n) for n in WU]
    scaled = [5 * w / sum(closed) for w in closed]
    assert weights == pytest.approx(scaled, rel=1e-9)


def test_class_balanced_weights_at_point_99_do_almost_nothing():
    weights = effective_weights("class_balanced", {"beta": 0.99}, WU)
    assert [round(w, 4) for w in weights] == [0.9979, 0.9979, 0.9979, 1.0003, 1.0060]


def test_class_balanced_next_to_1_is_inverse_frequency():
    near = effective_weights("class_balanced", {"beta": 1 - 1e-12}, WU)
    inverse = effective_weights("inverse_frequency", {}, WU)
    assert [w / near[0] for w in near] == pytest.approx([w / inverse[0] for w in inverse], rel=1e-6)


def test_inverse_frequency_to_the_letter_and_with_mean_1():
    literal = effective_weights("inverse_frequency", {"normalise": False}, WU)
    assert literal == pytest.approx([sum(WU) / n for n in WU])
    scaled = effective_weights("inverse_frequency", {}, WU)
    assert scaled == pytest.approx([w / 5 for w in literal])
    assert round(weight_ratio(scaled), 1) == 37.8


@pytest.mark.parametrize("args", [{}, {"power": 0.5}, {"weights": YU_PRINTED}])
def test_class_weights_have_mean_1_over_the_training_images(args):
    weights = effective_weights("class_weights", args, YU)
    assert sum(n * w for n, w in zip(YU, weights, strict=True)) / sum(YU) == pytest.approx(1)


def test_yus_printed_weights_are_power_1():
    given = effective_weights("class_weights", {"weights": YU_PRINTED}, YU)
    assert given == pytest.approx(effective_weights("class_weights", {}, YU), rel=1e-12)
    assert [w / given[0] for w in given] == pytest.approx(YU_PRINTED, rel=1e-12)


def test_power_is_the_exponent_of_the_ratio():
    weights = effective_weights("class_weights", {"power": 0.5}, WU)
    assert weight_ratio(weights) == pytest.approx((18134 / 480) ** 0.5)


@pytest.mark.parametrize(
    "name, args, told",
    [
        ("focal", {"gama": 2.0}, "'gamma'"),
        ("focl", {}, "'focal'"),
        ("focal", {"gamma": -1.0}, "at least 0"),
        ("focal", {"gamma": "two"}, "'two'"),
        ("focal", {"gamma": float("nan")}, "nan"),
        ("focal", {"gamma": True}, "True"),
        ("cross_entropy", {"gamma": 2.0}, "gamma"),
        ("class_balanced", {"beta": 1.0}, "[0, 1)"),
        ("inverse_frequency", {"normalise": 1.0}, "true or false"),
        ("class_weights", {"weights": 3.0}, "weights"),
        ("class_weights", {"weights": (1.0, -1.0)}, "weights"),
        ("class_weights", {"weights": (0.0, 0.0)}, "not all 0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(name, args, told):
    with pytest.raises(InputError) as caught:
        check_args(name, args)
    assert told in str(caught.value)


def test_right_arguments_pass():
    for name, args in [*NEUTRAL, ("inverse_frequency", {"normalise": False})]:
        check_args(name, args)


def test_weights_of_another_number_of_classes_are_refused():
    with pytest.raises(InputError, match="5 classes need 5 numbers"):
        effective_weights("class_weights", {"weights": (1.0, 2.0)}, WU)
