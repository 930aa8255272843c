"""timm/<name>: every classifier of timm is a network, and what is none is refused in words."""

import dataclasses
import json
import time

import pytest
import safetensors.torch
import timm
import torch

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model, check_model, feature_layers, head_parameters
from fundusray.models.bundle import load_bundle, save_bundle
from fundusray.models.networks import network_of
from fundusray.models.timm_networks import facts_of

VISION = "timm/test_vit"  # a vision transformer of 160 pixels and patches of 16, 64 wide
KINDS = {
    "test_vit": ("head", False),
    "test_resnet": ("fc", True),
    "test_efficientnet": ("classifier", True),
    "test_convnext": ("head.fc", True),
    "resnetv2_18": ("head.fc", True),  # its last layer is a convolution
    "efficientvit_b0": ("head.classifier.4", True),
    "swin_tiny_patch4_window7_224": ("head.fc", False),  # its maps are [B, H, W, C]
    "efficientformer_l1": ("head", False),
}
"""Network -> its main last layer, whether it has feature maps [B, C, H, W]."""


def model_of(name: str, **settings: object) -> config.Model:
    return config.Model(name=name, **settings)


@pytest.mark.parametrize("name", KINDS)
def test_head_and_feature_maps_are_found(name: str) -> None:
    head, has_maps = KINDS[name]
    facts = facts_of(name, 0)
    assert facts.heads[0] == head and bool(facts.last) == has_maps
    if has_maps:
        layers = feature_layers(f"timm/{name}")
        assert layers == {"early": f"net.{facts.early}", "last": f"net.{facts.last}"}
    else:
        with pytest.raises(InputError, match=r"has no feature map .*take a convolutional"):
            feature_layers(f"timm/{name}")


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "resnetv2_18"])
def test_it_learns_like_any_other(name: str) -> None:
    """Five classes, a gradient in every number, of which the head's are named."""
    model = build_model(model_of(f"timm/{name}", dropout=0.1), 5, seed=0)
    image = torch.rand(2, 3, 160, 160)
    out = model.train()(image)
    assert out.shape == (2, 5)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    head = KINDS[name][0]
    assert head_parameters(model) == [f"net.{head}.weight", f"net.{head}.bias"]
    with torch.no_grad():
        assert model.eval()(image).shape == (2, 5)
    again = build_model(model_of(f"timm/{name}", dropout=0.1), 5, seed=0)
    assert all(map(torch.equal, again.parameters(), model.parameters()))


@pytest.mark.parametrize("output, width", [("coral", 4), ("corn", 4), ("regression", 1)])
@pytest.mark.parametrize("hidden", [(), (8,)])
def test_every_head_fits(output: str, width: int, hidden: tuple[int, ...]) -> None:
    model = build_model(model_of(VISION, output=output, hidden=hidden), 5, seed=0)
    image = torch.rand(2, 3, 160, 160)
    assert model.train()(image).shape == (2, width)
    with torch.no_grad():
        assert model.eval()(image).shape == (2, 5)
    assert len(head_parameters(model)) == 2 + 2 * len(hidden)


@pytest.mark.parametrize("name", ["resnetv2_18", "efficientformer_l1"])
def test_a_last_layer_that_cannot_be_replaced_is_told(name: str) -> None:
    with pytest.raises(InputError, match=r"model.hidden/output: timm/.* cannot replace"):
        build_model(model_of(f"timm/{name}", output="coral"), 5, seed=0)


class TestNames:
    @pytest.mark.parametrize(
        "name, told",
        [
            ("timm/vit_smal_patch14_dinov2", "did you mean timm/vit_small_patch14_dinov2 or timm/"),
            ("timm/xyzzyxyzzy", r"no network of timm is named 'xyzzyxyzzy' \(timm"),
            ("timm/resnet50.a1_in1k", "timm/resnet50 model.weights=imagenet/a1_in1k"),
            ("timm/", "no network of timm is named ''"),
            ("timm/hf-hub:x/y", "no network of timm"),
            ("vit_base_patch16_224", "is timm/<name>: timm/vit_base_patch16_224"),
            ("resnet18x", "did you mean 'resnet18'"),
        ],
    )
    def test_unknown(self, name: str, told: str) -> None:
        for refused in (check_model, lambda model: build_model(model, 5, 0)):
            with pytest.raises(InputError, match=told):
                refused(model_of(name))

    def test_an_encoder_without_classes_is_refused(self) -> None:
        with pytest.raises(InputError, match="no classifier of photographs"):
            check_model(model_of("timm/deepseek_vit_412m_enc"))


class TestSides:
    def test_a_transformer_takes_what_its_patches_divide(self) -> None:
        check_model(model_of(VISION), size=96)
        with pytest.raises(InputError, match=r"takes no images of 100 pixels.*data.size=160 or "):
            check_model(model_of(VISION), size=100)
        with torch.no_grad():
            assert (
                build_model(model_of(VISION), 5, 0).eval()(torch.rand(1, 3, 96, 96)).shape[1] == 5
            )

    def test_one_that_is_laid_out_for_a_size_says_which_and_how_to_change_it(self) -> None:
        name = "timm/beit_base_patch16_224"
        with pytest.raises(
            InputError, match=r"of 256 pixels.*set data.size=224 or model.image_size=256"
        ):
            check_model(model_of(name), size=256)
        check_model(model_of(name, image_size=256), size=256)

    def test_a_convolutional_network_is_laid_out_for_none(self) -> None:
        check_model(model_of("timm/test_resnet"), size=33)
        for name in ("timm/test_resnet", "resnet18"):
            with pytest.raises(InputError, match=r"model.image_size.*leave it 0"):
                check_model(model_of(name, image_size=64))

    def test_a_check_builds_no_numbers(self) -> None:
        """A network of 1.9 billion parameters is checked in seconds, at no memory."""
        began = time.monotonic()
        check_model(model_of("timm/vit_giant_patch14_dinov2"), size=224)
        assert time.monotonic() - began < 60


class TestFiles:
    def test_positions_of_another_size_are_resampled_and_told(self, tmp_path) -> None:
        """A file without a head and with positions for 96 pixels, as encoders are published."""
        net = timm.create_model("test_vit", num_classes=0, img_size=96)
        safetensors.torch.save_file(net.state_dict(), tmp_path / "w.safetensors")
        start = str(tmp_path / "w.safetensors")
        model = build_model(model_of(VISION, weights=start), 5, 0)
        assert "pos_embed resampled from (1, 37, 64) to (1, 101, 64)" in model.notes[0]
        assert "head is not in the file; it starts at random" in model.notes[1]
        exact = build_model(model_of(VISION, weights=start, image_size=96), 5, 0)
        assert len(exact.notes) == 1
        assert torch.equal(exact.net.pos_embed, net.pos_embed)
        image = torch.rand(1, 3, 96, 96)
        with torch.no_grad():
            features = net.eval()((image - 0.5) / 0.5)
            torch.testing.assert_close(
                exact.net.eval().forward_head(
                    exact.net.forward_features((image - 0.5) / 0.5), pre_logits=True
                ),
                features,
            )

    def test_a_decoder_beside_the_encoder_is_left_out_and_told(self, tmp_path) -> None:
        net = timm.create_model("test_vit", num_classes=0)
        beside = {"decoder_embed.weight": torch.zeros(3), "mask_token": torch.zeros(1)}
        torch.save({"model": dict(net.state_dict()) | beside}, tmp_path / "w.pth")
        model = build_model(model_of(VISION, weights=str(tmp_path / "w.pth")), 5, 0)
        assert "left out decoder_embed, mask_token" in model.notes[0]
        assert torch.equal(model.net.cls_token, net.cls_token)

    def test_a_file_from_the_hub_brings_the_normalisation_beside_it(self, tmp_path) -> None:
        net = timm.create_model("test_resnet")
        safetensors.torch.save_file(net.state_dict(), tmp_path / "model.safetensors")
        about = {"architecture": "test_resnet", "pretrained_cfg": {"mean": [0.4, 0.3, 0.2]}}
        start = {"name": "timm/test_resnet", "weights": str(tmp_path / "model.safetensors")}
        for std, expected in (([0.3, 0.2, 0.1], [0.4, 0.3, 0.2]), (None, [0.5] * 3)):
            about["pretrained_cfg"]["std"] = std
            (tmp_path / "config.json").write_text(json.dumps(about))
            model = build_model(config.Model(**start), 5, 0)
            assert model.mean.flatten().tolist() == pytest.approx(expected)
            own = build_model(config.Model(**start, mean=(0.1, 0.1, 0.1)), 5, 0)
            assert own.mean.flatten().tolist() == pytest.approx([0.1] * 3)

    def test_another_architecture_is_told(self, tmp_path) -> None:
        torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
        with pytest.raises(InputError, match=r"another architecture: .* missing \(cls_token"):
            build_model(model_of(VISION, weights=str(tmp_path / "w.pth")), 5, 0)

    def test_a_bundle_comes_back(self, tmp_path) -> None:
        settings = model_of(VISION, image_size=96, output="coral")
        model = build_model(settings, 5, 3).eval()
        recipe = config.Recipe(model=settings)
        save_bundle(str(tmp_path / "b"), model.state_dict(), recipe, list("01234"), {})
        again = load_bundle(str(tmp_path / "b")).model
        image = torch.rand(1, 3, 96, 96)
        with torch.no_grad():
            assert torch.equal(again(image), model(image))
        other = dataclasses.replace(settings, image_size=0, init_from=str(tmp_path / "b"))
        with pytest.raises(InputError, match="for 96 pixels, output coral"):
            check_model(other)


def test_published_weights_are_timms() -> None:
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for tag in ("", "a1h_in1k"):
        found = network_of(model_of("timm/resnet101")).published(tag)
        assert found.url.endswith(".pth") and found[1:] == imagenet
    with pytest.raises(InputError, match=r"hub alone; fetch model.safetensors of timm/vit_small"):
        check_model(model_of("timm/vit_small_patch16_dinov3", weights="imagenet"))
    with pytest.raises(InputError, match="'lvd'; did you mean 'lvd142m'"):
        check_model(model_of("timm/vit_small_patch14_reg4_dinov2", weights="imagenet/lvd"))
