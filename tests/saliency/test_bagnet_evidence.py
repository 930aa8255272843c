"""Each patch's evidence stands at the patch, and between patches bilinear."""

import pytest
import torch
from torch import Tensor, nn

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.models.bagnet import Patches
from fundusray.saliency import run_map
from fundusray.saliency.bagnet_evidence import interpolation


def shown(model: nn.Module, image: Tensor, target: list[int], chunk: int = 32) -> Tensor:
    row = torch.arange(len(image))
    targets = torch.tensor(target)
    return run_map(
        "bagnet_evidence", {}, model, image, targets, row=row, layers={}, chunk=chunk
    ).values


def built(patch: int = 33, classes: int = 3, **settings) -> nn.Module:
    return build_model(config.Model(name=f"bagnet{patch}", **settings), classes, seed=0)


@torch.no_grad()
def brightness(patch: int) -> nn.Module:
    """A network whose class 1 has the brightness of each patch, weighed by tents about its
    centre, as evidence, and whose class 0 has the opposite."""
    model = built(patch, mean=(0.0, 0, 0), std=(1.0, 1, 1))
    tent = torch.tensor([1.0, 2, 1]) / 4
    for layer in model.net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.zero_()
            kernel = layer.kernel_size[0]
            layer.weight[0, 0] = tent[:, None] * tent if kernel == 3 else 1.0
    for layer in model.net.modules():
        if hasattr(layer, "downsample") and not isinstance(layer.downsample, nn.Identity):
            layer.downsample[0].weight.zero_()
    model.net.fc.weight.zero_()
    model.net.fc.bias.zero_()
    model.net.fc.weight[1, 0], model.net.fc.weight[0, 0] = 1.0, -1.0
    return model.eval()


@pytest.mark.parametrize("patch", [9, 17, 33])
def test_a_planted_dot_is_shown_within_half_a_stride(patch: int) -> None:
    model, side = brightness(patch), patch + 8 * 3
    first = (patch - 1) // 2
    # Every distance to the next centre, in both directions, in another order.
    dots = [(first + 8 + step, first + 8 + 4 * step % 9) for step in range(9)]
    image = torch.zeros(len(dots), 3, side, side)
    for picture, (row, column) in zip(image, dots, strict=True):
        picture[:, row, column] = 1.0
    for target, sign in ((1, 1), (0, -1)):
        values = sign * shown(model, image, [target] * len(dots))[:, 0]
        for value, (row, column) in zip(values, dots, strict=True):
            strongest = (value >= value.max() * (1 - 1e-6)).nonzero().tolist()
            assert value.max() > 0
            assert all(abs(y - row) <= 4 and abs(x - column) <= 4 for y, x in strongest)


@torch.no_grad()
def test_values_are_the_evidence_at_centres_and_linear_between() -> None:
    model = built(17).eval()
    image = torch.rand(2, 3, 35, 35)
    values, evidence = shown(model, image, [2, 0], chunk=1)[:, 0], model.evidence(image)
    assert evidence.shape[2:] == (3, 3)
    for number, target in enumerate((2, 0)):
        for i in range(3):
            for j in range(3):
                here = values[number, 8 + 8 * i, 8 + 8 * j]
                torch.testing.assert_close(
                    here, evidence[number, target, i, j], rtol=1e-4, atol=1e-4
                )
        corner = evidence[number, target]
        torch.testing.assert_close(
            values[number, 12, 8], (corner[0, 0] + corner[1, 0]) / 2, rtol=1e-4, atol=1e-4
        )
        upper, lower = (corner[i, 1] + 3 * corner[i, 2] for i in (1, 2))
        between = (3 * upper + lower) / 16
        torch.testing.assert_close(values[number, 18, 22], between, rtol=1e-4, atol=1e-4)
        # Beyond the outermost centres as they are.
        assert (values[number, :8, :8] == values[number, 8, 8]).all()
        assert (values[number, 24:, 30] == values[number, 24, 24]).all()


def test_weights_of_a_pixel_sum_to_one_for_every_size() -> None:
    for num, side in ((1, 9), (1, 16), (3, 25), (7, 60)):
        weights = interpolation(num, side, Patches(9, 8, 4.0), torch.device("cpu"))
        assert weights.shape == (side, num)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(side))


def test_flips_are_turned_back() -> None:
    image = torch.rand(1, 3, 33, 33)
    plain, turned = built(9).eval(), built(9, flips="horizontal").eval()
    views = [shown(plain, image, [1]), shown(plain, image.flip(3), [1]).flip(3)]
    assert not torch.allclose(*views)
    torch.testing.assert_close(shown(turned, image, [1]), (views[0] + views[1]) / 2)


def test_a_regressions_evidence_is_of_the_class() -> None:
    model = built(9, output="regression").eval()
    image = torch.rand(1, 3, 9, 9)
    with torch.no_grad():
        answer = model(image)
    for target in range(3):
        values = shown(model, image, [target])
        torch.testing.assert_close(values, answer[:, target].expand_as(values))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "resnet18"}, "network's own evidence; model.name=resnet18 has no.*bagnet33"),
        ({"name": "bagnet9", "output": "coral"}, "model.output=coral has no evidence map"),
    ],
)
def test_other_networks_are_refused(settings: dict, words: str) -> None:
    model = build_model(config.Model(**settings), 3, seed=0).eval()
    with pytest.raises(InputError, match=words):
        shown(model, torch.rand(1, 3, 33, 33), [0])


def test_what_is_no_classifier_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 81, 2)).eval()
    with pytest.raises(InputError, match="this is a Sequential; take a network bagnet33"):
        shown(model, torch.rand(1, 3, 9, 9), [0])
