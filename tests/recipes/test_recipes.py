"""Every recipe by name."""

import dataclasses

import numpy as np
import pytest

from fundusray import recipes
from fundusray.config import from_json, override, to_json
from fundusray.data.sampling import plan_epoch, worker_share
from fundusray.errors import InputError
from fundusray.phases import parse_phases
from fundusray.pipeline.augment import augmentation


def test_every_row_of_the_tables_is_there():
    names = recipes.recipe_names()
    assert sum(name.startswith("wu.table4.") for name in names) == 13
    assert sum(name.startswith("wu.table5.") for name in names) == 13
    assert sum(name.startswith("yu.") for name in names) == 6
    assert {"li.table1.baseline_pratt", "li.table1.ours"} <= set(names)
    assert {"kon.odir_only", "kon.composite_std", "kon.composite_adv"} <= set(names)
    assert {"demo", "balancing"} <= set(names)


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_recipe(name):
    recipe = recipes.find_recipe(name)
    assert recipe.name == (recipes.RECIPES.facts(name).trained_as or name)
    assert recipe == recipes.find_recipe(name)
    assert from_json(to_json(recipe)) == recipe
    assert set(recipe.published) <= {
        "accuracy",
        "accuracy_drop",
        "balanced_accuracy",
        "changed_0.2",
        "changed_0.4",
        "changed_0.6",
        "kappa",
        "kappa_of_unstated_kind",
        "loss",
        "majority",
        "pixel_accuracy",
        "reference_only",
        "robust_accuracy",
        "sensitivity",
        "specificity",
        "swapped",
        "time",
        "train_accuracy",
    }


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_docstring_gives_the_command_and_the_figures(name):
    text = recipes.description(name)
    assert text.split("\n")[0].strip()
    assert f"python jobs/train.py {name}" in text
    for figure in recipes.find_recipe(name).published.values():
        assert str(figure) in text


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_a_recipe_is_a_function_of_its_module(name):
    trained_as = recipes.RECIPES.facts(name).trained_as
    paper, _, row = (trained_as or name).partition(".")
    module = getattr(recipes, paper) if row else recipes.demo
    if not hasattr(module, (row or name).replace(".", "_")):
        module = getattr(recipes, f"{paper}_robustness")
    made, kept = getattr(module, (row or name).replace(".", "_"))(), recipes.find_recipe(name)
    if trained_as:
        assert made == recipes.find_recipe(trained_as)
        made = dataclasses.replace(made, published=kept.published)
    assert made == kept


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(InputError, match=r"did you mean 'wu\.table5\.focal_gamma2'"):
        recipes.find_recipe("wu.table5.focal_gama2")


def test_published_figures():
    focal = recipes.find_recipe("wu.table5.focal_gamma2")
    assert focal.published == {
        "accuracy": 0.848,
        "balanced_accuracy": 0.629,
        "kappa": 0.814,
        "time": "6h08",
    }
    # The accuracies of Yu are whole images out of 7,025.
    for name, right in [
        ("yu.resnet18_pretrained", 5667),
        ("yu.resnet50_pretrained", 5821),
        ("yu.resnet50_pretrained_class_weights", 5317),
    ]:
        assert round(recipes.find_recipe(name).published["accuracy"] * 7025, 2) == right
    assert recipes.find_recipe("yu.resnet50_scratch").published == {}


def test_rows_of_table_5_differ_from_the_baseline_in_what_they_name():
    baseline = recipes.find_recipe("wu.table5.baseline")
    for name, changes in {
        "focal_gamma3": {"loss.name": "focal", "loss.args.gamma": 3.0, "train.batch": 48},
        "class_balanced_beta0_99": {
            "loss.name": "class_balanced",
            "loss.args.beta": 0.99,
            "train.batch": 48,
        },
        "inverse_frequency": {"loss.name": "inverse_frequency"},
        "oversample_dropout0_9": {
            "sampling.name": "oversample",
            "model.dropout": 0.9,
            "train.batch": 48,
        },
        "oversample_restart": {
            "sampling.name": "oversample",
            "train.epochs": 5,
            "train.batch": 48,
            "model.weights": "",
            "model.init_from": "wu.table5.baseline",
        },
    }.items():
        row = recipes.find_recipe(f"wu.table5.{name}")
        expected = override(baseline, changes)
        assert dataclasses.replace(row, name="", published={}) == dataclasses.replace(
            expected, name="", published={}
        )


def test_the_weights_of_yu_are_counts_over_counts():
    weights = recipes.find_recipe("yu.resnet50_pretrained_class_weights").loss.args["weights"]
    counts = [20655 / weight for weight in weights]
    assert [round(count) for count in counts] == [20655, 1955, 4210, 698, 581]


def test_a_papers_figures_are_those_of_its_row_alone():
    row = recipes.find_recipe("wu.table5.focal_gamma2")
    mine = override(row, {"data.root": "/mine", "train.batch": 8, "data.split": "patient"})
    assert recipes.published_figures(mine) == row.published
    # A trial of a search that comes to a row is that row, whatever it is called.
    base = recipes.find_recipe("wu.table5.baseline")
    trial = override(base, {"loss.name": "focal", "loss.args.gamma": 2.0})
    assert recipes.published_figures(trial) == row.published
    for change in (
        {"data.source": "synthetic"},
        {"data.map.4": "3"},
        {"data.size": 96},
        {"train.epochs": 3},
        {"model.name": "resnet18"},
        {"model.weights": ""},
        {"loss.args.gamma": 2.5},
        {"sampling.name": "oversample"},
    ):
        assert recipes.published_figures(override(row, change)) == {}, change
    assert recipes.published_figures(recipes.smoke_recipe(row)) == {}
    balancing = override(
        recipes.find_recipe("balancing"), {"loss.name": "focal", "loss.args.gamma": 2.0}
    )
    assert (
        recipes.published_figures(balancing)
        == {}
        == recipes.published_figures(recipes.find_recipe("demo"))
    )
    # What is quoted from another work is nobody's own.
    ours = recipes.find_recipe("li.table1.ours").published
    assert recipes.published_figures(recipes.find_recipe("li.table1.baseline_pratt")) == ours


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_every_row_has_its_own_figures(name):
    facts, row = recipes.RECIPES.facts(name), recipes.find_recipe(name)
    # Figures under a condition are no figures of the training.
    own = recipes.find_recipe(facts.trained_as) if facts.trained_as else row
    assert recipes.published_figures(row) == own.published or recipes.QUOTED in row.published


def test_tables_under_a_condition_are_the_papers():
    names = ("baseline", "corrupt_1", "corrupt_1_2", "corrupt_1_3", "corrupt_1_4")
    rows = {f"wu.table{k}.{name}" for k in (6, 7, 8, 9) for name in names}
    assert rows <= set(recipes.recipe_names())
    for name in rows:
        recipe, facts = recipes.find_recipe(name), recipes.RECIPES.facts(name)
        row = name.rpartition(".")[2]
        levels = row.removeprefix("corrupt_").replace("_", "-").replace("1-2-3", "1-3")
        corrupt = "" if row == "baseline" else f"wu(level={levels})"
        assert recipe.data.corrupt == corrupt
        assert recipe.sampling.name == ("oversample" if "table7" in name else "natural")
        if corrupt:
            assert (recipe.data.augment, recipe.model.dropout, recipe.train.batch) == (
                "none",
                0,
                48,
            )
        assert bool(facts.conditions) == name.startswith(("wu.table8", "wu.table9"))
    drop = recipes.find_recipe("wu.table8.corrupt_1_4").published
    trained = recipes.find_recipe("wu.table6.corrupt_1_4").published
    assert round(trained["accuracy"] - drop["accuracy"], 3) == drop["accuracy_drop"] == 0.026
    changed = recipes.find_recipe("wu.table9.corrupt_1_2").published
    assert [round(value * 240) for value in changed.values()] == [141, 210, 212]


def test_changing_a_published_table_leaves_the_next_recipe_alone():
    recipes.find_recipe("wu.table5.baseline").published["kappa"] = 1.0
    assert recipes.find_recipe("wu.table5.baseline").published["kappa"] == 0.805


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_smoke_shrinks_without_changing_the_method(name):
    recipe = recipes.find_recipe(name)
    small = recipes.smoke_recipe(recipe)
    assert (small.data.source, small.data.num_images, small.train.epochs) == ("synthetic", 40, 1)
    assert all(max(phase.epochs, phase.steps) <= 2 for phase in parse_phases(small.train.phases, 1))
    assert small.model.init_from == ""
    size = 96 if recipe.model.name == "inception_v3" else 64
    assert small.data.size == (256 if name.startswith("yu.") else size)
    assert small.model.weights == "" and small.tune.trials == 2
    assert (small.loss, small.sampling) == (recipe.loss, recipe.sampling)
    assert small.model.dropout == recipe.model.dropout and small.name == recipe.name


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8, 16])
def test_smoke_keeps_a_batch_that_workers_can_share(workers):
    recipe = override(recipes.find_recipe("demo"), {"cluster.workers": workers})
    batch = recipes.smoke_recipe(recipe).train.batch
    assert batch % (2 * workers) == 0 and 8 <= batch < 8 + 2 * workers


@pytest.mark.parametrize("workers", [1, 3, 8, 16])
def test_a_smoke_run_has_enough_images_for_its_workers(workers):
    small = recipes.smoke_recipe(
        override(recipes.find_recipe("demo"), {"cluster.workers": workers})
    )
    rows = np.arange(int(0.6 * small.data.num_images))
    plan = plan_epoch(
        small.sampling, rows, rows % 5, num_classes=5, batch=small.train.batch, seed=0, epoch=0
    )
    parts = [worker_share(plan, rank, workers) for rank in range(workers)]
    assert min(part.rows.shape[1] for part in parts) >= 2


def test_li_feeds_fixed_shares() -> None:
    recipe = recipes.find_recipe("li.table1.ours")
    assert [share * 16 for share in recipe.sampling.quotas] == [8, 1, 2, 1, 4]
    assert recipe.train.batch == 16 and recipe.model.hidden == (1024, 1024)


def test_kon_s_adversarial_model_is_the_quick_start_of_its_library() -> None:
    plain, adversarial = (recipes.find_recipe(f"kon.composite_{name}") for name in ("std", "adv"))
    # It goes on from the plain model's trained weights.
    start = {"weights": "", "init_from": "kon.composite_std"}
    assert adversarial.model == dataclasses.replace(plain.model, **start)
    assert adversarial.data == plain.data
    asked = adversarial.adversarial
    assert (asked.method, asked.norm, asked.eps, asked.steps) == ("pgd", "l2", "0.5unit01", 20)
    assert (asked.step_size, asked.random_start) == ("1.5unit01", False)
    train = adversarial.train
    assert (train.epochs, train.lr, train.weight_decay) == (5, 0.1, 5e-4)
    # Its .568 is the best accuracy under attack.
    assert train.select == "robust_accuracy" and "robust_accuracy" in adversarial.published


@pytest.mark.parametrize("name", ["odir_only", "composite_std", "composite_adv"])
def test_kon_keeps_normal_eyes_alone(name: str) -> None:
    assert recipes.find_recipe(f"kon.{name}").data.keywords == "normal fundus"


@pytest.mark.parametrize(
    "name", [name for name in recipes.recipe_names() if name.startswith("kon.")]
)
def test_kon_s_batches_are_those_of_the_notebook(name: str) -> None:
    train = recipes.find_recipe(name).train
    assert (train.batch, train.drop_last) == (32, True)


@pytest.mark.parametrize("name", [name for name in recipes.recipe_names() if "." in name])
def test_what_a_paper_does_not_state_is_declared_as_ours(name: str) -> None:
    assert (
        f"Not stated by the paper and ours: {recipes.RECIPES.facts(name).ours}."
        in recipes.description(name)
    )


def test_wu_declares_optimiser_rate_and_dropout() -> None:
    told, train = (
        recipes.RECIPES.facts("wu.table5.baseline").ours,
        recipes.find_recipe("wu.table5.baseline").train,
    )
    assert (train.optimizer, train.lr, train.schedule) == ("adam", 1e-4, "cosine")
    for word in ("Adam at 1e-4", "cosine", "dropout", "stratified", "clockwise", "half-grey"):
        assert word in told


def test_yu_starts_from_torchvisions_default_weights() -> None:
    for name, weights in [
        ("resnet18_pretrained", "imagenet/tv_in1k"),
        ("resnet50_pretrained", "imagenet/tv2_in1k"),
        ("resnet50_pretrained_class_weights", "imagenet/tv2_in1k"),
        ("resnet50_scratch", ""),
    ]:
        assert recipes.find_recipe(f"yu.{name}").model.weights == weights
    assert (
        recipes.find_recipe("yu.resnet50_pretrained_class_weights").loss.args["divide"] == "weights"
    )


def test_nvidias_recipe_has_its_own_augmentation_and_no_warm_up_at_256() -> None:
    recipe = recipes.find_recipe("yu.ngc_resnet50")
    assert augmentation.train_text(recipe.data) == "random_resized_crop(224) + hflip(0.5)"
    assert augmentation.view_text(recipe.data) == "resize(256) + center_crop(224)"
    assert (recipe.train.batch, recipe.train.warmup) == (256, 0.0)
    given = override(recipes.find_recipe("demo"), recipes.PRESETS["ngc_resnet50"])
    assert augmentation.output_size(augmentation.train_text(given.data), given.data.size) == 224


def test_kon_s_notebook_does_not_normalise_and_steps_down() -> None:
    recipe = recipes.find_recipe("kon.composite_std_code")
    assert recipe.data.keywords == "normal fundus"
    assert (recipe.model.mean, recipe.model.std) == ((0.0,) * 3, (1.0,) * 3)
    train = recipe.train
    assert (train.lr, train.schedule, train.step_epochs, train.step_factor) == (0.1, "step", 2, 0.1)


@pytest.mark.parametrize(
    ("name", "roots"),
    [
        ("demo", ""),
        ("yu.resnet18_scratch", " data.root=<folder of EyePACS>"),
        ("kon.odir_only", " data.root=<folder of ODIR>"),
        ("kon.composite_adv", " data.root=<folder of ODIR>,<folder of BRSET>"),
    ],
)
def test_docstring_names_the_folders_the_recipe_reads(name: str, roots: str) -> None:
    assert f"python jobs/train.py {name}{roots}\n" in recipes.description(name) + "\n"


def test_presets_change_any_recipe() -> None:
    for name, changes in recipes.PRESETS.items():
        assert override(recipes.find_recipe("demo"), changes) != recipes.find_recipe("demo"), name
