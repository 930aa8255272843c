"""What a driver does before its workers train, on a set as large as EyePACS (88,702 photographs).

A command opens the prepared set once, derives the split once, and asks the value that holds both
for whatever it needs. The peer is the same work in the same functions, but with set and split
derived anew at each of its questions, as many as a training and its report have. Then the ten
named points of a search, which differ in their loss and share one split.

The photographs are not there: each image of the set is three bytes.

python benchmarks/driver.py
"""

import json
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
from rounds import compare, conclude

from fundusray import files
from fundusray.cluster.results import finished_result, write_recipe
from fundusray.cluster.train import planned
from fundusray.config import Recipe, override
from fundusray.data.manifest.build import SCHEMA, SKIPPED, with_patient_counts
from fundusray.data.prepared.prepared_set import open_set
from fundusray.data.prepared.write import FORMAT
from fundusray.runs.check import check_run
from fundusray.runs.run import Run, plan_run, timetable_of
from fundusray.runs.split_of_run import OpenSets, split_of, write_sides

NUM, UNIT, POINTS = 88_702, 128, 10
SECONDS = 3.0
CLOCKS = time.perf_counter, time.process_time
OPENED, DERIVED = 4, 8
"""How often a training and its report once opened the set and derived the split."""
SHARES = (0.735, 0.07, 0.15, 0.025, 0.02)
"""Of EyePACS' grades."""


def manifest(rng: np.random.Generator) -> pa.Table:
    """Two eyes of each patient; 300 pairs of near-duplicates."""
    ids = [f"{i // 2 + 1}_{('left', 'right')[i % 2]}" for i in range(NUM)]
    twins = [""] * NUM
    for row in rng.choice(NUM - 40, 300, replace=False):
        twins[row] = twins[row + 1 + int(rng.integers(30))] = ids[row]
    grades = rng.choice(5, NUM, p=SHARES)
    told = {
        "image_id": ids,
        "dataset": ["eyepacs"] * NUM,
        "path": [f"train/{name}.jpeg" for name in ids],
        "patient_id": [name.partition("_")[0] for name in ids],
        "target": grades,
        "grade": grades,
        "twin": twins,
        "masks": [[]] * NUM,
        "sha256": [files.sha256(name.encode()) for name in ids],
    }
    empty = {pa.string(): "", pa.int32(): -1, pa.int64(): 0, pa.bool_(): False}
    columns = [
        pa.array(told.get(field.name, [empty.get(field.type)] * NUM), field.type)
        for field in SCHEMA
    ]
    about = {"classes": json.dumps(list("01234")), "target": "grade", "ordered": "true"}
    return with_patient_counts(pa.table(columns, schema=SCHEMA.with_metadata(about)))


def write_set(folder: str) -> None:
    """A prepared set without pictures."""
    table = manifest(np.random.default_rng(0))
    ids, shards = table["image_id"].to_pylist(), []
    for start in range(0, NUM, UNIT):
        names = ids[start : start + UNIT]
        images = pa.array([b"\xff\xd8\xff"] * len(names), pa.large_binary())
        unit = pa.table({"image_id": names, "image": images})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, unit.schema) as writer:
            writer.write_table(unit)
        content, name = sink.getvalue().to_pybytes(), f"unit-{start // UNIT:05d}.arrow"
        files.write_bytes(files.join(folder, name), content)
        told = {"name": name, "rows": len(names), "bytes": len(content)}
        shards.append(told | {"sha256": files.sha256(content)})
    tables = {"manifest.parquet": table, "skipped.parquet": SKIPPED.empty_table()}
    for name, content in tables.items():
        files.write_table(files.join(folder, name), content)
    info = {
        "format": FORMAT, "classes": list("01234"), "ordered": True, "contents": "", "size": 256,
        "encoding": "jpeg", "fill": 0.5, "manifest": "0123456789abcdef", "preprocess_version": 1,
        "shards": shards,
        "tables": {name: files.sha256_file(files.join(folder, name)) for name in tables},
    }  # fmt: skip
    files.write_json(files.join(folder, "set.json"), info)


def before_training(folder: str, storage: str) -> Run:
    """All that is done before workers are asked for."""
    run = planned(Recipe(), folder, storage)
    finished_result(run.folder)
    check_run(run)
    write_recipe(run.folder, run.recipe, storage)
    write_sides(run.folder, run.prepared.table, run.split.sides)
    return run


def described(run: Run) -> None:
    """What a report asks of the run behind its training."""
    assert run.timetable.epochs == 20 and sum(run.counts) == len(run.rows["train"])
    assert not run.split.leaks and not run.start.leak(run.split.sides)


def asked_anew(folder: str, storage: str) -> None:
    """As `before_training` and `described`, with set and split derived at each question."""
    described(before_training(folder, storage))
    for _ in range(OPENED - 1):
        opened = open_set(folder)
    for _ in range(DERIVED - 1):
        split = split_of(opened, Recipe())
    assert not split.leaks and split.digest and timetable_of(Recipe(), split)


def points(folder: str, storage: str, sets: OpenSets | None) -> None:
    """The check of a search's named points."""
    for number in range(POINTS):
        changes = {"loss.name": "focal", "loss.args.gamma": number / 4}
        check_run(plan_run(override(Recipe(), changes), folder, storage, sets))


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        folder, storage = files.join(place, "set"), files.join(place, "runs")
        write_set(folder)
        began = time.perf_counter(), time.process_time()
        before_training(folder, storage)
        wall, first = (now() - then for now, then in zip(CLOCKS, began, strict=True))
        print(f"before training, the first time: {first:.2f} s of one core, {wall:.2f} s in all")
        once = compare(
            "a training's driver",
            lambda: asked_anew(folder, storage),
            lambda: described(before_training(folder, storage)),
            unit="trainings",
        )
        search = compare(
            f"{POINTS} points of a search",
            lambda: points(folder, storage, None),
            lambda: points(folder, storage, OpenSets()),
            items=POINTS,
            unit="points",
        )
    conclude(
        {
            "driver_3_cpu_s_over_ours": (SECONDS / first, 1.0),
            "driver_once": (once, 1.3),
            "search_points_share": (search, 3.0),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
