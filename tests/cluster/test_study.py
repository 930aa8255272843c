"""What Optuna does for a search: points that fit, spaces told apart, proposals that repeat."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fundusray.cluster.search.study import (
    Proposal,
    pareto_front,
    points_of,
    propose_trial,
    range_holds,
    setting_importance,
    space_summary,
)
from fundusray.config import Recipe
from fundusray.errors import InputError
from tune_spaces import balancing

LOSSES = ["cross_entropy", "focal"]


def space_of(losses: list[str] = LOSSES, high: float = 5.0, dropouts: tuple = (0.0, 0.5)) -> Any:
    def space(trial: Any) -> None:
        if trial.suggest_categorical("loss.name", losses) == "focal":
            trial.suggest_float("loss.args.gamma", 0.5, high)
        trial.suggest_categorical("model.dropout", dropouts)

    return SimpleNamespace(space=space)


def test_points_of_the_space_are_taken_as_they_are() -> None:
    proposals = points_of(balancing, balancing.POINTS)
    assert [proposal.settings for proposal in proposals] == balancing.POINTS
    assert all(proposal.settings.keys() == proposal.ranges.keys() for proposal in proposals)


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (
            {"loss.name": "cross_entropy", "model.dropout": 0.75},
            r"model\.dropout=0\.75.*0\.0, 0\.5",
        ),
        ({"loss.name": "mart", "model.dropout": 0.0}, "loss.name='mart'.*'cross_entropy', 'focal'"),
        ({"loss.name": "cross_entropy"}, r"lacks model\.dropout.*one of 0\.0, 0\.5"),
        (
            {"loss.name": "cross_entropy", "loss.args.gamma": 2.0, "model.dropout": 0.0},
            r"does not draw loss\.args\.gamma there, only loss\.name, model\.dropout",
        ),
        (
            {"loss.name": "focal", "loss.args.gamma": 9.0, "model.dropout": 0.0},
            r"loss\.args\.gamma=9\.0, but the space draws 0\.5 to 5",
        ),
        ({"loss.name": "focal", "loss.args.gamma": "2", "model.dropout": 0.0}, "gamma='2'"),
        ({"loss.name": "focal", "loss.args.gamma": math.nan, "model.dropout": 0.0}, "gamma=nan"),
    ],
)
def test_a_point_that_the_space_does_not_hold_is_refused_by_name(point: dict, said: str) -> None:
    good = {"loss.name": "focal", "loss.args.gamma": 2.0, "model.dropout": 0.5}
    with pytest.raises(InputError, match=f"point 2 .*{said}") as caught:
        points_of(space_of(), [good, point])
    assert "point 1" not in str(caught.value)


def test_other_ranges_are_another_space_and_other_names_are_not() -> None:
    spaces = [
        space_of(),
        space_of(LOSSES[::-1]),
        space_of(high=4.0),
        space_of(dropouts=(0.0, 0.25)),
        SimpleNamespace(space=lambda trial: trial.suggest_categorical("loss.name", LOSSES)),
    ]
    held = [space_summary(space, Recipe()) for space in spaces]
    assert len({one["digest"] for one in held}) == len(spaces)
    renamed = SimpleNamespace(space=space_of().space, method=lambda overrides: "another name")
    assert space_summary(renamed, Recipe()) == held[0]

    # Which branch asks for what counts, too, though all names and ranges stay the same.
    def moved(trial: Any) -> None:
        if trial.suggest_categorical("loss.name", LOSSES) == "cross_entropy":
            trial.suggest_float("loss.args.gamma", 0.5, 5.0)
        trial.suggest_categorical("model.dropout", (0.0, 0.5))

    other = space_summary(SimpleNamespace(space=moved), Recipe())
    assert other["settings"] == held[0]["settings"] and other["digest"] != held[0]["digest"]


def test_a_space_that_cannot_be_drawn_from_is_refused() -> None:
    def unknown(trial: Any) -> None:
        trial.suggest_float("model.droput", 0, 1)

    def broken(trial: Any) -> None:
        trial.suggest_float("model.dropout", 1, 0)

    with pytest.raises(InputError, match=r"search space draws .*model\.droput"):
        space_summary(SimpleNamespace(space=unknown), Recipe())
    with pytest.raises(InputError, match="cannot be drawn from: ValueError"):
        space_summary(SimpleNamespace(space=broken), Recipe())


def worth(settings: dict[str, Any]) -> float:
    return settings["model.dropout"] + len(settings["loss.name"]) / 100


def searched(total: int, seed: int = 0) -> list[tuple[Proposal, list[float]]]:
    before: list[tuple[Proposal, list[float]]] = []
    for number in range(total):
        proposal = propose_trial(balancing, before, number, seed)
        before.append((proposal, [worth(proposal.settings)]))
    return before


def test_a_proposal_is_a_function_of_what_was_tried_before_it() -> None:
    whole = searched(24)
    assert searched(24) == whole
    for cut in (0, 3, 11, 20):
        assert propose_trial(balancing, whole[:cut], cut, 0) == whole[cut][0]
    assert searched(24, seed=1) != whole
    # Where the search has learned something it uses it.
    late = [worth(proposal.settings) for proposal, _ in whole[12:]]
    assert sum(late) / len(late) > sum(value for _, (value,) in whole[:10]) / 10
    # One that has failed is no guide, but it is not proposed again either.
    failed = [(proposal, []) for proposal, _ in whole[:5]]
    assert propose_trial(balancing, failed, 5, 0) not in [proposal for proposal, _ in failed]


def test_several_objectives_lead_to_their_front() -> None:
    """Of two that pull apart, what is proposed late is beaten in both by little that came early."""
    space = SimpleNamespace(
        space=lambda trial: [trial.suggest_float(f"data.{name}", 0, 1) for name in ("a", "b")]
    )

    def reached(settings: dict[str, Any]) -> list[float]:
        a, b = settings["data.a"], settings["data.b"]
        return [a - b, 1 - a - b]  # on the front where b is 0

    before: list[tuple[Proposal, list[float]]] = []
    for number in range(60):
        proposal = propose_trial(space, before, number, 0, num_objectives=2)
        before.append((proposal, reached(proposal.settings)))
    early, late = (
        sum(proposal.settings["data.b"] for proposal, _ in part) / len(part)
        for part in (before[:10], before[40:])
    )
    assert late < early / 2
    spread = [proposal.settings["data.a"] for proposal, _ in before[40:]]
    assert max(spread) - min(spread) > 0.5


def test_a_front_is_what_nobody_beats() -> None:
    values = [[0.9, 0.1], [0.5, 0.5], [0.4, 0.5], [0.1, 0.9], [0.5, 0.5], [0.2, 0.2]]
    assert pareto_front(values) == [True, True, False, True, True, False]
    assert pareto_front([]) == []


def test_nothing_is_proposed_twice_while_there_is_something_else() -> None:
    small = space_of(["cross_entropy"], dropouts=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5))
    before: list[tuple[Proposal, list[float]]] = []
    for number in range(5):
        before.append((propose_trial(small, before, number, 0), [0.5]))
    assert len({proposal.settings["model.dropout"] for proposal, _ in before}) == 5
    for number in range(5, 12):  # a space of six runs out, and the search goes on all the same
        before.append((propose_trial(small, before, number, 0), [0.5]))
    assert len({proposal.settings["model.dropout"] for proposal, _ in before}) == 6


def test_importance_needs_no_space() -> None:
    trials = [(proposal, value) for proposal, (value,) in searched(20)]
    shares, note = setting_importance(trials)
    assert not note and shares["model.dropout"] > 0.5
    assert setting_importance(trials[:3]) == ({}, "too few trials to tell which settings mattered")


@pytest.mark.parametrize(
    ("held", "good", "bad"),
    [
        (CategoricalDistribution(["a", 1.5, None]), ["a", 1.5, None], ["b", 2]),
        (FloatDistribution(0, 1, step=0.25), [0, 0.25, 1.0], [0.3, 1.25, True, math.inf]),
        (IntDistribution(2, 10, step=2), [2, 8, 10], [3, 12, "4"]),
        (FloatDistribution(1e-3, 1, log=True), [1e-3, 0.5], [0, 2]),
    ],
)
def test_ranges_hold_what_they_draw(held: Any, good: list, bad: list) -> None:
    assert all(range_holds(held, value) for value in good)
    assert not any(range_holds(held, value) for value in bad)
