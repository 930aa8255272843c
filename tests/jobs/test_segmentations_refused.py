"""Networks and recipes of pixels, given to jobs that are about one label of a photograph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundusray.cluster.pretrain import check_pretraining
from fundusray.command import Command, parse_command
from fundusray.config import Recipe, override
from fundusray.errors import InputError
from fundusray.jobs.attacking import attack
from fundusray.jobs.both_eyes import both_eyes
from fundusray.jobs.certifying import certify
from fundusray.jobs.counterfactuals import counterfactuals
from fundusray.jobs.ensembles import ensemble
from fundusray.jobs.evaluating import evaluate
from fundusray.jobs.explaining import explain
from fundusray.jobs.linearity import linearity
from fundusray.jobs.modulation import modulation
from fundusray.jobs.paper_tables import list_tables, table
from fundusray.jobs.photographs import leak_premium
from fundusray.jobs.searching import tune
from fundusray.jobs.symmetry import symmetry
from fundusray.jobs.training import train
from fundusray.jobs.transferring import transfer
from fundusray.jobs.universal import universal
from fundusray.models.bundle import save_bundle
from fundusray.models.segmenters import build_network
from tune_spaces import balancing, corruption_levels, epsilons

Job = Callable[[Command], dict[str, Any]]
LABEL = r"says what every pixel is \(data\.target=lesions\), and this job is about one label"


def written(folder: Path, changes: dict[str, Any], classes: tuple[str, ...], seed: int = 0) -> str:
    recipe = override(Recipe(name="loose"), {"data.size": 32} | changes)
    state = build_network(recipe.model, len(classes), seed).state_dict()
    save_bundle(str(folder), state, recipe, classes, {})
    return str(folder)


@pytest.fixture
def pixels(tmp_path: Path) -> list[str]:
    """Two networks that say of every pixel what it is."""
    changes = {"data.target": "lesions", "model.name": "unet"}
    classes = ("background", "microaneurysms")
    return [written(tmp_path / f"pixels-{n}", changes, classes, n) for n in range(2)]


@pytest.fixture
def grades(tmp_path: Path) -> str:
    return written(tmp_path / "grades", {"model.name": "timm/test_resnet"}, tuple("abcde"))


@pytest.mark.parametrize(
    ("job", "networks", "changes"),
    [
        (certify, 1, ["sigma=0.05"]),
        (ensemble, 2, []),
        (linearity, 1, ["layer=net.classify"]),
        (explain, 1, []),
        (symmetry, 1, ["pair=0,1"]),
        (universal, 1, ["eps=4/255"]),
        (both_eyes, 1, []),
        (transfer, 2, ["attack=pgd(eps=2/255)"]),
        (counterfactuals, 2, ["target=1"]),
        (modulation, 1, []),
    ],
)
def test_a_network_of_pixels(job: Job, networks: int, changes: list[str], pixels: list) -> None:
    with pytest.raises(InputError, match=LABEL):
        job(parse_command([*pixels[:networks], *changes]))


def test_a_network_of_pixels_among_networks_of_labels(grades: str, pixels: list[str]) -> None:
    with pytest.raises(InputError, match=LABEL):
        ensemble(parse_command([grades, pixels[0]]))
    with pytest.raises(InputError, match=LABEL):
        attack(parse_command([grades, "attack=pgd(eps=2/255)", f"surrogate={pixels[0]}"]))


RECIPE = "avramidis.table1.original"


@pytest.mark.parametrize("space", [balancing, corruption_levels, epsilons])
def test_a_search_over_masks(space: Any, tmp_path: Path) -> None:
    words = [RECIPE, f"data.root={tmp_path}", f"run.storage={tmp_path / 'runs'}"]
    with pytest.raises(InputError, match=LABEL):
        tune(parse_command(words), space)
    assert not (tmp_path / "runs").exists()


def test_other_recipes_of_masks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=LABEL):
        leak_premium(parse_command([RECIPE, f"data.root={tmp_path}"]))
    with pytest.raises(InputError, match=LABEL):
        check_pretraining(override(Recipe(), {"data.target": "lesions"}))


def test_a_model_of_copies_without_any(tmp_path: Path) -> None:
    for model in ("layered", "selective", "combined"):
        words = [f"avramidis.table1.{model}", f"data.root={tmp_path}"]
        with pytest.raises(InputError, match=r"data\.mix=<the set that jobs/derive\.py made>"):
            train(parse_command(words))
        assert train(parse_command([*words, "show=true"]))["status"] == "shown"


def test_the_table_of_the_scheme_is_made_by_its_own_job(capsys: pytest.CaptureFixture) -> None:
    for name in ("avramidis.table1", "avramidis.table2"):
        with pytest.raises(InputError, match=r"python jobs/segmentation_scheme\.py"):
            table(parse_command([name, "scale=tiny"]))
    list_tables()
    shown = [line for line in capsys.readouterr().out.splitlines() if line[:1] != " "]
    ours = [line for line in shown if "by jobs/segmentation_scheme.py" in line]
    assert [line.split()[0] for line in ours] == ["avramidis.table1", "avramidis.table2"]
    assert len(shown) > len(ours) + 5
    with pytest.raises(InputError, match=r"take model\.name=unet"):
        table(parse_command(["wu.table5", "data.target=lesions", "rows=baseline", "scale=tiny"]))


@pytest.mark.parametrize(
    ("job", "given", "said"),
    [
        (evaluate, "condition=worst_case(of=light_leakage, level=2)", "light_leakage"),
        (evaluate, "condition=pgd(eps=1/255)", "background_pgd"),
        (evaluate, "segmentation.tile=64", r"segmentation\.tile: .*jobs/segment\.py"),
    ],
)
def test_what_pixels_are_not_asked_under(job: Job, given: str, said: str, pixels: list) -> None:
    with pytest.raises(InputError, match=said):
        job(parse_command([pixels[0], given]))


@pytest.mark.parametrize(
    ("job", "changes", "said"),
    [
        (evaluate, ["condition=layered(eps=1/100)"], "one class to a whole image"),
        (explain, ["condition=selective(eps=1/100)"], "one class to a whole image"),
        (explain, ["condition=segpgd(eps=1/255)"], "attacks the classes of pixels"),
        (attack, ["attack=pgd(eps=1/255)", "condition=layered(eps=1/100)"], "clean or damaged"),
    ],
)
def test_what_labels_are_not_asked_under(
    job: Job, changes: list[str], said: str, grades: str
) -> None:
    with pytest.raises(InputError, match=said):
        job(parse_command([grades, *changes]))


def test_what_a_table_of_labels_is_not_asked_under() -> None:
    words = ["wu.table5", "rows=baseline", "scale=tiny", "condition=segpgd(eps=1/255)"]
    with pytest.raises(InputError, match="attacks the classes of pixels"):
        table(parse_command([*words, "show=true"]))


def test_the_settings_a_network_has_may_be_given_again(pixels: list[str]) -> None:
    words = [pixels[0], "segmentation.tile=0", "segmentation.overlap=0.25", "show=true"]
    assert evaluate(parse_command(words))["status"] == "shown"
