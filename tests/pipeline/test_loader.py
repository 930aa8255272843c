"""Loaders of either engine: what a batch holds, and that only the rows decide its pixels."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fundusray.config import Sampling
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import EpochPlan, plan_epoch, plan_eval, worker_share
from fundusray.errors import InputError
from fundusray.pipeline.engines.plain import decode_image
from fundusray.pipeline.loader import Batch, make_loader

ROWS = np.arange(36)
BATCH = 8


@pytest.fixture(params=["plain", "dali"])
def engine(request) -> str:
    if request.param == "dali":
        pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    return request.param


def plan_of(prepared: PreparedSet, name: str = "natural", epoch: int = 0) -> EpochPlan:
    """Five batches of eight of 36 rows, the last one half padding (natural)."""
    targets = prepared.targets()[ROWS]
    settings = {"num_classes": 5, "batch": BATCH, "seed": 3, "epoch": epoch}
    return plan_epoch(Sampling(name=name), ROWS, targets, **settings)


def images_of(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.image for batch in batches])


def test_a_batch_holds_what_the_plan_says(prepared, engine):
    plan = plan_of(prepared)
    loader = make_loader(prepared, batch=BATCH, augment="wu", engine=engine)
    batches = list(loader.epoch(plan, seed=3, epoch=0))
    assert len(batches) == 5
    for step, batch in enumerate(batches):
        assert batch.image.shape == (BATCH, 3, 64, 64) and batch.image.dtype == torch.float32
        assert batch.image.is_contiguous(memory_format=torch.channels_last)
        assert batch.image.min() >= 0 and batch.image.max() <= 1
        assert batch.row.tolist() == plan.rows[step].tolist() and batch.row.dtype == torch.int64
        assert batch.valid.tolist() == plan.valid[step].tolist() and batch.valid.dtype == torch.bool
        wanted = prepared.targets()[plan.rows[step]]
        assert batch.target.tolist() == wanted.tolist() and batch.target.dtype == torch.int64


def test_none_gives_the_stored_pixels_and_decodes_padding_too(prepared, engine):
    loader = make_loader(prepared, batch=BATCH, augment="none", engine=engine)
    batches = list(loader.epoch(plan_eval(ROWS, BATCH), seed=0, epoch=0))
    rows = torch.cat([batch.row for batch in batches]).numpy()
    assert rows.tolist() == [*ROWS, 0, 1, 2, 3]
    stored = np.stack([decode_image(content, 64) for content in prepared.encoded(rows)])
    levels = images_of(batches).permute(0, 2, 3, 1)
    assert torch.equal(levels, torch.from_numpy(stored))


def test_engines_agree(prepared):
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    both = [
        images_of(list(loader.epoch(plan_of(prepared), seed=3, epoch=0)))
        for loader in (
            make_loader(prepared, batch=BATCH, augment="wu", engine=name)
            for name in ("dali", "plain")
        )
    ]
    # Two roundings to 8 bits, see test_dali.py.
    assert (both[0] - both[1]).abs().max() * 255 < 1.31


def test_pixels_depend_neither_on_workers_nor_on_batches(prepared, engine):
    plan = plan_of(prepared, "oversample")

    def shown(part: EpochPlan) -> dict:
        loader = make_loader(prepared, batch=part.rows.shape[1], augment="wu", engine=engine)
        batches = list(loader.epoch(part, seed=3, epoch=0))
        keys = zip(part.rows.ravel().tolist(), part.repeat.ravel().tolist(), strict=True)
        return dict(zip(keys, images_of(batches), strict=True))

    alone = shown(plan)
    together = shown(worker_share(plan, 0, 2)) | shown(worker_share(plan, 1, 2))
    small = shown(EpochPlan(*(part.reshape(-1, 4) for part in plan)))
    for other in (together, small):
        assert other.keys() == alone.keys()
        assert all(torch.equal(alone[key], other[key]) for key in alone)


def test_starting_later_is_the_same_as_skipping(prepared, engine):
    plan = plan_of(prepared)
    loader = make_loader(prepared, batch=BATCH, augment="wu", engine=engine)
    whole = list(loader.epoch(plan, seed=3, epoch=2))
    for start in (1, 4, 5):
        rest = list(loader.epoch(plan, seed=3, epoch=2, start=start))
        assert len(rest) == 5 - start
        for one, other in zip(rest, whole[start:], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


def test_an_epoch_left_early_leaves_nothing_behind(prepared, engine):
    fresh = make_loader(prepared, batch=BATCH, augment="wu", engine=engine)
    loader = make_loader(prepared, batch=BATCH, augment="wu", engine=engine)
    wanted = images_of(list(fresh.epoch(plan_of(prepared), seed=3, epoch=1)))
    for taken in (0, 1, 3):
        left = loader.epoch(plan_of(prepared, epoch=9), seed=3, epoch=9)
        for _ in range(taken):
            next(left)
        found = images_of(list(loader.epoch(plan_of(prepared), seed=3, epoch=1)))
        assert torch.equal(found, wanted)
        with pytest.raises(RuntimeError, match="another one was begun"):
            next(left)


def test_batches_do_not_share_memory(prepared, engine):
    loader = make_loader(prepared, batch=BATCH, augment="wu", engine=engine)
    kept, copies = [], []
    for epoch in range(3):
        for batch in loader.epoch(plan_of(prepared, epoch=epoch), seed=3, epoch=epoch):
            kept.append(batch.image)
            copies.append(batch.image.clone())
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))
    assert len({image.data_ptr() for image in kept}) == len(kept)


def test_epochs_and_repeats_are_augmented_differently(prepared, engine):
    loader = make_loader(prepared, batch=BATCH, augment="wu", engine=engine)
    rows = np.zeros((1, BATCH), np.int64)
    plan = EpochPlan(rows, np.arange(BATCH, dtype=np.int32)[None], np.ones((1, BATCH), bool))
    images = [next(loader.epoch(plan, seed=3, epoch=epoch)).image for epoch in (0, 1)]
    distinct = {image.numpy().tobytes() for image in torch.cat(images)}
    # One in sixteen is left as it is.
    assert len(distinct) >= 13


def test_memory_does_not_grow_with_epochs(prepared, engine):
    loader = make_loader(prepared, batch=BATCH, augment="wu", engine=engine)

    def run(epochs: int) -> float:
        """MB resident after so many more epochs."""
        for epoch in range(epochs):
            for _ in loader.epoch(plan_of(prepared, epoch=epoch), seed=3, epoch=epoch):
                pass
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    if not Path("/proc/self/statm").exists():
        pytest.skip("the resident set is read from /proc")
    once = run(3)
    # 30 epochs hold 59 MB of pixels: one in three kept would show.
    assert run(30) - once < 20


def test_wrong_settings_are_refused(prepared):
    with pytest.raises(InputError, match=r"data\.pipeline.*did you mean 'plain'"):
        make_loader(prepared, batch=4, augment="wu", engine="plane")
    with pytest.raises(InputError, match=r"augmentation.*none, wu"):
        make_loader(prepared, batch=4, augment="")
    with pytest.raises(InputError, match=r"more than the picture's 64"):
        make_loader(prepared, batch=4, augment="yu")
    with pytest.raises(InputError, match=r"reads raw sets.*data\.encoding=raw"):
        make_loader(prepared, batch=4, augment="wu", engine="memory")
    with pytest.raises(InputError, match=r"device.*'cuda'"):
        make_loader(prepared, batch=4, augment="wu", device="cuda")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="torch sees none"):
            make_loader(prepared, batch=4, augment="wu", device="gpu")


def test_without_dali_the_other_pipeline_is_named(prepared):
    script = (
        "import sys; sys.modules['nvidia'] = None\n"
        "from fundusray.data.prepared.prepared_set import open_set\n"
        "from fundusray.pipeline.loader import make_loader\n"
        "prepared = open_set(sys.argv[1])\n"
        "make_loader(prepared, batch=2, augment='wu', engine='plain')\n"
        "make_loader(prepared, batch=2, augment='wu')\n"
    )
    command = [sys.executable, "-c", script, prepared.folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "InputError: NVIDIA DALI is not installed" in done.stderr
    assert "give data.pipeline=plain" in done.stderr
