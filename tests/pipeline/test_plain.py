"""The reference pipeline against closed forms."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fundusray.data.photographs.decode import BadImage
from fundusray.pipeline.augment.augmentation import parse_augmentation
from fundusray.pipeline.augment.draws import Draws, affine_matrices
from fundusray.pipeline.engines.plain import (
    as_float,
    augment_images,
    decode_image,
    fill_level,
    warp_bilinear,
)

SIZE = 32
HALF = 128 / 255
IMAGE = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def encoded(pixels: np.ndarray, kind: str = "JPEG") -> np.ndarray:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind, quality=95)
    return np.frombuffer(sink.getvalue(), np.uint8)


def matrix_of(**parameters) -> torch.Tensor:
    neutral = {"scale": 1.0, "across": 0.0, "down": 0.0, "angle": 0.0, "shear": 0.0}
    each = {key: np.array([value]) for key, value in (neutral | parameters).items()}
    return torch.from_numpy(affine_matrices(SIZE, np.array([False]), **each).astype(np.float32))


def drawn(text: str, num: int = 1) -> Draws:
    zeros = np.zeros(num, np.int64)
    return parse_augmentation(text).draw(SIZE, seed=0, epoch=0, rows=zeros, repeat=zeros)


def test_decode_gives_rgb_pixels():
    pixels = np.full((SIZE, SIZE, 3), (200, 90, 40), np.uint8)
    found = decode_image(encoded(pixels), SIZE)
    assert found.shape == (SIZE, SIZE, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - pixels).max() <= 2
    grey = decode_image(encoded(np.full((SIZE, SIZE), 77, np.uint8)), SIZE)
    assert (grey == 77).all() and grey.shape == (SIZE, SIZE, 3)


def test_decode_gives_the_reason_for_a_bad_image():
    good = encoded(np.zeros((SIZE, SIZE, 3), np.uint8))
    for bad in (good[:-40], good[:10], good[:0], encoded(np.zeros((SIZE, SIZE, 3), "u1"), "PNG")):
        with pytest.raises(BadImage, match=r"\w+"):
            decode_image(bad, SIZE)
    with pytest.raises(BadImage, match="32 x 32 pixels, not 64 x 64"):
        decode_image(good, 64)


def test_no_warp_changes_nothing():
    assert torch.allclose(warp_bilinear(IMAGE, matrix_of(), HALF, SIZE), IMAGE, atol=1e-5)


def test_a_move_by_whole_pixels_shifts_and_fills():
    moved = warp_bilinear(IMAGE, matrix_of(across=4 / SIZE, down=2 / SIZE), HALF, SIZE)
    assert torch.allclose(moved[..., 2:, 4:], IMAGE[..., :-2, :-4], atol=1e-5)
    outside = torch.ones(SIZE, SIZE, dtype=torch.bool)
    outside[2:, 4:] = False
    assert torch.allclose(moved[..., outside], torch.tensor(HALF))


def test_a_move_by_half_a_pixel_averages_neighbours():
    moved = warp_bilinear(IMAGE, matrix_of(across=0.5 / SIZE), HALF, SIZE)
    assert torch.allclose(moved[..., 1:], (IMAGE[..., 1:] + IMAGE[..., :-1]) / 2, atol=1e-5)
    assert torch.allclose(moved[..., 0], (IMAGE[..., 0] + HALF) / 2, atol=1e-5)


def test_a_quarter_turn_is_counter_clockwise_as_seen():
    turned = warp_bilinear(IMAGE, matrix_of(angle=90.0), 0.0, SIZE)
    assert torch.allclose(turned, torch.rot90(IMAGE, 1, (2, 3)), atol=1e-4)


def test_a_warp_may_end_in_another_size():
    shrunk = warp_bilinear(IMAGE, torch.tensor([[[2.0, 0, 0], [0, 2, 0]]]), 0.0, SIZE // 2)
    mean = (IMAGE[..., ::2, ::2] + IMAGE[..., 1::2, ::2]) / 4
    mean += (IMAGE[..., ::2, 1::2] + IMAGE[..., 1::2, 1::2]) / 4
    assert torch.allclose(shrunk, mean, atol=1e-5)


def test_whole_pixels_are_moved_exactly():
    for text, wanted in (
        ("hflip(1)", IMAGE.flip(-1)),
        ("vflip(1)", IMAGE.flip(-2)),
        ("hflip(1) + vflip(1)", IMAGE.flip(-1, -2)),
        ("crop(20, x=3, y=7)", IMAGE[..., 7:27, 3:23]),
        ("crop(20, x=3, y=7) + hflip(1)", IMAGE[..., 7:27, 3:23].flip(-1)),
        ("hflip(1) + crop(20, x=3, y=7)", IMAGE.flip(-1)[..., 7:27, 3:23]),
        ("pad(2) + crop(32, x=0, y=4)", torch.nn.functional.pad(IMAGE, (2, 0, 0, 2), value=HALF)[
            ..., 2:, :32
        ]),
    ):  # fmt: skip
        found = augment_images(IMAGE, drawn(text), 128)
        assert torch.equal(found, wanted), text
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_brightness_and_contrast_follow_the_formula_and_are_clipped():
    one = np.ones(1, np.float32)
    for brightness, contrast in ((0.85, 1.0), (1.0, 1.15), (1.15, 0.85), (1.15, 1.15)):
        draws = drawn("none")._replace(brightness=one * brightness, contrast=one * contrast)
        wanted = (brightness * (0.5 + contrast * (IMAGE - 0.5))).clamp(0, 1)
        assert torch.allclose(augment_images(IMAGE, draws, 128), wanted, atol=1e-6)


def test_each_image_gets_its_own_draws():
    images = IMAGE.repeat(4, 1, 1, 1)
    matrix = drawn("none", 4).matrix.copy()
    matrix[1], matrix[2] = drawn("hflip(1)").matrix[0], matrix_of(angle=90.0)[0]
    draws = drawn("none", 4)._replace(
        geometric=np.array([False, False, True, False]),
        matrix=matrix,
        brightness=np.array([1, 1, 1, 0.85], np.float32),
    )
    found = augment_images(images, draws, 128)
    wanted = [IMAGE[0], IMAGE[0].flip(-1), torch.rot90(IMAGE[0], 1, (1, 2)), IMAGE[0] * 0.85]
    assert torch.allclose(found, torch.stack(wanted), atol=1e-4)
    assert torch.equal(found[0], IMAGE[0])


def test_one_half_is_level_128():
    assert [fill_level(fill) for fill in (0.0, 0.5, 1.0)] == [0, 128, 255]


def test_what_is_given_is_not_changed():
    given = IMAGE.clone(memory_format=torch.channels_last)
    for text in ("none", "brightness(0.5)", "hflip(1) + hue(0.2)", "standardize(0.2)"):
        found = augment_images(given, drawn(text), 128)
        assert torch.equal(given, IMAGE) and found.data_ptr() != given.data_ptr()


def test_levels_become_shares_of_255():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.allclose(as_float(levels) * 255, levels.float(), atol=1e-4)
    assert as_float(IMAGE) is IMAGE
