"""The pool on a real Ray: what is done stays, what is lost is done elsewhere, errors arrive."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from ray.exceptions import RayTaskError

from fundusray import files
from fundusray.cluster.runtime.hands import Workers
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.tasks import WorkerLostError
from fundusray.cluster.runtime.units import Unit, UnitsLostError
from fundusray.errors import InputError

pytestmark = pytest.mark.ray


def units(num: int, **more: int) -> list[Unit]:
    return [Unit(str(i), (i,), **more) for i in range(num)]


def table(trace: str, number: int) -> pa.Table:
    """A result, and a file for each time that it was made."""
    Path(trace, f"{number}-{time.monotonic_ns()}").touch()
    return pa.table({"number": [number]})


def made(trace: Path) -> list[str]:
    """Which units were computed, in the order of their numbers; starts the count anew."""
    found = sorted(path.name.partition("-")[0] for path in trace.iterdir())
    for path in trace.iterdir():
        path.unlink()
    return found


def test_what_is_there_and_whole_is_not_made_again(
    cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    trace, folder = tmp_path / "trace", str(tmp_path / "out")
    trace.mkdir()

    def run(num: int) -> dict[str, str]:
        with Pool("counting", partial(table, str(trace)), results=folder) as pool:
            return pool.values(units(num))

    first = run(4)
    assert made(trace) == ["0", "1", "2", "3"]
    assert files.read_table(first["2"])["number"].to_pylist() == [2]
    assert "counting: 4/4" in capfd.readouterr().err
    assert run(4) == first and made(trace) == [] and "counting" not in capfd.readouterr().err
    damaged = Path(first["1"])
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    Path(first["3"]).unlink()
    assert run(6) == first | {k: f"{folder}/{k}.parquet" for k in ("4", "5")}
    assert made(trace) == ["1", "3", "4", "5"]
    said = capfd.readouterr().err
    assert f"{first['1']}: " in said and "made again" in said and "counting: 4/4" in said
    assert all(files.read_table(place)["number"][0].as_py() == int(k) for k, place in first.items())


def refuse(number: int) -> int:
    if number == 1:
        raise InputError("number 1 is none")
    return {}[number] if number == 2 else number


def test_errors_of_ours_arrive_as_they_were_and_others_with_their_trace(cluster: None) -> None:
    with Pool("refusing", refuse) as pool:
        with pytest.raises(InputError, match="number 1 is none") as raised:
            pool.values([Unit("1", (1,))])
        assert not isinstance(raised.value, RayTaskError)
        with pytest.raises(KeyError, match="2"):
            pool.values([Unit("2", (2,))])
    with (
        pytest.raises(AssertionError, match="a key occurs twice"),
        Pool("doubling", refuse) as pool,
    ):
        pool.values([Unit("1", (5,)), Unit("1", (6,))])


def deadly(number: int) -> int:
    if number == 1:
        os._exit(1)
    return number


def test_a_unit_that_kills_its_workers_is_named_and_the_rest_is_done(cluster: None) -> None:
    done = []
    with (
        Pool("killing", deadly) as pool,
        pytest.raises(UnitsLostError, match=r"killing: left eye \(WorkerCrashedError\): tried 2"),
    ):
        poison = Unit("1", (1,), name="left eye", tries=2)
        for unit, value in pool.results([poison, *(u for u in units(5) if u.key != "1")]):
            done.append((unit.key, value))
    assert sorted(done) == [("0", 0), ("2", 2), ("3", 3), ("4", 4)]


def test_an_interrupted_call_leaves_what_is_done_and_goes_on(cluster: None, tmp_path: Path) -> None:
    trace, folder = tmp_path / "trace", str(tmp_path / "out")
    trace.mkdir()
    with (
        pytest.raises(KeyboardInterrupt),
        Pool("counting", partial(table, str(trace)), results=folder) as pool,
    ):
        for number, _ in enumerate(pool.results(units(40))):
            if number == 5:
                raise KeyboardInterrupt
    done = {path.stem for path in Path(folder).glob("*.parquet")}
    assert len(done) >= 6
    ray.get(_settled.remote())
    made(trace)
    with Pool("counting", partial(table, str(trace)), results=folder) as pool:
        assert len(pool.values(units(40))) == 40
    assert not done & set(made(trace))


@ray.remote(num_cpus=2)
def _settled() -> None:
    """Runs when nothing else does."""


def opened(trace: str) -> int:
    Path(trace, f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return os.getpid()


def slept(holder: int, number: int) -> tuple[int, int, int]:
    time.sleep(0.03)
    return holder, os.getpid(), number


def pool_workers() -> Iterator[int]:
    """Processes of this Ray's pools that are at work."""
    for stat in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = stat.read_bytes()
        except OSError:
            continue
        if line.startswith(b"ray::PoolWorker"):
            yield int(stat.parent.name)


def test_what_is_held_is_opened_once_and_a_killed_worker_costs_only_its_unit(
    cluster: None, tmp_path: Path
) -> None:
    with Pool("holding", slept, Workers(partial(opened, str(tmp_path)))) as pool:
        first = pool.values(units(12))
        holders = {holder for holder, _, _ in first.values()}
        assert all(holder == pid for holder, pid, _ in first.values()) and 1 <= len(holders) <= 2
        assert {number for _, _, number in first.values()} == set(range(12))
        opens = len(list(tmp_path.iterdir()))
        # The next wave finds the same workers; one of them is killed in the middle of it.
        victim = min(holders)
        killer = threading.Timer(0.3, os.kill, (victim, signal.SIGKILL))
        killer.start()
        second = pool.values(units(100))
        assert {number for _, _, number in second.values()} == set(range(100))
        assert opens <= len(list(tmp_path.iterdir())) <= opens + 2
        alive = {holder for holder, _, _ in second.values()} - {victim}
        assert alive and alive <= set(pool_workers())
    for _ in range(100):
        if not alive & set(pool_workers()):
            break
        time.sleep(0.1)
    else:
        pytest.fail("a closed pool's workers go on")


def missing() -> int:
    raise InputError("no bundle here")


def test_what_cannot_be_opened_is_told(cluster: None) -> None:
    with (
        pytest.raises(InputError, match="no bundle here"),
        Pool("opening", slept, Workers(missing)) as pool,
    ):
        pool.values(units(5))


def test_workers_that_this_machine_cannot_have_are_refused(cluster: None) -> None:
    with pytest.raises(InputError, match="workers of 1 CPUs and 3 GPUs"):
        Pool("attacking", slept, Workers(missing, gpus=3))


@pytest.mark.chaos
def test_workers_that_die_while_they_open_are_an_error(cluster: None) -> None:
    deadly_open = partial(os._exit, 1)
    with (
        pytest.raises(
            WorkerLostError, match="3 workers one after the other died while they opened"
        ),
        Pool("opening", slept, Workers(deadly_open)) as pool,
    ):
        pool.values(units(5))
