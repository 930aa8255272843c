"""The runner refuses what cannot be attacked and measures what came of an attack; what holds for
every attack of the registry."""

import math
from typing import Annotated

import pytest
import torch
from torch import Tensor, nn

from fundusray.attacks import ATTACKS, AttackProblem, run_attack
from fundusray.attacks.folding import folded
from fundusray.errors import InputError
from fundusray.keywords import AtLeast
from tests.attacks.small_networks import (
    Linear,
    attacked,
    convolutions,
    distance,
    pictures,
    wrong_class,
)

QUICK = {
    "fgsm": {}, "pgd": {"steps": 4}, "apgd_ce": {"steps": 8}, "apgd_dlr": {"steps": 8},
    "apgd_t": {"steps": 8}, "fab": {"steps": 5}, "fab_t": {"steps": 5}, "square": {"queries": 20},
    "autoattack": {"steps": 5, "queries": 10},
}  # fmt: skip
CASES = [(name, norm) for name in QUICK for norm in ("linf", "l2")]


def budget(norm: str) -> float:
    return 3 / 255 if norm == "linf" else 0.25


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_every_attack_keeps_to_the_contract(name: str, norm: str) -> None:
    image, model = pictures(12, 15), convolutions()
    for parameter in model.parameters():
        parameter.grad = None
    before = {key: value.clone() for key, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    row = torch.arange(12) + 100
    image[0] = (image[0] > 0.5).float()  # black and white pixels
    outcome = attacked(name, QUICK[name], model, image, norm=norm, eps=budget(norm), row=row)
    far = distance(outcome.image, image, norm)
    assert far.max() <= budget(norm) + 1e-6 and outcome.image.dtype == torch.float32
    assert outcome.image.min() >= 0 and outcome.image.max() <= 1
    clean, ends = model(image).argmax(1), model(outcome.image).argmax(1)
    assert torch.equal(outcome.success, ends != clean)
    assert all((stage != "") == bool(won) for stage, won in zip(
        outcome.broken_by(), outcome.success, strict=True))  # fmt: skip
    assert (outcome.queries >= 2).all() and not outcome.image.requires_grad
    # Nothing of the network or of torch is touched.
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_an_image_depends_on_its_row_alone(name: str, norm: str) -> None:
    """Not on its company: sums are rounded otherwise in a batch of another size, no more."""
    image, model = pictures(9, 15), convolutions().double()
    image, row, eps = image.double(), torch.arange(9) + 7, budget(norm)
    whole = attacked(name, QUICK[name], model, image, norm=norm, eps=eps, row=row, seed=2)
    again = attacked(name, QUICK[name], model, image, norm=norm, eps=eps, row=row, seed=2)
    assert torch.equal(whole.image, again.image)
    for part in ([0, 1, 2, 3], [8, 4], [5]):
        alone = attacked(
            name, QUICK[name], model, image[part], norm=norm, eps=eps, row=row[part], seed=2
        )
        torch.testing.assert_close(alone.image, whole.image[part], atol=1e-9, rtol=0)
        assert torch.equal(alone.success, whole.success[part])
        assert torch.equal(alone.queries, whole.queries[part])
        assert alone.broken_by() == [whole.broken_by()[k] for k in part]


@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "square"])
def test_seeds_and_rows_have_draws_of_their_own(name: str) -> None:
    image, model = pictures(4, 15), convolutions()
    found = [
        attacked(name, QUICK[name], model, image, row=torch.arange(4) + first, seed=seed).image
        for first, seed in ((0, 0), (0, 1), (9, 0))
    ]
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize("name", QUICK)
def test_no_images_and_wrong_ones_are_no_trouble(name: str) -> None:
    image, model = pictures(3, 15), convolutions()
    none = attacked(name, QUICK[name], model, image[:0])
    assert none.image.shape == (0, 3, 15, 15) and none.broken_by() == none.warnings() == []
    other = (model(image).argmax(1) + 1) % 5
    outcome = attacked(name, QUICK[name], model, image, other)
    assert torch.equal(outcome.image, image) and outcome.success.all()
    assert outcome.queries.tolist() == [1, 1, 1] and not outcome.attacked.any()
    assert outcome.broken_by() == ["", "", ""]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_images_of_another_type_are_attacked_in_a_wide_one(kind: torch.dtype) -> None:
    model, seen = convolutions().to(kind), set()

    def network(shown: Tensor) -> Tensor:
        seen.add(shown.dtype)
        return model(shown)

    image = pictures(4, 15).to(kind)
    target = model(image).argmax(1)
    for name in ("pgd", "square", "fab"):
        outcome = run_attack(
            name, QUICK[name], network, image, target, row=torch.arange(4), norm="linf",
            eps=8 / 255, success=wrong_class,
        )  # fmt: skip
        assert outcome.image.dtype == torch.promote_types(kind, torch.float32)
        wide = image.to(outcome.image.dtype)
        assert distance(outcome.image, wide, "linf").max() <= 8 / 255 + 1e-6
    assert seen == {kind}


def test_normalised_images_are_refused() -> None:
    image, model = 2 * pictures(3, 15) - 1, convolutions()
    with pytest.raises(InputError, match=r"needs pixels in \[0, 1\].*holds its own normalisation"):
        attacked("pgd", {}, model, image)
    with pytest.raises(InputError, match=r"needs pixels in \[0, 1\], got \[nan"):
        attacked("pgd", {}, model, image.clamp(0, 1) * torch.nan)


def test_an_attack_beyond_its_budget_is_caught() -> None:
    """torchattacks' PGD on images in [-1, 1]: asked for 0.2, it moves them by up to 1."""
    import torchattacks

    model = convolutions()

    @ATTACKS.register("peer_on_normalised", title="PGD in [-1, 1]", source="torchattacks")
    def peer(problem: AttackProblem, *, steps: Annotated[int, AtLeast(1)] = 5) -> Tensor:
        attack = torchattacks.PGD(model, eps=problem.eps, alpha=0.1, steps=steps)
        return attack(2 * problem.image - 1, problem.target)

    with pytest.raises(AssertionError, match=r"peer_on_normalised: .* is beyond linf 0.2"):
        attacked("peer_on_normalised", {}, model, pictures(3, 15), eps=0.2)


def test_a_network_that_draws_is_refused() -> None:
    image = pictures(6, 15)
    steady = convolutions()
    restless = nn.Sequential(nn.Dropout(0.1), steady).train()
    steady.eval()
    target = steady(image).argmax(1)
    with pytest.raises(InputError, match=r"says two things of the same images.*model.eval"):
        attacked("square", {"queries": 3}, restless, image, target)
    with pytest.raises(InputError, match="says two things of the same images"):
        attacked("pgd", {}, steady, image, target, search=restless)
    assert attacked("pgd", {"steps": 2}, restless.eval(), image, target).image.shape == image.shape


def test_a_network_without_gradient_is_refused_where_one_is_needed() -> None:
    image, model = pictures(6, 15), convolutions()

    def outside(shown: Tensor) -> Tensor:
        with torch.no_grad():
            return model(shown)

    def constant(shown: Tensor) -> Tensor:
        return next(model.parameters()).sum() * torch.tensor([[1.0, 0.0]]).repeat(len(shown), 1)

    target = outside(image).argmax(1)
    for name in ("fgsm", "pgd", "apgd_t", "fab", "autoattack"):
        with pytest.raises(InputError, match=r"gives no gradient.*square"):
            attacked(name, QUICK[name], outside, image, target)
    with pytest.raises(InputError, match="gives no gradient"):
        attacked("pgd", {}, constant, image, constant(image).argmax(1))
    assert attacked("square", {"queries": 5}, outside, image, target).queries.max() <= 7


@pytest.mark.parametrize(
    ("name", "args", "norm", "eps", "words"),
    [
        ("pgb", {}, "linf", 0.1, "no attack named 'pgb'; did you mean 'pgd'"),
        ("pgd", {"stps": 3}, "linf", 0.1, "no argument of pgd named 'stps'; did you mean 'steps'"),
        ("pgd", {"steps": 0}, "linf", 0.1, r"pgd.steps: needs a whole number of at least 1, got 0"),
        ("pgd", {"steps": 2.5}, "linf", 0.1, "needs a whole number"),
        ("pgd", {"keep": "lst"}, "linf", 0.1, "needs any or last, got 'lst'; did you mean 'last'"),
        ("pgd", {"step": -0.1}, "linf", 0.1, "pgd.step: needs a length"),
        ("pgd", {}, "l1", 0.1, "no norm of pgd named 'l1'"),
        ("pgd", {}, "linf", 0.0, "pgd needs eps, a length above 0"),
        ("pgd", {}, "linf", -0.1, "pgd needs eps, a length above 0"),
        ("pgd", {}, "linf", math.nan, "pgd needs eps, a length above 0"),
        ("pgd", {}, "linf", math.inf, "pgd needs eps, a length above 0"),
    ],
)
def test_bad_calls_are_refused(name: str, args: dict, norm: str, eps: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        attacked(name, args, convolutions(), pictures(2, 15), norm=norm, eps=eps)


def test_one_logit_is_refused() -> None:
    model = convolutions(1)
    with pytest.raises(InputError, match=r"at least two classes.*\[0, z\]"):
        attacked("pgd", {}, model, pictures(2, 15))


def test_what_fools_the_searched_network_alone_is_attacked_on() -> None:
    """The searched network changes its mind after a fifth of the way that the judge does."""
    image = pictures(8, 8, 0.4, 0.6)
    judge = Linear(2, image)
    z = judge(image)
    target = z.argmax(1)
    normal = (judge.weight[0] - judge.weight[1]).detach()
    needed = (z[:, 0] - z[:, 1]).abs().detach() / normal.abs().sum()

    class Timid(nn.Module):
        """As wrong as the judge would be five times as far from the image."""

        def forward(self, shown: Tensor) -> Tensor:
            return judge(image[:1] * 0 + 5 * shown - 4 * self.original[: len(shown)])

    timid = Timid()
    timid.original = image[:1]
    place = torch.tensor([0])
    far = 2 * needed[0].item()
    args = {"steps": 20, "step": far / 20, "start": "image"}
    outcome = attacked("pgd", args, judge, image[:1], target[:1], eps=far, row=place, search=timid)
    assert outcome.success.all()
    moved = distance(outcome.image, image[:1], "linf")[0].item()
    # Left as soon as the judge is fooled, not when the other one is.
    assert needed[0].item() < moved <= needed[0].item() + far / 20 + 1e-6
    timid_alone = attacked("pgd", args, timid, image[:1], target[:1], eps=far, row=place)
    assert timid_alone.success.all()
    assert not wrong_class(judge(timid_alone.image), target[:1]).any()


def test_a_surrogate_is_judged_by_the_other_network() -> None:
    image, judge, surrogate = pictures(24, 15), convolutions(seed=0), convolutions(seed=1)
    target = judge(image).argmax(1)
    for name in ("pgd", "square", "fab", "autoattack"):
        outcome = attacked(name, QUICK[name], judge, image, target, eps=0.1, search=surrogate)
        assert torch.equal(outcome.success, wrong_class(judge(outcome.image), target))
    own = attacked("pgd", {"steps": 4}, judge, image, target, eps=0.1)
    led = attacked("pgd", {"steps": 4}, judge, image, target, eps=0.1, search=surrogate)
    assert led.success.sum() < own.success.sum()


def test_a_folded_copy_finds_what_the_network_itself_finds() -> None:
    image, model = pictures(24, 15), convolutions()
    own = attacked("pgd", {"steps": 6}, model, image, eps=2 / 255)
    fast = attacked("pgd", {"steps": 6}, model, image, eps=2 / 255, search=folded(model, image))
    assert 0 < own.success.sum() < 24
    assert torch.equal(own.success, fast.success)


def test_what_is_known_is_not_asked_again() -> None:
    image, model = pictures(6, 15), convolutions()
    with torch.no_grad():
        clean = model(image)
    plain = attacked("pgd", {"steps": 3}, model, image)
    less = attacked("pgd", {"steps": 3}, model, image, clean=clean)
    assert torch.equal(plain.image, less.image)
    assert torch.equal(plain.queries - 1, less.queries)
