"""Augmentation: landmarks move as the words say, and draws have the promised distributions."""

from typing import NamedTuple

import numpy as np
import pytest

from fundusray.pipeline.augment.augmentation import parse_augmentation
from fundusray.pipeline.augment.draws import (
    Draws,
    KeyedDice,
    affine_matrices,
    chained_effects,
    keyed_uniforms,
    no_effect,
)
from fundusray.pipeline.augment.presets import PRESETS

SIZE = 200
MANY = np.arange(10_000)
NEUTRAL = {"scale": 1.0, "across": 0.0, "down": 0.0, "angle": 0.0, "shear": 0.0}


def matrix_of(flip=False, **parameters) -> np.ndarray:
    """The inverse map of one image [2, 3]."""
    each = {key: np.array([float(value)]) for key, value in (NEUTRAL | parameters).items()}
    return affine_matrices(SIZE, np.array([flip]), **each)[0]


def where_to(point, **parameters) -> np.ndarray:
    """Where a landmark of the input is seen in the output, pixels (x, y)."""
    linear, offset = np.split(matrix_of(**parameters), [2], axis=1)
    return np.linalg.solve(linear, np.array(point, float) - offset[:, 0])


class Drawn(NamedTuple):
    """What is drawn for Wu's augmentation."""

    flip: np.ndarray
    geometric: np.ndarray
    matrix: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray


def draw(text: str, rows: np.ndarray = MANY, seed=0, epoch=0, repeat=0, size=SIZE) -> Draws:
    repeats = np.full(len(rows), repeat, np.int32)
    return parse_augmentation(text).draw(size, seed=seed, epoch=epoch, rows=rows, repeat=repeats)


def wu(epoch=0, seed=0, repeat=0, rows=MANY) -> Drawn:
    draws = draw("wu", rows, seed, epoch, repeat)
    flip = keyed_uniforms(seed, epoch, rows, np.full(len(rows), repeat), 1)[0] < 0.5
    return Drawn(flip, draws.geometric, draws.matrix, draws.brightness, draws.contrast)


def wu_in_one_piece(seed, epoch, rows, repeat, size) -> Drawn:
    """Wu's augmentation written out, draw by draw."""
    flip, on, scale, across, down, angle, shear, lit, light, hard, by = keyed_uniforms(
        seed, epoch, rows, repeat, 11
    )
    flip, geometric = flip < 0.5, on < 0.5

    def spread(value, low, high, neutral, apply):
        return np.where(apply, low + (high - low) * value, neutral)

    matrix = affine_matrices(
        size,
        flip,
        scale=spread(scale, 0.9, 1.1, 1.0, geometric),
        across=spread(across, -0.05, 0.05, 0.0, geometric),
        down=spread(down, -0.05, 0.05, 0.0, geometric),
        angle=spread(angle, -10.0, 30.0, 0.0, geometric),
        shear=spread(shear, -10.0, 10.0, 0.0, geometric),
    )
    brightness = spread(light, 0.85, 1.15, 1.0, lit < 0.5)
    contrast = spread(by, 0.85, 1.15, 1.0, hard < 0.5)
    return Drawn(flip, geometric, *(np.float32(part) for part in (matrix, brightness, contrast)))


@pytest.mark.parametrize("size", [96, 200, 256, 299])
def test_the_text_of_wu_is_wu_bit_by_bit(size):
    draws = draw("wu", seed=3, epoch=2, repeat=1, size=size)
    wanted = wu_in_one_piece(3, 2, MANY, np.ones(len(MANY), np.int32), size)
    for name in Drawn._fields[1:]:
        assert np.array_equal(getattr(draws, name), getattr(wanted, name)), name
    assert not draws.coloured.any() and not draws.std.any() and draws.size == size


def test_nothing_drawn_is_the_identity():
    assert np.allclose(matrix_of(), np.eye(2, 3))


@pytest.mark.parametrize(
    "parameters, point, seen",
    [
        ({"flip": True}, (150, 60), (50, 60)),
        ({"scale": 1.1}, (150, 60), (155, 56)),
        ({"across": 0.05}, (150, 60), (160, 60)),
        ({"down": 0.05}, (150, 60), (150, 70)),
        # Counter-clockwise as seen: what is at the right goes up.
        ({"angle": 90}, (150, 100), (100, 50)),
        ({"angle": 30}, (200, 100), (100 + 100 * np.cos(np.pi / 6), 50)),
        ({"angle": -30}, (200, 100), (100 + 100 * np.cos(np.pi / 6), 150)),
        # The upper part leans to the right, the height stays.
        ({"shear": 10}, (100, 50), (100 + 50 * np.tan(np.pi / 18), 50)),
        ({"shear": 10}, (100, 150), (100 - 50 * np.tan(np.pi / 18), 150)),
        # First flipped, then turned, then moved.
        ({"flip": True, "angle": 90, "down": 0.05}, (150, 100), (100, 160)),
        ({"scale": 0.9, "across": 0.05}, (100, 100), (110, 100)),
        ({"shear": 10, "angle": 90}, (100, 50), (50, 100 - 50 * np.tan(np.pi / 18))),
    ],
)
def test_landmarks_move_as_said(parameters, point, seen):
    assert np.allclose(where_to(point, **parameters), seen, atol=1e-9)


def test_matrices_of_wu_agree_with_their_parameters():
    draws = wu()
    linear = draws.matrix[:, :, :2].astype(float)
    mirrored = np.linalg.det(linear) < 0
    assert np.array_equal(mirrored, draws.flip)
    plain = np.eye(2, 3) * np.where(draws.flip, -1, 1)[:, None, None]
    plain[:, 1, 1] = 1
    plain[:, 0, 2] = np.where(draws.flip, SIZE, 0)
    assert np.array_equal(draws.matrix[~draws.geometric], plain[~draws.geometric].astype("f4"))


def parameters_of(draws) -> dict[str, np.ndarray]:
    """Scale, move, angle and shear read back from the matrices of the warped images."""
    inverse = draws.matrix[draws.geometric].astype(float)
    centre = np.full(2, SIZE / 2)
    forward = np.linalg.inv(inverse[:, :, :2])
    moved = (forward @ (centre - inverse[:, :, 2])[..., None])[..., 0] - centre
    forward[:, :, 0] *= np.where(draws.flip[draws.geometric], -1, 1)[:, None]
    scale = np.sqrt(np.linalg.det(forward))
    angle = np.arctan2(-forward[:, 1, 0], forward[:, 0, 0])
    cos, sin = np.cos(angle), np.sin(angle)
    lean = -(forward[:, 0, 1] * cos - forward[:, 1, 1] * sin) / scale
    shear = np.rad2deg(np.arctan(lean))
    move = {"across": moved[:, 0] / SIZE, "down": moved[:, 1] / SIZE}
    return {"scale": scale, "angle": np.rad2deg(angle), "shear": shear} | move


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Kolmogorov-Smirnov distance under the critical value at p = 0.001."""
    place = (np.sort(values) - low) / (high - low)
    steps = np.arange(len(values) + 1) / len(values)
    distance = max(np.abs(place - steps[1:]).max(), np.abs(place - steps[:-1]).max())
    assert distance < 1.95 / np.sqrt(len(values))


def test_wu_draws_each_operation_for_half_of_the_images():
    draws = wu()
    for drawn in (draws.flip, draws.geometric, draws.brightness != 1, draws.contrast != 1):
        assert abs(drawn.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(MANY))


def test_wu_draws_uniformly_from_its_ranges():
    draws = wu()
    found = parameters_of(draws)
    for name, low, high in (
        ("scale", 0.9, 1.1),
        ("angle", -10, 30),
        ("shear", -10, 10),
        ("across", -0.05, 0.05),
        ("down", -0.05, 0.05),
    ):
        assert_uniform(found[name], low, high)
    assert_uniform(draws.brightness[draws.brightness != 1], 0.85, 1.15)
    assert_uniform(draws.contrast[draws.contrast != 1], 0.85, 1.15)


def test_operations_are_drawn_independently():
    draws = wu()
    drawn = np.stack(
        [draws.flip, draws.geometric, draws.brightness != 1, draws.contrast != 1]
    ).astype(float)
    found = np.stack(list(parameters_of(draws).values()))
    for each, bound in ((drawn, 0.04), (found, 0.055)):
        assert np.abs(np.corrcoef(each) - np.eye(len(each))).max() < bound


def test_uniforms_are_uniform_and_independent_along_every_key():
    zeros = np.zeros(len(MANY), np.int32)
    along = [
        keyed_uniforms(0, 0, MANY, zeros, 3)[0],
        keyed_uniforms(0, 0, zeros.astype(np.int64), MANY.astype(np.int32), 3)[0],
        np.array([keyed_uniforms(0, e, MANY[:1], zeros[:1], 1)[0, 0] for e in range(10_000)]),
        np.array([keyed_uniforms(s, 0, MANY[:1], zeros[:1], 1)[0, 0] for s in range(10_000)]),
        keyed_uniforms(0, 0, MANY[:1], zeros[:1], 10_000)[:, 0],
    ]
    for values in along:
        assert_uniform(values, 0, 1)
        assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.04
    assert np.abs(np.corrcoef(np.stack(along)) - np.eye(5)).max() < 0.04


def test_draws_differ_by_epoch_seed_and_repeat_and_by_nothing_else():
    base = wu()
    for other in (wu(epoch=1), wu(seed=1), wu(repeat=1)):
        both = base.geometric & other.geometric
        assert 0.2 < both.mean() < 0.3
        assert (base.matrix[both] != other.matrix[both]).any(axis=(1, 2)).all()
    shuffled = np.random.default_rng(0).permutation(MANY)[:777]
    for one, other in zip(wu(rows=shuffled), base, strict=True):
        assert np.array_equal(one, other[shuffled])


def test_seeds_of_any_size_are_taken():
    values = {
        keyed_uniforms(seed, 0, MANY[:1], MANY[:1], 1)[0, 0] for seed in (0, -1, 2**63, 2**80 + 5)
    }
    assert len(values) == 4 and all(0 <= value < 1 for value in values)


def test_none_does_nothing():
    draws = draw("none")
    assert not draws.geometric.any() and not draws.coloured.any() and not draws.std.any()
    assert (draws.matrix == np.eye(2, 3)).all()
    assert (draws.brightness == 1).all() and (draws.contrast == 1).all()


@pytest.mark.parametrize("text", [*sorted(PRESETS), "ten_crop(9) + hue(0.1) + standardize(0.2)"])
def test_every_augmentation_keeps_the_contract(text):
    draws = draw(text, np.arange(7), size=256)
    types = [part.dtype for part in draws[1:]]
    assert types == [bool, *[np.float32] * 3, bool, *[np.float32] * 2]
    shapes = [part.shape for part in draws[1:]]
    assert shapes == [(7,), (7, 2, 3), (7,), (7,), (7,), (7, 3, 4), (7,)]
    assert all(np.isfinite(part).all() for part in draws)
    assert not (draws.coloured & ((draws.brightness != 1) | (draws.contrast != 1))).any()


@pytest.mark.parametrize(
    "text",
    [
        "yu + standardize(0.2)",
        "choice(hflip(), rotate(15), affine(shear=5)) + apply(0.3, jitter(0.2, 0.2, 0.2, 0.1))",
        "order(rotate(9), apply(0.5, vflip()), brightness(0.3), contrast(0.3))",
        "ten_crop(200) + random_resized_crop(100)",
    ],
)
def test_draws_depend_on_the_row_and_on_nothing_else(text):
    base = draw(text, size=256)
    some = np.random.default_rng(0).permutation(MANY)[:777]
    for one, other in zip(draw(text, some, size=256)[1:], base[1:], strict=True):
        assert np.array_equal(one, other[some])
    for changed in ({"seed": 1}, {"epoch": 1}, {"repeat": 1}):
        other = draw(text, size=256, **changed)
        assert (base.matrix != other.matrix).any(axis=(1, 2)).mean() > 0.3


def test_effects_follow_one_another():
    dice = KeyedDice(np.arange(4, dtype=np.uint64), SIZE)
    first, second = no_effect(dice), no_effect(dice)
    first.matrix[:, 0, 2], second.matrix[:, 0, 0] = 7, 2
    first.colour[:, 0, 3], second.colour[:, 0, 0] = 0.1, 3
    both = chained_effects(first, second)
    # A pixel of the last image is looked up in the one before, and that one in the first.
    assert (both.matrix[0] @ [10, 0, 1]).tolist() == [27, 0, 1]
    # A colour goes the other way.
    assert np.allclose(both.colour[0] @ [0.2, 0, 0, 1], [0.9, 0, 0, 1])
