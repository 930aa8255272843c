"""What a split by image adds to a figure: the leak premium, measured in pairs."""

from typing import Any

import pyarrow as pa

from fundusray import files
from fundusray.cluster.train import train_recipe
from fundusray.config import override
from fundusray.data.manifest import patients
from fundusray.data.split import split_files
from fundusray.data.split.leak_arms import arrange_arms
from fundusray.errors import InputError
from fundusray.runs.run import Run

ARMS = ("patient", "image")


def measure_leak_premium(run: Run, folder: str, repeats: int) -> dict[str, Any]:
    """Trains a run's recipe under both splits, `repeats` times with a seed each.

    Split files are written into `folder`; runs that are there already are not made again.

    Returns:
        {"runs": rows of repeat, arm, seed, folder, n, tested, swapped, known (tested eyes whose
        patient is on the train side), "unknown": of which photographs patients are unknown, in a
        sentence, "predictions": arm -> location of the predictions of all repeats together}.

    Raises:
        InputError: no patient with two images, or a share of 0 for the test side.
    """
    recipe, table = run.recipe, run.prepared.table
    if recipe.data.fractions[2] == 0:
        raise InputError("leak premium: data.fractions needs a test share, got 0")
    runs: list[dict[str, Any]] = []
    parts: dict[str, list[pa.Table]] = {arm: [] for arm in ARMS}
    for repeat in range(repeats):
        seed, split_seed = recipe.seed + repeat, recipe.split_seed + repeat
        arms = arrange_arms(table, recipe.data.fractions, split_seed)
        for arm in ARMS:
            sides = getattr(arms, arm)
            split_file = files.join(folder, f"split-{arm}-{split_seed}.csv")
            split_files.write_split_file(split_file, table, sides)
            tried = override(
                recipe,
                {
                    "seed": seed,
                    "data.split_seed": split_seed,
                    "data.split_file": split_file,
                    "data.allow_leak": arm == "image",
                    "run.name": f"{recipe.run.name or recipe.name}-{arm}-{seed}",
                },
            )
            known, tested = run.sets.split(run.set_folder, tried).leaks.judged["test"]
            assert tested == arms.tested
            result = train_recipe(tried, run.set_folder, run.storage, run.sets)
            runs.append(
                {"repeat": repeat, "arm": arm, "seed": seed, "folder": result["folder"]}
                | {"tested": tested, "swapped": arms.swapped, "known": known}
            )
            parts[arm].append(_of_repeat(result["predictions"], repeat))
    unknown = patients.unknown_patients_caveat(table)
    return {
        "runs": runs,
        "unknown": unknown,
        "predictions": {arm: _joined(folder, arm, parts[arm]) for arm in ARMS},
    }


def _of_repeat(location: str, repeat: int) -> pa.Table:
    """One run's predictions, its ids made its own; patients stay what they are.

    `half` says which run a row is of: scores of two networks have no common scale to be ranked on.
    """
    table = files.read_table(location)
    ids = [f"{repeat}:{image_id}" for image_id in table["image_id"].to_pylist()]
    table = table.set_column(0, "image_id", pa.array(ids, pa.string()))
    return table.append_column("half", pa.array([repeat] * table.num_rows, pa.int8()))


def _joined(folder: str, arm: str, tables: list[pa.Table]) -> str:
    location = files.join(folder, f"predictions-{arm}.parquet")
    files.write_table(location, pa.concat_tables(tables))
    return location
