"""A small prepared set and trainings of it, in this process and without Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundusray.config import Recipe, override, to_json
from fundusray.data.manifest.build import build_manifest
from fundusray.data.prepared import prepared_set
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.split import split_files
from fundusray.data.split.assign_sides import rows_by_side
from fundusray.tasks import task_of
from fundusray.training.examples import PreparedExamples
from fundusray.training.job import Job
from fundusray.training.ranks import Ranks
from fundusray.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


@pytest.fixture(scope="session")
def small(small: Recipe) -> Recipe:
    """The small recipe, read by the reference engine."""
    return override(small, {"train.epochs": 2, "data.pipeline": "plain"})


@pytest.fixture(scope="session")
def prepared(small: Recipe, tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """48 drawn eyes of 32 pixels."""
    data = small.data
    manifest = build_manifest(data, "", small.split_seed)
    folder = prepared_set.set_folder(str(tmp_path_factory.mktemp("storage")), data, manifest)
    unit = prepared_set.write_shard(folder, 0, manifest.table, data, manifest.roots)
    prepared_set.assemble_set(folder, data, manifest, [unit])
    return prepared_set.open_set(folder)


@pytest.fixture(scope="session")
def make_trainer(small: Recipe, prepared: PreparedSet) -> MakeTrainer:
    """make(folder, supervisor=None, **changes) -> a trainer of the small recipe; changes with __
    for a dot."""

    def make(folder: Path, supervisor: Any = None, **changes: Any) -> Trainer:
        recipe = override(small, {key.replace("__", "."): v for key, v in changes.items()})
        sides = rows_by_side(
            split_files.assign_split(prepared.table, recipe.data, recipe.split_seed)
        )
        job = Job(to_json(recipe), prepared.folder, str(folder), "key", str(folder.parent), 1, "")
        examples = PreparedExamples(prepared, recipe, sides, Ranks())
        task = task_of(recipe, prepared.classes, prepared.ordered)
        return Trainer(job, examples, task, supervisor=supervisor)

    return make
