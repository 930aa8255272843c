"""Corruptions with gradients: what the 8-bit ones give, and gradients that finite steps confirm."""

import math

import pytest
import torch
from torch import Tensor

from fundusray.corruptions import CORRUPTIONS, corrupted, parse_corruption, receipts
from fundusray.corruptions.worst_case import (
    differentiable_corruptions,
    kept_in_level,
    level_intervals,
    parameter_tensors,
    receipts_of,
    smooth_corruption,
)
from fundusray.corruptions.wu import WU
from fundusray.errors import InputError


def test_wus_four_have_gradients_and_others_say_who_has() -> None:
    assert set(differentiable_corruptions()) == set(WU)
    with pytest.raises(InputError, match=r"jpeg has no gradients .*light_leakage"):
        smooth_corruption("jpeg")


@pytest.mark.parametrize("level", [1, 4])
@pytest.mark.parametrize("name", WU)
def test_float_images_are_within_a_level_and_a_half(name: str, level: int, drawn: Tensor) -> None:
    done = receipts(parse_corruption(f"{name}(level={level})"), 0, range(4), 96)
    smooth = smooth_corruption(name)(drawn[:4].float() / 255, parameter_tensors(done))
    assert smooth.min() >= 0 and smooth.max() <= 1
    # Of motion the ends of a line count in parts that 8 bits make whole.
    assert (smooth * 255 - corrupted(drawn[:4], done).float()).abs().max() <= 1.5


def loss(image: Tensor, name: str, parameters: dict[str, Tensor], weights: Tensor) -> Tensor:
    return (smooth_corruption(name)(image, parameters) * weights).sum((1, 2, 3))


@pytest.mark.parametrize(
    ("name", "key", "step"),
    [
        ("under_exposure", "stops", 1e-4),
        ("over_exposure", "stops", 1e-4),
        ("light_leakage", "gain", 1e-4),
        ("light_leakage", "width", 1e-5),
        ("light_leakage", "angle", 1e-3),
    ],
)
def test_gradients_are_those_of_small_steps(
    name: str, key: str, step: float, drawn: Tensor
) -> None:
    image = drawn[:2].double() / 255
    weights = torch.linspace(-1, 1, image[0].numel(), dtype=torch.float64).view(image[0].shape)
    done = receipts(parse_corruption(f"{name}(level=2)"), 0, [1, 2], 96)
    parameters = {k: v.double() for k, v in parameter_tensors(done).items()}
    values = parameters[key].clone().requires_grad_(True)
    total = loss(image, name, parameters | {key: values}, weights).sum()
    (gradient,) = torch.autograd.grad(total, values)
    higher, lower = (
        loss(image, name, parameters | {key: parameters[key] + move}, weights)
        for move in (step, -step)
    )
    expected = (higher - lower) / (2 * step)
    assert gradient.abs().min() > 0
    torch.testing.assert_close(gradient, expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("key", ["length", "angle"])
def test_motions_gradient_is_that_of_a_wave_under_a_line(key: str) -> None:
    """Along x with wavelength w, amplitude a becomes a sinc(length cos(angle) / w)."""
    side, wave, amplitude = 128, 24, 0.3
    x = torch.arange(side, dtype=torch.float64)
    image = (0.5 + amplitude * torch.sin(2 * math.pi * x / wave)).expand(1, 3, side, side)
    inner = slice(side // 2 - wave, side // 2 + wave)

    def closed_form(length: Tensor, angle: Tensor) -> Tensor:
        reach = length * side * torch.deg2rad(angle).cos() / wave
        return ((amplitude * torch.sinc(reach)) ** 2 / 2).sum()

    for length, angle in ((0.1, 20.0), (0.08, 50.0), (0.13, 130.0)):
        parameters = {
            "length": torch.tensor([length], dtype=torch.float64),
            "angle": torch.tensor([angle], dtype=torch.float64),
        }
        parameters[key].requires_grad_(True)
        changed = smooth_corruption("motion_blur")(image, parameters)
        power = (changed[:, 0, inner, inner] - 0.5).square().mean()
        (gradient,) = torch.autograd.grad(power, parameters[key])
        (expected,) = torch.autograd.grad(closed_form(**parameters), parameters[key])
        assert gradient.item() == pytest.approx(expected.item(), rel=0.2)


def test_parameters_are_kept_in_their_level() -> None:
    intervals = level_intervals("light_leakage", 2)
    done = receipts(parse_corruption("light_leakage(level=2)"), 0, range(3), 64)
    parameters = parameter_tensors(done)
    assert torch.equal(
        kept_in_level("light_leakage", 2, parameters)["gain"], parameters["gain"].clamp(0, 9)
    )
    moved = parameters | {
        "gain": torch.tensor([0.0, 5.0, 0.55]),
        "angle": parameters["angle"] + 360,
    }
    kept = kept_in_level("light_leakage", 2, moved)
    low, high = intervals["gain"]
    assert kept["gain"].tolist() == pytest.approx([low, high, 0.55])
    assert torch.allclose(kept["angle"], parameters["angle"], atol=1e-3)
    assert torch.equal(kept["colour"], parameters["colour"])
    for each in receipts_of("light_leakage", 2, moved):
        for key, (low, high) in intervals.items():
            assert low <= each.parameters[key] <= high
        assert each.version == CORRUPTIONS.facts("light_leakage").version and each.level == 2


def test_receipts_of_what_was_found_are_applied(drawn: Tensor) -> None:
    done = receipts(parse_corruption("motion_blur(level=2)"), 0, range(2), 96)
    again = receipts_of("motion_blur", 2, parameter_tensors(done))
    before, after = corrupted(drawn[:2], done), corrupted(drawn[:2], again)
    assert (before.int() - after.int()).abs().max() <= 1
