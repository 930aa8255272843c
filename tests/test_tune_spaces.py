"""The search spaces, over Optuna's own trials."""

from typing import Any

import optuna
import pytest

from fundusray import recipes
from fundusray.cluster.search.study import points_of, space_summary
from fundusray.config import Recipe, override
from fundusray.jobs.searching import is_baseline
from fundusray.runs.check import check
from tune_spaces import balancing, corruption_levels, epsilons
from tune_spaces.balancing import BETAS, POINTS, method, space

ARGS = {"focal": "gamma", "class_balanced": "beta", "class_weights": "power"}


@pytest.fixture(scope="module")
def drawn() -> list[dict]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(200)]
    for trial in trials:
        space(trial)
    return [trial.params for trial in trials]


def test_every_sample_applies(drawn):
    for params in drawn:
        recipe = override(Recipe(), params)
        assert recipe.loss.name == params["loss.name"]
        assert recipe.sampling.name == params["sampling.name"]
        assert recipe.model.dropout == params["model.dropout"]


def test_a_keyword_comes_with_its_loss_only(drawn):
    assert {params["loss.name"] for params in drawn} >= set(ARGS)
    for params in drawn:
        given = [key for key in params if key.startswith("loss.args.")]
        wanted = ARGS.get(params["loss.name"])
        assert given == ([f"loss.args.{wanted}"] if wanted else [])


def test_ranges(drawn):
    gammas = [p["loss.args.gamma"] for p in drawn if "loss.args.gamma" in p]
    powers = [p["loss.args.power"] for p in drawn if "loss.args.power" in p]
    assert min(gammas) >= 0.5 and max(gammas) <= 5 and max(gammas) - min(gammas) > 2
    assert min(powers) >= 0.25 and max(powers) <= 1
    assert {p["loss.args.beta"] for p in drawn if "loss.args.beta" in p} == set(BETAS)


def test_points_come_back_unchanged():
    study = optuna.create_study()
    for point in POINTS:
        study.enqueue_trial(point)
    for point in POINTS:
        trial = study.ask()
        space(trial)
        assert trial.params == point


def test_points_are_one_of_each_family():
    assert len({tuple(sorted(point.items())) for point in POINTS}) == len(POINTS)
    assert override(Recipe(), POINTS[0]) == Recipe()
    assert {p["loss.name"] for p in POINTS} == {*ARGS, "cross_entropy", "inverse_frequency"}
    assert {p["sampling.name"] for p in POINTS} == {"natural", "oversample", "quotas"}


def test_method_names_rows():
    assert [method(point) for point in POINTS] == [
        "cross entropy (baseline)",
        "class weights n^-0.5",
        "oversampling + dropout=0.75",
        "class balanced loss β=0.9999",
        "focal loss γ=2",
        "class quotas",
        "inverse frequency loss",
        "class balanced loss β=0.99",
    ]
    assert method({}) == "cross entropy (baseline)"
    assert method({"model.dropout": 0.5}) == "cross entropy + dropout=0.5"
    mixed = {"loss.name": "focal", "loss.args.gamma": 1.23456, "sampling.name": "oversample"}
    assert method(mixed) == "focal loss γ=1.23 + oversampling"
    assert method({"loss.name": "class_balanced", "loss.args.beta": 0.99999}).endswith("β=0.99999")


@pytest.mark.parametrize("searched", [balancing, epsilons, corruption_levels])
def test_every_space_draws_what_can_be_trained(searched: Any) -> None:
    """Drawn counted out, every setting applies and every recipe passes the check."""
    base = override(recipes.find_recipe("demo"), searched.SETTINGS)
    summary = space_summary(searched, base)
    assert summary["settings"]
    points = points_of(searched, searched.POINTS)
    names = [searched.method(point.settings) for point in points]
    assert len(set(names)) == len(points) >= 6 and "baseline" in names[0]
    for point in points:
        check(override(base, point.settings))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        trial = study.ask()
        searched.space(trial)
        check(override(base, trial.params))
        assert searched.method(trial.params)
    assert override(base, points[0].settings).tune.objectives == base.tune.objectives


def test_searches_for_robustness_have_two_objectives_and_one_judge() -> None:
    base = override(recipes.find_recipe("demo"), epsilons.SETTINGS)
    assert base.tune.objectives == ("kappa", "robust_accuracy")
    strong = override(base, {"adversarial.method": "pgd", "adversarial.eps": "4/255"})
    assert strong.adversarial.judge_eps == base.adversarial.judge_eps == "0.5/255"
    base = override(recipes.find_recipe("demo"), corruption_levels.SETTINGS)
    assert base.tune.objectives == ("kappa", "corrupted_kappa")
    assert base.data.judge_corrupt == "wu(level=1-4)" and not base.data.corrupt


@pytest.mark.parametrize("searched", [balancing, epsilons, corruption_levels])
def test_one_point_of_a_space_is_what_the_others_are_compared_with(searched: Any) -> None:
    proposals = [proposal.settings for proposal in points_of(searched, searched.POINTS)]
    assert [is_baseline(searched, params) for params in proposals] == [True] + [False] * (
        len(proposals) - 1
    )
