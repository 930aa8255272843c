"""The job that runs the four-model scheme of Avramidis et al. on lesions of the retina: trains,
makes the copies, attacks every model alike, and writes Tables 1 and 2 beside the published ones."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from fundusray import files
from fundusray.cluster.segmentation_scheme import (
    MODELS,
    Scheme,
    TrainedModel,
    attacked_rows,
    train_models,
)
from fundusray.command import Command
from fundusray.conditions import SegmentationAttack, parse_condition
from fundusray.config import Recipe, override
from fundusray.errors import InputError
from fundusray.jobs.command_to_recipe import own_number, prepared_of, print_recipe, recipe_of
from fundusray.jobs.looks import record_look
from fundusray.jobs.segmentation_scheme_report import write_scheme
from fundusray.metrics.segmentation.attacked import attacked_segmentation_tables
from fundusray.registry import unknown_name
from fundusray.runs.split_of_run import OpenSets
from fundusray.settings.deciding import deciding
from fundusray.tasks import is_segmentation

START = "avramidis.table1.original"


@dataclass(frozen=True)
class SchemeScale:
    """How large everything is, where the command does not say."""

    settings: Mapping[str, Any]
    steps: int
    """Of the layered method and of the attack of Table 2."""
    sea_steps: int
    """Of each of SEA's losses."""
    repeats: int
    search: str = "exact"


SCALES = {
    "paper": SchemeScale({}, 100, 300, 3),
    "small": SchemeScale(
        {
            "data.size": 96,
            "data.num_images": 48,
            "train.epochs": 8,
            # At this size threads of one step wait for each other longer than they compute.
            "cluster.cpus": 1,
            "train.precision": "fp32",
            "train.layout": "channels_last",
        },
        10,
        5,
        3,
        "greedy",
    ),
}
EPS, SEA_EPS = "1/100", "1/100"


def segmentation_scheme(asked: Command) -> dict[str, Any]:
    """Runs the scheme; given again, the same command goes on where it stood."""
    if asked.words:
        raise InputError(f"the scheme takes no names, got {' '.join(asked.words)}")
    scheme = _asked_scheme(asked)
    if asked.show:
        return print_recipe(scheme.recipe)
    recipe = scheme.recipe
    prepared = prepared_of(recipe)
    storage, sets = recipe.run.storage, OpenSets()
    opened = sets.at(prepared)
    folder = files.join(storage, f"segmentation-scheme-{_key(scheme, prepared)}")
    files.sweep(folder)
    trained: list[TrainedModel] = []
    tables: dict[str, dict[tuple[float, str], dict[str, list[pa.Table]]]] = {}
    looks: dict[str, Any] = {}
    looked = None
    for one in train_models(scheme, prepared, storage, sets):
        trained.append(one)
        looked = record_look(opened.info["manifest"], one.result, storage, folder, looks)
        # Not in the scheme's own folder: with more trainings the first ones stay as they are.
        rows_folder = files.join(storage, "segmentation-scheme-rows")
        for name, rows in attacked_rows(one, scheme, prepared, rows_folder).items():
            for case, table in attacked_segmentation_tables(rows, opened.classes).items():
                of_case = tables.setdefault(name, {}).setdefault(case, {})
                of_case.setdefault(one.model, []).append(table)
    assert looked is not None, "a scheme has a training at least"
    words = " ".join(shlex.quote(f"{key}={value}") for key, value in asked.changes.items())
    command = f"python jobs/segmentation_scheme.py {words}".strip()
    told = write_scheme(folder, scheme, trained, tables, opened, [command, *looked.notes])
    bundles = {f"{one.model}-{one.repeat + 1}": one.result["bundle"] for one in trained}
    return {"status": "finished", "folder": folder, "bundles": bundles} | told | looked.result


def _asked_scheme(asked: Command) -> Scheme:
    """What the command asks for.

    Raises:
        InputError: no such scale or search, or settings that cannot be.
    """
    name = asked.changes.get("scale", "small" if asked.smoke else "paper")
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    scale = SCALES[name]
    changes = {key: value for key, value in asked.changes.items() if key != "scale"}
    left = replace(asked, changes=changes, smoke=False)
    repeats, left = own_number(left, "repeats", str(scale.repeats), 100)
    steps, left = own_number(left, "steps", str(scale.steps), 10_000)
    sea_steps, left = own_number(left, "sea.steps", str(scale.sea_steps), 10_000)
    changes = dict(left.changes)
    search = changes.pop("search", scale.search)
    eps, sea_eps = changes.pop("eps", EPS), changes.pop("sea.eps", SEA_EPS)
    if name == "small" and not {"data.source", "data.root", "data"} & set(changes):
        changes |= {"data.source": "synthetic"}
    shrunk = {key: str(value) for key, value in scale.settings.items() if key not in changes}
    recipe = recipe_of(replace(left, changes=shrunk | changes), START)
    _require_pixels(recipe)
    attacks = {
        "table2": f"background_pgd(eps={eps}, steps={steps})",
        "sea": f"sea(eps={sea_eps}, steps={sea_steps})",
    }
    parsed = {key: parse_condition(text) for key, text in attacks.items()}
    return Scheme(
        recipe=override(recipe, {"data.mix": ""}),
        methods={
            "layered": parse_condition(f"layered(eps={eps}, steps={steps})"),
            "selective": parse_condition(f"selective(eps={eps}, search={search})"),
        },
        attacks={key: one for key, one in parsed.items() if isinstance(one, SegmentationAttack)},
        repeats=repeats,
    )


def _require_pixels(recipe: Recipe) -> None:
    if not is_segmentation(recipe):
        raise InputError(
            f"data.target={recipe.data.target}: the scheme is of masks; give data.target=lesions "
            "or vessels"
        )
    if recipe.data.corrupt or recipe.data.judge_corrupt:
        raise InputError(
            "data.corrupt, data.judge_corrupt: copies are made of photographs as they are; leave "
            "them out, and judge the bundles by jobs/evaluate.py with condition=<damage>"
        )
    if recipe.data.encoding != "raw":
        raise InputError(
            "data.encoding=jpeg: a change of 1 % would be lost in JPEG; leave data.encoding=raw"
        )


def _key(scheme: Scheme, prepared: str) -> str:
    """A hash of all that decides the tables."""
    texts = [str(one) for one in (*scheme.methods.values(), *scheme.attacks.values())]
    how = [files.base_name(prepared), deciding(scheme.recipe), scheme.repeats, texts, list(MODELS)]
    return files.hash_json(how, 8)
