"""What is refused before anything is trained."""

from types import SimpleNamespace

import numpy as np
import pytest

from fundusray.cluster import pretrain, train
from fundusray.config import Recipe, override
from fundusray.errors import InputError
from tests.cluster.few import fake_set

CROPPED = {
    "model.name": "inception_v3",
    "data.size": 256,
    "data.augment": "random_crop(64) + hflip(0.5)",
    "data.view": "resize(96)",
}


@pytest.mark.parametrize("changes", [CROPPED, CROPPED | {
    "data.augment": "random_crop(96)", "data.view": "resize(64)",
}])  # fmt: skip
@pytest.mark.parametrize("check", [train.check, pretrain.check])
def test_a_network_is_held_against_the_pictures_it_is_shown(check, changes: dict) -> None:
    with pytest.raises(InputError, match=r"data\.size: inception_v3 needs at least 75.* got 64"):
        check(override(Recipe(), changes))


def test_a_wrong_number_of_weights_is_refused_before_workers_start() -> None:
    targets = np.arange(60) % 5
    table = fake_set(60).table
    prepared = SimpleNamespace(
        targets=lambda: targets, classes=tuple("abcde"), ordered=True, table=table
    )
    sides = {"train": np.arange(40), "val": np.arange(40, 50), "test": np.arange(50, 60)}
    base = override(Recipe(), {"train.batch": 8, "loss.name": "class_weights"})
    train.check_split(override(base, {"loss.args.weights": (1, 2, 3, 4, 5)}), prepared, sides)
    with pytest.raises(InputError, match=r"loss\.args\.weights: 5 classes need 5 numbers"):
        train.check_split(override(base, {"loss.args.weights": (1, 2, 3)}), prepared, sides)


FIXED = {"train.batch": 8, "cluster.cpus": 1, "cluster.gpus": 0}


def unordered(classes: str = "abc", ordered: bool = False) -> SimpleNamespace:
    return SimpleNamespace(classes=tuple(classes), ordered=ordered)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.output": "coral", "loss.name": "coral"},
        {"model.output": "corn", "loss.name": "corn"},
        {"model.output": "regression", "loss.name": "squared_error"},
        {"loss.name": "quadratic_kappa"},
    ],
    ids=lambda changes: next(reversed(changes.values())),
)
def test_what_needs_an_order_is_refused_without_one(changes: dict) -> None:
    recipe = override(Recipe(), changes)
    with pytest.raises(InputError, match=r"needs classes in their order.* of a, b, c; give it"):
        train.check_order(recipe, unordered())
    train.check_order(recipe, unordered(ordered=True))
    train.check_order(recipe, unordered("ab"))
    train.check_order(Recipe(), unordered())


@pytest.mark.parametrize("metric", ["kappa", "auc_referable"])
def test_an_epoch_is_not_chosen_by_what_needs_an_order(metric: str, capsys) -> None:
    recipe = override(Recipe(), {"train.select": metric, **FIXED})
    chosen = train.settled(recipe, unordered(), "/nowhere")
    assert chosen == override(recipe, {"train.select": "balanced_accuracy"})
    assert f"train.select={metric} needs classes in their order" in capsys.readouterr().out
    assert train.settled(chosen, unordered(), "/nowhere") == chosen
    for known in (unordered(ordered=True), unordered("ab")):
        assert train.settled(recipe, known, "/nowhere") == recipe
    assert capsys.readouterr().out == ""
