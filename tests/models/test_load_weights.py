"""Weights from files: strictly, without running code, the head replaced and said."""

import io
import os
import pickle
import random

import pytest
import safetensors.torch
import torch
import torchvision

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.models.bundle import save_bundle
from fundusray.models.load_weights import read_state


def build(weights="", name="resnet18", classes=5, seed=0):
    return build_model(config.Model(name=name, weights=str(weights)), classes, seed)


@pytest.fixture(scope="module")
def trained():
    """A network unlike any that a seed of these tests makes."""
    model = build(seed=99)
    with torch.no_grad():
        for buffer in model.net.buffers():
            buffer.add_(1)
    return model


def same(a, b, besides=()):
    pairs = [(name, value, b[name]) for name, value in a.items() if name not in besides]
    return all(torch.equal(left, right) for _, left, right in pairs)


FLAT = ("plain", "wrapped", "parallel", "half")
FORMS = [(".safetensors", form) for form in FLAT]
FORMS += [(".pth", form) for form in (*FLAT, "state_dict", "model")]


@pytest.mark.parametrize("suffix, form", FORMS)
def test_a_file_is_loaded_whole(trained, tmp_path, form, suffix):
    path = tmp_path / f"w{suffix}"
    state = dict(trained.net.state_dict())
    if form == "wrapped":
        state = dict(trained.state_dict())
    elif form == "parallel":
        state = {f"module.{name}": value for name, value in trained.state_dict().items()}
    elif form == "half":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save({form: state, "epoch": 3} if form in ("state_dict", "model") else state, path)
    model = build(path)
    assert model.notes == []
    expected = trained.net.state_dict()
    if form == "half":
        expected = {
            k: v.half().float() if v.is_floating_point() else v for k, v in expected.items()
        }
    assert same(model.net.state_dict(), expected)


def test_a_bundle_is_a_start_too(trained, tmp_path):
    recipe = config.Recipe(model=config.Model(name="resnet18"))
    save_bundle(str(tmp_path / "b"), trained.state_dict(), recipe, list("01234"), {})
    for where in (tmp_path / "b", tmp_path / "b" / "model.safetensors"):
        assert same(build(where).state_dict(), trained.state_dict())
    assert same(build(f"file://{tmp_path}/b").state_dict(), trained.state_dict())


def test_the_recipe_says_the_normalisation_not_the_file(trained, tmp_path):
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "w.safetensors")
    settings = config.Model(
        name="resnet18", weights=str(tmp_path / "w.safetensors"), mean=(0.1, 0.2, 0.3)
    )
    model = build_model(settings, 5, 0)
    assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_without_a_wish_of_the_recipe_the_normalisation_is_that_of_the_weights(tmp_path):
    settings = config.Model(name="resnet18", mean=(0.3, 0.2, 0.1), std=(0.25, 0.2, 0.15))
    source = build_model(settings, 5, 0)
    recipe = config.Recipe(model=settings)
    save_bundle(str(tmp_path / "b"), source.state_dict(), recipe, list("01234"), {})
    safetensors.torch.save_file(source.state_dict(), tmp_path / "w.safetensors")
    torch.save(source.net.state_dict(), tmp_path / "plain.pth")
    for where in ("b", "b/model.safetensors", "w.safetensors"):
        model = build(tmp_path / where)
        assert torch.equal(model.mean, source.mean) and torch.equal(model.std, source.std)
    half = build(tmp_path / "plain.pth")
    assert set((*half.mean.flatten().tolist(), *half.std.flatten().tolist())) == {0.5}


@pytest.mark.parametrize("name, heads", [("resnet18", 1), ("inception_v3", 2)])
def test_a_head_of_other_classes_starts_at_random_and_is_told(tmp_path, name, heads):
    source = build(name=name, classes=7, seed=3)
    torch.save(source.net.state_dict(), tmp_path / "w.pth")
    model, fresh = build(tmp_path / "w.pth", name=name), build(name=name)
    assert len(model.notes) == heads
    assert "7 outputs in the file, 5 here" in model.notes[0]
    head = {n for n in model.net.state_dict() if n.startswith(("fc.", "AuxLogits.fc."))}
    assert same(model.net.state_dict(), source.net.state_dict(), besides=head)
    assert all(torch.equal(model.net.state_dict()[n], fresh.net.state_dict()[n]) for n in head)


def test_torchvisions_resnet_fits_timms(tmp_path):
    """The names are the same, so torchvision's published files can be given."""
    source = torchvision.models.resnet18(num_classes=5)
    state = {k: v for k, v in source.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "w.pth")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = source.eval()((image - 0.5) / 0.5)
        torch.testing.assert_close(build(tmp_path / "w.pth").eval()(image), expected)


def test_another_architecture_is_told_by_name_and_shape(tmp_path):
    torch.save(build(name="resnet18").net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"missing \(layer1.0.conv3.weight.*of another shape"):
        build(tmp_path / "w.pth", name="resnet50")
    with pytest.raises(InputError, match=r"missing \(conv_stem.weight.*unknown \(conv1.weight"):
        build(tmp_path / "w.pth", name="efficientnet_b0")


def test_one_missing_tensor_is_named(trained, tmp_path):
    state = dict(trained.net.state_dict())
    del state["layer3.0.bn1.running_var"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"1 missing \(layer3.0.bn1.running_var\)"):
        build(tmp_path / "w.pth")


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".ckpt"])
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, suffix, how):
    marker, path = str(tmp_path / "ran"), tmp_path / f"w{suffix}"
    payload = {"conv1.weight": Evil(marker)}
    if how == "torch":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises(InputError, match="never run"):
        build(path)
    assert not os.path.exists(marker)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80\x04.", b"PK\x03\x04" + bytes(90), bytes(4096)]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no weights file"):
        build(path)


@pytest.mark.parametrize("value", [[1, 2], {}, {"a": 1}, torch.zeros(3), {"epoch": 3, "lr": 0.1}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(InputError, match="no names and tensors"):
        build(tmp_path / "w.pth")


@pytest.mark.parametrize("safe", [False, True])
def test_a_mutilated_file_never_crashes(tmp_path, safe):
    """Only the format is in question here: a flipped weight is a bundle's business to find."""
    rng = random.Random(0)
    state = {"a.weight": torch.arange(64.0), "b.bias": torch.ones(3)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    whole = safetensors.torch.save(state) if safe else buffer.getvalue()
    path = tmp_path / ("w.safetensors" if safe else "w.pth")
    refused = 0
    for _ in range(120):
        broken = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.choice([1, 8])):
            if broken:
                broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        try:
            read_state(str(path))
        except InputError:
            refused += 1
    assert refused >= 60
