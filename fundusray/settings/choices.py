"""What settings may name, asked of the registries that hold it.

Settings lie below the packages whose functions they name, so the registries are found by their
dotted names and only when a name is checked: when a recipe is made, in Python, from JSON or on a
command line. A name that a new file or a plugin registers is then allowed without a word here.
"""

import importlib
from collections.abc import Collection
from functools import cache
from typing import Any

from fundusray.registry import Registry, unknown_name

REGISTRIES = {
    "data.source": "fundusray.data.manifest.contract.SOURCES",
    "data.preprocess": "fundusray.data.prepared.preprocess.PREPROCESS",
    "data.pipeline": "fundusray.pipeline.loader.ENGINES",
    "sampling.name": "fundusray.data.sampling.SAMPLINGS",
    "model.name": "fundusray.models.MODELS",
    "model.output": "fundusray.models.heads.HEADS",
    "loss.name": "fundusray.losses.LOSSES",
    "adversarial.method": "fundusray.training.objectives.OBJECTIVES",
    "train.optimizer": "fundusray.training.optimizers.OPTIMIZERS",
    "train.schedule": "fundusray.training.optimizers.SCHEDULES",
    "train.select": "fundusray.metrics.selectors",
}
"""Setting -> the registry of its names, or a function that gives them."""


@cache
def _held(setting: str) -> Any:
    module, _, name = REGISTRIES[setting].rpartition(".")
    return getattr(importlib.import_module(module), name)


def registry(setting: str) -> Registry:
    """The registry of what a setting names."""
    held = _held(setting)
    assert isinstance(held, Registry), f"{setting} names what no registry holds"
    return held


def choices(setting: str) -> Collection[str]:
    """The names that a setting can have."""
    held = _held(setting)
    return held if isinstance(held, Registry) else held()


def require_choice(setting: str, given: str) -> None:
    """Refuses a name that nobody registered.

    Raises:
        InputError: the nearest name and all of them.
    """
    names = choices(setting)
    if given not in names:
        raise unknown_name(names.kind if isinstance(names, Registry) else setting, given, names)
