"""Photographs damaged on their way: before the light is evened, by seed, row and repeat alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fundusray.conditions import CorruptionCondition
from fundusray.conditions.damage import Damage, finishing, training_damage
from fundusray.config import Data
from fundusray.corruptions import Receipt, corrupted, parse_corruption
from fundusray.data.prepared.derived import complete_derived, derived_unit, unit_rows
from fundusray.data.prepared.frames import framed_data
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.data.sampling import EpochPlan, plan_eval
from fundusray.errors import InputError
from fundusray.pipeline.engines.plain import decode_image
from fundusray.pipeline.loader import make_loader

GRAHAM = Data(preprocess="graham", size=64, corrupt="wu(level=1-4)")
Prepare = Callable[..., PreparedSet]


@pytest.fixture(scope="module")
def frames(prepare: Prepare) -> PreparedSet:
    """The frames of the photographs, as a recipe with damage stores them."""
    stored = framed_data(GRAHAM)
    return prepare(preprocess=stored.preprocess, encoding=stored.encoding)


def change(damage: Damage, rows: np.ndarray, epoch: int = 0, repeat: int = 0) -> np.ndarray:
    """What the damage makes of some rows."""
    often = np.full(len(rows), repeat)
    return damage(damage.prepared.pixels(rows), rows, seed=9, epoch=epoch, repeat=often)


@pytest.mark.parametrize("name", [n for n, s in PREPROCESS.items() if s.frame is not None])
def test_a_finished_frame_is_the_prepared_photograph(prepare: Prepare, name: str) -> None:
    data = Data(preprocess=name, size=64, encoding="raw")
    stored = framed_data(data)
    frames = prepare(preprocess=stored.preprocess, encoding="raw")
    whole = prepare(preprocess=name, encoding="raw")
    rows = np.arange(len(whole))
    damage = finishing(data, frames)
    done = frames.pixels(rows) if damage is None else change(damage, rows)
    assert np.array_equal(done, whole.pixels(rows))
    assert finishing(data, whole) is None


def test_a_network_that_learned_from_jpeg_is_judged_on_jpeg(
    prepare: Prepare, frames: PreparedSet
) -> None:
    """Undamaged frames are then the stored images themselves, to the bit."""
    data = Data(preprocess="graham", size=64)
    whole = prepare(preprocess="graham", encoding="jpeg")
    rows = np.arange(10)
    clean = finishing(data, frames)
    assert clean is not None and clean.encodes
    stored = np.stack([decode_image(content, 64) for content in whole.encoded(rows)])
    assert np.array_equal(change(clean, rows), stored)
    # What learned from frames goes on with frames.
    own = finishing(GRAHAM, frames)
    assert own is not None and not own.encodes
    assert not np.array_equal(change(own, rows), stored)


def test_one_that_is_cut_off_is_finished_as_it_was(fundus: np.ndarray) -> None:
    image = fundus[20:, 30:]
    square, _, seen = PREPROCESS["resize"].function(image, 64)
    assert (seen.top, seen.left) != (0, 0)
    whole = PREPROCESS["graham"].function(image, 64, gain=3.0, clip=0.9)
    finish = PREPROCESS["graham"].finish
    assert finish is not None and whole.seen == seen
    assert np.array_equal(finish(square, seen, gain=3.0, clip=0.9), whole.pixels)


def test_photographs_denoised_first_have_no_frame() -> None:
    with pytest.raises(InputError, match=r"data.preprocess=diameter.*contour, graham, resize"):
        framed_data(Data(preprocess="diameter"))


def test_a_set_of_other_pixels_is_refused(prepare: Prepare) -> None:
    with pytest.raises(InputError, match="prepared by contour, this needs graham"):
        finishing(GRAHAM, prepare(preprocess="contour", encoding="raw"))


@pytest.mark.parametrize("engine", ["dali", "plain"])
def test_a_loader_shows_what_a_stored_copy_would_hold(
    frames: PreparedSet, engine: str, tmp_path: Path
) -> None:
    """On the way and stored are the same bytes, and receipts rebuild them."""
    condition = CorruptionCondition(parse_corruption("wu(level=1-4)"), 5)
    damage = condition.damage(GRAHAM, frames)
    folder, data = str(tmp_path), replace(GRAHAM, encoding="raw")

    def made(rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        receipts = [receipt.to_json() for receipt in condition.receipts(rows, frames.size)]
        return change(damage, rows), receipts

    places = range(len(unit_rows(frames)))
    units = [derived_unit(frames, place, made, folder, "raw") for place in places]
    again = [derived_unit(frames, place, _never, folder, "raw") for place in places]
    assert again == units
    complete_derived(frames, data, str(condition), folder, units)
    stored = open_set(folder)
    assert stored.info["derived"]["condition"] == str(condition)
    assert stored.info["manifest"] != frames.info["manifest"]

    rows = np.arange(len(frames))
    loader = make_loader(frames, batch=16, augment="none", engine=engine, change=damage)
    batches = list(loader.epoch(plan_eval(rows, 16), seed=0, epoch=0))
    image = torch.cat([batch.image[batch.valid] for batch in batches])
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(0, 2, 3, 1).numpy(), stored.pixels(rows))

    receipts = [Receipt.from_json(text) for text in stored.table["receipt"].to_pylist()]
    assert {json.loads(one.to_json())["level"] for one in receipts} == {1, 2, 3, 4}
    bare = torch.from_numpy(frames.pixels(rows)).permute(0, 3, 1, 2)
    rebuilt = corrupted(bare, receipts).permute(0, 2, 3, 1).numpy()
    finish = PREPROCESS["graham"].finish
    assert finish is not None
    seen = frames.seen(rows)
    finished = np.stack([finish(one, box) for one, box in zip(rebuilt, seen, strict=True)])
    assert np.array_equal(finished, stored.pixels(rows))


def _never(rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    raise AssertionError("a unit that is there and whole is made again")


def test_damage_is_of_the_row_and_its_repeat_and_of_nothing_else(frames: PreparedSet) -> None:
    damage = training_damage(GRAHAM, frames, 3)
    assert damage is not None
    rows = np.arange(12)
    whole = change(damage, rows)
    assert np.array_equal(change(damage, rows[5:8]), whole[5:8])
    assert np.array_equal(change(damage, rows, epoch=4), whole)
    assert not np.array_equal(change(damage, rows, repeat=1), whole)
    fresh = training_damage(replace(GRAHAM, corrupt_fresh=True), frames, 3)
    assert fresh is not None
    first, second = (change(fresh, rows, epoch=epoch) for epoch in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(change(fresh, rows, epoch=1), second)


def test_a_share_of_showings_is_clean(frames: PreparedSet) -> None:
    rows = np.arange(len(frames))
    clean = finishing(GRAHAM, frames)
    half = training_damage(replace(GRAHAM, corrupt_share=0.5), frames, 3)
    whole = training_damage(GRAHAM, frames, 3)
    assert clean and half and whole
    bare, mixed, damaged = (change(one, rows) for one in (clean, half, whole))
    same_as_bare = (mixed == bare).all(axis=(1, 2, 3))
    same_as_damaged = (mixed == damaged).all(axis=(1, 2, 3))
    assert (same_as_bare | same_as_damaged).all()
    assert 0.25 < same_as_bare.mean() < 0.75 and 0.25 < same_as_damaged.mean() < 0.75


def test_augmentation_comes_after_damage(frames: PreparedSet) -> None:
    """Flips move the finished, damaged image and what lies beyond it is the finished fill."""
    damage = training_damage(GRAHAM, frames, 3)
    assert damage is not None
    rows = np.arange(8)
    plan = EpochPlan(rows[None], np.zeros((1, 8), np.int32), np.ones((1, 8), bool))
    kinds = {
        name: next(
            iter(
                make_loader(frames, batch=8, augment=name, change=damage).epoch(
                    plan, seed=0, epoch=0
                )
            )
        ).image.float()
        for name in ("none", "hflip(1)")
    }
    scale = 255 if kinds["none"].max() > 1 else 1
    other = 255 if kinds["hflip(1)"].max() > 1 else 1
    assert torch.allclose(kinds["none"].flip(3) / scale, kinds["hflip(1)"] / other, atol=2 / 255)
