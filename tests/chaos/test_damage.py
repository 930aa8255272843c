"""A damaged checkpoint is never used, and a writer killed at any moment leaves a whole one."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fundusray import files, verified
from fundusray.config import Train
from fundusray.errors import NoCheckpointError
from fundusray.training import checkpoints
from fundusray.training.checkpoints import KEEP, Position
from fundusray.training.optimizers import build_optimizer
from fundusray.verified import MANIFEST

FLIPS, CUTS = 200, 50
OLDER, NEWER = checkpoints.checkpoint_name(5), checkpoints.checkpoint_name(10)


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    optimizer = build_optimizer(model, Train(optimizer="sgd", lr=1e-2))
    model(torch.randn(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    return model, optimizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good checkpoints, of steps 5 and 10."""
    for step in (5, 10):
        checkpoints.save_checkpoint(str(tmp_path), *trained(), Position(step=step), "key")
    return tmp_path


def assert_refused(folder: Path, *told: str) -> None:
    """The newer one is refused for a reason that says `told`, the older one used instead; where
    that is damaged, too, the run ends."""
    name, problems = checkpoints.newest_checkpoint(str(folder), "key")
    assert name == OLDER and len(problems) == 1
    assert all(word in problems[0] for word in told), problems


def assert_none_left(folder: Path, *told: str) -> None:
    with pytest.raises(NoCheckpointError, match="no usable checkpoint") as caught:
        checkpoints.newest_checkpoint(str(folder), "key")
    assert caught.value.exit_code == 3
    assert all(word in str(caught.value) for word in told), caught.value


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    place, bit = divmod(int(rng.integers(8 * len(content))), 8)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


@pytest.mark.parametrize(("damage", "trials"), [(flip, FLIPS), (cut, CUTS)])
def test_every_flipped_bit_and_every_cut_is_seen(
    folder: Path, damage: Callable[[bytes, np.random.Generator], bytes], trials: int
) -> None:
    rng = np.random.default_rng(0)
    whole = {path: path.read_bytes() for path in sorted(folder.glob("step-*/*"))}
    newer = [path for path in whole if path.parent.name == NEWER]
    older = [path for path in whole if path.parent.name == OLDER]
    assert len(newer) == len(older) == 4
    for trial in range(trials):
        victim = newer[trial % 4]
        victim.write_bytes(damage(whole[victim], rng))
        assert_refused(folder, f"{NEWER}/{victim.name}")
        other = older[int(rng.integers(4))]
        other.write_bytes(damage(whole[other], rng))
        assert_none_left(folder, f"{NEWER}/{victim.name}", f"{OLDER}/{other.name}")
        for path in (victim, other):
            path.write_bytes(whole[path])
    assert checkpoints.newest_checkpoint(str(folder), "key") == (NEWER, [])


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", MANIFEST]
)
@pytest.mark.parametrize("empty", [True, False], ids=["empty", "gone"])
def test_a_file_gone_or_empty(folder: Path, name: str, empty: bool) -> None:
    for step in (NEWER, OLDER):
        victim = folder / step / name
        victim.write_bytes(b"") if empty else victim.unlink()
        if step == NEWER:
            assert_refused(folder, f"{NEWER}/{name}", "" if empty else "missing")
    assert_none_left(folder, f"{NEWER}/{name}", f"{OLDER}/{name}")


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_files_swapped_between_checkpoints(folder: Path) -> None:
    swap(folder / NEWER / "state.json", folder / OLDER / "state.json")
    assert_none_left(folder, f"{NEWER}/state.json", f"{OLDER}/state.json")


def test_swapped_checkpoints(folder: Path) -> None:
    checkpoints.save_checkpoint(str(folder), *trained(), Position(step=15), "key")
    swap(folder / NEWER, folder / checkpoints.checkpoint_name(15))
    assert_none_left(folder, "step-00000015: holds step 10", "step-00000010: holds step 15")


def test_a_checkpoint_of_another_run(folder: Path) -> None:
    shutil.rmtree(folder / NEWER)
    checkpoints.save_checkpoint(str(folder), *trained(), Position(step=10), "other")
    assert_refused(folder, NEWER, "belongs to another run", "other")
    shutil.rmtree(folder / OLDER)
    assert_none_left(folder, NEWER, "belongs to another run")


class Killer:
    """Ends this process at its nth moment of writing: before or after a call, or halfway in."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def pass_by(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.pass_by()
            result = call(*args, **kwargs)
            self.pass_by()
            return result

        return watched

    def opened(self, handle: int, mode: str) -> Any:
        """A file whose content is written in two halves."""
        stream, killer = os.fdopen(handle, mode), self

        class Halves:
            def __enter__(self) -> "Halves":
                return self

            def __exit__(self, *error: Any) -> None:
                stream.close()

            def write(self, content: bytes) -> None:
                stream.write(content[: len(content) // 2])
                stream.flush()
                killer.pass_by()
                stream.write(content[len(content) // 2 :])

            flush, fileno = stream.flush, stream.fileno

        return Halves()


def killed_at(moment: int, write: Callable[[], None]) -> bool:
    """Whether a child process that writes had a moment of that number; it ended there."""
    pid = os.fork()
    if pid == 0:
        killer = Killer(moment)
        found = dict(vars(os))
        watched = ("open", "fsync", "replace", "rename", "makedirs")
        calls = {name: killer.around(found[name]) for name in watched}

        class Watched:
            fdopen = staticmethod(killer.opened)

            def __getattr__(self, name: str) -> Any:
                return calls.get(name) or found[name]

        try:
            files.os = checkpoints.os = verified.os = Watched()
            files.remove = killer.around(files.remove)
            write()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize(
    "stride", [pytest.param(1, marks=pytest.mark.chaos, id="every"), pytest.param(9, id="some")]
)
def test_killed_at_any_moment_of_writing(tmp_path: Path, stride: int) -> None:
    good, moment = tmp_path / "good", 0
    parts = trained()
    for step in (1, 2):
        checkpoints.save_checkpoint(str(good), *parts, Position(step=step), "key")

    def write() -> None:
        """A new checkpoint, then the same step again, as at the end of an epoch."""
        for seen in (1, 2):
            checkpoints.save_checkpoint(str(work), *parts, Position(step=3, seen=seen), "key")

    while True:
        work = tmp_path / f"moment-{moment}"
        shutil.copytree(good, work)
        if not killed_at(moment, write):
            break
        checkpoints.sweep_checkpoints(str(work))
        assert all(path.name.startswith("step-") for path in work.iterdir()), moment
        assert not [path for path in work.rglob("*") if path.name.startswith(files.TEMPORARY)]
        name, problems = checkpoints.newest_checkpoint(str(work), "key")
        assert problems == [] and name in (
            checkpoints.checkpoint_name(2),
            checkpoints.checkpoint_name(3),
        ), moment
        again = checkpoints.load_checkpoint(str(work / name), *trained())
        assert again.seen in ((0,) if again.step == 2 else (1, 2)), moment
        assert len(list(work.iterdir())) <= KEEP + 1
        checkpoints.save_checkpoint(str(work), *parts, Position(step=4), "key")
        assert len(list(work.iterdir())) == KEEP
        shutil.rmtree(work)
        moment += stride
    assert moment > 50
