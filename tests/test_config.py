"""The recipe: dotted keys, JSON there and back, and what is refused."""

import dataclasses
import json

import pytest

from fundusray.config import (
    Cluster,
    Data,
    Loss,
    Model,
    Recipe,
    Sampling,
    Train,
    Tune,
    from_json,
    override,
    setting_names,
    to_json,
)
from fundusray.errors import InputError
from fundusray.settings.deciding import deciding

CHANGED = Recipe(
    name="mine",
    data=Data(source="eyepacs", root="/data", fractions=(0.5, 0.25, 0.25)),
    model=Model(name="resnet18", mean=(0.3, 0.2, 0.1), std=(0.1, 0.2, 0.3)),
    loss=Loss(name="class_weights", args={"weights": (1.0, 2.0), "power": 0.5}),
    sampling=Sampling(name="quotas", quotas=(0.5, 0.0625, 0.125, 0.0625, 0.25)),
    train=Train(lr=1 / 3, drop_last=True, schedule="onecycle"),
    seed=2**40,
    published={"accuracy": 0.852},
)


class TestOverride:
    @pytest.mark.parametrize(
        "key, text, value",
        [
            ("train.epochs", "5", 5),
            ("train.epochs", "1e1", 10),
            ("train.lr", "1e-3", 1e-3),
            ("train.lr", "1", 1.0),
            ("train.drop_last", "true", True),
            ("train.drop_last", "False", False),
            ("data.root", "s3://bucket/a=b", "s3://bucket/a=b"),
            ("data.fractions", "0.5,0.25,0.25", (0.5, 0.25, 0.25)),
            ("data.fractions", "(0.5, 0.25, 0.25)", (0.5, 0.25, 0.25)),
            ("data.fractions", [0.5, 0.25, 0.25], (0.5, 0.25, 0.25)),
            ("sampling.quotas", "", ()),
            ("model.weights", "", ""),
            ("seed", 7, 7),
            ("seed", 7.0, 7),
            ("name", "a b", "a b"),
        ],
    )
    def test_text_becomes_the_fields_type(self, key, text, value):
        node = override(Recipe(), {key: text})
        for part in key.split("."):
            node = getattr(node, part)
        assert node == value and type(node) is type(value)

    @pytest.mark.parametrize(
        "key, text",
        [
            ("train.epochs", "5.5"),
            ("train.epochs", "many"),
            ("train.epochs", ""),
            ("train.epochs", True),
            ("train.epochs", "inf"),
            ("train.epochs", None),
            ("train.epochs", 0),
            ("train.lr", "nan"),
            ("train.lr", "inf"),
            ("train.lr", "-1"),
            ("train.lr", True),
            ("train.lr", [1]),
            ("train.drop_last", "maybe"),
            ("train.drop_last", 1),
            ("data.fractions", "0.5,0.5"),
            ("data.fractions", "a,b,c"),
            ("data.fractions", 0.5),
            ("data.fractions", "nan,0.5,0.5"),
            ("data.size", 8),
            ("data.split", "eye"),
            ("data.max_bad", 2),
            ("data.pipeline", "fast"),
            ("model.dropout", 1),
            ("model.std", "1,1,0"),
            ("model.mean", "1,1"),
            ("sampling.quotas", "0.5,0.6"),
            ("sampling.quotas", "0.5,0.5"),
            ("seed", -1),
            ("seed", 2**63),
            ("data.split_seed", -2),
            ("data.split_seed", 2**63),
            ("train.batch", 1),
            ("train.warmup", 1),
            ("cluster.workers", 0),
            ("cluster.cpus", -1),
            ("tune.trials", 0),
            ("tune.grace", 0),
            ("tune.concurrent", -1),
            ("loss.args", 3),
        ],
    )
    def test_a_wrong_value_is_refused_by_its_setting(self, key, text):
        section = key.removesuffix(".mean").removesuffix(".std")
        with pytest.raises(InputError, match=section.replace(".", r"\.")):
            override(Recipe(), {key: text})

    @pytest.mark.parametrize(
        "key, value",
        [
            ("model.mean", "nan,0,0"),
            ("model.std", "0.5,nan,0.5"),
            ("model.std", "inf,1,1"),
            ("train.step_epochs", 0),
            ("train.weight_decay", -1),
            ("train.momentum", 5),
            ("train.clip", -1),
            ("train.checkpoint_seconds", -7),
        ],
    )
    def test_a_number_that_cannot_work_is_refused(self, key, value):
        with pytest.raises(InputError):
            override(Recipe(), {key: value})

    def test_a_large_seed_stays_exact(self):
        assert override(Recipe(), {"seed": 2**53 + 1}).seed == 2**53 + 1

    @pytest.mark.parametrize(
        "key, near",
        [
            ("train.epoch", "train.epochs"),
            ("data.sise", "data.size"),
            ("los.name", "loss.name"),
            ("loss.arg.gamma", "loss.args"),
            ("seeds", "seed"),
            ("train.epochs.x", "train.epochs"),
            ("train", "train."),
            ("", "name"),
            ("train.", "train."),
            ("published.accuracy", "have"),
            ("published", "have"),
        ],
    )
    def test_an_unknown_key_names_the_nearest(self, key, near):
        with pytest.raises(InputError, match=near):
            override(Recipe(), {key: "1"})

    def test_a_wrong_choice_names_the_nearest(self):
        with pytest.raises(InputError, match="did you mean 'adamw'"):
            override(Recipe(), {"train.optimizer": "adamww"})

    def test_another_loss_empties_its_arguments(self):
        focal = override(Recipe(), {"loss.name": "focal", "loss.args.gamma": "3"})
        assert focal.loss == Loss(name="focal", args={"gamma": 3.0})
        changes = {"loss.args.beta": 0.9, "loss.name": "class_balanced"}
        assert override(focal, changes).loss == Loss(name="class_balanced", args={"beta": 0.9})
        assert override(focal, {"loss.name": "focal"}).loss.args == {"gamma": 3.0}
        assert override(focal, {"loss.args.alpha": 1}).loss.args == {"gamma": 3.0, "alpha": 1}

    @pytest.mark.parametrize(
        "text, value",
        [("2", 2.0), ("true", True), ("1,2", (1.0, 2.0)), ("(1, 2)", (1.0, 2.0)), ("sum", "sum")],
    )
    def test_a_loss_argument_is_read_as_what_it_looks_like(self, text, value):
        assert override(Recipe(), {"loss.args.x": text}).loss.args == {"x": value}

    def test_settings_that_need_each_other_change_together(self):
        changes = {"sampling.name": "quotas", "sampling.quotas": "0.5,0.5"}
        assert override(Recipe(), changes).sampling == Sampling(name="quotas", quotas=(0.5, 0.5))

    def test_another_sampling_has_no_quotas_and_nesterov_needs_momentum(self):
        assert override(CHANGED, {"sampling.name": "natural"}).sampling == Sampling()
        assert override(CHANGED, {"sampling.name": "quotas"}) == CHANGED
        assert override(Recipe(), {"train.nesterov": True}).train.nesterov
        with pytest.raises(InputError, match=r"train\.nesterov: needs train\.momentum above 0"):
            override(Recipe(), {"train.nesterov": True, "train.momentum": 0})

    def test_leaves_the_original_and_all_else_alone(self):
        recipe = Recipe()
        changed = override(recipe, {"train.epochs": 3})
        assert recipe == Recipe() and recipe.train.epochs == 20
        assert override(changed, {"train.epochs": 20}) == recipe
        assert override(recipe, {}) == recipe

    def test_recipes_do_not_share_arguments(self):
        first, second = Recipe(), Recipe()
        assert first.loss.args is not second.loss.args
        args = {"gamma": 1.0}
        base = Recipe(loss=Loss(name="focal", args=args))
        override(base, {"loss.args.gamma": 2})
        assert args == {"gamma": 1.0}

    def test_every_setting_can_be_set_to_its_own_value(self):
        recipe = Recipe()
        for key in setting_names(recipe):
            if key.endswith("<name>"):
                continue
            node = recipe
            for part in key.split("."):
                node = getattr(node, part)
            assert override(recipe, {key: node}) == recipe, key


class TestFrozen:
    @pytest.mark.parametrize("kind", [Recipe, Data, Model, Loss, Sampling, Train, Cluster, Tune])
    def test_a_recipe_cannot_change_under_way(self, kind):
        value = kind()
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, 1)


class TestJson:
    @pytest.mark.parametrize("recipe", [Recipe(), CHANGED])
    def test_there_and_back(self, recipe):
        assert from_json(to_json(recipe)) == recipe
        assert to_json(from_json(to_json(recipe))) == to_json(recipe)

    def test_order_of_keys_does_not_matter(self):
        tree = json.loads(to_json(CHANGED))
        turned = json.dumps({key: tree[key] for key in reversed(tree)})
        assert from_json(turned) == CHANGED

    def test_what_is_left_out_is_the_default(self):
        assert from_json('{"train": {"epochs": 3}}') == override(Recipe(), {"train.epochs": 3})

    @pytest.mark.parametrize(
        "text, told",
        [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[]", "JSON object"),
            ("3", "JSON object"),
            ("null", "JSON object"),
            ('{"a": ' * 50_000, "not JSON"),
            ('{"seed": 1, "seed": 2}', "'seed' twice"),
            ('{"train": {"lr": 1, "lr": 1}}', "'lr' twice"),
            ('{"train": {"epoch": 3}}', r"train\.epochs"),
            ('{"train": 3}', "train"),
            ('{"train": {"epochs": "x"}}', r"train\.epochs"),
            ('{"train": {"epochs": {"a": 1}}}', r"train\.epochs"),
            ('{"train": {"lr": NaN}}', r"train\.lr"),
            ('{"train": {"lr": Infinity}}', r"train\.lr"),
            ('{"seed": null}', "seed"),
            ('{"loss": {"args": [1]}}', r"loss\.args"),
            (" " * 1_000_001, "1,000,000"),
        ],
    )
    def test_anything_else_is_refused(self, text, told):
        with pytest.raises(InputError, match=told):
            from_json(text)

    def test_a_number_too_long_to_read_is_refused(self):
        with pytest.raises(InputError) as caught:
            from_json('{"seed": 1' + "0" * 5000 + "}")
        assert type(caught.value) is InputError

    @pytest.mark.parametrize("text", ['{"name": null}', '{"model": {"weights": [1]}}'])
    def test_a_text_is_a_text(self, text):
        with pytest.raises(InputError):
            from_json(text)


class TestDeciding:
    def test_where_and_under_which_name_does_not_decide(self):
        other = override(
            CHANGED,
            {
                "name": "yours",
                "run.storage": "/elsewhere",
                "data.root": "/moved",
                "cluster.workers": 2,
                "tune.trials": 3,
                "train.checkpoint_seconds": 5,
            },
        )
        assert deciding(other) == deciding(CHANGED)

    @pytest.mark.parametrize(
        "key, value",
        [
            ("seed", 1),
            ("train.lr", 0.5),
            ("data.size", 64),
            ("loss.args.power", 1),
            ("model.std", "1,1,1"),
            ("data.split_seed", 1),
        ],
    )
    def test_everything_else_does(self, key, value):
        assert deciding(override(CHANGED, {key: value})) != deciding(CHANGED)


def test_the_seed_of_the_split_is_the_trainings_until_it_has_its_own():
    assert Recipe().split_seed == 0 and override(Recipe(), {"seed": 3}).split_seed == 3
    apart = override(Recipe(), {"seed": 3, "data.split_seed": "0"})
    assert (apart.seed, apart.split_seed) == (3, 0)
    assert override(apart, {"data.split_seed": "-1"}).split_seed == 3
    # Which of the two ways a split's seed was given does not matter, so that the first of several
    # repeats is the run without any.
    assert "data.split_seed" not in deciding(Recipe())
    same = override(Recipe(), {"seed": 3, "data.split_seed": 3})
    assert deciding(same) == deciding(override(Recipe(), {"seed": 3}))


def test_settings_are_all_there_is_to_set():
    keys = setting_names(Recipe())
    assert "train.epochs" in keys and "data.fractions" in keys and "seed" in keys
    assert (
        "loss.args.<name>" in keys and "data.columns.<name>" in keys and len(keys) == len(set(keys))
    )
    assert not any(key.startswith("published") for key in keys)


@pytest.mark.parametrize("setting", ["name", "run.name"])
@pytest.mark.parametrize(
    "name", ["../../evil", "..", "../x", "a/b", "a\\b", "a\nb", "n" * 300, " a", "-a", "a\u202eb"]
)
def test_a_name_stays_in_the_storage(setting, name):
    with pytest.raises(InputError, match=f"^{setting}: a name of letters"):
        override(Recipe(), {setting: name})


@pytest.mark.parametrize("name", ["wu.table5.focal_gamma2", "Müller 2 (left)", "a=1+b-2"])
def test_plain_names_are_taken(name):
    assert override(Recipe(), {"run.name": name, "name": name}).run.name == name


def test_a_start_that_is_given_is_in_place_of_the_other():
    """A recipe that starts from ImageNet can go on from a bundle, and the other way round."""
    recipe = override(Recipe(), {"model.weights": "imagenet"})
    gone_on = override(recipe, {"model.init_from": "b"})
    assert (gone_on.model.weights, gone_on.model.init_from) == ("", "b")
    again = override(gone_on, {"model.weights": "w.pth"})
    assert (again.model.weights, again.model.init_from) == ("w.pth", "")
    assert override(recipe, {"model.init_from": ""}).model.weights == "imagenet"
    with pytest.raises(InputError, match=r"model\.weights/init_from"):
        override(recipe, {"model.init_from": "b", "model.weights": "w.pth"})
