"""Phases over steps: the rates and trainable parameters of the papers, step by step."""

import pytest
import torch

from fundusray import recipes
from fundusray.config import Model, Train, override
from fundusray.models import build_model
from fundusray.training.timetable import Timetable, enter_phase, passes_over_rows, train_mode

BODY = {"resnet18": 11_176_512, "resnet50": 23_508_032}
"""Parameters without the last layer (He et al. 2016: 512 and 2,048 features go into it)."""


def test_li_rates_by_mini_batch() -> None:
    """Table of the paper: .001 for 550 batches, .0002 for 350, .00005 for 495."""
    table = Timetable(recipes.find_recipe("li.table1.ours").train, steps_per_epoch=100)
    assert (table.steps, table.epochs) == (1395, 14)
    rates = [table.rate(step) for step in range(table.steps)]
    assert rates[:550] == pytest.approx([0.001] * 550)
    assert rates[550:900] == pytest.approx([0.0002] * 350)
    assert rates[900:] == pytest.approx([0.00005] * 495)
    assert sum(table.steps_of(epoch) for epoch in range(table.epochs)) == 1395
    assert table.steps_of(13) == 95
    # One optimiser all through: only the rate changes.
    assert {span.stage for span in table.spans} == {0}


@pytest.mark.parametrize("network", ["resnet18", "resnet50"])
def test_yu_trains_the_head_then_everything(network: str) -> None:
    recipe = recipes.find_recipe(f"yu.{network}_pretrained")
    table = Timetable(recipe.train, steps_per_epoch=10)
    assert (table.epochs, table.steps) == (25, 250)
    model = build_model(override(recipe, {"model.weights": ""}).model, 5, seed=0)
    features = {"resnet18": 512, "resnet50": 2048}[network]
    head = features * 5 + 5
    learning, stages = [], []
    for epoch in range(25):
        span = table.span(epoch * 10)
        learning.append(enter_phase(model, span.phase))
        stages.append(span.stage)
        assert table.rate(epoch * 10) == pytest.approx(1e-3)
    assert learning == [head] * 5 + [BODY[network] + head] * 20
    assert stages == [0] * 5 + [1] * 20


def test_from_scratch_all_25_epochs_train_everything() -> None:
    recipe = recipes.find_recipe("yu.resnet18_scratch")
    table = Timetable(recipe.train, steps_per_epoch=3)
    assert [span.phase.trainable for span in table.spans] == ["all"]
    assert table.epochs == 25


def test_the_schedule_runs_anew_in_each_phase() -> None:
    train = Train(phases="head(epochs=1) + all(epochs=2, lr=0.1)", lr=1.0, schedule="cosine")
    table = Timetable(train, steps_per_epoch=4)
    assert table.rate(0) == pytest.approx(1.0) and table.rate(3) < 0.2
    assert table.rate(4) == pytest.approx(0.1) and table.rate(8) == pytest.approx(0.05)
    assert table.span(99) is table.spans[-1]


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_the_rate_follows_the_batch(rule: str, factor: float) -> None:
    train = Train(lr=0.1, lr_scaling=rule, batch=256, lr_batch=64, schedule="constant")
    assert Timetable(train, 5).rate(0) == pytest.approx(0.1 * factor)


@pytest.mark.parametrize(("changes", "warm"), [({}, 0), ({"train.warmup": 0.032}, 32)])
def test_ngc_rate_begins_at_256_thousandths_or_rises_to_them_and_falls_to_nothing(
    changes: dict, warm: int
) -> None:
    """Its warm-up of 8 epochs is for batches of 512 and more; the recipe's is 256."""
    train = override(recipes.find_recipe("yu.ngc_resnet50"), changes).train
    table = Timetable(train, steps_per_epoch=4)
    rates = [table.rate(step) for step in range(table.steps)]
    assert table.epochs == 250 and max(rates) == pytest.approx(0.256)
    assert rates.index(max(rates)) == warm
    assert rates[:warm] == sorted(rates[:warm]) and rates[-1] < 1e-5


def test_frozen_norms_keep_their_statistics() -> None:
    model = build_model(Model(name="resnet18"), 3, seed=0)
    image = torch.rand(4, 3, 32, 32)
    phases = {norm: Train(phases=f"all(epochs=1, norm={norm})") for norm in ("frozen", "train")}
    for norm, train in phases.items():
        before = model.net.bn1.running_mean.clone()
        train_mode(model, Timetable(train, 1).spans[0].phase)
        model(image)
        assert torch.equal(before, model.net.bn1.running_mean) == (norm == "frozen")


def test_free_training_makes_as_many_updates_as_any_other() -> None:
    """Shafahi et al. 2019, alg. 1: N_ep / m passes, each batch m times in a row."""
    changes = {"train.epochs": 20, "train.step_epochs": 7, "train.mixup_epochs": 3}
    plain = override(recipes.find_recipe("demo"), changes | {"adversarial.eps": "8/255"})
    free = override(plain, {"adversarial.method": "free", "adversarial.replays": 8})
    assert passes_over_rows(plain) == plain.train
    got = passes_over_rows(free)
    assert (got.epochs, got.step_epochs, got.mixup_epochs) == (3, 1, 1)  # rounded up
    assert (
        Timetable(passes_over_rows(free), 10).steps * 8
        >= Timetable(passes_over_rows(plain), 10).steps
    )
    phased = override(free, {"train.phases": "head(epochs=5) + all(steps=550, lr=0.2)"})
    assert passes_over_rows(phased).phases == "head(epochs=1) + all(steps=69, lr=0.2)"
    assert passes_over_rows(override(free, {"adversarial.replays": 1})) == free.train
