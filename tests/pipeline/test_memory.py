"""Raw sets: the stored pixels themselves, the same in every engine."""

import numpy as np
import pytest
import torch

from fundusray.data.photographs.decode import encode_jpeg
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import EpochPlan, plan_eval
from fundusray.pipeline.augment.augmentation import parse_augmentation
from fundusray.pipeline.engines.memory import MemoryEngine
from fundusray.pipeline.engines.plain import EngineFrame, Work, as_float
from fundusray.pipeline.loader import Batch, make_loader
from fundusray.training.step import to_device

ROWS = np.arange(36)
BATCH = 8
ENGINES = ["dali", "plain", "memory"]
APART = 1.4
"""Two roundings of DALI, the first enlarged by colour; see test_dali.py."""


def batches(
    prepared: PreparedSet, engine: str, text: str, epoch: int = 0, start: int = 0, **settings: str
) -> list[Batch]:
    if engine == "dali":
        pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    loader = make_loader(prepared, batch=BATCH, augment=text, engine=engine, **settings)
    return list(loader.epoch(plan_eval(ROWS, BATCH), seed=3, epoch=epoch, start=start))


def keys(rows: np.ndarray) -> dict:
    return {"seed": 0, "epoch": 0, "rows": rows, "repeat": np.zeros_like(rows)}


def images(made: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.image for batch in made])


@pytest.mark.parametrize("engine", ENGINES)
def test_untouched_batches_are_the_stored_bytes(raw: PreparedSet, engine: str) -> None:
    made = batches(raw, engine, "none")
    assert len(made) == 5
    for batch in made:
        assert batch.image.dtype == torch.uint8 and batch.image.shape == (BATCH, 3, 64, 64)
        assert batch.image.is_contiguous(memory_format=torch.channels_last)
        stored = torch.from_numpy(raw.pixels(batch.row.numpy()))
        assert torch.equal(batch.image.permute(0, 2, 3, 1), stored)
    assert torch.cat([batch.valid for batch in made]).sum() == len(ROWS)


def test_raw_is_jpeg_without_its_loss(raw: PreparedSet, prepared: PreparedSet) -> None:
    assert raw.image_ids() == prepared.image_ids()
    encoded = [encode_jpeg(pixels) for pixels in raw.pixels(ROWS)]
    assert encoded == [content.tobytes() for content in prepared.encoded(ROWS)]
    untouched = [images(batches(each, "plain", "none")) for each in (raw, prepared)]
    apart = (as_float(untouched[0]) - as_float(untouched[1])).abs() * 255
    assert 0 < apart.mean() < 4
    augmented = [images(batches(each, "plain", "wu")) for each in (raw, prepared)]
    assert 0 < (augmented[0] - augmented[1]).abs().mean() * 255 < 4


@pytest.mark.parametrize("text", ["wu", "random_crop(48) + rotate(20) + jitter(0.1, 0.1, 0.1)"])
def test_engines_agree_on_pixels(raw: PreparedSet, text: str) -> None:
    plain, memory = (images(batches(raw, engine, text)) for engine in ("plain", "memory"))
    assert torch.equal(plain, memory) and plain.dtype == torch.float32
    assert plain.is_contiguous(memory_format=torch.channels_last)
    assert (images(batches(raw, "dali", text)) - plain).abs().max() * 255 < APART


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("text", ["none", "wu"])
def test_epochs_start_anywhere_and_differ(raw: PreparedSet, engine: str, text: str) -> None:
    whole, rest = (batches(raw, engine, text, start=start) for start in (0, 3))
    for one, other in zip(rest, whole[3:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))
    other = images(batches(raw, engine, text, epoch=1))
    assert torch.equal(other, images(whole)) == (text == "none")


def test_an_epoch_left_early_leaves_nothing_behind(raw: PreparedSet) -> None:
    loader = make_loader(raw, batch=BATCH, augment="none", engine="memory")
    plan = plan_eval(ROWS, BATCH)
    for stop in (1, 3):
        begun = loader.epoch(plan, seed=0, epoch=0)
        for _ in range(stop):
            next(begun)
    made = list(loader.epoch(plan, seed=0, epoch=0))
    with pytest.raises(RuntimeError, match="this epoch ended"):
        next(begun)
    assert torch.equal(images(made), images(batches(raw, "memory", "none")))


def test_memory_is_used_again_only_when_nobody_holds_it(raw: PreparedSet) -> None:
    plan = EpochPlan(
        np.arange(60).reshape(20, 3) % 40, np.zeros((20, 3), np.int32), np.ones((20, 3), bool)
    )
    loader = make_loader(raw, batch=3, augment="none", engine="memory")
    kept = [batch.image for batch in loader.epoch(plan, seed=0, epoch=0)]
    assert len({image.data_ptr() for image in kept}) == 20
    for image, rows in zip(kept, plan.rows, strict=True):
        assert torch.equal(image.permute(0, 2, 3, 1), torch.from_numpy(raw.pixels(rows)))
    # A view of a view, in numpy, holds it as well.
    last = kept[-1].permute(0, 2, 3, 1).numpy()[1]
    wanted = last.copy()
    del kept, image
    seen = {batch.image.data_ptr() for batch in loader.epoch(plan, seed=0, epoch=1)}
    assert len(seen) <= 4 and np.array_equal(last, wanted)


def test_batches_of_any_size_are_gathered(raw: PreparedSet) -> None:
    frame = EngineFrame(raw.size, raw.size, 128, encoded=False, augmented=False)
    engine = MemoryEngine(raw, frame, "cpu", resident=True)
    asked = [np.array(rows) for rows in ([3], [5, 0, 5], [39, 1, 2, 3], [7])]
    works = (Work(rows, parse_augmentation("none").draw(raw.size, **keys(rows))) for rows in asked)
    for rows, made in zip(asked, engine.batches(works), strict=True):
        assert np.array_equal(made.image.permute(0, 2, 3, 1).numpy(), raw.pixels(rows))
        assert made.planes is None
    assert list(engine.batches(iter(()))) == []
    assert engine.faults([np.zeros(3, np.uint8)]) == [""]


@pytest.mark.parametrize("contiguous", [True, False])
def test_levels_become_float_on_the_device_that_trains(raw: PreparedSet, contiguous: bool) -> None:
    made = batches(raw, "memory", "none")
    layout = torch.contiguous_format if contiguous else torch.channels_last
    given = to_device(iter(made), torch.device("cpu"), contiguous)
    for one, other in zip(given, made, strict=True):
        assert one.image.dtype == torch.float32
        assert one.image.is_contiguous(memory_format=layout)
        assert torch.equal((one.image * 255).round().byte(), other.image)
        assert all(torch.equal(a, b) for a, b in zip(one[1:4], other[1:4], strict=True))
    # Bit by bit what DALI makes of the same levels.
    floats = images(batches(raw, "dali", "contrast(0)"))
    assert floats.dtype == torch.float32
    assert torch.equal(floats, images(list(to_device(iter(made), torch.device("cpu"), False))))


@pytest.mark.gpu
@pytest.mark.parametrize("text", ["none", "wu", "random_crop(48) + rotate(20) + standardize(0.2)"])
def test_gpu_agrees_with_the_reference(raw: PreparedSet, text: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    reference = images(batches(raw, "plain", text))
    for engine in ("memory", "dali"):
        found = images(batches(raw, engine, text, device="gpu"))
        assert found.is_cuda and found.dtype == reference.dtype
        apart = (found.cpu().float() - reference.float()).abs().max()
        bound = {"none": 0, "memory": 0.05 / 255}.get(text if text == "none" else engine, 4 / 255)
        assert apart <= bound
