"""A full disk ends a run in one line, spoils nothing, and the run goes on once there is room."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from fundusray import files
from fundusray.errors import DiskError
from fundusray.training import checkpoints
from fundusray.training.checkpoints import Position
from tests.chaos.harness import Command, assert_kept, ends
from tests.chaos.test_damage import trained

TOLD = r"{path}: needs [\d,]+ bytes, [\d,]+ free; free some space and run again"


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: what a quota does, without a disk to fill."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 100, 1500])
def test_a_checkpoint_that_does_not_fit_spoils_none(tmp_path: Path, limit: int) -> None:
    parts = trained()
    for step in (1, 2):
        checkpoints.save_checkpoint(str(tmp_path), *parts, Position(step=step), "key")
    with (
        largest_file(limit),
        pytest.raises(DiskError, match=TOLD.format(path=r".*step-00000003/\S+")) as caught,
    ):
        checkpoints.save_checkpoint(str(tmp_path), *parts, Position(step=3), "key")
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
    assert checkpoints.newest_checkpoint(str(tmp_path), "key") == ("step-00000002", [])
    checkpoints.load_checkpoint(str(tmp_path / "step-00000002"), *trained())
    checkpoints.save_checkpoint(str(tmp_path), *parts, Position(step=3), "key")
    assert checkpoints.newest_checkpoint(str(tmp_path), "key") == ("step-00000003", [])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("report.html", lambda place, size: files.write_bytes(place, b"x" * size)),
        ("result.json", lambda place, size: files.write_json(place, {"x": "x" * size})),
        (
            "predictions.parquet",
            lambda place, size: files.write_table(place, pa.table({"x": [os.urandom(size)]})),
        ),
        ("metrics.csv", lambda place, size: files.write_csv(place, [{"x": "x" * size}])),
    ],
)
def test_old_or_new_never_half(
    tmp_path: Path, name: str, write: Callable[[str, int], None]
) -> None:
    place = tmp_path / name
    write(str(place), 100)
    before = place.read_bytes()
    with largest_file(5000), pytest.raises(DiskError, match=TOLD.format(path=place)):
        write(str(place), 10_000)
    assert place.read_bytes() == before and list(tmp_path.iterdir()) == [place]
    write(str(place), 10_000)
    assert len(place.read_bytes()) >= 10_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """disk(mebibytes) -> a real small disk, empty at first; called again it has another size."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(mebibytes: int) -> Path:
        remount = ["-o", "remount"] if os.path.ismount(place) else []
        size = ["-o", f"size={mebibytes}m", "-t", "tmpfs", "tmpfs", str(place)]
        made = subprocess.run(["mount", *remount, *size], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"cannot mount a small disk here: {made.stderr.strip()}")
        return place

    yield sized
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", str(place)], check=True)


def assert_full(command: Command, place: str) -> None:
    """The command ended with 4 and one line that says where, how much, and how much there is."""
    assert command.end() == 4, command.text
    errors = [line for line in command.text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and place in errors[0], command.text
    assert "bytes, " in errors[0] and "free; free some space" in errors[0]
    assert '"code": 4' in command.text.splitlines()[-1]


@pytest.mark.ray
@pytest.mark.chaos
def test_full_while_training(
    start: Callable[..., Command], ready: Path, disk: Callable[[int], Path], storage: Path
) -> None:
    # Two checkpoints of 90 MB fit, a third beside them does not.
    small = disk(240) / "runs"
    shutil.copytree(storage, small)
    command = start(small)
    assert_full(command, "checkpoints/")
    last = sorted((command.folder / "checkpoints").iterdir())[-1]
    assert last.name in ("step-00000002", "step-00000003")
    assert_kept(command.folder)
    assert checkpoints.stage_of(str(last)) == 0
    # The failure of one step is not tried again and again.
    assert command.text.count("training on 24 images") == 1
    disk(1000)
    again = start(small)
    assert again.end() == 0, again.text
    assert f"resuming from step {int(last.name[-8:])}" in again.text
    assert ends(again.folder) == ends(next(ready.glob("demo-*")))


@pytest.mark.ray
@pytest.mark.chaos
def test_full_to_the_last_byte_while_training(
    start: Callable[..., Command], ready: Path, disk: Callable[[int], Path], storage: Path
) -> None:
    """Not even a note of the failure can be written."""
    small = disk(700) / "runs"
    shutil.copytree(storage, small)
    # Each replacement finds out for itself: nobody could tell it.
    command = start(small, cluster__max_failures="2")
    command.reach(4)
    with (small.parent / "ballast").open("wb", buffering=0) as ballast:
        while command.process.poll() is None:
            try:
                ballast.write(bytes(4096))
            except OSError:
                continue
    assert_full(command, str(command.folder))
    (small.parent / "ballast").unlink()
    again = start(small)
    assert again.end() == 0, again.text
    assert ends(again.folder) == ends(next(ready.glob("demo-*")))


@pytest.mark.ray
@pytest.mark.chaos
def test_full_while_preparing_and_while_reporting(
    start: Callable[..., Command], ready: Path, disk: Callable[[int], Path]
) -> None:
    small = disk(1) / "runs"
    (small.parent / "ballast").write_bytes(bytes(900_000))
    assert_full(start(small), str(small))
    assert not list(small.rglob("set.json"))
    disk(400)
    shutil.copytree(next(ready.glob("demo-*")), small / next(ready.glob("demo-*")).name)
    (small / next(ready.glob("demo-*")).name / "result.json").unlink()
    disk(1000)
    command = start(small)
    assert command.end() == 0, command.text
    expected = {path.name for path in command.folder.iterdir()}
    report = command.folder / "report.html"
    report.unlink()
    with (small.parent / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            # Room for the source's labels and the like, none for a page with pictures.
            ballast.truncate(ballast.tell() - 64 * 1024)
    assert_full(start(small), str(command.folder))
    assert not report.exists()
    (small.parent / "ballast").unlink()
    again = start(small)
    assert again.end() == 0, again.text
    assert {path.name for path in again.folder.iterdir()} == expected
    assert ends(again.folder) == ends(next(ready.glob("demo-*")))
