"""Ordinal losses against hand computed values and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from fundusray.losses import LOSSES

EVEN = (10, 10, 10, 10, 10)


def loss(name, raw, target, counts=EVEN, **args):
    return LOSSES[name](raw, target, counts=torch.tensor(counts, dtype=torch.float32), **args)


def sure(grades: np.ndarray, height: float = 60.0) -> torch.Tensor:
    """Logits that are all but certain of the grades."""
    return torch.tensor(np.eye(5)[grades] * height)


class TestCoral:
    def test_by_hand(self):
        raw = torch.tensor([[math.log(3.0), 0.0]])  # P(y > 0) = 3/4, P(y > 1) = 1/2
        found = [loss("coral", raw, torch.tensor([k]), (1, 1, 1)).item() for k in range(3)]
        log = math.log
        assert found == pytest.approx([log(4) + log(2), log(4 / 3) + log(2), log(4 / 3) + log(2)])

    def test_is_the_papers_sum(self, logits, target):
        z = logits[:, :4].numpy()
        p = 1 / (1 + np.exp(-z))
        above = target.numpy()[:, None] > np.arange(4)
        expected = -(above * np.log(p) + ~above * np.log(1 - p)).sum(axis=1)
        np.testing.assert_allclose(loss("coral", logits[:, :4], target), expected, rtol=1e-10)


class TestCorn:
    def test_by_hand(self):
        """A row takes part in border k only from class k on."""
        raw = torch.tensor([[math.log(3.0), math.log(4.0)]])  # 3/4 and 4/5
        found = [loss("corn", raw, torch.tensor([k]), (0, 0, 5)).item() for k in range(3)]
        log = math.log
        by_row = [log(4), log(4 / 3) + log(5), log(4 / 3) + log(5 / 4)]
        assert found == pytest.approx([value / 2 for value in by_row])

    def test_the_batchs_mean_is_the_papers_where_it_has_the_training_shares(self):
        """Over the pairs of a row and a border it counts for, subset by subset."""
        counts = (4, 3, 2, 1, 2)
        target = torch.arange(5).repeat_interleave(torch.tensor(counts))
        raw = torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        total, pairs = 0.0, 0
        for k in range(4):
            for z, y in zip(raw[:, k].tolist(), target.tolist(), strict=True):
                if y >= k:
                    p = 1 / (1 + math.exp(-z))
                    total -= math.log(p) if y > k else math.log(1 - p)
                    pairs += 1
        assert loss("corn", raw, target, counts).mean().item() == pytest.approx(total / pairs)

    def test_borders_that_a_row_has_not_reached_get_no_gradient(self):
        raw = torch.zeros(1, 4, requires_grad=True)
        loss("corn", raw, torch.tensor([1])).sum().backward()
        assert (raw.grad[0, :2] != 0).all() and (raw.grad[0, 2:] == 0).all()


def test_squared_error_is_in_grades():
    raw = torch.tensor([[0.5], [2.0], [-1.0]])
    assert loss("squared_error", raw, torch.tensor([0, 4, 0])).tolist() == [0.25, 4.0, 1.0]


@pytest.mark.parametrize("name, width", [("coral", 5), ("corn", 5), ("squared_error", 5)])
def test_outputs_of_another_head_are_our_bug(name, width):
    with pytest.raises(AssertionError):
        loss(name, torch.zeros(2, width), torch.tensor([0, 1]))


class TestKappa:
    @pytest.mark.parametrize("seed", range(5))
    def test_equals_scikit_learns_where_the_network_is_sure(self, seed):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 5, 40)
        told = np.clip(truth + rng.integers(-1, 2, 40), 0, 4)
        kappa = cohen_kappa_score(truth, told, weights="quadratic", labels=range(5))
        value = loss("quadratic_kappa", sure(told), torch.tensor(truth))
        assert value.shape == (40,)
        np.testing.assert_allclose(value.exp(), 1 - kappa, rtol=1e-6)

    def test_is_the_papers_with_probabilities(self, logits, target):
        p = np.exp(logits.numpy())
        p /= p.sum(axis=1, keepdims=True)
        observed = np.zeros((5, 5))
        for t, row in zip(target.tolist(), p, strict=True):
            observed[t] += row
        chance = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / observed.sum()
        w = (np.arange(5)[:, None] - np.arange(5)) ** 2
        expected = math.log((w * observed).sum() / (w * chance).sum())
        found = loss("quadratic_kappa", logits, target)
        assert found.tolist() == pytest.approx([expected] * 64, rel=1e-8)

    def test_is_least_where_every_grade_is_right(self, target):
        truth = target.numpy()
        best = loss("quadratic_kappa", sure(truth), target)[0].item()
        assert -25 < best < -20
        for row in range(5):
            for grade in set(range(5)) - {int(truth[row])}:
                told = truth.copy()
                told[row] = grade
                assert loss("quadratic_kappa", sure(told), target)[0].item() > best + 10

    def test_descent_from_nothing_arrives_at_perfect_agreement(self, target):
        raw = torch.zeros(64, 5, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([raw], lr=0.3)
        for _ in range(60):
            optimizer.zero_grad()
            value = loss("quadratic_kappa", raw, target).mean()
            value.backward()
            optimizer.step()
        assert (raw.argmax(1) == target).all() and value.item() < -4

    def test_chance_is_0_and_the_worst_is_log_2(self):
        truth = torch.tensor([0, 4, 0, 4])
        same = torch.zeros(4, 5, dtype=torch.float64)
        assert loss("quadratic_kappa", same, truth)[0].item() == pytest.approx(0, abs=1e-8)
        swapped = sure(np.array([4, 0, 4, 0]))
        assert loss("quadratic_kappa", swapped, truth)[0].item() == pytest.approx(math.log(2))

    def test_a_batch_of_one_class_or_of_padding_says_nothing(self):
        raw = sure(np.array([2, 2, 2])).requires_grad_(True)
        for target, valid in [
            (torch.tensor([2, 2, 2]), None),
            (torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.bool)),
        ]:
            value = loss("quadratic_kappa", raw, target, valid=valid)
            (gradient,) = torch.autograd.grad(value.sum(), raw)
            assert value.tolist() == pytest.approx([0, 0, 0], abs=1e-6)
            assert gradient.abs().max() < 1e-6
