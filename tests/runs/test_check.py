"""What is refused before anything is trained."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fundusray.cluster import pretrain
from fundusray.config import Recipe, override
from fundusray.data.manifest.contract import GRADES
from fundusray.errors import InputError
from fundusray.runs.check import check as train_check
from fundusray.runs.check import check_order, check_run, chosen_without_order, require_start_order
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
@pytest.mark.parametrize(
    "check", [train_check, pretrain.check_pretraining], ids=["train", "pretrain"]
)
def test_a_network_is_held_against_the_pictures_it_is_shown(check, changes: dict) -> None:
    with pytest.raises(InputError, match=r"data\.size: inception_v3 needs at least 75.* got 64"):
        check(override(Recipe(), changes))


SIDES = ["train"] * 40 + ["val"] * 10 + ["test"] * 10


def run_of(changes: dict, sides: list[str] = SIDES) -> Run:
    """A run on as many photographs, two of each patient, whose five classes come in turn."""
    targets = np.arange(len(sides)) % 5
    data: Any = SimpleNamespace(
        targets=lambda: targets,
        classes=tuple("abcde"),
        ordered=True,
        table=fake_set(len(sides)).table,
    )
    recipe = override(Recipe(), {"train.batch": 8} | changes)
    split = Split(data, np.array(sides))
    return Run(recipe, "set", split, "key", "/nowhere", OpenSets({"set": data}))


def test_a_wrong_number_of_weights_is_refused_before_workers_start() -> None:
    base = {"loss.name": "class_weights"}
    check_run(run_of(base | {"loss.args.weights": (1, 2, 3, 4, 5)}))
    with pytest.raises(InputError, match=r"loss\.args\.weights: 5 classes need 5 numbers"):
        check_run(run_of(base | {"loss.args.weights": (1, 2, 3)}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train.batch": 512}, "512"),
        ({"sampling.name": "quotas", "sampling.quotas": (0.5, 0.5)}, "quotas"),
        ({"cluster.workers": 5}, r"cluster\.workers=5"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(changes: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        check_run(run_of(changes))


def test_a_split_that_leaks_or_lacks_a_side_is_refused() -> None:
    check_run(run_of({}))
    leaking = [*SIDES[:39], "val", *SIDES[40:]]
    with pytest.raises(InputError, match=r"1 patients are on more than one side: p19"):
        check_run(run_of({}, leaking))
    check_run(run_of({"data.allow_leak": True}, leaking))
    for gone in ("train", "val"):
        with pytest.raises(InputError, match=f"the {gone} split is empty"):
            check_run(run_of({}, ["" if side == gone else side for side in SIDES]))
    # Without test rows, those of val are reported.
    check_run(run_of({}, ["" if side == "test" else side for side in SIDES]))
    one_class = ["train" if n < 40 and n % 5 == 0 else "" for n in range(40)] + SIDES[40:]
    with pytest.raises(InputError, match="holds one class only"):
        check_run(run_of({}, one_class))


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
