"""The mean of weights: every tensor is the mean, and only networks that are alike have one."""

from dataclasses import replace

import pytest
import torch

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.models.bundle import DamagedError, load_bundle, save_bundle
from fundusray.models.weight_averaging import mean_of_weights

RESNET = config.Model(name="resnet18", hidden=(8,), output="regression")


def write(folder, seed, settings=RESNET, classes=("a", "b", "c"), info=None):
    """A bundle whose batch statistics, thresholds and counters are its seed's as well."""
    model = build_model(settings, len(classes), seed)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(seed + 1):
        model.train()(torch.rand(4, 3, 32, 32, generator=draws))
    if model.thresholds is not None:
        model.thresholds.add_(seed)
    recipe = config.Recipe(name=f"run{seed}", model=settings, seed=seed)
    save_bundle(str(folder), model.state_dict(), recipe, classes, {"manifest": "m"} | (info or {}))
    return model.state_dict()


def test_every_tensor_is_the_mean(tmp_path):
    """Batch statistics and thresholds included; the counter of batches is the first one's."""
    states = [write(tmp_path / str(seed), seed) for seed in (1, 2, 3)]
    places = [str(tmp_path / str(seed)) for seed in (1, 2, 3)]
    mean_of_weights(places, str(tmp_path / "mean"))
    bundle = load_bundle(str(tmp_path / "mean"))
    found = bundle.model.state_dict()
    assert set(found) == set(states[0])
    for name, value in found.items():
        parts = torch.stack([state[name].double() for state in states])
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), parts.mean(0), rtol=1e-6, atol=1e-9)
        else:
            assert torch.equal(value, states[0][name]) and value == 2
    assert found["thresholds"].tolist() == [2.5, 3.5]
    assert bundle.info["members"] == places and bundle.info["manifest"] == "m"
    assert bundle.recipe.name == "run1.mean" and bundle.classes == ("a", "b", "c")
    assert "the mean of 3 networks" in (tmp_path / "mean" / "card.md").read_text()


def test_of_twice_the_same_is_the_same(tmp_path):
    state = write(tmp_path / "a", 1)
    write(tmp_path / "b", 1)
    mean_of_weights([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "mean"))
    found = load_bundle(str(tmp_path / "mean")).model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.items())


def test_answers_as_a_mean_where_a_network_is_linear_in_what_differs(tmp_path):
    """Networks that differ in the last layer only: the mean's logits are the mean logits."""
    settings = config.Model(name="resnet18")
    model, image = build_model(settings, 3, 0).eval(), torch.rand(2, 3, 32, 32)
    logits = []
    for number in (1.0, 3.0):
        with torch.no_grad():
            model.net.fc.weight.normal_(generator=torch.Generator().manual_seed(int(number)))
            logits.append(model(image))
        recipe = config.Recipe(model=settings)
        save_bundle(str(tmp_path / str(number)), model.state_dict(), recipe, list("abc"), {})
    mean_of_weights([str(tmp_path / "1.0"), str(tmp_path / "3.0")], str(tmp_path / "mean"))
    with torch.no_grad():
        found = load_bundle(str(tmp_path / "mean")).model(image)
    torch.testing.assert_close(found, sum(logits) / 2)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"name": "efficientnet_b0"}, r"model.name 'resnet18', .* 'efficientnet_b0'"),
        ({"hidden": (4,)}, r"model.hidden \(8,\), .* \(4,\)"),
        ({"output": "softmax"}, "model.output 'regression', .* 'softmax'"),
        ({"mean": (0.1, 0.2, 0.3)}, r"model.mean .*\(0.1, 0.2, 0.3\)"),
    ],
)
def test_networks_that_are_not_alike_are_refused(tmp_path, change, told):
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 1, replace(RESNET, **change))
    with pytest.raises(InputError, match=told):
        mean_of_weights([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "mean"))
    assert not (tmp_path / "mean").exists()


def test_other_classes_are_refused_also_in_another_order(tmp_path):
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 1, classes=("a", "c", "b"))
    with pytest.raises(InputError, match=r"\['a', 'b', 'c'\].*\['a', 'c', 'b'\]"):
        mean_of_weights([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "mean"))


def test_one_bundle_has_no_mean_and_a_damaged_one_none(tmp_path):
    write(tmp_path / "a", 1)
    with pytest.raises(InputError, match="two bundles or more, got 1"):
        mean_of_weights([str(tmp_path / "a")], str(tmp_path / "mean"))
    write(tmp_path / "b", 2)
    path = tmp_path / "b" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="sha256"):
        mean_of_weights([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "mean"))
