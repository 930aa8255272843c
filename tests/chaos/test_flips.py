"""Of every kind of file in a storage: a flipped bit or a cut is refused by name, made again, or
changes nothing that is read. Figures are never changed in silence."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fundusray import files
from fundusray.cluster import results
from fundusray.config import Data
from fundusray.data.drawn.source import synthetic
from fundusray.data.photographs import digests
from fundusray.data.prepared import prepared_set, write
from fundusray.data.scan import examine
from fundusray.errors import DamagedError, InputError
from fundusray.verified import read_verified
from tests.chaos.harness import ROOT, SETTINGS, clean, words

pytestmark = pytest.mark.chaos
FLIPS, CUTS = 100, 30


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished storage: a set, a run, an evaluation, a scan and a search's leaderboard."""
    place = tmp_path_factory.mktemp("flips") / "storage"
    # Without test rows halves are predicted from `epochs/`; an attack makes one more table.
    short = {"train__epochs": "2", "data__fractions": "0.6,0.4,0"}
    attack = {"adversarial__method": "pgd", "adversarial__eps": "2/255"}
    attack |= {"adversarial__judge_steps": "2", "adversarial__judge_rows": "8"}
    trained = _job(words(place, **short, **attack), place)
    job, size = str(ROOT / "jobs"), [f"data.size={SETTINGS['data.size']}", "data.num_images=48"]
    asked = [f"run.storage={place}", "cluster.cpus=1"]
    _job([sys.executable, f"{job}/scan.py", "demo", *size, *asked], place)
    _job([sys.executable, f"{job}/evaluate.py", trained["bundle"], *asked], place)
    files.write_json(str(place / "batches" / "0123.json"), {"batch": 8, "for": ["resnet18"]})
    return place


def _job(command: list[str], place: Path) -> dict[str, Any]:
    done = subprocess.run(
        command, env=clean(), cwd=place.parent, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1].removeprefix("RESULT "))


def finished(place: Path) -> Any:
    """A run's result, and what a later command then reads of its files."""
    result, faults = results.finished_result(str(place.parent))
    if result is None:
        raise DamagedError("; ".join(faults))
    return result


def prepared(place: Path) -> Any:
    """What `prepare` makes of a set that is there: it, or what it makes again."""
    info, fault = prepared_set.set_description(str(place.parent))
    faults = [fault] if info is None else prepared_set.set_damage(str(place.parent), info)
    if faults:
        raise DamagedError("; ".join(faults))
    return info


def unit(place: Path) -> Any:
    """A unit's record as a set that is made again finds it; None where it makes the unit anew."""
    folder, name = str(place.parent), place.name.partition(".")[0]
    record = write._existing(folder, name, f"{name}.arrow", KEYS[folder, name])
    if record is None:
        raise DamagedError("made again")
    return record, write.read_prints(folder, record).tobytes()


KEYS: dict[tuple[str, str], str] = {}


def drawn(place: Path) -> Any:
    """The drawn photographs and masks, after the source has looked at them."""
    root = place.parent.parent if place.suffix != ".json" else place.parent
    synthetic(Data(num_images=48), str(root), 0)
    return {p: files.sha256_file(str(p)) for p in sorted(root.rglob("*.*g"))}


def look(place: Path) -> Any:
    """What is known of the photographs; where it is damaged they are read again."""
    found = digests.read_contents(str(place.parent), 48)
    if found is None:
        raise DamagedError("read again")
    return found


KINDS: dict[str, Callable[[Path], Any]] = {
    "*/result.json": finished,
    "*/predictions.parquet": finished,
    "*/attacked.parquet": finished,
    "*/manifest.parquet": finished,
    "*/split.csv": finished,
    "*/mode.json": finished,
    "demo-*/recipe.json": finished,
    "*/outcome.json": lambda p: files.read_json(str(p)),
    "*/epochs/*.parquet": lambda p: files.read_table(str(p)),
    "*/predictions-*.parquet": lambda p: files.read_table(str(p)),
    "*/metrics.json": lambda p: files.read_json(str(p)),
    "*/bundle/*": lambda p: read_verified(str(p.parent)),
    "*/checkpoints/*/*": lambda p: read_verified(str(p.parent)),
    "modes/*.json": lambda p: files.read_json(str(p)),
    "batches/*.json": lambda p: files.read_json(str(p)),
    "*scan*/scan.parquet": lambda p: files.read_table(str(p)),
    "*scan*/duplicates.parquet": lambda p: files.read_table(str(p)),
    "*scan*/contents.parquet": look,
    "*scan*/parts/*.parquet": lambda p: examine.read_parts(str(p.parent)),
    "prepared/*/set.json": prepared,
    "prepared/*/manifest.parquet": prepared,
    "prepared/*/skipped.parquet": prepared,
    "prepared/*/twins.parquet": prepared,
    "prepared/*/*.arrow": prepared,
    "prepared/*/contents.parquet": look,
    "prepared/*/unit-*.json": unit,
    "prepared/*/unit-*.prints": unit,
    "synthetic/*/train/*.jpeg": drawn,
    "synthetic/*/masks/*.png": drawn,
    "synthetic/*/landmarks/*.png": drawn,
    "synthetic/*/drawn.json": lambda p: files.read_json(str(p)),
}
"""Where files lie -> what the next command does with them, without Ray."""


def damages(content: bytes, rng: np.random.Generator) -> list[bytes]:
    places = rng.integers(8 * len(content), size=FLIPS)
    flips = [
        content[: at // 8] + bytes([content[at // 8] ^ 1 << at % 8]) + content[at // 8 + 1 :]
        for at in places.tolist()
    ]
    cuts = [content[:length] for length in [0, *rng.integers(len(content), size=CUTS - 1).tolist()]]
    return flips + cuts


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_is_silent(storage: Path, kind: str, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    pattern, read = kind, KINDS[kind]
    victims = [p for p in sorted(storage.glob(pattern)) if p.is_file() and p.stat().st_size]
    assert victims, f"the storage holds no {kind}"
    told: Counter[str] = Counter()
    for victim in victims[:: max(1, len(victims) // 4)][:4]:
        if read is unit:
            record = files.read_json(str(victim.with_name(f"{victim.name.partition('.')[0]}.json")))
            KEYS[str(victim.parent), victim.name.partition(".")[0]] = record["chunk"]
        content = victim.read_bytes()
        expected = read(victim)
        share = damages(content, rng)[:: min(4, len(victims))]
        for damaged in share:
            victim.write_bytes(damaged)
            try:
                found = read(victim)
            except (DamagedError, InputError):
                told["named or made again"] += 1
            else:
                same = found.equals(expected) if hasattr(found, "equals") else found == expected
                # A part of a scan that is damaged is removed, and examined again.
                again = read is KINDS["*scan*/parts/*.parquet"] and not victim.exists()
                told["made again" if again else "harmless" if same else "SILENT"] += 1
            victim.write_bytes(content)
    with capsys.disabled():
        print(f"\n{kind:32} {dict(told)}", end="")
    assert not told["SILENT"] and sum(told.values()) >= (FLIPS + CUTS) // 4
