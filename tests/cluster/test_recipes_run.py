"""Every recipe of the papers trains: two whole schemes always, all of them when asked for."""

import pytest

from fundusray import recipes
from fundusray.cluster import prepare
from fundusray.cluster.train import train
from fundusray.config import override

pytestmark = pytest.mark.ray

ALWAYS = ["kon.composite_adv", "yu.resnet18_pretrained"]


def run(name: str, storage: str) -> dict:
    recipe = override(recipes.smoke(recipes.find(name)), {"cluster.cpus": 1})
    return train(recipe, prepare.prepare(recipe, storage), storage)


@pytest.mark.parametrize("name", ALWAYS)
def test_a_scheme_of_each_paper_trains(cluster: None, storage: str, name: str) -> None:
    result = run(name, storage)
    assert result["metrics"]["n"] > 0 and result["history"]
    if name.startswith("yu."):
        assert [row["phase"] for row in result["history"]] == ["head", "all"]
        assert result["history"][0]["learning"] == 512 * 5 + 5
        # Two halves of the validation patients, each judged by an epoch the other chose.
        assert len(result["held_out_epochs"]) == 2 and not result["optimistic"]
    if name.startswith("kon."):
        assert result["robust"]["n"] == result["metrics"]["n"]
        assert result["robust"]["accuracy"] <= result["metrics"]["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipes.names() if name not in ALWAYS])
def test_every_recipe_trains(cluster: None, storage: str, name: str) -> None:
    assert run(name, storage)["metrics"]["n"] > 0
