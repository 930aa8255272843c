"""A run goes on as it began, also when its workers' batch is another."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fundusray import files
from fundusray.cluster.keeping import Job
from fundusray.cluster.modes import known_mode
from fundusray.config import Recipe
from fundusray.training import mode
from fundusray.training.mode import Mode

CPU = torch.device("cpu")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        recipe="", prepared="", folder=str(tmp_path / "run"), key="", storage=str(tmp_path),
        threads=1, attempt="",
    )  # fmt: skip


def test_the_first_choice_of_a_run_stays_its_own(job: Job, monkeypatch) -> None:
    asked: list[int] = []

    def probe(model, shape, device, train) -> tuple[Mode, dict[str, float]]:
        asked.append(shape[0])
        return Mode("bf16" if shape[0] == 4 else "fp32", "contiguous"), {"x": 1.0}

    monkeypatch.setattr(mode, "probe", probe)

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
