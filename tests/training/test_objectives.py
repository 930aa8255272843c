"""Objectives against the papers' formulas written out again, and against a batch cut in pieces."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray import recipes
from fundusray.attacks import parse_eps, training_budget
from fundusray.config import Adversarial, Recipe, override
from fundusray.errors import InputError
from fundusray.pipeline.loader import Batch
from fundusray.training.objectives import OBJECTIVES, divergence, runner_up

EPS = 8 / 255
ATTACKING = ("pgd", "trades", "mart", "fast", "free")


class Tiny(nn.Module):
    """A small network with the border of a classifier."""

    def __init__(self, norms: bool = False, classes: int = 3, auxiliary: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.first = nn.Conv2d(3, 6, 3, stride=2)
            self.norm = nn.BatchNorm2d(6) if norms else nn.Identity()
            self.last = nn.Linear(6 * 9, classes)
            self.side = nn.Linear(6 * 9, classes) if auxiliary else None
            nn.init.normal_(self.last.weight, std=0.5)
        self.seen: list[Tensor] = []
        """Images of passes in training mode."""

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.training:
            self.seen.append(image.detach().clone())
        features = self.norm(self.first(image)).relu().flatten(1)
        main = self.last(features)
        if self.training and self.side is not None:
            return main, self.side(features)
        return main

    def class_logits(self, raw: Tensor) -> Tensor:
        return raw


def batch_of(num: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(num, 3, 8, 8, generator=generator)
    valid = torch.arange(num) != num - 1
    return Batch(image, torch.arange(num) % 3, 100 + torch.arange(num), valid)


def all_valid() -> Batch:
    return batch_of()._replace(valid=torch.ones(8, dtype=torch.bool))


def part_of(batch: Batch, rows: list[int]) -> Batch:
    return Batch(*(part[rows] for part in batch[:4]))


def per_sample(output: Tensor | tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    main, auxiliary = output if isinstance(output, tuple) else (output, None)
    losses = F.cross_entropy(main.float(), target, reduction="none")
    if auxiliary is None:
        return losses
    return losses + 0.4 * F.cross_entropy(auxiliary.float(), target, reduction="none")


def settings(method: str, **given: object) -> Adversarial:
    return Adversarial(**({"method": method, "eps": "8/255", "steps": 3} | given))


def replayed(
    model: Tiny, batch: Batch, chosen: Adversarial, seed: int = 5, rate: float = 0.0
) -> list[Tensor]:
    """The losses of each yield, back-propagated and stepped as the caller does."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    every = []
    for losses in OBJECTIVES.find(chosen.method)(model, model, batch, per_sample, chosen, seed):
        assert losses.shape == batch.row.shape
        optimizer.zero_grad()
        (losses * batch.valid).sum().backward()
        optimizer.step()
        every.append(losses.detach())
    return every


def learned(model: Tiny, batch: Batch, chosen: Adversarial) -> list[Tensor]:
    """The images of the passes that learn; `fast` looks at them once in training mode before."""
    model.seen.clear()
    every = replayed(model, batch, chosen)
    return model.seen[-len(every) :]


def test_without_a_method_images_are_as_they_are() -> None:
    model, batch = Tiny(), batch_of()
    (losses,) = replayed(model, batch, Adversarial())
    torch.testing.assert_close(losses, per_sample(model(batch.image), batch.target))
    assert torch.equal(model.seen[0], batch.image)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ["pgd", "fast", "free"])
def test_attacked_images_are_worse_and_near(method: str, norm: str) -> None:
    model, batch = Tiny(), batch_of()
    eps = {"linf": "8/255", "l2": "0.5unit01"}[norm]
    every = replayed(model, batch, settings(method, norm=norm, eps=eps))
    passes = {"free": 4, "fast": 2, "pgd": 1}[method]
    assert (len(every), len(model.seen)) == (4 if method == "free" else 1, passes)
    shown = model.seen[-len(every) :]
    clean = per_sample(model(batch.image), batch.target).detach()
    order = math.inf if norm == "linf" else 2
    for image in shown:
        far = torch.linalg.vector_norm((image - batch.image).flatten(1), order, dim=1)
        assert 0 < far[batch.valid].min() <= far.max() <= parse_eps(eps, norm) + 1e-6
        assert far[~batch.valid].max() == 0
        assert 0 <= image.min() <= image.max() <= 1
    worse = (every[-1] > clean) | ~batch.valid
    assert worse.all()
    torch.testing.assert_close(every[-1], per_sample(model(shown[-1]), batch.target).detach())


def test_the_best_step_is_worse_than_the_last_and_free_has_none() -> None:
    wide = {"step_size": "24/255", "steps": 6}
    last, best = (
        replayed(Tiny(), all_valid(), settings("pgd", keep=keep, **wide))[0]
        for keep in ("last", "best")
    )
    assert (best >= last).all() and (best > last).any()
    with pytest.raises(InputError, match=r"adversarial\.keep"):
        settings("free", keep="best")


def test_more_steps_and_replays_are_worse() -> None:
    batch = batch_of()
    model = Tiny()
    rising = replayed(model, batch, settings("free", random_start=False))
    sums = [float((losses * batch.valid).sum()) for losses in rising]
    clean = per_sample(model(batch.image), batch.target)
    torch.testing.assert_close(rising[0], clean.detach())
    assert sums[0] < sums[1] <= sums[2] + 1e-4


def test_free_moves_by_eps_along_the_sign_of_the_backward_pass() -> None:
    batch, model = batch_of(), Tiny()
    image = batch.image.clone().requires_grad_(True)
    (per_sample(model(image), batch.target) * batch.valid).sum().backward()
    expected = (batch.image + EPS * image.grad.sign()).clamp(0, 1)
    model.seen.clear()
    replayed(model, batch, settings("free", random_start=False, replays=2))
    assert len(model.seen) == 2
    torch.testing.assert_close(model.seen[1], expected)


def test_free_learns_between_replays() -> None:
    still, learning = Tiny(), Tiny()
    for model, rate in ((still, 0.0), (learning, 0.05)):
        replayed(model, batch_of(), settings("free"), rate=rate)
    assert torch.equal(still.seen[0], learning.seen[0])
    losses = replayed(Tiny(), batch_of(), settings("free"), rate=0.05)
    fixed = replayed(Tiny(), batch_of(), settings("free"))
    assert losses[-1].sum() < fixed[-1].sum()


def test_free_says_when_it_got_no_gradient() -> None:
    model = Tiny()
    losses = OBJECTIVES.find("free")(model, model, batch_of(), per_sample, settings("free"), 0)
    next(losses)
    with pytest.raises(AssertionError, match="not back-propagated"):
        next(losses)


def test_trades_is_the_formula() -> None:
    """F.kl_div, which takes its arguments the other way round, says the same."""
    model, batch = Tiny(), all_valid()
    (losses,) = replayed(model, batch, settings("trades", beta=6.0))
    clean, found = model.seen[0].split(8)
    assert torch.equal(clean, batch.image)
    z, attacked = model(clean), model(found)
    kl = F.kl_div(attacked.log_softmax(1), z.softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(losses, (per_sample(z, batch.target) + 6 * kl).detach())
    # The attack raises the divergence above what noise of the same size does.
    noise = EPS * torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)).sign()
    at_random = model((clean + noise).clamp(0, 1)).log_softmax(1)
    assert (kl > F.kl_div(at_random, z.softmax(1), reduction="none").sum(1)).all()
    assert (found - clean).abs().max() <= EPS + 1e-6


def test_trades_learns_through_both_images() -> None:
    """As in the authors' code; a clean side held still would give other gradients."""
    model, batch = Tiny(), all_valid()
    replayed(model, batch, settings("trades", beta=2.0))
    got = model.last.weight.grad.clone()
    clean, found = model.seen[0].split(8)
    model.zero_grad()
    z = model(clean)
    kl = F.kl_div(model(found).log_softmax(1), z.softmax(1), reduction="none").sum(1)
    ((per_sample(z, batch.target) + 2 * kl) * batch.valid).sum().backward()
    torch.testing.assert_close(got, model.last.weight.grad)


def test_mart_is_the_formula() -> None:
    """As in the authors' code, without its guards against log 0."""
    model, batch = Tiny(), all_valid()
    (losses,) = replayed(model, batch, settings("mart", beta=5.0))
    clean, found = model.seen[0].split(8)
    z, p, target = model(found), model(found).softmax(1), batch.target
    top = p.argsort(1)[:, -2:]
    other = torch.where(top[:, 1] == target, top[:, 0], top[:, 1])
    boosted = F.cross_entropy(z, target, reduction="none") - torch.log(1 - p[range(8), other])
    q = model(clean).softmax(1)
    kl = (q * (q / p).log()).sum(1)
    expected = (boosted + 5 * kl * (1 - q[range(8), target])).detach()
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)


def test_the_runner_up_of_two_classes_is_cross_entropy() -> None:
    logits = torch.tensor([[2.0, -1.0], [300.0, -300.0], [-300.0, 300.0]])
    target = torch.tensor([1, 0, 0])
    torch.testing.assert_close(runner_up(logits, target), per_sample(logits, target))


def test_the_runner_up_by_hand() -> None:
    """p = (.7, .2, .1): of class 0 the runner-up is .2, of class 1 it is .7."""
    logits = torch.tensor([[0.7, 0.2, 0.1]] * 2).log()
    got = runner_up(logits, torch.tensor([0, 1]))
    torch.testing.assert_close(got, -torch.tensor([0.8, 0.3]).log())


def test_divergence_by_hand() -> None:
    clean = torch.tensor([[0.5, 0.5]]).log()
    got = divergence(torch.tensor([[0.25, 0.75]]).log(), clean)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert got.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", ATTACKING)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_rest_of_the_batch_does_not_matter(method: str, share: float) -> None:
    """Two workers see what one sees: a network without batch statistics has the same losses."""
    batch, chosen = batch_of(), settings(method, share=share)
    whole = replayed(Tiny(), batch, chosen)
    for rows in ([0, 1, 2, 3], [6, 4, 5], [7]):
        alone = replayed(Tiny(), part_of(batch, rows), chosen)
        for one, all_of_them in zip(alone, whole, strict=True):
            torch.testing.assert_close(one, all_of_them[rows], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ATTACKING)
def test_a_share_of_rows_is_attacked_and_the_rest_is_not(method: str) -> None:
    batch, model = batch_of(40), Tiny()
    losses = replayed(model, batch, settings(method, share=0.4))[-1]
    clean = per_sample(model(batch.image), batch.target).detach()
    same = (losses - clean).abs() < 1e-5
    assert 5 <= int((~same).sum()) <= 28
    again = replayed(model, batch, settings(method, share=0.4), seed=6)[-1]
    assert not torch.equal(same, (again - clean).abs() < 1e-5)


@pytest.mark.parametrize("method", ATTACKING)
def test_rows_that_do_not_count_may_hold_anything(method: str) -> None:
    """The padding at the end is neither attacked nor in the way; nor is a batch of nothing else."""
    batch = batch_of()
    whole = replayed(Tiny(), batch, settings(method))
    batch.image[-1] = 5.0
    broken = replayed(Tiny(), batch, settings(method))
    for one, other in zip(whole, broken, strict=True):
        torch.testing.assert_close(one[:-1], other[:-1])
    padding = part_of(batch_of(), [7])
    assert all(
        torch.isfinite(losses).all() for losses in replayed(Tiny(), padding, settings(method))
    )


@pytest.mark.parametrize("method", ATTACKING)
def test_repeating_gives_the_same_and_another_seed_another(method: str) -> None:
    first, again, other = (
        replayed(Tiny(), batch_of(), settings(method), seed=seed)[-1] for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("method", ("", *ATTACKING))
def test_only_the_pass_that_learns_moves_batch_statistics(method: str) -> None:
    """As many updates of the running statistics as there were back-propagated passes."""
    model, batch = Tiny(norms=True), batch_of()
    model.last.eval()
    every = replayed(model, batch, settings(method))
    assert int(model.norm.num_batches_tracked) == len(every)
    assert model.training
    assert not model.last.training
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_fast_attacks_by_the_statistics_of_the_batch() -> None:
    """One signed step of 1.25 eps along the gradient in training mode (Wong et al. 2020, their
    train_fgsm.py), which another pass in evaluation mode would not take everywhere."""
    batch, twin = all_valid(), Tiny(norms=True)
    chosen = settings("fast", random_start=False)
    found = learned(Tiny(norms=True), batch, chosen)[0]

    def by_hand(model: Tiny) -> Tensor:
        image = batch.image.clone().requires_grad_(True)
        per_sample(model(image), batch.target).sum().backward()
        moved = 1.25 * EPS * image.grad.sign()
        return (batch.image + moved.clamp(-EPS, EPS)).clamp(0, 1)

    torch.testing.assert_close(found, by_hand(twin.train()))
    assert not torch.equal(found, by_hand(Tiny(norms=True).eval()))


@pytest.mark.parametrize(
    ("method", "keep"), [*((method, "last") for method in ("", *ATTACKING)), ("pgd", "best")]
)
def test_under_autocast_every_weight_still_learns(method: str, keep: str) -> None:
    """Autocast keeps cast weights for as long as it is entered; none may lack its graph."""
    batch, exact, model = batch_of(), Tiny(norms=True), Tiny(norms=True)
    chosen = settings(method, replays=2, beta=1.0, keep=keep)
    replayed(exact, batch, chosen)
    losses = OBJECTIVES.find(method)(model, model, batch, per_sample, chosen, 5)
    for _ in range(2 if method == "free" else 1):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            one = next(losses)
        assert one.dtype == torch.float32
        (one * batch.valid).sum().backward()
    for ours, theirs in zip(model.parameters(), exact.parameters(), strict=True):
        if ours is model.first.bias:  # before a norm: nothing to learn
            continue
        assert F.cosine_similarity(ours.grad.flatten(), theirs.grad.flatten(), dim=0) > 0.9


@pytest.mark.parametrize("method", ("", *ATTACKING))
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_an_auxiliary_head_learns_too(method: str, share: float) -> None:
    model = Tiny(auxiliary=True)
    replayed(model, batch_of(), settings(method, share=share))
    assert model.side is not None
    assert model.side.weight.grad.abs().sum() > 0


def test_ordinal_outputs_are_compared_as_classes() -> None:
    """Two raw outputs, three classes: the divergence is that of the class logits."""

    class Ordinal(Tiny):
        def forward(self, image: Tensor) -> Tensor:
            raw = super().forward(image)
            return raw if self.training else self.class_logits(raw)

        def class_logits(self, raw: Tensor) -> Tensor:
            beyond = raw.float().sigmoid()
            first, second = beyond[:, 0], beyond[:, 0] * beyond[:, 1]
            return torch.stack([1 - first, first - second, second], 1).clamp_min(1e-9).log()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        assert output.shape[1] == 2
        return output.square().sum(1)

    model, batch = Ordinal(classes=2), all_valid()
    (losses,) = OBJECTIVES.find("trades")(
        model, model, batch, loss, settings("trades", beta=3.0), 5
    )
    clean, found = model.seen[0].split(8)
    raw = model(clean)
    q, p = (model.class_logits(r).softmax(1) for r in (raw, model(found)))
    expected = loss(raw, batch.target) + 3 * (q * (q / p).log()).sum(1)
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    for method in ("pgd", "mart", "fast", "free"):
        objective: Callable[..., Iterator[Tensor]] = OBJECTIVES.find(method)
        for found_losses in objective(model, model, batch, loss, settings(method), 5):
            found_losses.sum().backward()
            assert torch.isfinite(found_losses).all()


def test_the_preset_is_the_quick_start() -> None:
    recipe = override(Recipe(), recipes.PRESETS["madry_quickstart"])
    given, train = recipe.adversarial, recipe.train
    assert (given.method, given.norm, given.steps, given.random_start) == ("pgd", "l2", 20, False)
    assert parse_eps(given.eps, "l2") == 0.5
    assert parse_eps(given.step_size, "l2") == 1.5
    assert (train.optimizer, train.lr, train.momentum, train.epochs) == ("sgd", 0.1, 0.9, 5)
    assert train.schedule == "constant"
    assert given.keep == "best" and training_budget(given).best


def test_every_method_of_a_recipe_has_its_objective() -> None:
    for method in ("", *ATTACKING):
        Adversarial(method=method, eps="2/255")
        assert method in OBJECTIVES
    assert len(OBJECTIVES) == 6
