"""What every loss keeps to, whatever it computes."""

import math

import pytest
import torch

from fundusray.losses import LOSSES, compute_loss, effective_weights, num_outputs
from fundusray.models.heads import HEADS

EMPTY = (100, 0, 30, 0, 7)
WU = (18134, 1710, 3659, 603, 480)
OF_BATCHES = {"quadratic_kappa"}
"""Losses whose value is that of the whole batch."""
KEYWORDS = {
    "cross_entropy": [{}, {"smoothing": 0.1}],
    "focal": [{}, {"gamma": 0.5}],
    "class_balanced": [{}, {"base": "sigmoid"}, {"base": "focal"}, {"base": "focal", "gamma": 0.5}],
    "ldam": [{}, {"defer": 0.0}],
}
CASES = [(name, args) for name in LOSSES for args in KEYWORDS.get(name, [{}])]


def raw_of(name: str, logits: torch.Tensor) -> torch.Tensor:
    """As many columns as the loss takes."""
    return logits[:, : num_outputs(name, 5)].clone()


def loss(name, raw, target, args, counts=WU, **given):
    tensor = torch.tensor(counts, dtype=torch.float32)
    return compute_loss(name, args, raw, target, counts=tensor, **given)


@pytest.mark.parametrize("name", LOSSES)
def test_its_facts_fit_each_other_and_the_head_it_learns_from(name):
    facts = LOSSES.facts(name)
    assert facts.output in ("", *HEADS)
    assert len(facts.prior(WU)) == num_outputs(name, 5)
    if facts.output:
        assert num_outputs(name, 5) == HEADS.find(facts.output).width(5)


@pytest.mark.parametrize("name, args", CASES)
class TestContract:
    def test_one_finite_number_per_sample(self, name, args, logits, target):
        for scale in (0, 1, 1e4):
            raw = raw_of(name, logits * scale).float()
            values = loss(name, raw, target, args)
            assert values.shape == target.shape and values.dtype == torch.float32
            assert torch.isfinite(values).all()
            assert name in OF_BATCHES or (values >= 0).all()

    def test_half_precision_outputs_lose_nothing_further(self, name, args, logits, target):
        half = raw_of(name, logits).bfloat16()
        assert torch.equal(loss(name, half, target, args), loss(name, half.float(), target, args))

    def test_autocast_takes_nothing_from_it(self, name, args, logits, target):
        raw = raw_of(name, logits).float()
        plain = loss(name, raw, target, args)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(name, raw, target, args)
            narrow = loss(name, raw.bfloat16(), target, args)
        assert found.dtype == narrow.dtype == torch.float32
        assert torch.equal(found, plain)
        assert torch.equal(narrow, loss(name, raw.bfloat16(), target, args))

    @pytest.mark.parametrize("scale", [1.0, 200.0, 1e4])
    def test_gradient_is_finite_however_certain(self, name, args, scale, logits, target):
        raw = raw_of(name, logits.sign() * scale).float().requires_grad_(True)
        loss(name, raw, target, args).sum().backward()
        assert torch.isfinite(raw.grad).all()

    def test_a_step_against_the_gradient_lowers_it(self, name, args, logits, target):
        raw = (raw_of(name, logits) * 0.1).requires_grad_(True)
        before = loss(name, raw, target, args).mean()
        (gradient,) = torch.autograd.grad(before, raw)
        assert gradient.norm() > 0
        assert loss(name, raw - 1e-4 * gradient, target, args).mean() < before

    def test_a_sample_does_not_depend_on_its_batch(self, name, args, logits, target):
        raw = raw_of(name, logits)
        whole = loss(name, raw, target, args)
        if name in OF_BATCHES:
            assert (whole == whole[0]).all()
            return
        parts = [loss(name, raw[i : i + 7], target[i : i + 7], args) for i in range(0, 64, 7)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=0)

    def test_padding_never_matters(self, name, args, logits, target):
        """The caller's sum over valid rows and its gradient, whatever the other rows hold."""
        valid = torch.arange(64) % 3 > 0
        found = []
        for other in (0.0, 50.0, math.nan):
            raw = raw_of(name, logits)
            raw[~valid] = other
            raw.requires_grad_(True)
            label = torch.where(valid, target, 4 if other else 0)
            total = torch.where(valid, loss(name, raw, label, args, valid=valid), 0.0).sum()
            total.backward()
            assert (raw.grad[~valid] == 0).all() or math.isnan(other)
            found.append((total.item(), raw.grad[valid]))
        for value, gradient in found[1:]:
            assert value == pytest.approx(found[0][0], rel=1e-12)
            torch.testing.assert_close(gradient, found[0][1], rtol=1e-9, atol=1e-15)

    def test_an_empty_class_makes_nothing_infinite(self, name, args, logits, target):
        raw = raw_of(name, logits).requires_grad_(True)
        values = loss(name, raw, target, args, counts=EMPTY, progress=0.9)
        values.sum().backward()
        assert torch.isfinite(values).all() and torch.isfinite(raw.grad).all()
        weights = effective_weights(name, args, EMPTY)
        assert all(map(math.isfinite, weights))
        if LOSSES.facts(name).weights:
            empty = (target == 1) | (target == 3)
            assert weights[1] == weights[3] == 0
            assert (values[empty] == 0).all() and (raw.grad[empty] == 0).all()

    @pytest.mark.parametrize("progress", [0.0, 0.9])
    def test_analytic_gradient_equals_differences(self, name, args, progress, logits, target):
        small = (raw_of(name, logits)[:10] * 0.3).requires_grad_(True)

        def total(raw: torch.Tensor) -> torch.Tensor:
            return loss(name, raw, target[:10], args, progress=progress)

        assert torch.autograd.gradcheck(total, small)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name, args", CASES)
def test_on_a_gpu_with_counts_on_either_side(name, args, logits, target):
    raw, here = raw_of(name, logits), torch.tensor(WU, dtype=torch.float32)
    expected = compute_loss(name, args, raw, target, counts=here)
    for counts in (here, here.cuda()):
        there = compute_loss(name, args, raw.cuda(), target.cuda(), counts=counts)
        torch.testing.assert_close(there.cpu(), expected)
