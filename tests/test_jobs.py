"""Every job: short, helpful, and clear about wrong input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
JOBS = sorted((ROOT / "jobs").glob("*.py"))


def run(*arguments: str, cwd: Path = ROOT) -> tuple[int, dict, str]:
    """(exit code, the RESULT line, all output) of a job started as a user would."""
    job, *rest = arguments
    command = [sys.executable, str(ROOT / "jobs" / job), *rest]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    result = json.loads(last.removeprefix("RESULT ")) if last.startswith("RESULT ") else {}
    return done.returncode, result, done.stdout + done.stderr


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_jobs_are_short(job: Path) -> None:
    assert len(job.read_text().splitlines()) < 60


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_jobs_help(job: Path) -> None:
    code, _, text = run(job.name, "--help")
    assert code == 0
    assert "train.epochs=" in text and "python jobs/" in text


def test_show_prints_the_resolved_recipe() -> None:
    code, result, text = run(
        "train.py", "wu.table5.focal_gamma2", "show=true", f"data.root={ROOT}", "train.epochs=5"
    )
    assert (code, result["status"]) == (0, "shown")
    shown = json.loads(text[text.index("{") : text.rindex("RESULT")])
    assert shown["loss"] == {"name": "focal", "args": {"gamma": 2.0}}
    assert shown["train"]["epochs"] == 5 and shown["train"]["batch"] == 48


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train.py", "wu.table5.focal_gama2"), "did you mean 'wu.table5.focal_gamma2'"),
        (("train.py", "demo", "train.epoch=3"), "did you mean 'train.epochs'"),
        (("train.py", "demo", "loss.name=focl"), "did you mean 'focal'"),
        (("train.py", "demo", "loss.args.gamma=2"), "gamma"),
        (("train.py", "demo", "model.name=resnet81"), "did you mean 'resnet18'"),
        (("train.py", "demo", "model.weights=/no/such/file.pth"), "/no/such/file.pth"),
        (("train.py", "demo", "train.batch=x"), "train.batch: needs int"),
        (("train.py", "demo", "data.source=eyepacs"), "data.root"),
        (("evaluate.py", "/no/such/bundle"), "/no/such/bundle"),
        (("evaluate.py",), "give one bundle"),
    ],
)
def test_wrong_input_is_told_before_anything_is_written(
    arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    code, result, text = run(*arguments, cwd=tmp_path)
    assert code == result["code"] == 2, text
    assert told in text
    assert "Traceback" not in text
    assert not list(tmp_path.iterdir())
