"""Networks of pixels: sizes, starts of the encoder, what is refused."""

import hashlib
from pathlib import Path

import pytest
import torch

from fundusray.config import Model, Recipe, override
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.models.bundle import load_bundle, save_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.models.segmenters import build_segmenter, check_segmenter
from fundusray.models.tiles import TilePlan, tiled_logits
from fundusray.models.unet import plain_unet


@pytest.mark.parametrize("name", ["unet", "unet/efficientnet_lite0", "unet/resnet18"])
@pytest.mark.parametrize("shape", [(32, 32), (40, 57)])
def test_every_pixel_has_logits_whatever_the_size(name: str, shape: tuple[int, int]) -> None:
    network = build_segmenter(Model(name=name), 6, seed=0).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, *shape)).shape == (2, 6, *shape)


def test_what_lies_far_from_a_pixel_is_seen_and_what_is_near_not_lost() -> None:
    """The gradient of one pixel's logit reaches most of a picture of 64, and is largest nearby."""
    network = plain_unet(2).eval()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(image)[0, 1, 32, 32].backward()
    assert image.grad is not None
    size = image.grad.abs().sum(dim=(0, 1))
    assert (size > 0).float().mean() > 0.5
    assert size[28:37, 28:37].mean() > 10 * size[:9, :9].mean()


def test_the_seed_decides_a_random_start_and_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (build_segmenter(Model(name="unet"), 3, seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    key = "net.classify.weight"
    assert torch.equal(one.state_dict()[key], same.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])


def test_the_encoder_starts_from_imagenet() -> None:
    model = Model(name="efficientnet_lite0", weights="imagenet")
    whole = build_model(model, 5, seed=0)
    built = build_segmenter(Model(name="unet/efficientnet_lite0", weights="imagenet"), 6, seed=0)
    own = built.net.encoder.state_dict()
    assert len(own) > 200
    assert all(torch.equal(value, whole.net.state_dict()[name]) for name, value in own.items())
    assert torch.equal(built.mean, whole.mean)
    assert torch.equal(built.std, whole.std)
    assert any("ImageNet" in note for note in built.notes)


def test_the_encoder_starts_from_a_classifier_that_was_trained_here(tmp_path: Path) -> None:
    recipe = override(Recipe(), {"model.name": "resnet18", "model.mean": (0.1, 0.2, 0.3)})
    trained = build_model(recipe.model, 5, seed=7)
    place = str(tmp_path / "bundle")
    save_bundle(place, trained.state_dict(), recipe, list("abcde"), {})
    model = Model(name="unet/resnet18", weights=place)
    check_segmenter(model, 64, 6)
    built = build_segmenter(model, 6, seed=0)
    weight = "layer4.1.conv2.weight"
    theirs = trained.net.get_parameter(weight)
    assert torch.equal(built.net.encoder.get_parameter(weight), theirs)
    torch.testing.assert_close(built.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))


def test_a_bundle_of_pixels_is_written_and_read(tmp_path: Path) -> None:
    changes = {"model.name": "unet", "data.target": "lesions", "model.flips": "both"}
    recipe = override(Recipe(), changes)
    network = build_segmenter(recipe.model, 3, seed=1).eval()
    place = str(tmp_path / "bundle")
    save_bundle(place, network.state_dict(), recipe, ["background", "a", "b"], {})
    again = load_bundle(place)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.model(image), network(image))
        # Under both flips the answer turns with the picture.
        turned = network(image.flip(3)).flip(3)
        torch.testing.assert_close(turned, network(image), rtol=1e-4, atol=1e-5)
    other = build_segmenter(Model(name="unet", init_from=place), 3, seed=9)
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_other_tiles_are_another_network_to_whoever_keeps_its_answers(tmp_path: Path) -> None:
    state = build_segmenter(Model(name="unet"), 2, seed=1).state_dict()
    digests = {}
    for tile, overlap in ((0, 0.25), (0, 0.5), (32, 0.25), (32, 0.5), (64, 0.25)):
        changes = {"segmentation.tile": tile, "segmentation.overlap": overlap}
        recipe = override(Recipe(), {"model.name": "unet", "data.target": "vessels"} | changes)
        place = str(tmp_path / f"{tile}-{overlap}")
        save_bundle(place, state, recipe, ["background", "vessels"], {})
        digests[tile, overlap] = weights_digest(place)
    # Without tiles their overlap means nothing.
    whole = hashlib.sha256(Path(place, "model.safetensors").read_bytes()).hexdigest()
    assert digests[0, 0.25] == digests[0, 0.5] == whole[:16]
    assert len(set(digests.values())) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "unet", "weights": "imagenet"}, "no published weights"),
        ({"name": "unet/inception_v3"}, "no feature maps of every size"),
        ({"name": "unet/efficientnet_light0"}, "efficientnet_lite0"),
        ({"name": "unet", "hidden": (8,)}, "model.hidden"),
        ({"name": "unet", "output": "coral"}, "model.output"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_segmenter(Model(**changes), 64)


def test_a_picture_below_the_least_side_is_refused() -> None:
    with pytest.raises(InputError, match="at least 16 pixels"):
        check_segmenter(Model(name="unet"), 8)


def test_a_picture_wider_than_a_tile_is_gone_through_in_tiles(tmp_path: Path) -> None:
    changes = {"model.name": "unet", "data.target": "lesions", "segmentation.tile": 32}
    recipe = override(Recipe(), changes)
    network = build_segmenter(recipe.model, 3, seed=1).eval()
    place = str(tmp_path / "bundle")
    save_bundle(place, network.state_dict(), recipe, ["background", "a", "b"], {})
    again = load_bundle(place).model
    image = torch.rand(1, 3, 80, 80)
    with torch.no_grad():
        plan = TilePlan(32, recipe.segmentation.overlap)
        torch.testing.assert_close(again(image), tiled_logits(network, image, plan))
        assert not torch.allclose(
            again(image).softmax(1), network(image).softmax(1), rtol=0, atol=1e-5
        )
        small = image[..., :32, :32]
        torch.testing.assert_close(again(small), network(small))
