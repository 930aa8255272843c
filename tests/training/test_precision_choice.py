"""A run goes on as it began, also when its workers' batch is another."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fundusray import files
from fundusray.config import Recipe, override
from fundusray.errors import DamagedError
from fundusray.training import numeric_precision
from fundusray.training.job import Job
from fundusray.training.numeric_precision import Precision
from fundusray.training.precision_choice import known_mode

CPU = torch.device("cpu")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        recipe="", prepared="", folder=str(tmp_path / "run"), key="", split="",
        storage=str(tmp_path), threads=1, attempt="",
    )  # fmt: skip


def test_the_first_choice_of_a_run_stays_its_own(job: Job, monkeypatch) -> None:
    asked: list[int] = []

    def probe(model, shape, device, train) -> tuple[Precision, dict[str, float]]:
        asked.append(shape[0])
        return Precision("bf16" if shape[0] == 4 else "fp32", "contiguous"), {"x": 1.0}

    monkeypatch.setattr(numeric_precision, "probe_precisions", probe)

    def chosen(of: Job, batch: int) -> str:
        told = known_mode(nn.Identity(), (batch, 3, 8, 8), CPU, Recipe(), of)
        return told["mode"]["precision"]

    assert chosen(job, 4) == "bf16"
    assert chosen(job, 8) == "bf16" and asked == [4], "with half the workers, the run goes on"
    other = replace(job, folder=job.folder + "-other")
    assert chosen(other, 8) == "fp32" and chosen(other, 4) == "fp32" and asked == [4, 8]
    third = replace(job, folder=job.folder + "-third")
    assert chosen(third, 4) == "bf16" and asked == [4, 8], "what the machine does best is known"
    assert files.exists(files.join(job.folder, "mode.json"))


def flip(place: str) -> None:
    content = Path(place).read_bytes()
    Path(place).write_bytes(content[:9] + bytes([content[9] ^ 1]) + content[10:])


def known(job: Job, **train: str) -> dict:
    recipe = override(Recipe(), {f"train.{key}": value for key, value in train.items()})
    return known_mode(nn.Linear(8, 2), (2, 3, 8, 8), CPU, recipe, job)


@pytest.mark.parametrize("damage", [flip, lambda place: Path(place).write_bytes(b"")])
def test_a_damaged_choice_is_not_made_anew_under_a_run(job: Job, damage) -> None:
    """Another precision or layout would end in other numbers."""
    own = files.join(job.folder, "mode.json")
    chosen = {"mode": {"precision": "bf16", "layout": "contiguous"}, "seconds": {}, "for": []}
    files.write_json(own, chosen)
    assert known(job) == chosen
    damage(own)
    files.make_dir(files.join(job.folder, "checkpoints", "step-00000001"))
    with pytest.raises(DamagedError, match=rf"{own} is damaged.*delete {job.folder} to train anew"):
        known(job)


def test_a_damaged_choice_that_is_settled_or_not_used_yet_is_made_again(job: Job, capsys) -> None:
    own = files.join(job.folder, "mode.json")
    settled = {"precision": "fp32", "layout": "contiguous"}
    first = known(job, **settled)
    files.make_dir(files.join(job.folder, "checkpoints", "step-00000001"))
    for note in (own, str(next(Path(job.storage, "modes").iterdir()))):
        flip(note)
        assert known(job, **settled) == first
    assert "mode.json" in capsys.readouterr().err
    files.remove(files.join(job.folder, "checkpoints"))
    flip(own)
    assert known(job, **settled)["mode"] == settled


def test_a_damaged_note_of_the_machine_is_refused(job: Job, monkeypatch) -> None:
    answer = Precision("fp32", "contiguous"), {"fp32 contiguous": 1.0}
    monkeypatch.setattr(numeric_precision, "probe_precisions", lambda *asked: answer)
    known(job)
    flip(str(next(Path(job.storage, "modes").iterdir())))
    assert known(job)["mode"]["precision"] == "fp32", "a run has its own"
    with pytest.raises(DamagedError, match=r"modes/.* is damaged.*train\.precision="):
        known(replace(job, folder=job.folder + "-other"))
