"""Images that slipped through and do not decode: named, set aside, and nothing else changes."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import EpochPlan, plan_eval
from fundusray.errors import BadInputsError
from fundusray.pipeline.augment.augmentation import parse_augmentation
from fundusray.pipeline.engines.plain import Made, Work, decode_fault, decode_image
from fundusray.pipeline.loader import Batch, Loader, make_loader
from fundusray.pipeline.undecodable import UndecodableImages

ROWS = np.arange(36)
BATCH = 8
TEXTS = ["none", "wu", "random_crop(48) + rotate(20)"]


@pytest.fixture(params=["plain", "dali"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "dali":
        pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    return request.param


def cut(content: bytes) -> bytes:
    """The first third of the file."""
    return content[: len(content) // 3]


def odd(content: bytes) -> bytes:
    """A first segment of length 0, which Pillow reads over and DALI does not."""
    return content[:5] + b"\0" + content[6:]


@pytest.fixture(scope="module")
def damaged(prepare: Callable[..., PreparedSet]) -> PreparedSet:
    """40 images, of which rows 11 and 30 do not decode."""
    return prepare({11: cut, 30: lambda content: b"no picture"})


def batches(loader: Loader, epoch: int = 0, batch: int = BATCH, start: int = 0) -> list[Batch]:
    return list(loader.epoch(plan_eval(ROWS, batch), seed=3, epoch=epoch, start=start))


@pytest.mark.parametrize("text", TEXTS)
def test_the_others_are_what_they_would_have_been(
    prepared: PreparedSet, damaged: PreparedSet, engine: str, text: str
) -> None:
    settings = {"batch": BATCH, "augment": text, "engine": engine, "max_bad": 0.05}
    loader, whole = make_loader(damaged, **settings), make_loader(prepared, **settings)
    assert loader.quarantined == {}
    for epoch in (0, 1):
        found, wanted = batches(loader, epoch), batches(whole, epoch)
        assert len(found) == len(wanted) == 5
        for one, other in zip(found, wanted, strict=True):
            bad = torch.isin(one.row, torch.tensor([11, 30]))
            assert torch.equal(one.row, other.row) and torch.equal(one.target, other.target)
            assert torch.equal(one.valid, other.valid & ~bad)
            assert torch.equal(one.image[~bad], other.image[~bad])
            assert one.image.shape == other.image.shape and torch.isfinite(one.image).all()
        assert set(loader.quarantined) == {11, 30}
    for row, reason in loader.quarantined.items():
        assert reason == decode_fault(damaged.encoded(np.array([row]))[0], 64) != ""
    assert whole.quarantined == {}


def test_the_stand_in_is_flat(damaged: PreparedSet, engine: str) -> None:
    loader = make_loader(damaged, batch=BATCH, augment="none", engine=engine, max_bad=0.05)
    (images,) = [batch.image[batch.row == 11] for batch in batches(loader) if 11 in batch.row]
    assert torch.equal(images, torch.full_like(images, 128)) and images.dtype == torch.uint8


def test_a_resumed_epoch_finds_them_too(damaged: PreparedSet, engine: str) -> None:
    settings = {"batch": BATCH, "augment": "wu", "engine": engine, "max_bad": 0.05}
    whole, rest = (batches(make_loader(damaged, **settings), start=start) for start in (0, 3))
    for one, other in zip(rest, whole[3:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


@pytest.mark.parametrize("batch", [1, 5, 36])
def test_who_is_set_aside_does_not_depend_on_the_batch(
    damaged: PreparedSet, engine: str, batch: int
) -> None:
    loader = make_loader(damaged, batch=batch, augment="wu", engine=engine, max_bad=0.05)
    made = batches(loader, batch=batch)
    valid = torch.cat([one.row[one.valid] for one in made])
    assert set(loader.quarantined) == {11, 30}
    assert valid.tolist() == [row for row in ROWS if row not in (11, 30)]


@pytest.mark.parametrize("max_bad", [0.0, 0.01, 0.049])
def test_too_many_stop_the_run(damaged: PreparedSet, engine: str, max_bad: float) -> None:
    loader = make_loader(damaged, batch=36, augment="wu", engine=engine, max_bad=max_bad)
    with pytest.raises(BadInputsError) as caught:
        batches(loader, batch=36)
    text, ids = str(caught.value), damaged.image_ids()
    named = {image_id for image_id in ids if repr(image_id) in text}
    assert named == {ids[11], ids[30]} and caught.value.exit_code == 5
    assert text.startswith("2 of 40 images") and damaged.folder in text and "is no JPEG" in text
    assert f"5.0%; data.max_bad allows {max_bad:.1%}" in text and "data.max_bad=0.05 to" in text
    with pytest.raises(BadInputsError, match="2 of 40"):
        batches(loader, epoch=1, batch=36)


def test_twenty_are_named_and_the_rest_counted(prepare: Callable[..., PreparedSet]) -> None:
    broken = prepare(dict.fromkeys(range(26), cut))
    loader = make_loader(broken, batch=36, augment="none", engine="plain", max_bad=0.1)
    with pytest.raises(BadInputsError) as caught:
        batches(loader, batch=36)
    lines = str(caught.value).split("\n")
    assert len(lines) == 23 and lines[0].startswith("26 of 40 images")
    assert lines[-2] == "  and 6 more" and "data.max_bad=0.65 to go on" in lines[-1]


def test_what_only_dali_refuses_is_set_aside(
    prepare: Callable[..., PreparedSet], prepared: PreparedSet
) -> None:
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    mixed = prepare({3: odd, 20: cut})
    (content,) = mixed.encoded(np.array([3]))
    assert np.array_equal(
        decode_image(content, 64), decode_image(prepared.encoded(np.array([3]))[0], 64)
    )
    settings = {"batch": BATCH, "augment": "wu", "max_bad": 0.05}
    loader, other = (make_loader(mixed, engine=name, **settings) for name in ("dali", "plain"))
    batches(loader), batches(other)
    assert set(loader.quarantined) == {3, 20} and set(other.quarantined) == {20}
    assert loader.quarantined[3].startswith("DALI does not decode it: nvImageCodec failure")
    assert loader.quarantined[20] == other.quarantined[20]


class Failing:
    """An engine that has trouble of its own."""

    ahead = 2

    def batches(self, works: Iterator[Work]) -> Iterator[Made]:
        next(works)
        raise RuntimeError("out of memory")
        yield Made(torch.zeros(1))

    def faults(self, contents: list[np.ndarray]) -> list[str]:
        return [decode_fault(content, 64) for content in contents]


def test_trouble_that_no_image_explains_stays_an_error(prepared: PreparedSet) -> None:
    loader = Loader(
        prepared, 4, parse_augmentation("none"), Failing(), UndecodableImages(prepared, 1.0)
    )
    with pytest.raises(RuntimeError, match=r"each decodes alone: .*: out of memory") as caught:
        next(loader.epoch(plan_eval(ROWS, 4), seed=0, epoch=0))
    ids = prepared.image_ids()
    named = {image_id for image_id in ids if repr(image_id) in str(caught.value)}
    assert named == {ids[row] for row in range(8)} and loader.quarantined == {}


def test_padding_that_does_not_decode_is_set_aside_too(damaged: PreparedSet, engine: str) -> None:
    rows = np.array([[11, 11, 2, 30]])
    plan = EpochPlan(
        rows, np.array([[0, 1, 0, 0]], np.int32), np.array([[True, True, True, False]])
    )
    loader = make_loader(damaged, batch=4, augment="wu", engine=engine, max_bad=0.05)
    (batch,) = loader.epoch(plan, seed=0, epoch=0)
    assert batch.valid.tolist() == [False, False, True, False]
