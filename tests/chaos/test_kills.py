"""Whoever is killed, and whenever: the run ends with the bits of one that nobody touched."""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fundusray.cluster.runtime.train_workers import RunFailedError
from fundusray.cluster.train import train_recipe
from fundusray.runs.run import plan_run
from tests.chaos.harness import (
    ENDED,
    STEPS,
    Command,
    assert_kept,
    ends,
    recipe,
    step_of,
    until,
    workers_below,
)

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
KILLS = 10


def prepared_in(storage: Path) -> str:
    """The prepared set of a storage folder."""
    return str(next(storage.rglob("set.json")).parent)


class Assassin:
    """Kills a random worker of this process's Ray whenever the run has come so many steps far."""

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.folder, self.killed = folder, 0
        self.draw = random.Random(seed)
        self.steps = sorted(self.draw.sample(range(1, STEPS), kills))
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self) -> "Assassin":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def work(self) -> None:
        gone: set[int] = set()
        for step in self.steps:
            while step_of(self.folder) < step or not set(workers_below(os.getpid())) - gone:
                if self.over.wait(0.02):
                    return
            # Anywhere in a step, in the writing of its checkpoint or in the report of an epoch.
            time.sleep(self.draw.uniform(0, 0.5))
            alive = [pid for pid in workers_below(os.getpid()) if pid not in gone]
            if alive:
                victim = self.draw.choice(alive)
                os.kill(victim, signal.SIGKILL)
                gone.update(alive)  # Ray replaces the others along with it
                self.killed += 1


@pytest.fixture(scope="module")
def unbroken(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict]:
    """unbroken(workers) -> what the run ends with when nobody touches it."""
    known = {"1": ends(next(ready.glob("demo-*")))}

    def of(workers: str) -> dict:
        if workers not in known:
            asked = recipe(cluster__workers=workers, train__checkpoint_seconds="1000")
            storage = tmp_path_factory.mktemp("unbroken")
            known[workers] = ends(
                Path(train_recipe(asked, prepared_in(ready), str(storage))["folder"])
            )
        return known[workers]

    return of


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_workers_change_no_bit(
    unbroken: Callable[[str], dict], ready: Path, tmp_path: Path, workers: str
) -> None:
    asked, prepared = recipe(cluster__workers=workers), prepared_in(ready)
    expected = unbroken(workers)
    folder = Path(plan_run(asked, prepared, str(tmp_path)).folder)
    with Assassin(folder, KILLS, seed=int(workers)) as assassin:
        train_recipe(asked, prepared, str(tmp_path))
    # The last one may come when the run is already over.
    assert assassin.killed in (KILLS - 1, KILLS)
    assert ends(folder) == expected
    assert_kept(folder)


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_driver_changes_no_bit(
    start: Callable[..., Command], ready: Path, seed: int
) -> None:
    draw = random.Random(seed)
    command = start()
    command.reach(draw.randrange(1, STEPS - 2))
    time.sleep(draw.uniform(0, 0.5))
    os.kill(command.pid, signal.SIGKILL)
    command.end()
    again = start()
    assert again.end() == 0, again.text
    assert "resuming from step" in again.text
    assert ends(again.folder) == ends(next(ready.glob("demo-*")))
    assert_kept(again.folder)
    until(lambda: not command.left_over(), "all that it had started has ended", ENDED)


def half_done(ready: Path, storage: Path) -> tuple[Path, str]:
    """A run that stands at its last two checkpoints, as a killed driver leaves it."""
    done = next(ready.glob("demo-*"))
    folder = storage / done.name
    shutil.copytree(done, folder)
    for name in ("result.json", "outcome.json", "predictions.parquet"):
        (folder / name).unlink()
    return folder, prepared_in(ready)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    ready: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder, prepared = half_done(ready, tmp_path)
    before, last = sorted(path.name for path in (folder / "checkpoints").iterdir())
    damage(folder / "checkpoints" / last / "model.safetensors")
    train_recipe(recipe(), prepared, str(tmp_path))
    said = capfd.readouterr().err
    refused = [line for line in said.splitlines() if "checkpoint refused" in line]
    assert len(refused) == 1 and f"{last}/model.safetensors: other bytes" in refused[0]
    assert f"resuming from step {int(before.removeprefix('step-'))}" in said
    assert ends(folder) == ends(next(ready.glob("demo-*")))


def test_without_a_good_checkpoint_nothing_starts_over(ready: Path, tmp_path: Path) -> None:
    folder, prepared = half_done(ready, tmp_path)
    for checkpoint in (folder / "checkpoints").iterdir():
        damage(checkpoint / "state.json")
    with pytest.raises(RunFailedError, match=r"no usable checkpoint.*state\.json") as caught:
        train_recipe(recipe(), prepared, str(tmp_path))
    assert caught.value.exit_code == 3
    assert not (folder / "result.json").exists()
