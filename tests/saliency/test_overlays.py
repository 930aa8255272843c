"""Overlays: red speaks for the class, blue against it, and where a map is 0 the image is seen."""

import io

import numpy as np
import pytest
from PIL import Image

from fundusray.saliency.overlays import AGAINST, FOR, as_pixels, outlined, overlay, png

GREY = np.full((20, 20, 3), 100, np.uint8)


def test_colours_say_the_sign_and_their_strength_the_magnitude() -> None:
    values = np.zeros((20, 20))
    values[2:6, 2:6], values[10:14, 2:6], values[2:6, 10:14] = 2.0, -2.0, 1.0
    drawn = overlay(GREY, values)
    assert drawn.shape == (20, 20, 3) and drawn.dtype == np.uint8
    assert (drawn[3, 3] == FOR).all() and (drawn[11, 3] == AGAINST).all()
    # 0.75 of 100 where nothing is said; half of it and half of the colour at half the strength.
    assert (drawn[18, 18] == 75).all()
    assert np.abs(drawn[3, 11] - (FOR + 75) / 2).max() <= 0.5


def test_neither_scale_nor_single_pixels_change_it() -> None:
    values = np.random.default_rng(0).normal(size=(20, 20))
    drawn = overlay(GREY, values)
    assert (overlay(GREY, values * 1e-9) == drawn).all()
    beyond = values.copy()
    strongest = np.unravel_index(np.abs(values).argmax(), values.shape)
    beyond[strongest] *= 1000
    assert (overlay(GREY, beyond) == drawn).all()


def test_a_map_of_a_single_pixel_and_one_of_nothing() -> None:
    values = np.zeros((20, 20))
    assert (overlay(GREY, values) == 75).all()
    values[4, 5] = 1e-6
    drawn = overlay(GREY, values)
    assert (drawn[4, 5] == FOR).all()
    drawn[4, 5] = 75
    assert (drawn == 75).all()


def test_light_is_weighed_as_seen() -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    image[0] = np.eye(3) * 200
    assert overlay(image, np.zeros((1, 3)))[0, :, 0].tolist() == [45, 88, 17]


def test_an_outline_is_the_masks_inner_border() -> None:
    mask = np.zeros((20, 20), bool)
    mask[3:9, 4:12], mask[0, 0], mask[19, 15:] = True, True, True
    drawn = (outlined(GREY, mask) == (255, 220, 40)).all(axis=2)
    border = mask.copy()
    border[4:8, 5:11] = False
    assert (drawn == border).all()
    assert (GREY == 100).all() and (outlined(GREY, mask)[~border] == 100).all()


def test_pixels_of_a_float_image() -> None:
    image = np.zeros((3, 2, 4), np.float32)
    image[0, 1, 2], image[1, 0, 0], image[2, 0, 3] = 1.0, 0.5, 1.00001
    pixels = as_pixels(image)
    assert pixels.shape == (2, 4, 3) and pixels.dtype == np.uint8
    assert pixels[1, 2].tolist() == [255, 0, 0] and pixels[0, 3].tolist() == [0, 0, 255]
    assert pixels[0, 0, 1] in (127, 128)
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([every / np.float32(255)] * 3)
    assert (as_pixels(image) == every[..., None]).all()


@pytest.mark.parametrize("shape", [(20, 20, 3), (5, 9, 3)])
def test_a_png_holds_the_pixels_and_nothing_else(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    content = png(pixels)
    assert content == png(pixels.copy())
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG" and not image.info
        assert (np.asarray(image) == pixels).all()
