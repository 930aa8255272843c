"""The four models of a training scheme for robust segmentation (Avramidis et al.): trained one
after the other, each as often as the others, and all attacked alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fundusray import files
from fundusray.cluster.attack import AttackPlan
from fundusray.cluster.derive_with_network import Deriving, derive_with_network
from fundusray.cluster.segmentation_attack import attack_segmentations
from fundusray.cluster.train import fit, planned
from fundusray.conditions import Condition
from fundusray.conditions.segmentation_attack import SegmentationAttack
from fundusray.config import Recipe, override
from fundusray.models.load_weights import weights_digest
from fundusray.recipes.avramidis import MIX_SHARE
from fundusray.runs.check import check
from fundusray.runs.identity import with_training_seed
from fundusray.runs.run import Run
from fundusray.runs.split_of_run import OpenSets
from fundusray.tasks import Columns
from fundusray.tasks.column_tables import table_columns

MODELS = ("original", "layered", "selective", "combined")
"""Models one to four."""
COPIES: dict[str, tuple[str, ...]] = {
    "original": (),
    "layered": ("layered",),
    "selective": ("selective",),
    "combined": ("layered", "selective"),
}
"""Model -> the methods whose copies it learns."""


@dataclass(frozen=True)
class Scheme:
    """What is trained and how it is attacked."""

    recipe: Recipe
    """Of model one; the others differ in `data.mix` alone."""
    methods: Mapping[str, Condition]
    """layered and selective -> what makes the copies."""
    attacks: Mapping[str, SegmentationAttack]
    """Name -> an attack under which every model is judged."""
    repeats: int = 1
    """Trainings of each model, with seeds one after the other, on one split."""


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """One training of one model."""

    model: str
    repeat: int
    run: Run
    result: dict[str, Any]
    """Its result.json."""

    @property
    def title(self) -> str:
        """What progress calls it."""
        return model_title(self.model, self.repeat)


def model_title(model: str, repeat: int) -> str:
    """A model's number, name and training."""
    return f"model {MODELS.index(model) + 1} ({model}), training {repeat + 1}"


def train_models(
    scheme: Scheme, prepared: str, storage: str, sets: OpenSets
) -> Iterator[TrainedModel]:
    """Every training of every model, as each is done; a finished one is not trained again.

    The copies are made with the first training of model one, of the rows that it learned from, as
    in the paper, where there is no other; so all trainings of a model learn the same copies, and
    what seeds change is the training.

    Raises:
        InputError: a recipe that cannot run on this set.
    """
    copies: dict[str, str] = {}
    for repeat in range(scheme.repeats):
        for model in MODELS:
            recipe = with_training_seed(scheme.recipe, repeat)
            recipe = override(recipe, {"name": f"avramidis.table1.{model}"})
            if COPIES[model]:
                mix = ",".join(copies[method] for method in COPIES[model])
                changes = {"data.mix": mix, "data.mix_share": MIX_SHARE[model]}
                recipe = override(recipe, changes)
            check(recipe)
            run = planned(recipe, prepared, storage, sets)
            result = fit(run, title=model_title(model, repeat))
            yield TrainedModel(model, repeat, run, result)
            if not copies:
                copies = _copies(scheme, result["bundle"], prepared, storage, run.rows["train"])


def _copies(
    scheme: Scheme, bundle: str, prepared: str, storage: str, rows: np.ndarray
) -> dict[str, str]:
    """Method -> the folder of the copies that it makes of some rows with a network."""
    data, cpus, weights = scheme.recipe.data, scheme.recipe.cluster.cpus, weights_digest(bundle)
    found = {}
    for name, method in scheme.methods.items():
        print(f"{name} copies of {len(rows):,} photographs: {method}", flush=True)
        deriving = Deriving(method, bundle, weights, rows)
        found[name] = derive_with_network(prepared, data, deriving, storage, cpus)
    return found


def attacked_rows(
    trained: TrainedModel, scheme: Scheme, prepared: str, folder: str
) -> dict[str, Columns]:
    """Attack -> rows of every photograph that a model is reported on, as it is (eps 0) and
    attacked, in `folder`; what is there is not computed again."""
    rows = trained.run.rows[trained.result["reported_split"]]
    bundle, cpus = trained.result["bundle"], scheme.recipe.cluster.cpus
    found = {}
    for name, attack in scheme.attacks.items():
        print(f"{trained.title}: {attack}", flush=True)
        place = attack_segmentations(bundle, prepared, rows, AttackPlan((attack,)), folder, cpus)
        found[name] = table_columns(files.read_table(place))
    return found
