"""What is found out on the machines that train, and remembered: the batch of train.batch=auto, the
precision of a table's rows."""

from collections.abc import Sequence
from dataclasses import replace

import ray
import torch

from fundusray import files
from fundusray.cluster.runtime.tasks import result_of
from fundusray.cluster.runtime.train_workers import worker_cpus, worker_gpus
from fundusray.config import Recipe, from_json, override, to_json
from fundusray.errors import DamagedError, InputError
from fundusray.models.segmenters import build_network
from fundusray.pipeline.augment import augmentation
from fundusray.runs.split_of_run import Split
from fundusray.training.batch_size import batch_that_fits
from fundusray.training.precision_choice import machine, of_machine, step_shape

ATTACKED = 2
"""TRADES and MART hold activations of clean and attacked images at once."""


def with_batch(recipe: Recipe, split: Split, storage: str, cpus: float, gpus: float) -> Recipe:
    """The recipe with its batch a number: as given, or the largest that fits its workers.

    What was found on such a machine is kept in `<storage>/batches/`, so that a run which goes on,
    and the next one, train with the same.

    Args:
        cpus, gpus: of one worker.

    Raises:
        InputError: not even two images fit.
        DamagedError: what was found before is damaged, and another batch gives other numbers.
    """
    if recipe.train.batch:
        return recipe
    rows, workers = len(split.rows["train"]), recipe.cluster.fewest
    classes = len(split.prepared.classes)
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(found_batch)
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    part = part_of_memory(workers, cpus, gpus, [node.get("CPU", 0.0) for node in alive])
    each = result_of(task.remote(to_json(recipe), classes, rows // workers, storage, part))
    if each < 2:
        raise InputError(
            f"train.batch=auto: not two images of {recipe.data.size} pixels fit beside "
            f"{recipe.model.name}; give a smaller data.size or another model.name"
        )
    batch = min(each * workers, rows - rows % 2)
    print(f"train.batch=auto: {batch}, {each} for each worker", flush=True)
    return override(recipe, {"train.batch": batch})


def fastest_precision(recipe: Recipe, split: Split, storage: str) -> str:
    """The precision that a worker's step of the recipe is fastest in, of those it leaves open;
    timed on a machine that trains, or remembered.

    Raises:
        InputError: the batch does not fit into the device's memory.
    """
    threads, gpus = worker_cpus(recipe), worker_gpus(recipe)
    recipe = with_batch(recipe, split, storage, threads - 0.05, gpus)
    task = ray.remote(num_cpus=threads - 0.05, num_gpus=gpus, max_retries=1)(_timed)
    text, classes = to_json(recipe), len(split.prepared.classes)
    return result_of(task.remote(text, classes, recipe.cluster.fewest, storage, threads))


def _timed(text: str, num_classes: int, world: int, storage: str, threads: int) -> str:
    torch.set_num_threads(threads)
    recipe = from_json(text)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    start = replace(recipe.model, weights="", init_from="")
    model = build_network(start, num_classes, seed=0)
    found = of_machine(model, step_shape(recipe, world), device, recipe, storage)
    return found["mode"]["precision"]


def part_of_memory(workers: int, cpus: float, gpus: float, machines: Sequence[float]) -> float:
    """What one of several workers has of its GPU's memory, or of its machine's.

    Args:
        cpus, gpus: of one worker.
        machines: CPUs of each; as many workers share one as the largest has room for.
    """
    if gpus:
        return min(gpus, 1.0)
    return 1 / max(1, min(workers, int(max(machines) // cpus)))


def found_batch(text: str, num_classes: int, most: int, storage: str, part: float) -> int:
    """The batch of one worker on the machine this runs on, tried or remembered.

    `part` is the worker's of the memory.
    """
    recipe = from_json(text)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data, train = recipe.data, recipe.train
    side = augmentation.output_size(augmentation.train_text(data), data.size)
    # bf16 takes less; where the choice is left open, the batch fits either way.
    precision = "bf16" if train.precision == "bf16" else "fp32"
    both = ATTACKED if recipe.adversarial.method in ("trades", "mart") else 1
    model = recipe.model
    what = [model.name, model.hidden, model.output, num_classes, side, precision, both]
    asked = [*what, train.optimizer, most, part, machine(device), torch.__version__]
    note = files.join(storage, "batches", files.hash_json(asked) + ".json")
    if not files.exists(note):
        built = build_network(replace(model, weights="", init_from=""), num_classes, seed=0)
        most_shown = most * both
        found = batch_that_fits(built, side, train, device, precision, most_shown, part) // both
        files.write_json(note, {"batch": found - found % 2, "for": asked})
    try:
        return files.read_json(note)["batch"]
    except DamagedError as error:
        raise DamagedError(
            f"{note} is damaged; it holds the batch that runs of {storage} train with on such a "
            "machine: restore it from a copy, give the number that they had (train.batch=), or "
            "delete it to try anew, perhaps with another batch than earlier runs"
        ) from error
