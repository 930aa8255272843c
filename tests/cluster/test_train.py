"""Training on Ray: a result to read, the same whatever happens to its workers."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fundusray import config, files
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError, LockedError
from fundusray.jobs.training import about_of
from fundusray.lock import locked
from fundusray.runs.check import check_run
from fundusray.runs.run import plan_run
from fundusray.runs.split_of_run import split_of
from fundusray.verified import read_verified

pytestmark = pytest.mark.ray


def weights(folder: str) -> dict[str, str]:
    """Hashes of the last checkpoint's and the bundle's weights, and of the optimiser's state."""
    last = sorted(Path(folder, "checkpoints").iterdir())[-1]
    read_verified(str(last))
    names = [last / "model.safetensors", last / "optimizer.safetensors"]
    names.append(Path(folder, "bundle", "model.safetensors"))
    return {str(n.relative_to(folder)): files.sha256(n.read_bytes()) for n in names}


def test_a_run_leaves_everything_a_reader_needs(
    unbroken: dict, small: Recipe, prepared: str
) -> None:
    folder = Path(unbroken["folder"])
    sides = split_of(open_set(prepared), small).rows
    table = pq.read_table(folder / "predictions.parquet")
    assert table.column_names[:3] == ["image_id", "patient_id", "target"]
    assert table.column_names[3:] == [f"logit_{k}" for k in range(5)]
    assert table.schema.metadata[b"ordered"] == b"true"
    assert read_verified(unbroken["bundle"])[1]["info"]["ordered"] is True
    assert len(table) == len(sides["test"]) == unbroken["metrics"]["n"]
    assert [row["epoch"] for row in unbroken["history"]] == [1, 2, 3]
    assert (unbroken["workers"], unbroken["cpus"], unbroken["gpus"]) == (1, 1, 0)
    assert 1 <= unbroken["best"]["epoch"] <= 3 and unbroken["best"]["metric"] == "val_kappa"
    assert config.from_json((folder / "recipe.json").read_text()) == small
    split = pq.read_table(folder / "manifest.parquet")["split"].to_pylist()
    assert split.count("train") == len(sides["train"])
    assert len(list((folder / "checkpoints").iterdir())) == 2
    assert not (folder / "lock").exists() and not (folder / "ray").exists()


def test_a_finished_run_is_not_run_again(unbroken: dict, small: Recipe, prepared: str) -> None:
    def written() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in Path(unbroken["folder"]).rglob("*")}

    before = written()
    assert train_recipe(small, prepared, str(Path(unbroken["folder"]).parent)) == unbroken
    assert written() == before


def test_a_copied_storage_is_gone_on_with_and_damage_in_it_made_again(
    unbroken: dict, small: Recipe, prepared: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    old = Path(unbroken["folder"])
    before = {p: p.stat().st_mtime_ns for p in old.rglob("*")}
    shutil.copytree(old.parent, tmp_path / "new")
    folder = tmp_path / "new" / old.name
    copied = train_recipe(small, prepared, str(tmp_path / "new"))
    assert copied["folder"] == str(folder) and copied["bundle"] == f"{folder}/bundle"
    figures = {k: v for k, v in unbroken.items() if k not in ("folder", "bundle", "predictions")}
    assert figures.items() <= copied.items() and str(old.parent) not in json.dumps(copied)
    # A finished run needs no checkpoints; what is damaged is computed anew from its bundle.
    shutil.rmtree(folder / "checkpoints")
    names = ("predictions.parquet", "result.json", "mode.json", "split.csv", "manifest.parquet")
    whole = {name: (folder / name).read_bytes() for name in names}
    for name, content in whole.items():
        (folder / name).write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:])
    # As of a driver that was killed when its workers were done.
    (folder / "ray" / "left").mkdir(parents=True)
    capfd.readouterr()
    assert train_recipe(small, prepared, str(tmp_path / "new")) == copied
    assert not (folder / "ray").exists()
    said = capfd.readouterr().err
    assert f"{folder}/result.json: " in said and f"{folder}/predictions.parquet: " in said
    assert {name: (folder / name).read_bytes() for name in names} == whole
    assert not (folder / "checkpoints").exists(), "nothing was trained"
    assert {p: p.stat().st_mtime_ns for p in old.rglob("*")} == before


def training_processes() -> list[int]:
    """The training workers of the Ray that this process started, of no other."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    names = {pid: Path(f"/proc/{pid}/cmdline") for pid in parents if ours(pid)}
    return [
        pid
        for pid, name in names.items()
        if name.exists() and name.read_bytes().startswith(b"ray::RayTrainWorker")
    ]


def kill_when(condition: Path, killed: list[int]) -> None:
    """SIGKILLs a training worker once a checkpoint is there, in the middle of the work after it."""
    while not condition.exists() or not any(condition.iterdir()):
        time.sleep(0.02)
    for pid in training_processes()[:1]:
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)


def test_a_killed_worker_changes_no_bit(
    unbroken: dict, small: Recipe, prepared: str, tmp_path: Path
) -> None:
    often = override(small, {"train.checkpoint_seconds": 0.0})
    folder = tmp_path / Path(unbroken["folder"]).name
    killed: list[int] = []
    killer = threading.Thread(target=kill_when, args=(folder / "checkpoints", killed), daemon=True)
    killer.start()
    result = train_recipe(often, prepared, str(tmp_path))
    killer.join(1)
    assert len(killed) == 1
    assert result["folder"] == str(folder)
    assert weights(result["folder"]) == weights(unbroken["folder"])
    assert result["metrics"] == unbroken["metrics"]
    kept = [{k: v for k, v in row.items() if k.startswith(("val", "train"))} for row in
            result["history"]]  # fmt: skip
    for row, other in zip(kept, unbroken["history"], strict=True):
        assert row == {key: other[key] for key in row}


def test_a_folder_in_use_is_refused(small: Recipe, prepared: str, tmp_path: Path) -> None:
    other = override(small, {"seed": 7})
    with (
        locked(plan_run(other, prepared, str(tmp_path)).folder),
        pytest.raises(LockedError, match=f"process {os.getpid()}"),
    ):
        train_recipe(other, prepared, str(tmp_path))


def test_a_start_that_knows_the_judged_photographs_is_refused(
    small: Recipe, prepared: str, unbroken: dict
) -> None:
    same = override(small, {"model.weights": unbroken["bundle"]})
    check_run(plan_run(same, prepared, "unused"))
    other = override(same, {"seed": 5})
    with pytest.raises(InputError, match=r"the start .* knows \d+ of .* test images.*split_file"):
        check_run(plan_run(other, prepared, "unused"))
    allowed = override(other, {"data.allow_leak": True})
    run = plan_run(allowed, prepared, "unused")
    check_run(run)
    about = about_of(allowed, run.split, run.start, "a restart", "fp32")
    assert about["leak"].startswith("LEAK ALLOWED (data.allow_leak=true): the start ")
