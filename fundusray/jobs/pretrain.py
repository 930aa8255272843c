"""The job that makes a start from drawn photographs, where no weights can be fetched."""

from dataclasses import replace
from typing import Any

from fundusray.cluster import pretrain as cluster_pretrain
from fundusray.cluster.runtime.demand import require_room, require_writable
from fundusray.cluster.runtime.start import start_ray
from fundusray.command import Command
from fundusray.jobs.command_to_recipe import print_recipe, recipe_of
from fundusray.jobs.training import interval_text

DEFAULTS = {
    "data.num_images": "3000",
    "data.fractions": "0.9,0.1,0",
    "model.weights": "",
    "model.init_from": "",
    "train.epochs": "8",
    "train.phases": "",
    "train.batch": "32",
    "train.lr": "0.002",
    "train.lr_scaling": "none",
    "train.optimizer": "adamw",
    "train.weight_decay": "0.02",
    "train.decay_norms": "false",
    "train.schedule": "onecycle",
    "train.drop_last": "true",
    "train.clip": "0",
}
"""How a pretraining learns unless the command says otherwise: a recipe's own settings are meant for
real photographs and a network that has learned before."""
FIXED = {
    "data.source": "synthetic",
    "data.root": "",
    "data.target": "grade",
    "data.split_file": "",
    "data.mix": "",
    "sampling.name": "natural",
    "train.mixup": "0",
    "adversarial.method": "",
    "adversarial.eps": "",
}
"""What a recipe for real photographs asks for that drawn ones do not have."""


def pretrain(asked: Command) -> dict[str, Any]:
    """Pretrains a recipe's network on drawn photographs; says how to start from it."""
    chosen = replace(asked, changes=DEFAULTS | FIXED | asked.changes, smoke=False)
    if asked.smoke:
        few = {"data.num_images": "80", "data.size": "64", "train.epochs": "1", "train.batch": "8"}
        chosen = replace(chosen, changes=chosen.changes | few | asked.changes)
    recipe = recipe_of(chosen, "balancing")
    if asked.show:
        return print_recipe(recipe)
    cluster_pretrain.check_pretraining(recipe)
    require_writable(recipe.run.storage)
    start_ray()
    require_room(recipe)
    result = cluster_pretrain.pretrain_network(recipe, recipe.run.storage)
    metrics, bundle = result["metrics"], result["bundle"]
    print(f"{metrics['n']} drawn photographs that were not learned from")
    for name in ("accuracy", "balanced_accuracy", "kappa"):
        print(f"  {name:18} {interval_text(metrics, name)}")
    print("these figures say nothing of real eyes; the bundle is a start for learning from them:")
    # Not model.init_from, which goes on from a whole training, last layer included.
    print(f"  python jobs/train.py ... model.weights={bundle}")
    keys = ("status", "folder", "bundle", "predictions")
    return {key: result[key] for key in keys} | {"kappa": metrics["kappa"]}
