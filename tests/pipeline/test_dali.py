"""DALI against the reference pipeline, operation by operation with equal parameters.

DALI rounds to 8 bits after the warp and after colour, the reference never does: half a level of
255 is lost each time, the first one enlarged by whatever colour does. The warp's places, reckoned
in float32, give a little more where an edge is steep. docs/augmentations.md states these bounds.
"""

import io
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from fundusray.pipeline.augment.augmentation import parse_augmentation
from fundusray.pipeline.augment.draws import Draws, affine_matrices
from fundusray.pipeline.augment.operations import OPERATIONS
from fundusray.pipeline.engines.plain import (
    Content,
    EngineFrame,
    PlainEngine,
    Work,
    as_float,
    decode_fault,
    decode_image,
)

dali = pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
from fundusray.pipeline.engines.dali import DaliEngine  # noqa: E402

SIZE, NUM = 96, 24
ROUNDING = 0.51
WARPED = 0.6
COMPOSED = WARPED * 1.15**2 + ROUNDING
MEAN = 0.3
ROWS, FIRST = np.arange(NUM), np.zeros(NUM, np.int32)

EXACT = [
    "hflip(1)", "vflip(0.5)", "hflip() + vflip()", "crop(64, x=3, y=9)", "center_crop(65)",
    "random_crop(70)", "five_crop(50)", "ten_crop(51)", "pad(7)", "pad(9) + random_crop(96)",
    "ten_crop(80) + pad(3) + vflip() + random_crop(32)", "resize(96)", "rotate(0)",
]  # fmt: skip
GEOMETRY = [
    "rotate(20)", "affine(scale=0.1, translate=0.05, rotate=(-30, 10), shear=10)", "resize(64)",
    "resize(150)", "random_resized_crop(64)", "random_resized_crop(128, scale=(0.3, 1))",
    "resize(256) + center_crop(224)",
    "random_crop(64) + rotate(20) + hflip(0.5) + vflip(0.5)", "pad(20) + rotate((-180, 180))",
    "choice(rotate(30), hflip(), affine(shear=20))", "order(rotate(30), apply(0.3, vflip()))",
]  # fmt: skip
COLOUR = [
    "brightness(0.5)", "contrast(0.5)", "saturation(0.9)", "hue(0.5)", "greyscale(0.5)",
    "jitter(0.2, 0.2, 0.2, 0.1)", "whiten((0.4, 0.3, 0.2), std=(0.25, 0.2, 0.15))",
    "whiten((0.5, 0.4, 0.3), matrix=((2, -1, 0), (-1, 3, -1), (0, -1, 2)), spread=0.3)",
    "brightness((0, 0))", "order(brightness(0.3), saturation(0.3), contrast(0.3))",
]  # fmt: skip


def pictures(num: int = NUM, size: int = SIZE) -> np.ndarray:
    """Coloured discs with fine lines on grey, uint8 [num, size, size, 3]."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    made = []
    for index in range(num):
        waves = np.stack([np.sin(9 * x + index), np.cos(40 * x * y + index), np.sin(60 * y)], -1)
        pixels = 128 + 110 * waves
        pixels[x**2 + y**2 > 0.23] = 128
        made.append(pixels.clip(0, 255).astype(np.uint8))
    return np.stack(made)


def photographs(**options: int | str) -> list[np.ndarray]:
    """The pictures as JPEG bytes; options are Pillow's."""
    made = []
    for pixels in pictures():
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "JPEG", **({"quality": 95} | options))
        made.append(np.frombuffer(sink.getvalue(), np.uint8))
    return made


PHOTOGRAPHS = photographs()


def draw(text: str = "none", num: int = NUM, **changes: np.ndarray) -> Draws:
    draws = parse_augmentation(text).draw(
        SIZE, seed=7, epoch=0, rows=ROWS[:num], repeat=FIRST[:num]
    )
    return draws._replace(**changes)


def frame(draws: Draws, content: Content, fill: int = 128, augmented: bool = True) -> EngineFrame:
    return EngineFrame(SIZE, draws.size, fill, isinstance(content, list), augmented)


@cache
def engine(frame: EngineFrame, device: str = "cpu", threads: int = 2) -> DaliEngine:
    return DaliEngine(frame, batch=NUM, device=device, threads=threads)


def made_by_dali(
    works: list[tuple[Content, Draws]], device: str = "cpu", threads: int = 2, fill: int = 128
) -> list[torch.Tensor]:
    content, draws = works[0]
    made = engine(frame(draws, content, fill), device, threads)
    return [batch.image for batch in made.batches(Work(*work) for work in works)]


def levels_apart(
    draws: Draws, content: Content = PHOTOGRAPHS, fill: int = 128, device: str = "cpu"
) -> tuple[float, float]:
    """(mean, largest) absolute difference of the two pipelines, levels of 255."""
    (ours,) = made_by_dali([(content, draws)], fill=fill, device=device)
    ((reference, _),) = PlainEngine(frame(draws, content, fill)).batches(
        iter([Work(content, draws)])
    )
    assert ours.shape == reference.shape == (len(content), 3, draws.size, draws.size)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert ours.min() >= 0 and ours.max() <= 1
    apart = (ours.cpu() - reference).abs() * 255
    return apart.mean().item(), apart.max().item()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [60, 95])
def test_decode_is_equal(subsampling: str, quality: int) -> None:
    photos = photographs(subsampling=subsampling, quality=quality)
    assert levels_apart(draw(), photos)[1] == 0


@pytest.mark.parametrize("text", EXACT)
def test_whole_pixels_are_equal(text: str) -> None:
    draws = draw(text)
    assert not draws.geometric.any()
    assert levels_apart(draws)[1] == 0


@pytest.mark.parametrize("text", GEOMETRY)
@pytest.mark.parametrize("fill", [0, 128])
def test_geometry_differs_by_one_rounding(text: str, fill: int) -> None:
    draws = draw(text)
    assert draws.geometric.any()
    mean, largest = levels_apart(draws, fill=fill)
    assert mean < MEAN and largest < WARPED


@pytest.mark.parametrize("text", COLOUR)
def test_colour_differs_by_one_rounding(text: str) -> None:
    mean, largest = levels_apart(draw(text))
    assert mean < MEAN and largest < ROUNDING


def test_a_standard_spread_is_equal() -> None:
    for text in ("standardize(0.2)", "apply(0.5, standardize(0.3))"):
        assert levels_apart(draw(text))[1] < 0.001


def test_every_operation_is_compared() -> None:
    # What looks for lesions is compared where masks are at hand, in test_lesion_crop.py.
    texts = " ".join([*EXACT, *GEOMETRY, *COLOUR, "standardize(", "lesion_crop("])
    assert not [name for name in OPERATIONS if f"{name}(" not in texts]


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
@pytest.mark.parametrize("fill", [0, 128])
def test_warp_differs_by_rounding_only(parameters: dict[str, float], fill: int) -> None:
    neutral = {"scale": 1.0, "across": 0.0, "down": 0.0, "angle": 0.0, "shear": 0.0}
    each = {key: np.full(NUM, value) for key, value in (neutral | parameters).items()}
    matrix = affine_matrices(SIZE, ROWS % 2 == 0, **each).astype(np.float32)
    drawn = draw(geometric=np.ones(NUM, bool), matrix=matrix)
    mean, largest = levels_apart(drawn, fill=fill)
    assert mean < MEAN and largest < WARPED


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_brightness_and_contrast_differ_by_rounding_only(name: str) -> None:
    factors = np.linspace(0.85, 1.15, NUM, dtype=np.float32)
    mean, largest = levels_apart(draw(**{name: factors}))
    assert mean < MEAN and largest < ROUNDING


def test_all_together_differ_by_two_roundings() -> None:
    mean, largest = levels_apart(draw("wu"))
    assert 0.05 < mean < 0.35 and largest < COMPOSED


def test_what_colour_and_spread_enlarge_stays_in_bounds() -> None:
    text = "random_crop(64) + rotate(20) + hflip() + jitter(0.2, 0.2, 0.2, 0.1) + standardize(0.2)"
    draws = draw(text)
    mean, largest = levels_apart(draws)
    gain = np.abs(draws.colour[:, :, :3]).sum(axis=2).max()
    ((flat, _),) = PlainEngine(frame(draws, PHOTOGRAPHS)).batches(
        iter([Work(PHOTOGRAPHS, draws._replace(std=np.zeros(NUM, np.float32)))])
    )
    stretch = 0.2 / flat.std(dim=(1, 2, 3)).min().item()
    assert mean < 0.4 and largest < (WARPED * gain + ROUNDING) * max(stretch, 1) + 0.05


def test_what_was_not_drawn_is_not_touched() -> None:
    text = "apply(0.6, rotate(20) + jitter(0.2, 0.2, 0.2, 0.2) + standardize(0.2))"
    draws = draw(text)
    untouched = ~draws.geometric
    assert 3 < untouched.sum() < 20
    (ours,) = made_by_dali([(PHOTOGRAPHS, draws)])
    decoded = torch.from_numpy(np.stack([decode_image(photo, SIZE) for photo in PHOTOGRAPHS]))
    levels = (ours * 255).round().byte().permute(0, 2, 3, 1)
    assert torch.equal(levels[untouched], decoded[untouched])
    (as_it_is,) = made_by_dali([(PHOTOGRAPHS, draw())])
    assert torch.equal(ours[untouched], as_it_is[untouched]) and not torch.equal(ours, as_it_is)


def test_outside_lies_the_fill() -> None:
    matrix = np.tile(np.array([[1, 0, 3 * SIZE], [0, 1, 0]], np.float32), (NUM, 1, 1))
    for fill, value in ((128, 128 / 255), (0, 0.0)):
        for warped in (True, False):
            away = draw(geometric=np.full(NUM, warped), matrix=matrix)
            (ours,) = made_by_dali([(PHOTOGRAPHS, away)], fill=fill)
            assert torch.allclose(ours, torch.tensor(value), atol=1e-7)


def test_threads_change_nothing() -> None:
    works = [(PHOTOGRAPHS, draw("wu"))] * 2
    one, three = made_by_dali(works, threads=1), made_by_dali(works, threads=3)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_the_evaluation_graph_only_decodes() -> None:
    seen = frame(draw(), PHOTOGRAPHS, augmented=False)
    ((ours, _),) = engine(seen).batches(iter([Work(PHOTOGRAPHS, draw("wu"))]))
    ((reference, _),) = PlainEngine(seen).batches(iter([Work(PHOTOGRAPHS, draw())]))
    assert ours.dtype == torch.uint8 and torch.equal(ours, reference)
    # Bit by bit what was made of them where the graph turns levels into floats.
    (floats,) = made_by_dali([(PHOTOGRAPHS, draw())])
    assert floats.dtype == torch.float32 and torch.equal(as_float(ours), floats)


@pytest.mark.parametrize("text", ["resize(64)", "resize(150) + center_crop(96)", "rotate(20)"])
def test_what_is_only_moved_stays_in_levels(text: str) -> None:
    draws = draw(text)
    levels = frame(draws, PHOTOGRAPHS)._replace(coloured=False)
    ((ours, _),) = engine(levels).batches(iter([Work(PHOTOGRAPHS, draws)]))
    (floats,) = made_by_dali([(PHOTOGRAPHS, draws)])
    assert ours.dtype == torch.uint8 and ours.is_contiguous(memory_format=torch.channels_last)
    assert floats.dtype == torch.float32 and torch.equal(as_float(ours), floats)


def test_a_smaller_batch_is_made_too() -> None:
    works = [(PHOTOGRAPHS[:5], draw("wu", 5)), (PHOTOGRAPHS, draw("wu"))]
    assert [len(image) for image in made_by_dali(works)] == [5, NUM]


def test_pixels_are_taken_as_well_as_jpeg() -> None:
    decoded = np.stack([decode_image(photo, SIZE) for photo in PHOTOGRAPHS])
    for text in ("wu", "random_crop(64) + rotate(20)"):
        draws = draw(text)
        (of_jpeg,), (of_pixels,) = (
            made_by_dali([(content, draws)]) for content in (PHOTOGRAPHS, decoded)
        )
        assert torch.equal(of_jpeg, of_pixels)


def test_the_reason_is_given_for_each_image_alone() -> None:
    small = io.BytesIO()
    Image.fromarray(pictures(1, 32)[0]).save(small, "JPEG")
    good, little = PHOTOGRAPHS[0], np.frombuffer(small.getvalue(), np.uint8)
    contents = [good, good[:300], good, little, good[:0], PHOTOGRAPHS[1]]
    found = engine(frame(draw(), PHOTOGRAPHS)).faults(contents)
    assert [bool(reason) for reason in found] == [False, True, False, True, True, False]
    assert found == [decode_fault(content, SIZE) for content in contents]
    assert found[3] == "is 32 x 32 pixels, not 96 x 96" and found[4] == "is no JPEG"


@pytest.mark.gpu
@pytest.mark.parametrize("encoded", [True, False])
def test_gpu_agrees_with_the_reference(encoded: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    # The GPU's own JPEG decoder rounds otherwise, and chroma is enlarged otherwise at edges.
    content = photographs(subsampling="4:4:4") if encoded else pictures()
    decoding = 3 if encoded else 0
    texts = ["none", "wu", "random_crop(64) + vflip()", *GEOMETRY, *COLOUR, "standardize(0.2)"]
    for text in texts:
        draws = draw(text)
        gain = np.abs(draws.colour[:, :, :3]).sum(axis=2).max()
        mean, largest = levels_apart(draws, content, device="gpu")
        assert mean < 1 + decoding and largest < (decoding + WARPED) * max(gain, 1.5) + ROUNDING
