"""Every recipe of the papers trains when asked for; phases and attacks together always."""

import pytest

from fundusray import files, recipes
from fundusray.cluster import prepare
from fundusray.cluster.train import train_recipe
from fundusray.config import override

pytestmark = pytest.mark.ray


def run(name: str, storage: str, **changes: str) -> dict:
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    recipe = override(
        recipes.smoke_recipe(recipes.find_recipe(name)), changes | {"cluster.cpus": 1}
    )
    return train_recipe(recipe, prepare.prepare_set(recipe, storage), storage)


def test_phases_and_attacks_and_a_split_in_two(cluster: None, storage: str) -> None:
    asked = {
        "train__phases": "head(epochs=1) + all(epochs=1)",
        "train__precision": "fp32",
        "train__layout": "contiguous",
        "model__name": "resnet18",
    }
    result = run("kon.composite_adv", storage, **asked)
    head, every = result["history"]
    assert (head["phase"], every["phase"]) == ("head", "all")
    assert head["learning"] < every["learning"]
    assert result["robust"]["n"] == result["metrics"]["n"] > 0
    assert result["robust"]["accuracy"] <= result["metrics"]["accuracy"]
    # Robustness of every epoch stands beside what always answering one class has.
    assert 0 <= every["val_robust_balanced_accuracy"] <= 1 and every["val_robust_chance"] == 0.5
    assert 0.5 <= every["val_robust_constant_accuracy"] < 1
    assert 0 <= every["val_own_balanced_accuracy"] <= 1
    assert result["best"]["metric"] == "val_robust_accuracy"
    assert result["best"]["constant"] == every["val_robust_constant_accuracy"]
    above = result["best"]["value"] - result["best"]["constant"]
    assert result["best"]["better"] == (above > 1e-9)
    # Two halves of the validation patients, each judged by an epoch the other chose.
    assert len(result["held_out_epochs"]) == 2 and not result["optimistic"]
    networks = len(set(result["held_out_epochs"]))
    assert result["metrics"]["num_networks"] == networks
    table = files.read_table(result["predictions"])
    assert ("half" in table.column_names) == (networks == 2)
    if networks == 2:
        sides = set(zip(table["patient_id"].to_pylist(), table["half"].to_pylist(), strict=True))
        assert len(sides) == result["metrics"]["num_patients"]


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.recipe_names())
def test_every_recipe_trains(cluster: None, storage: str, name: str) -> None:
    result = run(name, storage)
    assert result["metrics"]["n"] > 0
    if name == "yu.resnet18_pretrained":
        assert [row["phase"] for row in result["history"]] == ["head", "all"]
        assert result["history"][0]["learning"] == 512 * 5 + 5
