"""DALI against the reference pipeline, operation by operation with equal parameters.

DALI rounds to 8 bits after the warp and after brightness and contrast, the reference never does:
0.5 levels of 255 are lost each time, the first one enlarged by up to 1.15 * 1.15. The warp's
places, reckoned in float32, give a little more where an edge is steep.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fundusray.pipeline.draws import AUGMENTATIONS, Draws, matrices
from fundusray.pipeline.plain import Plain

dali = pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
from fundusray.pipeline.dali import Dali  # noqa: E402

SIZE, NUM = 96, 24
ROUNDING = 0.51
WARPED = 0.6
COMPOSED = WARPED * 1.15**2 + ROUNDING


def photographs(num: int = NUM, size: int = SIZE, **options) -> list[np.ndarray]:
    """Coloured discs with fine lines on grey, as JPEG bytes."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    made = []
    for index in range(num):
        waves = np.stack([np.sin(9 * x + index), np.cos(40 * x * y + index), np.sin(60 * y)], -1)
        pixels = 128 + 110 * waves
        pixels[x**2 + y**2 > 0.23] = 128
        sink = io.BytesIO()
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(sink, "JPEG", **({"quality": 95} | options))
        made.append(np.frombuffer(sink.getvalue(), np.uint8))
    return made


PHOTOGRAPHS = photographs()


def draw(name: str = "none", num: int = NUM, **changes) -> Draws:
    draws = AUGMENTATIONS[name](7, 0, np.arange(num), np.zeros(num, np.int32), SIZE)
    return draws._replace(**changes)


def made_by_dali(works: list, *, device="cpu", threads=2, fill=0.5) -> list[torch.Tensor]:
    engine = Dali(SIZE, fill, batch=NUM, augmented=True, device=device, threads=threads)
    return list(engine.images(iter(works)))


def levels_apart(draws: Draws, photos=PHOTOGRAPHS, fill=0.5, device="cpu") -> tuple[float, float]:
    """(mean, largest) absolute difference of the two pipelines, levels of 255."""
    (ours,) = made_by_dali([(photos, draws)], fill=fill, device=device)
    (reference,) = Plain(SIZE, fill).images(iter([(photos, draws)]))
    assert ours.shape == reference.shape == (len(photos), 3, SIZE, SIZE)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert ours.min() >= 0 and ours.max() <= 1
    apart = (ours.cpu() - reference).abs() * 255
    return apart.mean().item(), apart.max().item()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [60, 95])
def test_decode_is_equal(subsampling, quality):
    photos = photographs(subsampling=subsampling, quality=quality)
    assert levels_apart(draw(), photos)[1] == 0


def test_flip_is_equal():
    assert levels_apart(draw(flip=np.arange(NUM) % 2 == 0))[1] == 0


@pytest.mark.parametrize(
    "parameters",
    [
        {"scale": 0.9},
        {"scale": 1.1},
        {"across": 0.05, "down": -0.031},
        {"angle": -30.0},
        {"angle": 10.0},
        {"shear": 10.0},
        {"scale": 0.93, "across": -0.04, "down": 0.02, "angle": 7.0, "shear": -8.0},
    ],
)
@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_warp_differs_by_rounding_only(parameters, fill):
    neutral = {"scale": 1.0, "across": 0.0, "down": 0.0, "angle": 0.0, "shear": 0.0}
    each = {key: np.full(NUM, value) for key, value in (neutral | parameters).items()}
    flip = np.arange(NUM) % 2 == 0
    matrix = matrices(SIZE, flip, **each).astype(np.float32)
    drawn = draw(flip=flip, geometric=np.ones(NUM, bool), matrix=matrix)
    mean, largest = levels_apart(drawn, fill=fill)
    assert mean < 0.3 and largest < WARPED


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_brightness_and_contrast_differ_by_rounding_only(name):
    factors = np.linspace(0.85, 1.15, NUM, dtype=np.float32)
    mean, largest = levels_apart(draw(**{name: factors}))
    assert mean < 0.3 and largest < ROUNDING


def test_all_together_differ_by_two_roundings():
    mean, largest = levels_apart(draw("wu"))
    assert 0.05 < mean < 0.35 and largest < COMPOSED


def test_what_was_not_drawn_is_not_touched():
    untouched = np.arange(NUM) % 4 == 0
    draws = draw("wu")
    draws = draws._replace(
        flip=draws.flip & ~untouched,
        geometric=draws.geometric & ~untouched,
        brightness=np.where(untouched, np.float32(1), draws.brightness),
        contrast=np.where(untouched, np.float32(1), draws.contrast),
    )
    (ours,), (decoded,) = (
        made_by_dali([(PHOTOGRAPHS, draws)]),
        made_by_dali([(PHOTOGRAPHS, draw())]),
    )
    assert torch.equal(ours[untouched], decoded[untouched])
    assert not torch.equal(ours, decoded)


def test_outside_lies_the_fill():
    matrix = np.tile(np.array([[1, 0, 3 * SIZE], [0, 1, 0]], np.float32), (NUM, 1, 1))
    away = draw(geometric=np.ones(NUM, bool), matrix=matrix)
    for fill, value in ((0.5, 128 / 255), (0.0, 0.0)):
        (ours,) = made_by_dali([(PHOTOGRAPHS, away)], fill=fill)
        assert torch.allclose(ours, torch.tensor(value), atol=1e-7)


def test_threads_change_nothing():
    works = [(PHOTOGRAPHS, draw("wu"))] * 2
    one, three = made_by_dali(works, threads=1), made_by_dali(works, threads=3)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_the_evaluation_graph_only_decodes():
    engine = Dali(SIZE, 0.5, batch=NUM, augmented=False, device="cpu", threads=1)
    (ours,) = engine.images(iter([(PHOTOGRAPHS, draw("wu"))]))
    (reference,) = Plain(SIZE, 0.5).images(iter([(PHOTOGRAPHS, draw())]))
    assert torch.equal(ours, reference)


def test_a_smaller_batch_is_made_too():
    works = [(PHOTOGRAPHS[:5], draw("wu", 5)), (PHOTOGRAPHS, draw("wu"))]
    assert [len(image) for image in made_by_dali(works)] == [5, NUM]


@pytest.mark.gpu
def test_gpu_agrees_with_the_reference():
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    # The GPU's own JPEG decoder rounds otherwise, and chroma is enlarged otherwise at edges.
    photos = photographs(subsampling="4:4:4")
    for draws, bound in ((draw(), 3), (draw("wu"), 3 * 1.15**2 + COMPOSED)):
        mean, largest = levels_apart(draws, photos, device="gpu")
        assert mean < 1 and largest < bound
