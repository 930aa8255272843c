"""A sweep breaks under each budget what that budget alone breaks, at less cost."""

from itertools import pairwise

import pytest
import torch

from fundusray.attacks import AttackOutcome, sweep
from fundusray.attacks.folding import folded
from fundusray.errors import InputError
from tests.attacks.small_networks import (
    Linear,
    attacked,
    convolutions,
    distance,
    pictures,
    wrong_class,
)


def swept(
    name: str, args: dict, model: torch.nn.Module, image: torch.Tensor, eps: list[float],
    **more: object,
) -> list[AttackOutcome]:  # fmt: skip
    with torch.no_grad():
        target = model(image).argmax(1)
    row = torch.arange(len(image))
    more = {"norm": "linf"} | more
    return sweep(
        name, args, model, image, target, row=row, eps=eps, success=wrong_class, **more
    )  # fmt: skip


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_breaks_what_each_budget_alone_breaks(norm: str) -> None:
    """On a linear network exactly, so nothing is lost by taking over smaller changes."""
    image = pictures(40, 6, 0.3, 0.7)
    model = Linear(3, image)
    budgets = [0.002, 0.004, 0.008, 0.016] if norm == "linf" else [0.02, 0.04, 0.08, 0.16]
    args = {"steps": 20, "loss": "margin", "restarts": 2}
    outcomes = swept("pgd", args, model, image, budgets, norm=norm)
    assert [len(outcome.image) for outcome in outcomes] == [40] * 4
    won = torch.stack([outcome.success for outcome in outcomes])
    assert (won[1:] | ~won[:-1]).all() and 0 < won[0].sum() < won[3].sum()
    for eps, outcome in zip(budgets, outcomes, strict=True):
        alone = attacked("pgd", args, model, image, norm=norm, eps=eps)
        assert torch.equal(outcome.success, alone.success)
        assert distance(outcome.image, image, norm).max() <= eps + 1e-6
    # What broke under a budget stays as it broke.
    for smaller, larger in pairwise(outcomes):
        kept = smaller.success
        assert torch.equal(smaller.image[kept], larger.image[kept])
        assert torch.equal(smaller.queries[kept], larger.queries[kept])
        assert (larger.queries[~kept] > smaller.queries[~kept]).all()


def test_stages_and_another_network_to_search_go_with_it() -> None:
    image, model = pictures(16, 15), convolutions()
    args = {"steps": 4, "queries": 5}
    eps = [1 / 255, 2 / 255, 6 / 255]
    with torch.no_grad():
        clean = model(image)
    outcomes = swept(
        "autoattack", args, model, image, eps, search=folded(model, image), clean=clean
    )
    for outcome in outcomes:
        won = outcome.success.tolist()
        assert [bool(stage) for stage in outcome.broken_by()] == won
        assert torch.equal(outcome.success, wrong_class(model(outcome.image), clean.argmax(1)))
    assert outcomes[0].success.sum() < outcomes[2].success.sum()


def test_nothing_and_all_is_left() -> None:
    image, model = pictures(3, 15), convolutions()
    outcomes = swept("pgd", {"steps": 3}, model, image, [0.3, 0.4])
    assert outcomes[0].success.all()
    assert torch.equal(outcomes[0].image, outcomes[1].image)
    assert [len(each.image) for each in swept("pgd", {}, model, image[:0], [0.1, 0.2])] == [0, 0]


@pytest.mark.parametrize("eps", [[], [0.2, 0.1], [0.1, 0.1], [0.1, float("nan")]])
def test_budgets_that_do_not_ascend_are_refused(eps: list[float]) -> None:
    with pytest.raises(InputError, match="a sweep needs budgets that ascend"):
        swept("pgd", {}, convolutions(), pictures(2, 15), eps)


def test_stages_stay_where_a_smaller_budget_broke_all() -> None:
    image = pictures(6, 6, 0.3, 0.7)
    model = Linear(4, image)
    args = {"steps": 10, "queries": 10}
    first, second, third = swept("autoattack", args, model, image, [0.2, 0.3, 0.4])
    assert first.success.all() and "" not in first.broken_by()
    for later in (second, third):
        assert later.stages == first.stages and later.broken_by() == first.broken_by()
        assert torch.equal(later.image, first.image)
        assert torch.equal(later.queries, first.queries)
