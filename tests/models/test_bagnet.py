"""BagNets: what a place sees, that places' evidence is the answer, names of published weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model, check_model, feature_layers, network_of
from fundusray.models.bagnet import BagNet, Bottleneck, Patches

SHAPES = {
    "conv1.weight": (64, 3, 1, 1),
    "conv2.weight": (64, 64, 3, 3),
    "bn1.running_var": (64,),
    "layer1.0.conv2.weight": (64, 64, 3, 3),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.0.downsample.1.running_mean": (256,),
    "layer1.2.bn3.bias": (256,),
    "layer2.0.conv2.weight": (128, 128, 3, 3),
    "layer2.3.conv2.weight": (128, 128, 1, 1),
    "layer3.5.conv3.weight": (1024, 256, 1, 1),
    "layer4.0.downsample.0.weight": (2048, 1024, 1, 1),
    "layer4.2.conv1.weight": (512, 2048, 1, 1),
    "fc.weight": (1000, 2048),
    "fc.bias": (1000,),
}
"""A few of the authors' names (bagnets/pytorchnet.py), alike in all three."""
LAST = {9: (1, 1), 17: (3, 1), 33: (3, 3)}
"""Patch -> kernels of the first blocks' second convolutions in the stages 3 and 4."""


def built(patch: int = 33, classes: int = 5, **settings):
    return build_model(config.Model(name=f"bagnet{patch}", **settings), classes, seed=0)


def seen(net: BagNet, side: int, place: tuple[int, int]) -> tuple[list[int], list[int]]:
    """First and last rows, first and last columns of pixels that a place's evidence depends on."""
    image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    evidence = net.evidence(image)
    (gradient,) = torch.autograd.grad(evidence[0, :, place[0], place[1]].sum(), image)
    touched = gradient[0].abs().sum(0) > 0
    rows, columns = touched.any(1).nonzero()[:, 0], touched.any(0).nonzero()[:, 0]
    return rows[[0, -1]].tolist(), columns[[0, -1]].tolist()


@pytest.mark.parametrize("patch", [9, 17, 33])
def test_a_place_sees_its_patch_and_no_more(patch: int) -> None:
    """By gradients, of softened rectifiers so that none of them hides a pixel."""
    net = BagNet(patch, 2).double().eval()
    for module in net.modules():
        for name, layer in module.named_children():
            if isinstance(layer, nn.ReLU):
                setattr(module, name, nn.Softplus())
    patches = net.patches()
    assert patches == Patches(patch, 8, (patch - 1) / 2)
    first = 8 * 1
    rows, columns = seen(net, patch + 16, (1, 0))
    assert rows == [first, first + patch - 1] and columns == [0, patch - 1]


@pytest.mark.parametrize("patch", [9, 17, 33])
def test_names_and_shapes_are_the_published(patch: int) -> None:
    state = BagNet(patch, 1000).state_dict()
    assert {name: tuple(state[name].shape) for name in SHAPES} == SHAPES
    kernels = tuple(state[f"layer{stage}.0.conv2.weight"].shape[-1] for stage in (3, 4))
    assert kernels == LAST[patch]
    # As of ResNet-50: 53 convolutions and a last layer, and one convolution more in the stem.
    assert sum(value.ndim == 4 for value in state.values()) == 54
    assert sum(name.endswith("running_var") for name in state) == 53


def test_a_published_file_loads_by_name(tmp_path: Path) -> None:
    """In the form of torch 1.0, in which the authors saved; all but the last layer of ImageNet."""
    torch.manual_seed(1)
    state = BagNet(9, 1000).state_dict()
    path = str(tmp_path / "bagnet8-34f4ccd2.pth.tar")
    torch.save(state, path, _use_new_zipfile_serialization=False)
    model = built(9, weights=path)
    assert any("fc has 1000 outputs in the file, 5 here" in note for note in model.notes)
    ours = model.net.state_dict()
    assert all(torch.equal(ours[n], v) for n, v in state.items() if not n.startswith("fc."))


def test_published_weights_are_the_authors() -> None:
    about = network_of(config.Model(name="bagnet33")).published("")
    assert about.url.endswith("/bagnet32-2ddd53ed.pth.tar") and about.mean[0] == 0.485
    with pytest.raises(InputError, match="imagenet alone"):
        check_model(config.Model(name="bagnet17", weights="imagenet/in1k"))


def tuned(model: nn.Module) -> nn.Module:
    """With statistics and a last layer that are not those of the start."""
    generator = torch.Generator().manual_seed(2)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(0.1 * torch.randn(layer.num_features, generator=generator))
            layer.weight.data.copy_(torch.rand(layer.num_features, generator=generator))
    return model


@pytest.mark.parametrize("output", ["softmax", "binary", "regression"])
@torch.no_grad()
def test_the_mean_of_the_evidence_is_the_answer(output: str) -> None:
    classes = 2 if output == "binary" else 4
    model = tuned(built(9, classes, output=output, dropout=0.5)).eval()
    image = torch.rand(2, 3, 40, 33)
    evidence = model.evidence(image)
    assert evidence.shape == (2, classes, 4, 4) and evidence.std(dim=(2, 3)).max() > 0
    torch.testing.assert_close(evidence.mean(dim=(2, 3)), model(image), rtol=1e-5, atol=1e-5)
    # Pooled before the last layer, as the authors do.
    features: list[Tensor] = []
    handle = model.net.layer4.register_forward_hook(lambda m, i, out: features.append(out))
    raw = model.raw(image)
    handle.remove()
    pooled = features[0].mean(dim=(2, 3)) @ model.net.fc.weight.T + model.net.fc.bias
    theirs = torch.nn.functional.pad(pooled, (1, 0)) if output == "binary" else pooled
    torch.testing.assert_close(raw, theirs, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_places_evidence_is_what_the_network_says_of_its_patch() -> None:
    model = tuned(built(33, 3)).eval()
    image = torch.rand(1, 3, 49, 49)
    evidence = model.evidence(image)
    assert evidence.shape[2:] == (3, 3)
    torch.testing.assert_close(
        model(image[..., 8:41, 16:49]), evidence[..., 1, 2], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 2, 9), (3, 2, 8), (3, 1, 7), (1, 2, 8)])
@torch.no_grad()
def test_a_block_is_the_authors_where_nothing_is_learned(
    kernel: int, stride: int, side: int
) -> None:
    """They shorten the shortcut by what it is longer, after its norm."""
    block = tuned(Bottleneck(6, 4, kernel, stride)).eval()
    x = torch.rand(2, 6, side, side)
    shortcut, inner = block.downsample(x), block.bn1(block.conv1(x)).relu()
    inner = block.bn3(block.conv3(block.bn2(block.conv2(inner)).relu()))
    longer = shortcut.shape[-1] - inner.shape[-1]
    assert longer == {(3, 2, 9): 1, (3, 2, 8): 1, (3, 1, 7): 2, (1, 2, 8): 0}[kernel, stride, side]
    theirs = shortcut[:, :, :-longer, :-longer] if longer else shortcut
    torch.testing.assert_close(block(x), (inner + theirs).relu())


@torch.no_grad()
def test_dropout_is_the_same_for_all_places_and_the_mean_stays_the_answer() -> None:
    model = built(9, 3, dropout=0.5).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    model.pairs_evidence = True
    image = torch.rand(1, 3, 17, 17)
    (one, evidence), (two, _) = model(image), model(image)
    assert not torch.equal(one, two)
    torch.testing.assert_close(one, evidence.mean(dim=(2, 3)))


@torch.no_grad()
def test_hidden_layers_and_the_memory_layout_keep_it_so() -> None:
    model = built(17, 3, hidden=(8,)).eval().to(memory_format=torch.channels_last)
    image = torch.rand(2, 3, 25, 25).contiguous(memory_format=torch.channels_last)
    evidence = model.evidence(image)
    assert evidence.shape == (2, 3, 2, 2)
    torch.testing.assert_close(evidence.mean(dim=(2, 3)), model(image), rtol=1e-5, atol=1e-6)
    plain = model.to(memory_format=torch.contiguous_format)(image.contiguous())
    torch.testing.assert_close(model(image), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "resnet18"}, "model.name=resnet18 has no evidence map.*bagnet17, bagnet33"),
        ({"name": "bagnet9", "output": "coral"}, "model.output=coral.*binary, regression"),
        ({"name": "bagnet9", "output": "corn"}, "model.output=corn has no evidence map"),
    ],
)
def test_what_has_no_evidence_says_so(settings: dict, words: str) -> None:
    model = build_model(config.Model(**settings), 3, seed=0).eval()
    with pytest.raises(InputError, match=words):
        model.evidence(torch.rand(1, 3, 33, 33))


def test_image_sides_and_layers() -> None:
    with pytest.raises(InputError, match="bagnet33 needs at least 33 pixels, got 32"):
        check_model(config.Model(name="bagnet33"), size=32)
    check_model(config.Model(name="bagnet33"), size=33)
    model = built(33)
    paths = feature_layers("bagnet33")
    assert isinstance(model.get_submodule(paths["early"]), nn.ReLU)
    assert isinstance(model.get_submodule(paths["last"])[-1], Bottleneck)
