"""Operations against torchvision with equal parameters, or against a closed form."""

from itertools import permutations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor
from torchvision.transforms import InterpolationMode

from fundusray.data.drawn.source import draw_photograph as drawn_eye
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.pipeline.augment.augmentation import parse_augmentation
from fundusray.pipeline.augment.colours import LUMA
from fundusray.pipeline.augment.draws import Draws, pixel_window
from fundusray.pipeline.engines.plain import augment_images

SIZE = 64
HALF = 128 / 255
IMAGES = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
SMOOTH = tv.gaussian_blur(IMAGES, [9, 9], [3.0, 3.0])
MANY = np.arange(10_000)
BILINEAR = {"interpolation": InterpolationMode.BILINEAR}  # outside lies 0
y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
DISC = torch.from_numpy(np.hypot(x, y) < SIZE / 2 - 1.5)


def draw(text: str, num: int = len(IMAGES), epoch: int = 0, size: int = SIZE) -> Draws:
    rows = np.arange(num)
    return parse_augmentation(text).draw(
        size, seed=0, epoch=epoch, rows=rows, repeat=np.zeros(num, int)
    )


def make(text: str, images: Tensor = IMAGES, level: int = 128) -> Tensor:
    return augment_images(images, draw(text, len(images), size=images.shape[-1]), level)


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Kolmogorov-Smirnov distance under the critical value at p = 0.001."""
    place = (np.sort(values) - low) / (high - low)
    steps = np.arange(len(values) + 1) / len(values)
    distance = max(np.abs(place - steps[1:]).max(), np.abs(place - steps[:-1]).max())
    assert distance < 1.95 / np.sqrt(len(values))


def assert_even(values: np.ndarray, num: int) -> None:
    """Each of `num` whole numbers as often, within 4.5 standard deviations."""
    found = np.bincount(values, minlength=num)
    assert len(found) == num
    share = 1 / num
    assert np.abs(found / len(values) - share).max() < 4.5 * np.sqrt(share / len(values))


@pytest.mark.parametrize("angle", [-77.5, -20, 3, 45, 180])
def test_rotate_is_torchvisions(angle: float) -> None:
    found = make(f"rotate(({angle}, {angle}))", level=0)
    assert torch.allclose(found, tv.rotate(IMAGES, angle, **BILINEAR), atol=1e-4)


@pytest.mark.parametrize(
    "scale, across, down, angle, shear",
    [
        (1.1, 0, 0, 0, 0),
        (0.7, 0, 0, 0, 0),
        (1, 0.05, -0.1, 0, 0),
        (1, 0, 0, 0, 10),
        (1, 0, 0, 0, -25),
        (0.93, 0.07, 0.02, -25, 8),
        (1.2, -0.1, 0.03, 130, -12),
    ],
)
def test_affine_is_torchvisions(
    scale: float, across: float, down: float, angle: float, shear: float
) -> None:
    spans = f"scale=({scale}, {scale}), rotate=({angle}, {angle}), shear=({shear}, {shear})"
    draws = draw(f"affine({spans})")
    # A move has no fixed sign to give: it is set where the matrix says the centre goes.
    moved = np.array([across, down]) * SIZE
    draws.matrix[:, :, 2] -= (draws.matrix[0, :, :2].astype(float) @ moved).astype(np.float32)
    # Angles of torchvision's affine are clockwise, other than its rotate's.
    wanted = tv.affine(IMAGES, -angle, moved.tolist(), scale, [shear, 0.0], **BILINEAR)
    geometric = draws._replace(geometric=np.ones(len(IMAGES), bool))
    assert torch.allclose(augment_images(IMAGES, geometric, 0), wanted, atol=1e-3)


def test_affine_moves_by_shares_of_the_side() -> None:
    draws = draw("affine(translate=(0.1, 0.02))", len(MANY))
    across, down = -draws.matrix[:, :, 2].T / SIZE
    assert_uniform(across, -0.1, 0.1)
    assert_uniform(down, -0.02, 0.02)
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.04
    both = -draw("affine(translate=0.1)", len(MANY)).matrix[:, :, 2].T / SIZE
    for share in both:
        assert_uniform(share, -0.1, 0.1)


@pytest.mark.parametrize("name, flip", [("hflip", tv.hflip), ("vflip", tv.vflip)])
def test_flips_are_exact(name: str, flip) -> None:
    assert torch.equal(make(f"{name}(1)"), flip(IMAGES))
    assert torch.equal(make(f"{name}(0)"), IMAGES)
    for p in (0.5, 0.2):
        mirrored = pixel_window(draw(f"{name}({p})", len(MANY)))[0].any(axis=1)
        assert abs(mirrored.mean() - p) < 4 * np.sqrt(p * (1 - p) / len(MANY))


def test_crops_are_slices() -> None:
    assert torch.equal(make("crop(20, x=5, y=9)"), IMAGES[..., 9:29, 5:25])
    for size in (31, 32, 33, 64):
        assert torch.equal(make(f"center_crop({size})"), tv.center_crop(IMAGES, [size, size]))
    starts = pixel_window(draw("random_crop(40)"))[1]
    for one, image, (top, left) in zip(make("random_crop(40)"), IMAGES, starts, strict=True):
        assert torch.equal(one, image[:, top : top + 40, left : left + 40])
    starts = pixel_window(draw("random_crop(40)", len(MANY)))[1]
    for values in starts.T:
        assert_even(values, 25)
    assert abs(np.corrcoef(starts.T)[0, 1]) < 0.04


@pytest.mark.parametrize("name, every, num", [("five", tv.five_crop, 5), ("ten", tv.ten_crop, 10)])
def test_one_of_several_crops_is_drawn(name: str, every, num: int) -> None:
    views = torch.stack(every(IMAGES[0], [30, 30]))
    images = IMAGES[:1].expand(400, 3, SIZE, SIZE)
    found = make(f"{name}_crop(30)", images)
    which = [[torch.equal(one, view) for view in views] for one in found]
    assert (np.sum(which, axis=1) == 1).all()
    assert_even(np.argmax(which, axis=1), num)


@pytest.mark.parametrize("size", [32, 50, 64, 100])
def test_resize_is_torchvisions(size: int) -> None:
    wanted = tv.resize(IMAGES, [size, size], antialias=False)
    # The outermost pixels of a larger picture mix with what lies outside.
    edge = 1 if size > SIZE else 0
    inner = slice(edge, size - edge)
    found = make(f"resize({size})")
    assert found.shape[-1] == size
    assert torch.allclose(found[..., inner, inner], wanted[..., inner, inner], atol=1e-4)


def test_a_resized_crop_is_torchvisions_within() -> None:
    text = "random_resized_crop(48, scale=(0.3, 0.6))"
    draws = draw(text)
    for one, image, matrix in zip(make(text, SMOOTH), SMOOTH, draws.matrix, strict=True):
        left, top = matrix[:, 2]
        wide, high = matrix[0, 0] * 48, matrix[1, 1] * 48
        assert min(left, top) >= 0 and max(left + wide, top + high) <= SIZE
        # Between whole pixels: enlarged eightfold the window's ends are nearly whole.
        fine = tv.resize(image[None], [SIZE * 8] * 2, antialias=False)
        box = [round(float(part) * 8) for part in (top, left, high, wide)]
        wanted = tv.resized_crop(fine, *box, [48, 48], antialias=False)[0]
        assert (one - wanted).abs()[:, 1:-1, 1:-1].max() < 0.02


def test_resized_crops_have_the_promised_areas_and_shapes() -> None:
    draws = draw("random_resized_crop(64, scale=(0.1, 0.5), ratio=(0.8, 1.25))", len(MANY))
    wide, high = draws.matrix[:, 0, 0].astype(float), draws.matrix[:, 1, 1].astype(float)
    assert_uniform(wide * high, 0.1, 0.5)
    assert_uniform(np.log(wide / high), np.log(0.8), np.log(1.25))
    for place, side in ((draws.matrix[:, 0, 2], wide), (draws.matrix[:, 1, 2], high)):
        assert_uniform(place / (SIZE * (1 - side)), 0, 1)
    whole = draw("random_resized_crop(32, scale=(1, 1), ratio=(1, 1))")
    assert np.allclose(whole.matrix, [[2, 0, 0], [0, 2, 0]])
    # Wider than the picture at 1 of area: cut to it.
    assert draw("random_resized_crop(64)", len(MANY)).matrix[:, 0, 0].max() == 1


def test_pad_is_torchvisions() -> None:
    assert torch.equal(make("pad(5)"), tv.pad(IMAGES, [5] * 4, fill=[HALF] * 3))


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_brightness_saturation_and_grey_are_torchvisions(factor: float) -> None:
    span = f"({factor}, {factor})"
    found = make(f"brightness({span})")
    assert torch.allclose(found, tv.adjust_brightness(IMAGES, factor), atol=1e-6)
    found = make(f"saturation({span})")
    # Torchvision rounds the weight of red to 0.2989.
    assert torch.allclose(found, tv.adjust_saturation(IMAGES, factor), atol=2e-4)
    grey = tv.rgb_to_grayscale(IMAGES, 3)
    assert torch.allclose(make("greyscale(1)"), grey, atol=2e-4)


def test_contrast_is_about_half_grey() -> None:
    found = make("contrast((1.6, 1.6))")
    assert torch.allclose(found, (0.5 + 1.6 * (IMAGES - 0.5)).clamp(0, 1), atol=1e-6)
    assert torch.equal(make("contrast(0)"), IMAGES)


def test_after_grahams_preprocessing_torchvisions_contrast_is_nearly_the_same() -> None:
    """Its mean is half-grey; without it the two part by levels."""
    eye = drawn_eye(0, 1, 2, side=160).image
    apart = []
    for name in ("graham", "center_crop"):
        image = torch.from_numpy(PREPROCESS[name].function(eye, 128).pixels.copy()).permute(
            2, 0, 1
        )[None]
        image = image.float() / 255
        ours = (0.5 + 1.15 * (image - 0.5)).clamp(0, 1)
        apart.append(255 * (tv.adjust_contrast(image, 1.15) - ours).abs().mean().item())
    assert apart[0] < 0.5 < 2 < apart[1]


def test_hue_turns_colours_about_grey() -> None:
    luma = torch.from_numpy(LUMA).float()[:, None, None]
    pale = 0.5 + 0.1 * (IMAGES - 0.5)  # nothing is clipped
    grey = pale.mean(dim=1, keepdim=True).expand_as(pale)
    assert torch.allclose(make("hue((0.3, 0.3))", grey), grey, atol=1e-6)
    third = make("hue((0.333333333, 0.333333333))", pale)
    assert torch.allclose((third * luma).sum(1), (pale * luma).sum(1), atol=1e-5)
    assert not torch.allclose(third, pale, atol=0.01)
    thrice = make("hue((0.333333333, 0.333333333))", make("hue((0.333333333, 0.333333333))", third))
    assert torch.allclose(thrice, pale, atol=1e-5)
    halves = make("hue((0.5, 0.5))", pale), make("hue((-0.5, -0.5))", pale)
    assert torch.allclose(*halves, atol=1e-6)
    # Half a turn takes a colour to the other side of the grey of its luma.
    opposite = 2 * (pale * luma).sum(1, keepdim=True) - pale
    assert torch.allclose(halves[0], opposite, atol=1e-5)
    assert torch.equal(make("hue(0)"), IMAGES)


def test_jitter_is_brightness_on_contrast_then_saturation_then_hue() -> None:
    values = "brightness=(1.2, 1.2), contrast=(0.7, 0.7), saturation=(0.5, 0.5), hue=(0.1, 0.1)"
    pale = 0.4 + 0.2 * (IMAGES - 0.5)
    light = 1.2 * (0.5 + 0.7 * (pale - 0.5))
    wanted = make("hue((0.1, 0.1))", make("saturation((0.5, 0.5))", light))
    assert torch.allclose(make(f"jitter({values})", pale), wanted, atol=1e-6)
    one_by_one = "contrast((0.7, 0.7)) + brightness((1.2, 1.2))"
    one_by_one += " + saturation((0.5, 0.5)) + hue((0.1, 0.1))"
    assert torch.allclose(make(one_by_one, pale), wanted, atol=1e-6)


def test_jitter_draws_each_factor_by_itself() -> None:
    draws = draw("jitter(brightness=0.3, contrast=(0.9, 1.4), p=0.3)", len(MANY))
    chosen = np.stack([draws.brightness != 1, draws.contrast != 1])
    assert np.abs(chosen.mean(axis=1) - 0.3).max() < 4 * np.sqrt(0.21 / len(MANY))
    assert abs(np.corrcoef(chosen)[0, 1]) < 0.04
    assert_uniform(draws.brightness[chosen[0]], 0.7, 1.3)
    assert_uniform(draws.contrast[chosen[1]], 0.9, 1.4)
    assert not draws.coloured.any()


def test_whitening_makes_channels_alike_and_independent() -> None:
    rng = np.random.default_rng(0)
    mixing = np.array([[0.12, 0, 0], [0.05, 0.07, 0], [0.03, 0.02, 0.04]])
    pixels = np.array([0.45, 0.3, 0.2]) + rng.normal(size=(SIZE * SIZE, 3)).clip(-3, 3) @ mixing.T
    mean, covariance = pixels.mean(axis=0), np.cov(pixels.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    zca = vectors @ np.diag(values**-0.5) @ vectors.T
    rows = ", ".join(f"({', '.join(f'{part:.9f}' for part in row)})" for row in zca)
    image = torch.from_numpy(pixels.T.reshape(1, 3, SIZE, SIZE)).float()
    centre = ", ".join(f"{part:.9f}" for part in mean)
    found = make(f"whiten(({centre}), matrix=({rows}), spread=0.1)", image)
    flat = found.reshape(3, -1).double().numpy()
    assert np.allclose(flat.mean(axis=1), 0.5, atol=1e-3)
    assert np.allclose(np.cov(flat, bias=True), 0.01 * np.eye(3), atol=2e-4)
    deviation = np.sqrt(np.diag(covariance))
    each = ", ".join(f"{part:.9f}" for part in deviation)
    flat = make(f"whiten(({centre}), std=({each}), spread=0.1)", image).reshape(3, -1)
    wanted = 0.5 + 0.1 * (pixels - mean) / deviation
    assert np.allclose(flat.T.numpy(), wanted.clip(0, 1), atol=1e-4)


def test_standardize_gives_each_picture_the_same_spread() -> None:
    uneven = SMOOTH * torch.linspace(0.2, 1, len(SMOOTH))[:, None, None, None]
    found = make("standardize(0.1)", uneven)
    assert torch.allclose(found.mean(dim=(1, 2, 3)), torch.tensor(0.5), atol=1e-3)
    assert torch.allclose(found.std(dim=(1, 2, 3)), torch.tensor(0.1), atol=2e-3)
    flat = torch.full_like(IMAGES, 0.3)
    assert torch.allclose(make("standardize(0.2)", flat), torch.tensor(0.5), atol=1e-5)
    # It is the last step wherever it stands, and the last of two holds.
    first, last = (make(text, uneven) for text in (
        "standardize(0.3) + brightness((0.9, 0.9)) + standardize(0.1)",
        "brightness((0.9, 0.9)) + standardize(0.1)",
    ))  # fmt: skip
    assert torch.equal(first, last)


def test_geometry_comes_before_colour() -> None:
    texts = "hue((0.1, 0.1)) + rotate((20, 20))", "rotate((20, 20)) + hue((0.1, 0.1))"
    one, other = (make(text) for text in texts)
    assert torch.equal(one, other)


def test_geometry_is_drawn_in_one_go() -> None:
    text = "center_crop(50) + rotate((20, 20)) + hflip(1) + vflip(1)"
    turned = tv.rotate(tv.center_crop(IMAGES, [50, 50]), 20, **BILINEAR)
    wanted = tv.vflip(tv.hflip(turned))
    inside = torch.from_numpy(np.hypot(x, y) < 24)[7:57, 7:57]
    found = make(text)
    assert torch.allclose(found[..., inside], wanted[..., inside], atol=1e-4)
    # The corners show what lies around the square instead of the fill.
    assert not torch.allclose(found[..., 0, 0], torch.tensor(HALF), atol=0.01)
    # One resampling: there and back again is the picture itself.
    there = make("rotate((30, 30)) + rotate((-30, -30))", SMOOTH)
    assert (there - SMOOTH)[..., DISC].abs().max() < 1e-4


def test_apply_draws_with_its_probability() -> None:
    draws = draw("apply(0.3, brightness((0.5, 0.5)) + vflip(1))", len(MANY))
    dark, turned = draws.brightness == 0.5, pixel_window(draws)[0][:, 0]
    assert np.array_equal(dark, turned)
    assert abs(dark.mean() - 0.3) < 4 * np.sqrt(0.21 / len(MANY))


def test_choice_draws_each_as_often() -> None:
    text = "choice(brightness((0.5, 0.5)), none, hflip(1) + brightness((0.2, 0.2)), vflip(1))"
    draws = draw(text, len(MANY))
    down, across = pixel_window(draws)[0].T
    which = np.select([draws.brightness == np.float32(0.5), across, down], [0, 2, 3], default=1)
    assert_even(which, 4)
    assert np.array_equal(draws.brightness == np.float32(0.2), across)


def test_order_draws_each_order_as_often() -> None:
    draws = draw("order(brightness((0.5, 0.5)), contrast((0.6, 0.6)), hflip(1))", len(MANY))
    # 0.5 * (0.5 + 0.6 (x - 0.5)) at x = 1, or 0.5 + 0.6 (0.5 x - 0.5).
    white = draws.brightness * (0.5 + draws.contrast * 0.5)
    assert np.isclose(white, 0.4).sum() + np.isclose(white, 0.5).sum() == len(MANY)
    assert abs(np.isclose(white, 0.4).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(MANY))
    assert pixel_window(draws)[0][:, 1].all()


def test_order_of_three_has_six_results() -> None:
    names = ["rotate((40, 40))", "affine(shear=(20, 20))", "hflip(1)"]
    every = [draw(" + ".join(each), 1).matrix.ravel() for each in permutations(names)]
    found = draw(f"order({', '.join(names)})", len(MANY)).matrix.reshape(len(MANY), -1)
    apart = np.abs(found[:, None] - np.array(every)).max(axis=2)
    assert apart.min(axis=1).max() < 1e-4
    assert_even(apart.argmin(axis=1), 6)
