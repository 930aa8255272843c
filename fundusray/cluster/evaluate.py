"""Predictions of a bundle over a prepared set, spread over the cluster."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from fundusray import files
from fundusray.cluster.matching import in_classes_of, order_known
from fundusray.cluster.results import say
from fundusray.cluster.rows import predictions_of
from fundusray.cluster.running import MOST_CPUS
from fundusray.cluster.start import cpus_each, resources
from fundusray.cluster.tasks import result_of
from fundusray.cluster.unseen import Unseen
from fundusray.data.sampling import plan_eval
from fundusray.data.shards import open_set
from fundusray.errors import DamagedError, InputError
from fundusray.metrics import summary
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.weights import digest
from fundusray.pipeline import augment, make_loader
from fundusray.progress import Progress
from fundusray.tasks import Columns, Task, task_of
from fundusray.tasks.classification import logits_of
from fundusray.training.loop import joined, predict, to_device

BATCH = 32
CHUNK = 512
"""Rows one task predicts; the cost of loading the bundle is spread over them."""


def predict_rows(
    bundle: str, prepared: str, rows: np.ndarray, threads: int, gpu: bool
) -> tuple[np.ndarray, Columns]:
    """(rows [N], what the bundle's task writes of each [N]) of one chunk, in this process; fp32,
    however it was trained."""
    torch.set_num_threads(threads)
    opened = load_bundle(bundle)
    device = torch.device("cuda" if gpu else "cpu")
    model = opened.model.to(device, memory_format=torch.channels_last)
    plan = plan_eval(rows, min(BATCH, max(len(rows), 1)))
    loader = make_loader(
        open_set(prepared),
        batch=plan.rows.shape[1],
        augment=augment.view_text(opened.recipe.data),
        engine=opened.recipe.data.pipeline,
        max_bad=opened.recipe.data.max_bad,
        device="gpu" if gpu else "cpu",
        threads=threads,
    )
    batches = to_device(loader.epoch(plan, seed=0, epoch=0), device, contiguous=False)
    precision = torch.autocast(device.type, enabled=False)
    return predict(model, batches, precision, task_of_bundle(opened))


def task_of_bundle(bundle: Bundle) -> Task:
    """What a bundle answers."""
    return task_of(bundle.recipe, bundle.classes, order_known(bundle))


def predicted(bundle: str, prepared: str, rows: np.ndarray, folder: str) -> str:
    """Where in `folder` the predictions of some rows of a set are; they are made unless they are
    there and whole.

    The file's name holds a hash of the weights, the set and the rows, so that those of an earlier
    state of the bundle are never taken for these.

    Raises:
        InputError: the set has classes that the bundle does not know, or a training that still
            runs wrote the bundle anew meanwhile.
    """
    weights, data = digest(bundle), open_set(prepared)
    shown = [files.base_name(prepared), data.info["manifest"]]
    key = files.hash_json([weights, *shown, rows.tolist()], 8)
    location = files.join(folder, f"predictions-{key}.parquet")
    if _is_whole(location):
        return location
    opened = load_bundle(bundle)
    data = in_classes_of(data, bundle, opened)
    found, columns = _spread(bundle, prepared, rows)
    # The set may call its classes otherwise than the network does.
    columns["target"] = data.targets()[found]
    if digest(bundle) != weights:
        raise InputError(
            f"{bundle} was written anew while it predicted, by a training that still runs; give "
            "the command again, or after the training"
        )
    files.write_table(
        location,
        predictions_of(data, found, columns, task_of(opened.recipe, data.classes, data.ordered)),
    )
    return location


def answers(bundle: str, prepared: str, folder: str) -> dict[str, Any]:
    """What a bundle says of photographs without a label, e.g. of ungradable ones.

    Writes `answers.parquet` and `.csv` into `folder`: image_id, patient_id, called (the class),
    probability (of that class), and probability_<k> of each.

    Returns:
        {"status", "folder", "answers" (the table), "n", "called" (class -> photographs),
        "probability" (mean of the class they are called)}.
    """
    data, opened = open_set(prepared), load_bundle(bundle)
    found, columns = _spread(bundle, prepared, np.arange(len(data)))
    logits = logits_of(columns).astype(np.float64)
    shares = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    ids, patients = data.image_ids(), data.patients()
    rows = [
        {
            "image_id": ids[row],
            "patient_id": patients[row],
            "called": opened.classes[share.argmax()],
            "probability": float(share.max()),
        }
        | {f"probability_{k}": float(value) for k, value in enumerate(share)}
        for row, share in zip(found.tolist(), shares, strict=True)
    ]
    files.write_table(files.join(folder, "answers.parquet"), pa.Table.from_pylist(rows))
    files.write_csv(files.join(folder, "answers.csv"), rows)
    called = Counter(row["called"] for row in rows)
    return {
        "status": "finished",
        "folder": folder,
        "answers": files.join(folder, "answers.csv"),
        "n": len(rows),
        "called": {name: called[name] for name in opened.classes},
        "probability": float(shares.max(axis=1).mean()),
    }


def _is_whole(location: str) -> bool:
    """Whether a table is there; a damaged one is named."""
    try:
        files.read_table(location)
    except FileNotFoundError:
        return False
    except DamagedError as error:
        say([str(error)])
        return False
    return True


def evaluate(bundle: str, judged: Unseen, prepared: str, folder: str) -> dict[str, Any]:
    """The figures of a bundle on the rows of a set that are new to it.

    Predictions are written into `folder`, see `predicted`.

    Raises:
        InputError: the set has classes that the bundle does not know, or no row is new to it.
    """
    if not len(judged.rows):
        raise InputError(
            f"none of the {len(judged.sides):,} photographs is new to {bundle}: it was trained on "
            "them or chose its epoch by them; give others (data.source=, data.root=)"
        )
    location = predicted(bundle, prepared, judged.rows, folder)
    return {
        "status": "finished",
        "folder": folder,
        "bundle": bundle,
        "predictions": location,
        "reported_split": judged.side,
        "optimistic": judged.side == "val",
        "notes": judged.notes,
        "metrics": summary(files.read_table(location)),
    }


def _spread(bundle: str, prepared: str, rows: np.ndarray) -> tuple[np.ndarray, Columns]:
    gpu = resources()["GPU"] > 0
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    threads = cpus_each(len(chunks), MOST_CPUS, float(gpu))
    task = ray.remote(num_cpus=threads, num_gpus=1 if gpu else 0, max_retries=3)(predict_rows)
    pending = {task.remote(bundle, prepared, chunk, threads, gpu): len(chunk) for chunk in chunks}
    bar, done, parts = Progress("predicting", len(rows)), 0, []
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        done += pending.pop(ready[0])
        parts.append(result_of(ready[0]))
        bar.update(done)
    bar.close()
    found, columns = joined(*zip(*parts, strict=True))
    order = np.argsort(found, kind="stable")
    return found[order], {name: values[order] for name, values in columns.items()}
