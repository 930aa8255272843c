"""Every network of the registry: size, normalisation inside, seeds, dropout, small images."""

import os
import subprocess
import sys

import pytest
import torch
import torchvision

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import MODELS, build_model, check_model, parameter_count

COUNTS = {
    "resnet18": 11_179_077,
    "resnet50": 23_518_277,
    "efficientnet_b0": 4_013_953,
    "efficientnet_b1": 6_519_589,
    "efficientnet_b2": 7_708_039,
    "efficientnet_b3": 10_703_917,
    "efficientnet_lite0": 3_377_413,
    "efficientnet_lite1": 4_142_085,
    "efficientnet_lite2": 4_817_477,
    "inception_v3": 24_357_354,
    "bagnet9": 13_649_989,
    "bagnet17": 14_174_277,
    "bagnet33": 16_271_429,
}
"""Wu, table 2, with five classes; of the lite networks, Google's less their 1000 classes; of
BagNets, ResNet-50 with its 3x3 convolutions changed, by hand."""


def build(name="resnet18", classes=5, seed=0, **settings):
    return build_model(config.Model(name=name, **settings), classes, seed)


def test_counts_cover_the_registry():
    assert set(COUNTS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_network(name):
    """Parameters as in the paper; logits of the classes asked for; the smallest image works."""
    model = build(name)
    assert parameter_count(model) == COUNTS[name]
    side = max(MODELS[name].min_side, 32)
    image = torch.rand(2, 3, side, side)
    with torch.no_grad():
        assert model.eval()(image).shape == (2, 5)
    out = model.train()(image)
    parts = out if isinstance(out, tuple) else (out,)
    assert len(parts) == len(MODELS[name].heads)
    assert all(part.shape == (2, 5) and torch.isfinite(part).all() for part in parts)
    sum(part.square().sum() for part in parts).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "inception_v3"])
class TestSeed:
    def test_decides_the_start(self, name):
        first, again, other = build(name), build(name), build(name, seed=1)
        states = [model.state_dict() for model in (first, again, other)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])

    def test_leaves_the_global_state_alone(self, name):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        build(name)
        assert torch.equal(torch.rand(3), expected)


class TestNormalisation:
    def test_is_inside_and_not_learned(self):
        plain = build(mean=(0.0, 0, 0), std=(1.0, 1, 1)).eval()
        model = build(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0)).eval()
        image = torch.rand(2, 3, 32, 32)
        by_hand = (image - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor(
            [0.5, 0.25, 2.0]
        ).view(3, 1, 1)
        with torch.no_grad():
            torch.testing.assert_close(model(image), plain(by_hand))
        assert {name for name, _ in model.named_buffers(recurse=False)} == {"mean", "std"}
        assert parameter_count(model) == parameter_count(model.net)

    def test_keeps_the_memory_layout(self):
        model = build()
        seen = []
        model.net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        image = torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        model(image)
        assert seen[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "inception_v3"])
@pytest.mark.parametrize("share", [0.0, 0.75])
def test_dropout_is_the_recipes(name, share):
    """Training-mode outputs differ between two draws exactly where dropout is on."""
    model = build(name, dropout=share).train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    image = torch.rand(2, 3, 80, 80)
    with torch.no_grad():
        outs = [model(image) for _ in range(2)]
    outs = [out[0] if isinstance(out, tuple) else out for out in outs]
    assert torch.equal(*outs) == (share == 0)


class TestInception:
    @pytest.mark.parametrize("side", [75, 128, 256])
    def test_trains_below_the_papers_size(self, side):
        logits, auxiliary = build("inception_v3").train()(torch.rand(2, 3, side, side))
        assert logits.shape == auxiliary.shape == (2, 5)

    def test_auxiliary_head_at_299_is_torchvisions(self):
        head = build("inception_v3").net.AuxLogits.eval()
        original = type(head).__mro__[1]
        features = torch.rand(1, 768, 17, 17)
        with torch.no_grad():
            assert torch.equal(head(features), original.forward(head, features))

    def test_evaluation_gives_logits_only(self):
        with torch.no_grad():
            out = build("inception_v3").eval()(torch.rand(1, 3, 96, 96))
        assert isinstance(out, torch.Tensor) and out.shape == (1, 5)


class TestCheck:
    @pytest.mark.parametrize("name", MODELS)
    def test_every_network_passes(self, name):
        check_model(config.Model(name=name))
        check_model(config.Model(name=name, weights="imagenet"), size=299)

    def test_published_weights_by_their_tag(self):
        check_model(config.Model(name="resnet50", weights="imagenet/tv2_in1k"))
        check_model(config.Model(name="resnet18", weights="imagenet/tv_in1k"))
        check_model(config.Model(name="inception_v3", weights="imagenet/tv_in1k"))

    def test_a_tag_that_is_not_there_is_told_with_those_that_are(self):
        with pytest.raises(
            InputError, match=r"'tv3_in1k'; did you mean 'tv_in1k'.*a1_in1k.*tv2_in1k"
        ):
            check_model(config.Model(name="resnet50", weights="imagenet/tv3_in1k"))
        with pytest.raises(InputError, match=r"\./imagenet/<file>"):
            check_model(config.Model(name="resnet18", weights="imagenet/mine.pth"))
        with pytest.raises(InputError, match="imagenet alone, Google's"):
            check_model(config.Model(name="inception_v3", weights="imagenet/tf_in1k"))

    def test_weights_that_only_the_hub_has_are_told_with_where(self):
        model = config.Model(name="efficientnet_b0", weights="imagenet/ra4_e3600_r224_in1k")
        with pytest.raises(InputError, match=r"hub alone.*timm/efficientnet_b0.*model.mean=0.5,"):
            check_model(model)

    def test_unknown_name_offers_the_nearest(self):
        with pytest.raises(InputError, match="efficientnet_b0"):
            check_model(config.Model(name="efficientnetb0"))
        with pytest.raises(InputError, match="resnet18"):
            build("resnet_18")

    def test_missing_file_is_named_with_the_ways_out(self, tmp_path):
        with pytest.raises(InputError, match=r"nothing\.pth.*imagenet.*random start"):
            check_model(config.Model(weights=str(tmp_path / "nothing.pth")))

    def test_too_small_an_image_is_told(self):
        with pytest.raises(InputError, match="inception_v3 needs at least 75"):
            check_model(config.Model(name="inception_v3"), size=64)


def test_published_weights_come_with_their_address_and_normalisation():
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for name, tag, file in [
        ("resnet50", "tv2_in1k", "resnet50-11ad3fa6.pth"),  # torchvision's IMAGENET1K_V2
        ("resnet18", "tv_in1k", "resnet18-f37072fd.pth"),  # its IMAGENET1K_V1
        ("resnet50", "", "resnet50_a1_0-14fe96d1.pth"),
        ("efficientnet_b0", "", "efficientnet_b0_ra-3dd342df.pth"),
    ]:
        found = MODELS.find(name).published(tag)
        assert found.url.endswith(f"/{file}") and found[1:] == imagenet
    for enum, name, tag in [
        (torchvision.models.ResNet50_Weights, "resnet50", "tv2_in1k"),
        (torchvision.models.ResNet18_Weights, "resnet18", "tv_in1k"),
    ]:
        assert MODELS.find(name).published(tag).url == enum.DEFAULT.url
    assert MODELS.find("inception_v3").published("")[1:] == ((0.5,) * 3, (0.5,) * 3)


def test_published_weights_bring_their_normalisation_unless_the_recipe_gives_it(
    tmp_path, monkeypatch
):
    """A file in torch's cache stands for the fetched one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = MODELS.find("resnet18").published("tv_in1k").url
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    source = torchvision.models.resnet18()
    torch.save(source.state_dict(), folder / url.rpartition("/")[2])
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    for given, expected in (({}, mean), ({"mean": (0.1, 0.2, 0.3)}, [0.1, 0.2, 0.3])):
        settings = config.Model(name="resnet18", weights="imagenet/tv_in1k", **given)
        model = build_model(settings, 5, 0)
        assert model.mean.flatten().tolist() == pytest.approx(expected)
        assert model.std.flatten().tolist() == pytest.approx(std)
        assert torch.equal(model.net.conv1.weight, source.conv1.weight)


def test_imagenet_weights_that_cannot_be_fetched_say_what_to_do(tmp_path):
    """In a process of its own that can reach nobody: a dead proxy, an empty cache."""
    code = """
from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model
for name in ("resnet18", "inception_v3"):
    try:
        build_model(config.Model(name=name, weights="imagenet"), 5, 0)
    except InputError as error:
        print(error)
"""
    nowhere = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path), "no_proxy": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        timeout=300,  # it must give up, not hang
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if "cannot fetch" in line]
    assert len(told) == 2
    assert all("model.weights=<.safetensors or .pth>" in line for line in told)
    assert all(line.endswith("start at random, model.weights=") for line in told)


class TestFlips:
    @pytest.mark.parametrize(
        "flips, views", [("horizontal", [(), (3,)]), ("both", [(), (2,), (3,), (2, 3)])]
    )
    def test_the_mean_over_an_image_and_its_flips_is_judged(self, flips, views):
        model, plain = build(flips=flips).eval(), build().eval()
        image = torch.rand(2, 3, 48, 48)
        with torch.no_grad():
            by_hand = torch.stack([plain(image.flip(dims)) for dims in views]).mean(dim=0)
            torch.testing.assert_close(model(image), by_hand)
            torch.testing.assert_close(model(image.flip(3)), model(image))
            assert not torch.allclose(plain(image.flip(3)), plain(image))

    def test_thresholds_cut_the_mean_score(self):
        model = build(flips="horizontal", output="regression").eval()
        image = torch.rand(2, 3, 48, 48)
        with torch.no_grad():
            mean = (model.raw(image) + model.raw(image.flip(3))) / 2
            torch.testing.assert_close(model(image), model.class_logits(mean))

    def test_training_sees_the_image_as_it_is(self):
        model, plain = build(flips="both").train(), build().train()
        image = torch.rand(2, 3, 48, 48)
        assert torch.equal(model(image), plain(image))

    def test_others_are_refused(self):
        with pytest.raises(InputError, match="'horizontl'; did you mean 'horizontal'"):
            config.Model(flips="horizontl")
