"""What tests of faults share: a run small enough to be broken often, and what it must end with."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fundusray import files
from fundusray.config import Recipe, override
from fundusray.recipes import find_recipe
from fundusray.training import checkpoints
from fundusray.verified import read_verified

ROOT = Path(__file__).parent.parent.parent
SETTINGS = {
    "data.num_images": "48",
    "data.size": "32",
    "data.fractions": "0.5,0.25,0.25",
    "model.dropout": "0.25",
    "model.name": "resnet18",
    "model.weights": "",
    "train.epochs": "6",
    "train.batch": "8",
    "train.optimizer": "sgd",
    "train.schedule": "cosine",
    "train.precision": "fp32",
    "train.layout": "contiguous",
    "train.checkpoint_seconds": "0",
    "train.keep_checkpoints": "true",
    "cluster.cpus": "1",
    "cluster.max_failures": "30",
}
"""Eighteen steps in six epochs of a ResNet-18, one checkpoint (90 MB) after each."""
STEPS = 18
ENDED = 120.0
"""Seconds in which all that a killed driver had started has ended by itself; two of Ray's helpers
look for its head for a minute."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # A dead worker is noticed sooner, a stuck one of a broken test does not stay for ever.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}


def recipe(**changes: str) -> Recipe:
    """The demo at its smallest."""
    return override(
        find_recipe("demo"), SETTINGS | {k.replace("__", "."): v for k, v in changes.items()}
    )


def ends(folder: Path) -> dict[str, str | dict]:
    """What a run ends with, to the bit: weights, optimiser, metrics, history without its times."""
    last = sorted((folder / "checkpoints").iterdir())[-1]
    content, _ = read_verified(str(last))
    found: dict[str, str | dict] = {
        name: files.sha256(content[name]) for name in ("model.safetensors", "optimizer.safetensors")
    }
    bundle, _ = read_verified(str(folder / "bundle"))
    found["best"] = files.sha256(bundle["model.safetensors"])
    result = files.read_json(str(folder / "result.json"))
    found["metrics"] = result["metrics"]
    kept = ("epoch", "train", "val", "lr")
    found["history"] = [
        {k: v for k, v in row.items() if k.startswith(kept)} for row in result["history"]
    ]
    found["predictions"] = files.sha256_file(str(folder / "predictions.parquet"))
    return found


def step_of(folder: Path) -> int:
    """The step of the newest checkpoint that is there, 0 without any."""
    with contextlib.suppress(FileNotFoundError):
        found = [p.name for p in (folder / "checkpoints").iterdir() if p.name.startswith("step-")]
        return max((int(name.removeprefix("step-")) for name in found), default=0)
    return 0


def until(condition: Callable[[], bool], what: str, seconds: float = 180) -> float:
    """Waits for something; the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"after {seconds} s still not: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


def processes() -> Iterator[tuple[int, int, int, str]]:
    """(pid, parent, session, command line) of every process that has not ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            line = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if fields[0] not in "ZX" and line:
                yield int(stat.parent.name), int(fields[1]), int(fields[3]), line


def workers_below(root: int) -> list[int]:
    """The training workers among a process's descendants, of no other Ray."""
    found = {pid: (parent, line) for pid, parent, _, line in processes()}

    def below(pid: int) -> bool:
        return pid == root or (pid in found and below(found[pid][0]))

    name = "ray::RayTrainWorker"
    return sorted(pid for pid, (_, line) in found.items() if line.startswith(name) and below(pid))


def clean() -> dict[str, str]:
    """This process's environment without what its own Ray has put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def words(storage: Path, job: str = "train.py", named: str = "demo", **changes: str) -> list[str]:
    """The command line of the demo at its smallest; another job's, about what it is to name."""
    asked = SETTINGS | {k.replace("__", "."): v for k, v in changes.items()}
    asked |= {"run.storage": str(storage)}
    settings = (f"{key}={value}" for key, value in asked.items())
    return [sys.executable, "-u", str(ROOT / "jobs" / job), named, *settings]


class Command:
    """`python jobs/train.py demo ...` in a session of its own; its output goes to a file."""

    def __init__(self, storage: Path, log: Path, address: str = "", **changes: str) -> None:
        """With an address the command joins the cluster there; otherwise it starts its own.
        `changes` are of `words`: `job`, `named` and settings."""
        self.log, self.storage = log, storage
        joined = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"} if address else {}
        with log.open("w") as sink:
            self.process = subprocess.Popen(
                words(storage, **changes),
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=clean() | ENVIRONMENT | joined,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def folder(self) -> Path:
        """The run's folder; one that does not exist until there is one."""
        return next(iter(self.storage.glob("demo-*")), self.storage / "none")

    @property
    def text(self) -> str:
        return self.log.read_text()

    def reach(self, step: int) -> None:
        """Waits until a checkpoint of that step or a later one is there."""

        def there() -> bool:
            assert self.process.poll() is None, self.text
            return step_of(self.folder) >= step

        until(there, f"step {step}; {self.text[-2000:]}")

    def end(self, seconds: float = 600) -> int:
        """Waits for the end; the exit code."""
        return self.process.wait(seconds)

    def own(self) -> Iterator[tuple[int, str]]:
        """(pid, command line) of what runs in its session or for the Ray that it has started."""
        ray = re.compile(rf"/session_[\d_-]+_{self.pid}/")
        for pid, _, session, line in processes():
            if session == self.pid or ray.search(line):
                yield pid, line

    def left_over(self) -> list[str]:
        """Command lines of its processes that still run."""
        return [line for _, line in self.own()]

    def kill(self) -> None:
        """Ends whatever is left, so that a failed test leaves nothing behind."""
        for pid, _ in list(self.own()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


def assert_kept(folder: Path) -> None:
    """No more checkpoints than are kept, nothing half written."""
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert len(names) <= checkpoints.KEEP and all(n.startswith("step-") for n in names), names
    assert not list(folder.rglob(f"{files.TEMPORARY}*"))
