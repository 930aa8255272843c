"""Checkpoints: what is saved comes back to the bit, and damage is never used."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from fundusray import files
from fundusray.config import Train
from fundusray.errors import NoCheckpointError
from fundusray.training import checkpoints
from fundusray.training.checkpoints import Position
from fundusray.training.optimizers import build_optimizer


def trained(steps: int, optimizer: str = "adamw") -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    model = model.to(memory_format=torch.channels_last)
    found = build_optimizer(model, Train(optimizer=optimizer, lr=1e-2))
    for step in range(steps):
        go(model, found, step)
    return model, found


def go(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    torch.manual_seed(step)
    optimizer.zero_grad()
    model(torch.randn(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_stopped_and_continued_equals_never_stopped(tmp_path: Path, optimizer: str) -> None:
    model, found = trained(3, optimizer)
    position = Position(step=3, loss_sum=1.5, seen=7, history=[{"epoch": 1}], best={"epoch": 1})
    place = checkpoints.save_checkpoint(str(tmp_path), model, found, position, "key")
    again, other = trained(0, optimizer)
    assert checkpoints.load_checkpoint(place, again, other) == position
    for step in range(3, 6):
        go(model, found, step)
        go(again, other, step)
    for left, right in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(left, right)


def test_only_the_newest_stay(tmp_path: Path) -> None:
    model, found = trained(1)
    for step in range(1, 6):
        checkpoints.save_checkpoint(str(tmp_path), model, found, Position(step=step), "key")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004", "step-00000005"]
    assert checkpoints.newest_checkpoint(str(tmp_path), "key") == ("step-00000005", [])


def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path: Path) -> None:
    model, found = trained(1)
    for step in (1, 2):
        checkpoints.save_checkpoint(str(tmp_path), model, found, Position(step=step), "key")
    victim = tmp_path / "step-00000002" / "model.safetensors"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    name, problems = checkpoints.newest_checkpoint(str(tmp_path), "key")
    assert name == "step-00000001"
    assert len(problems) == 1 and "model.safetensors" in problems[0]


def test_none_usable_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    model, found = trained(1)
    checkpoints.save_checkpoint(str(tmp_path), model, found, Position(step=1), "key")
    with pytest.raises(NoCheckpointError, match="another run"):
        checkpoints.newest_checkpoint(str(tmp_path), "other")
    (tmp_path / "step-00000001" / "state.json").unlink()
    with pytest.raises(NoCheckpointError, match=r"state\.json"):
        checkpoints.newest_checkpoint(str(tmp_path), "key")


def test_an_empty_folder_starts_from_nothing(tmp_path: Path) -> None:
    assert checkpoints.newest_checkpoint(str(tmp_path / "none"), "key") == ("", [])


def test_another_version_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = trained(1)
    place = checkpoints.save_checkpoint(str(tmp_path), model, found, Position(step=1), "key")

    @dataclass
    class Later(Position):
        colour: str = ""

    monkeypatch.setattr(checkpoints, "Position", Later)
    for act in (
        lambda: checkpoints.newest_checkpoint(str(tmp_path), "key"),
        lambda: checkpoints.load_checkpoint(place, model, found),
    ):
        with pytest.raises(NoCheckpointError, match=r"step-00000001.*another version.*colour"):
            act()


def test_a_renamed_one_is_not_taken_for_a_later_step(tmp_path: Path) -> None:
    model, found = trained(1)
    for step in (1, 2):
        checkpoints.save_checkpoint(str(tmp_path), model, found, Position(step=step), "key")
    (tmp_path / "step-00000002").rename(tmp_path / "step-00000009")
    name, problems = checkpoints.newest_checkpoint(str(tmp_path), "key")
    assert name == "step-00000001"
    assert problems == ["step-00000009: holds step 2; was it renamed?"]


def test_refused_later_ones_do_not_push_out_the_good(tmp_path: Path) -> None:
    model, found = trained(1)
    for step in (5, 100):
        checkpoints.save_checkpoint(str(tmp_path), model, found, Position(step=step), "key")
    (tmp_path / "step-00000100" / "state.json").write_bytes(b"")
    checkpoints.save_checkpoint(str(tmp_path), model, found, Position(step=6), "key")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000005", "step-00000006"]
    assert checkpoints.newest_checkpoint(str(tmp_path), "key") == ("step-00000006", [])


def test_what_was_being_replaced_comes_back(tmp_path: Path) -> None:
    model, found = trained(1)
    for step in (1, 2):
        checkpoints.save_checkpoint(str(tmp_path), model, found, Position(step=step), "key")
    (tmp_path / "step-00000002").rename(tmp_path / ".old-step-00000002")
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".old-step-00000001")
    (tmp_path / ".tmp-1f-step-00000003").mkdir()
    checkpoints.sweep_checkpoints(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
    assert checkpoints.newest_checkpoint(str(tmp_path), "key") == ("step-00000002", [])
    checkpoints.sweep_checkpoints(str(tmp_path / "none"))


class Killed(BaseException):
    pass


def killed_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every put or removal of a file counts; the one of this number is not made."""
    made = 0

    def counted(act: Callable) -> Callable:
        def do(*arguments: object) -> object:
            nonlocal made
            made += 1
            if made == moment:
                raise Killed
            return act(*arguments)

        return do

    for name in ("write_bytes", "remove"):
        monkeypatch.setattr(files, name, counted(getattr(files, name)))


@pytest.mark.parametrize("moment", range(1, 9))
def test_on_an_object_store_a_kill_leaves_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The only checkpoint there is, written once more at the end of its epoch."""
    where = f"file://{tmp_path}/checkpoints"
    model, found = trained(2)
    checkpoints.save_checkpoint(where, model, found, Position(step=2), "key")
    with monkeypatch.context() as patched:
        killed_at(moment, patched)
        later = Position(step=2, history=[{"epoch": 1}])
        with suppress(Killed):
            checkpoints.save_checkpoint(where, model, found, later, "key")
    checkpoints.sweep_checkpoints(where)
    name, problems = checkpoints.newest_checkpoint(where, "key")
    assert name and not problems
    position = checkpoints.load_checkpoint(f"{where}/{name}", *trained(0))
    assert position.step == 2
    # What goes on from there finds its own newest again.
    for seen in (3, 4, 5):
        checkpoints.save_checkpoint(where, model, found, Position(step=2, seen=seen), "key")
    name, _ = checkpoints.newest_checkpoint(where, "key")
    assert checkpoints.load_checkpoint(f"{where}/{name}", *trained(0)).seen == 5
    checkpoints.save_checkpoint(where, model, found, Position(step=3), "key")
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert len(names) == checkpoints.KEEP and names[-1] == "step-00000003"
    assert checkpoints.newest_checkpoint(where, "key") == ("step-00000003", [])


def test_on_an_object_store_a_first_one_cut_off_is_none(tmp_path: Path) -> None:
    where = f"file://{tmp_path}"
    model, found = trained(1)
    checkpoints.save_checkpoint(where, model, found, Position(step=1), "key")
    (tmp_path / "step-00000001" / "MANIFEST.json").unlink()
    assert checkpoints.newest_checkpoint(where, "key") == ("", [])
    checkpoints.sweep_checkpoints(where)
    assert list(tmp_path.iterdir()) == []
    checkpoints.save_checkpoint(where, model, found, Position(step=1), "key")
    assert checkpoints.newest_checkpoint(where, "key") == ("step-00000001", [])


def test_on_an_object_store_damage_is_still_told(tmp_path: Path) -> None:
    where = f"file://{tmp_path}"
    model, found = trained(1)
    checkpoints.save_checkpoint(where, model, found, Position(step=1), "key")
    (tmp_path / "step-00000001" / "state.json").write_bytes(b"")
    checkpoints.sweep_checkpoints(where)
    with pytest.raises(NoCheckpointError, match=r"state\.json"):
        checkpoints.newest_checkpoint(where, "key")


def test_the_stage_says_whose_state_it_is(tmp_path: Path) -> None:
    model, found = trained(2)
    place = checkpoints.save_checkpoint(
        str(tmp_path), model, found, Position(step=2, stage=1), "key"
    )
    assert checkpoints.stage_of(place) == 1
    assert checkpoints.load_checkpoint(place, *trained(0)).stage == 1
