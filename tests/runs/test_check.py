"""What is refused before anything is trained."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fundusray.cluster import pretrain
from fundusray.config import Recipe, override
from fundusray.data.found import GRADES
from fundusray.errors import InputError
from fundusray.runs.check import check as train_check
from fundusray.runs.check import (
    check_order,
    check_run,
    chosen_without_order,
    require_start_order,
)
from fundusray.runs.run import Run
from fundusray.runs.split_of_run import OpenSets, Split
from fundusray.verified import write_verified
from tests.runs.few import fake_set

CROPPED = {
    "model.name": "inception_v3",
    "data.size": 256,
    "data.augment": "random_crop(64) + hflip(0.5)",
    "data.view": "resize(96)",
}


@pytest.mark.parametrize("changes", [CROPPED, CROPPED | {
    "data.augment": "random_crop(96)", "data.view": "resize(64)",
}])  # fmt: skip
@pytest.mark.parametrize("check", [train_check, pretrain.check], ids=["train", "pretrain"])
def test_a_network_is_held_against_the_pictures_it_is_shown(check, changes: dict) -> None:
    with pytest.raises(InputError, match=r"data\.size: inception_v3 needs at least 75.* got 64"):
        check(override(Recipe(), changes))


def prepared(num: int, classes: str = "abcde") -> Any:
    """What is read of a set of so many photographs, whose classes come in turn."""
    targets = np.arange(num) % len(classes)
    return SimpleNamespace(
        targets=lambda: targets,
        classes=tuple(classes),
        ordered=True,
        table=fake_set(num).table,
        __len__=lambda: num,
    )


def run_of(changes: dict, sides: list[str], data: Any) -> Run:
    return Run(override(Recipe(), changes), "set", Split(data, np.array(sides)), "key", "/nowhere")


SIDES = ["train"] * 40 + ["val"] * 10 + ["test"] * 10


def test_a_wrong_number_of_weights_is_refused_before_workers_start() -> None:
    base = {"train.batch": 8, "loss.name": "class_weights"}
    sets = OpenSets({"set": (data := prepared(60))})

    def run(weights: tuple[int, ...]) -> Run:
        return replace(run_of(base | {"loss.args.weights": weights}, SIDES, data), sets=sets)

    check_run(run((1, 2, 3, 4, 5)))
    with pytest.raises(InputError, match=r"loss\.args\.weights: 5 classes need 5 numbers"):
        check_run(run((1, 2, 3)))


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
        check_order(recipe, unordered())
    check_order(recipe, unordered(ordered=True))
    check_order(recipe, unordered("ab"))
    check_order(Recipe(), unordered())


@pytest.mark.parametrize("metric", ["kappa", "auc_referable"])
def test_an_epoch_is_not_chosen_by_what_needs_an_order(metric: str, capsys) -> None:
    recipe = override(Recipe(), {"train.select": metric})
    chosen = chosen_without_order(recipe, unordered())
    assert chosen == override(recipe, {"train.select": "balanced_accuracy"})
    assert f"train.select={metric} needs classes in their order" in capsys.readouterr().out
    assert chosen_without_order(chosen, unordered()) == chosen
    for known in (unordered(ordered=True), unordered("ab")):
        assert chosen_without_order(recipe, known) == recipe
    assert capsys.readouterr().out == ""


def test_a_start_with_its_outputs_in_another_order_is_refused(tmp_path) -> None:
    """As an earlier version trained on named classes: sorted by the alphabet."""
    sorted_by_name = ["Mild", "Moderate", "No_DR", "Proliferate_DR", "Severe"]
    write_verified(str(tmp_path / "old"), {}, {"classes": sorted_by_name})
    with pytest.raises(
        InputError, match=r"has the classes in the order \['Mild', .*keep all but its last"
    ):
        require_start_order(str(tmp_path / "old"), GRADES)
    require_start_order(str(tmp_path / "old"), tuple(sorted_by_name))
    write_verified(str(tmp_path / "new"), {}, {"classes": list("01234")})
    require_start_order(str(tmp_path / "new"), GRADES)
    require_start_order("", GRADES)
