"""Losses of class logits against the formulas of their papers, computed in numpy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from fundusray.losses import LOSSES, compute_loss, effective_weights, ldam_margins

WU = (18134, 1710, 3659, 603, 480)


def loss(name, logits, target, counts=WU, **args):
    return LOSSES[name](logits, target, counts=torch.tensor(counts, dtype=torch.float32), **args)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


NEUTRAL = [
    ("cross_entropy", {"smoothing": 0.0}),
    ("focal", {"gamma": 0.0}),
    ("class_balanced", {"beta": 0.0}),
    ("class_weights", {"power": 0.0}),
    ("class_weights", {"weights": (3.0,) * 5}),
    ("ldam", {"max_margin": 0.0, "scale": 1.0}),
]


@pytest.mark.parametrize("name, args", NEUTRAL)
@pytest.mark.parametrize("counts", [WU, (10, 10, 10, 10, 10)])
def test_neutral_argument_is_cross_entropy(name, args, counts, logits, target):
    plain = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(
        loss(name, logits, target, counts, **args), plain, rtol=1e-12, atol=0
    )


BALANCING = ["class_balanced", "inverse_frequency", "class_weights", "balanced_softmax"]


@pytest.mark.parametrize("name", BALANCING)
def test_equal_counts_make_a_balancing_loss_cross_entropy(name, logits, target):
    plain = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(loss(name, logits, target, (9,) * 5), plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["class_balanced", "inverse_frequency", "class_weights"])
def test_weights_are_those_the_loss_applies(name, logits, target):
    weights = np.array(effective_weights(name, {}, WU))[target]
    expected = -np.log(softmax(logits.numpy())[np.arange(64), target]) * weights
    np.testing.assert_allclose(loss(name, logits, target), expected, rtol=1e-10)


def test_label_smoothing_mixes_the_label_with_the_uniform(logits, target):
    log_p = np.log(softmax(logits.numpy()))
    expected = -0.9 * log_p[np.arange(64), target] - 0.1 * log_p.mean(axis=1)
    found = loss("cross_entropy", logits, target, smoothing=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


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


def test_class_balanced_sigmoid_is_a_sum_of_binary_losses(logits, target):
    p = 1 / (1 + np.exp(-logits.numpy()))
    truth = np.eye(5)[target]
    binary = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).sum(axis=1)
    weights = np.array(effective_weights("class_balanced", {"beta": 0.9999}, WU))
    found = loss("class_balanced", logits, target, base="sigmoid", beta=0.9999)
    np.testing.assert_allclose(found, binary * weights[target], rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_class_balanced_focal_is_that_of_torchvision(gamma, logits, target):
    truth = F.one_hot(target, 5).double()
    plain = sigmoid_focal_loss(logits, truth, alpha=-1, gamma=gamma).sum(1)
    weights = np.array(effective_weights("class_balanced", {"beta": 0.9999}, WU))[target]
    found = loss("class_balanced", logits, target, base="focal", gamma=gamma, beta=0.9999)
    np.testing.assert_allclose(found, plain.numpy() * weights, rtol=1e-9)


def test_class_balanced_bases_by_hand():
    logits, target = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([1])
    sigmoid = loss("class_balanced", logits, target, (5, 5), base="sigmoid")
    assert sigmoid.item() == pytest.approx(math.log(4) + math.log(2))
    focal = loss("class_balanced", logits, target, (5, 5), base="focal", gamma=2.0)
    assert focal.item() == pytest.approx(0.75**2 * math.log(4) + 0.5**2 * math.log(2))


def test_class_balanced_focal_is_finite_where_exp_overflows():
    logits = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    value = loss("class_balanced", logits, torch.tensor([0]), (5, 5), base="focal", gamma=2.0)
    value.sum().backward()
    assert value.item() == pytest.approx(400.0)
    assert logits.grad.tolist() == [[-1.0, 1.0]]


def test_balanced_softmax_is_the_papers(logits, target):
    """p_j = n_j exp(z_j) / sum_i n_i exp(z_i)."""
    scaled = np.array(WU) * np.exp(logits.numpy())
    expected = -np.log(scaled[np.arange(64), target] / scaled.sum(axis=1))
    np.testing.assert_allclose(loss("balanced_softmax", logits, target), expected, rtol=1e-6)


def test_balanced_softmax_is_fitted_where_logits_say_nothing():
    """Over the training set its gradient vanishes at equal logits: the prior is in the loss."""
    counts = torch.tensor([6, 3, 1])
    logits = torch.zeros(10, 3, dtype=torch.float64, requires_grad=True)
    target = torch.arange(3).repeat_interleave(counts)
    LOSSES["balanced_softmax"](logits, target, counts=counts).sum().backward()
    torch.testing.assert_close(logits.grad.sum(0), torch.zeros(3, dtype=torch.float64))


def test_balanced_softmax_leaves_an_empty_class_out():
    three = torch.tensor([[1.0, 9.0, 2.0]])
    value = loss("balanced_softmax", three, torch.tensor([2]), (4, 0, 2))
    two = 2 * math.exp(2) / (4 * math.exp(1) + 2 * math.exp(2))
    assert value.item() == pytest.approx(-math.log(two))


def test_ldam_margins_fall_with_the_fourth_root():
    margins = ldam_margins(torch.tensor([1600, 100, 0, 1]), max_margin=0.6)
    expected = [0.6 / 40**0.5, 0.6 / 10**0.5, 0.0, 0.6]
    assert margins.tolist() == pytest.approx(expected, rel=1e-12)


def test_ldam_is_the_papers(logits, target):
    n = np.array(WU, float)
    margins = n**-0.25 * 0.5 / (n**-0.25).max()
    z = logits.numpy() / 10
    shifted = z.copy()
    shifted[np.arange(64), target] -= margins[target]
    expected = -np.log(softmax(30 * shifted)[np.arange(64), target])
    found = loss("ldam", torch.tensor(z), target)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-13)


def test_ldam_weighs_only_from_defer_on(logits, target):
    z, rare = logits / 10, effective_weights("ldam", {}, WU)
    early = loss("ldam", z, target, progress=0.79)
    late = loss("ldam", z, target, progress=0.8)
    weights = torch.tensor(rare, dtype=torch.float64)[target]
    torch.testing.assert_close(late, early * weights, rtol=1e-12, atol=0)
    assert torch.equal(loss("ldam", z, target, progress=0.99, defer=1.0), early)


YU = (20655, 1955, 4210, 698, 581)
"""Yu's training images per grade."""


def torchs(logits, target):
    """What CrossEntropyLoss makes of Yu's weights, those of grade 0 over the grade's."""
    weight = torch.tensor([YU[0] / n for n in YU], dtype=torch.float64)
    return torch.nn.CrossEntropyLoss(weight)(logits, target)


def test_class_weights_divide_a_batch_as_torch_does(logits, target):
    for rows in (slice(0, 16), slice(16, 32), slice(40, 43)):
        found = loss("class_weights", logits[rows], target[rows], YU, divide="weights").mean()
        torch.testing.assert_close(found, torchs(logits[rows], target[rows]))
        plain = loss("class_weights", logits[rows], target[rows], YU).mean()
        assert not torch.isclose(found, plain)


def test_class_weights_divide_by_the_whole_batch_also_over_workers(logits, target):
    """Three workers share 64 rows and a padding; their means over the valid rows add up."""
    wide = torch.cat([logits, logits[:2] * 9]), torch.cat([target, target[:2]])
    valid, counts = torch.arange(66) < 64, torch.bincount(target, minlength=5)
    total = torch.zeros((), dtype=torch.float64)
    for part in torch.arange(66).split(22):
        each = compute_loss(
            "class_weights", {"divide": "weights"}, wide[0][part], wide[1][part],
            counts=torch.tensor(YU), valid=valid[part], batch_counts=counts,
        )  # fmt: skip
        total += torch.where(valid[part], each, 0.0).sum()
    torch.testing.assert_close(total / 64, torchs(logits, target))


def test_a_batch_of_classes_without_weight_costs_nothing():
    found = loss("class_weights", torch.zeros(3, 2), torch.zeros(3).long(), (0, 5),
                 divide="weights")  # fmt: skip
    assert found.tolist() == [0.0, 0.0, 0.0]
