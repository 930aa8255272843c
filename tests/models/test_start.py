"""What a run starts from: a bundle to go on from, strictly, or weights under other last layers."""

import os
import shutil
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model, check_model
from fundusray.models.bundle import DamagedError, load_bundle, save_bundle
from fundusray.models.load_weights import bundle_folder, start_digest, weights_digest

KON = config.Model(name="resnet18", hidden=(16,), output="regression")


def write(folder, settings, classes=5, seed=9):
    """A bundle unlike any that a seed of these tests makes."""
    model = build_model(settings, classes, seed)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name not in ("mean", "std"):
                buffer.add_(1)
    recipe = config.Recipe(model=settings)
    save_bundle(str(folder), model.state_dict(), recipe, [str(k) for k in range(classes)], {})
    return model


def same(a, b, besides=()):
    return all(torch.equal(value, b[name]) for name, value in a.items() if name not in besides)


def head(model):
    return {name for name in model.state_dict() if name.startswith("net.fc.")}


class TestGoOn:
    def test_everything_comes_from_the_bundle(self, tmp_path):
        before = write(tmp_path / "b", KON)
        model = build_model(replace(KON, init_from=str(tmp_path / "b"), dropout=0.5), 5, 0)
        assert same(before.state_dict(), model.state_dict()) and model.notes == []
        assert model.thresholds.tolist() == [1.5, 2.5, 3.5, 4.5]
        assert model.training

    def test_under_a_uri(self, tmp_path):
        before = write(tmp_path / "b", KON)
        model = build_model(replace(KON, init_from=f"file://{tmp_path}/b"), 5, 0)
        assert same(before.state_dict(), model.state_dict())

    def test_the_recipe_says_the_normalisation_and_a_change_is_told(self, tmp_path):
        write(tmp_path / "b", KON)
        settings = replace(KON, init_from=str(tmp_path / "b"), mean=(0.1, 0.2, 0.3))
        model = build_model(settings, 5, 0)
        assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert "normalises with ((0.1, 0.2, 0.3)" in model.notes[0]

    def test_without_a_wish_the_normalisation_comes_along(self, tmp_path):
        write(tmp_path / "b", replace(KON, mean=(0.1, 0.2, 0.3)))
        model = build_model(replace(KON, init_from=str(tmp_path / "b"), mean=()), 5, 0)
        assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert model.notes == []
        recipe = config.Recipe(model=replace(KON, mean=()))
        save_bundle(str(tmp_path / "c"), model.state_dict(), recipe, list("01234"), {})
        again = load_bundle(str(tmp_path / "c"))
        assert torch.equal(again.model.mean, model.mean)
        assert "mean (0.1, 0.2, 0.3)" in (tmp_path / "c" / "card.md").read_text()

    def test_its_own_bundle_needs_the_first_no_more(self, tmp_path):
        write(tmp_path / "first", KON)
        settings = replace(KON, init_from=str(tmp_path / "first"))
        model = build_model(settings, 5, 0)
        recipe = config.Recipe(model=settings)
        save_bundle(str(tmp_path / "second"), model.state_dict(), recipe, list("01234"), {})
        shutil.rmtree(tmp_path / "first")
        bundle = load_bundle(str(tmp_path / "second"))
        assert bundle.recipe == recipe and same(bundle.model.state_dict(), model.state_dict())
        assert "started from ../first" in (tmp_path / "second" / "card.md").read_text()

    @pytest.mark.parametrize(
        "change, told",
        [
            ({"hidden": (16, 8)}, "hidden layers 16, .*hidden layers 16,8, "),
            ({"hidden": ()}, "hidden layers 16, .*this run is resnet18, output"),
            ({"output": "corn"}, "output regression, .*output corn, "),
        ],
    )
    def test_another_head_is_refused_with_the_way_out(self, tmp_path, change, told):
        """Before anything is built, and when it is built; the way out then works."""
        write(tmp_path / "b", KON)
        settings = replace(KON, init_from=str(tmp_path / "b"), **change)
        for refused in (lambda: check_model(settings), lambda: build_model(settings, 5, 0)):
            with pytest.raises(InputError, match=f"{told}.*model.weights=.*b/model.safetensors"):
                refused()
        way_out = str(tmp_path / "b" / "model.safetensors")
        model = build_model(replace(settings, init_from="", weights=way_out), 5, 0)
        assert len(model.notes) == 1

    def test_other_classes_are_refused(self, tmp_path):
        write(tmp_path / "b", KON)
        settings = replace(KON, init_from=str(tmp_path / "b"))
        check_model(settings)
        for refused in (
            lambda: check_model(settings, num_classes=3),
            lambda: build_model(settings, 3, 0),
        ):
            with pytest.raises(InputError, match=r"5 classes; this run is .*3 classes; to keep"):
                refused()

    def test_another_network_is_refused(self, tmp_path):
        write(tmp_path / "b", KON)
        settings = replace(KON, name="resnet50", init_from=str(tmp_path / "b"))
        with pytest.raises(InputError, match=r"is resnet18.*is resnet50.*set model.name=resnet18"):
            check_model(settings)


class TestCheck:
    def test_no_bundle(self, tmp_path):
        settings = replace(KON, init_from=str(tmp_path / "none"))
        for refused in (check_model, start_digest):
            with pytest.raises(InputError, match=r"no bundle at .*none; give the folder"):
                refused(settings)

    def test_a_weights_file_is_no_bundle(self, tmp_path):
        write(tmp_path / "b", KON)
        shutil.copy(tmp_path / "b" / "model.safetensors", tmp_path / "alone.safetensors")
        settings = replace(KON, init_from=str(tmp_path / "alone.safetensors"))
        for refused in (check_model, start_digest):
            with pytest.raises(InputError, match="no bundle at"):
                refused(settings)

    @pytest.mark.parametrize("place", ["run/bundle", "run/bundle/model.safetensors", "run"])
    def test_a_bundle_is_meant_by_its_weights_and_by_its_run(self, tmp_path, place):
        write(tmp_path / "run" / "bundle", KON)
        settings = replace(KON, init_from=str(tmp_path / place))
        check_model(settings)
        assert start_digest(settings) == start_digest(
            replace(KON, init_from=str(tmp_path / "run" / "bundle"))
        )
        assert bundle_folder(str(tmp_path / place)) == str(tmp_path / "run" / "bundle")
        assert load_bundle(str(tmp_path / place)).recipe.model.name == KON.name

    @pytest.mark.parametrize("name", ["model.safetensors", "recipe.json", "MANIFEST.json"])
    @pytest.mark.parametrize("how", ["gone", "flipped"])
    def test_damage_is_refused(self, tmp_path, name, how):
        write(tmp_path / "b", KON)
        path = tmp_path / "b" / name
        if how == "gone":
            os.unlink(path)
        else:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 4
            path.write_bytes(content)
        with pytest.raises(DamagedError, match=name):
            check_model(replace(KON, init_from=str(tmp_path / "b")))

    def test_binary_with_five_classes(self):
        settings = config.Model(name="resnet18", output="binary")
        check_model(settings)
        check_model(settings, num_classes=2)
        with pytest.raises(InputError, match="binary is for two classes"):
            check_model(settings, num_classes=5)


class TestWeightsOfABundle:
    """`model.weights` keeps the features; what follows them only where it means the same."""

    @pytest.mark.parametrize("as_file", [False, True])
    @pytest.mark.parametrize(
        "settings, classes",
        [
            (replace(KON, hidden=()), 5),
            (replace(KON, hidden=(16, 4)), 5),
            (replace(KON, output="softmax"), 5),
            (replace(KON, output="coral"), 5),
            (replace(KON, output="corn"), 2),  # one raw output as well, of another meaning
        ],
    )
    def test_other_last_layers_start_at_random(self, tmp_path, settings, classes, as_file):
        before = write(tmp_path / "b", KON)
        where = str(tmp_path / "b" / "model.safetensors" if as_file else tmp_path / "b")
        model = build_model(replace(settings, weights=where), classes, 0)
        fresh = build_model(settings, classes, 0)
        around = {"mean", "std", "thresholds"}
        old, new = before.state_dict(), model.state_dict()
        assert same(new, old, besides=head(model) | around)
        assert same({name: new[name] for name in head(model)}, fresh.state_dict())
        assert len(model.notes) == 1
        assert "layer fc is of resnet18, hidden layers 16, output regression" in model.notes[0]
        assert "starts at random" in model.notes[0]

    def test_the_same_last_layers_are_kept(self, tmp_path):
        before = write(tmp_path / "b", KON)
        model = build_model(replace(KON, weights=str(tmp_path / "b")), 5, 0)
        assert model.notes == []
        assert same(model.state_dict(), before.state_dict(), besides={"thresholds"})
        assert model.thresholds.tolist() == [0.5, 1.5, 2.5, 3.5]

    def test_a_damaged_bundle_is_refused_through_its_file_too(self, tmp_path):
        write(tmp_path / "b", KON)
        path = tmp_path / "b" / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        with pytest.raises(DamagedError, match="sha256 differs"):
            build_model(replace(KON, weights=str(path)), 5, 0)

    def test_of_inception_both_heads_start_at_random(self, tmp_path):
        settings = config.Model(name="inception_v3")
        before = write(tmp_path / "b", settings)
        li = replace(settings, hidden=(32,), weights=str(tmp_path / "b"))
        model, fresh = build_model(li, 5, 0), build_model(replace(li, weights=""), 5, 0)
        assert len(model.notes) == 2
        heads = {n for n in model.state_dict() if n.startswith(("net.fc.", "net.AuxLogits.fc."))}
        assert same(model.state_dict(), before.state_dict(), besides=heads)
        assert same({n: model.state_dict()[n] for n in heads}, fresh.state_dict())

    def test_a_plain_file_under_hidden_layers(self, tmp_path):
        """Published weights have one last layer; Li's and Kon's heads have more."""
        source = build_model(config.Model(name="resnet18"), 1000, 3)
        safetensors.torch.save_file(source.net.state_dict(), tmp_path / "w.safetensors")
        settings = replace(KON, weights=str(tmp_path / "w.safetensors"))
        model = build_model(settings, 5, 0)
        assert "layer fc has widths 1000 in the file, 16,1 here" in model.notes[0]
        assert same(model.state_dict(), source.state_dict(), besides=head(model) | {"thresholds"})

    @pytest.mark.parametrize("left", [("fc.weight",), ("fc.bias",)])
    def test_half_a_last_layer_is_damage_not_another_one(self, tmp_path, left):
        state = build_model(config.Model(name="resnet18"), 5, 3).net.state_dict()
        state = {n: v for n, v in state.items() if not n.startswith("fc.") or n in left}
        safetensors.torch.save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(InputError, match="another architecture"):
            build_model(replace(KON, weights=str(tmp_path / "w.safetensors")), 5, 0)


class TestDigest:
    def test_knows_weights_and_bundles_apart(self, tmp_path):
        write(tmp_path / "a", KON, seed=1)
        write(tmp_path / "b", KON, seed=2)
        a, b = str(tmp_path / "a"), str(tmp_path / "b")
        found = [
            start_digest(KON),
            start_digest(replace(KON, weights="imagenet")),
            start_digest(replace(KON, weights="imagenet/tv_in1k")),
            start_digest(replace(KON, weights=a)),
            start_digest(replace(KON, init_from=a)),
            start_digest(replace(KON, init_from=b)),
        ]
        assert len(set(found)) == 6
        assert found[:4] == ["", "imagenet", "imagenet/tv_in1k", weights_digest(a)]

    def test_knows_what_is_in_the_bundle_not_where_it_lies(self, tmp_path):
        write(tmp_path / "a", KON)
        before = start_digest(replace(KON, init_from=str(tmp_path / "a")))
        os.rename(tmp_path / "a", tmp_path / "c")
        assert start_digest(replace(KON, init_from=str(tmp_path / "c"))) == before
