"""Photographs of any size segmented by a bundle, one a unit, spread over the cluster.

Workers write the class map and the sheet of each as files of its own and give back a row for it.
What is done stays: the same photograph, known by its bytes, is not segmented again by the same
weights with the same plan, whatever it is called and whatever it is given together with.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor, nn

from fundusray import files
from fundusray.cluster.runtime.hands import Workers, file_of
from fundusray.cluster.runtime.pool import READERS, Pool, is_whole
from fundusray.cluster.runtime.start import cluster_resources, cpus_each
from fundusray.cluster.runtime.train_workers import MOST_CPUS
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.config import Data
from fundusray.data.photographs.decode import BadImage
from fundusray.data.photographs.read import read_photo
from fundusray.data.prepared.class_map_files import write_class_map
from fundusray.errors import InputError
from fundusray.harmless import file_name_slug
from fundusray.models.load_weights import weights_digest
from fundusray.models.segmenters import SegmentationNetwork
from fundusray.runs.joined_networks import open_network
from fundusray.training.segmented_photograph import (
    SegmentedPhotograph,
    SegmentPlan,
    segment_photograph,
)

SEGMENTED, REFUSED = "segmented", "refused"
TRIES = 2
"""Workers that may die of one photograph."""
DIED = "the worker died of it {tries} times ({why}): an odd file, or too little memory for it"
ROWS = pa.schema(
    [
        ("sha256", pa.string()),
        ("status", pa.string()),  # segmented or refused
        ("reason", pa.string()),  # why it was refused, or what was mended
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("size", pa.int64()),  # side of the prepared square
        ("areas", pa.list_(pa.int64())),  # pixels of the fundus of each class
        ("class_map", pa.string()),  # seen from the folder
        ("sheet", pa.string()),
        ("seconds", pa.float64()),
    ]
)

Sheet = Callable[[SegmentedPhotograph, tuple[str, ...], str], bytes]
"""(what came of a photograph, the classes, its name) -> a PNG of it. A function of a module."""


class Drawing(NamedTuple):
    """How class maps are made to be looked at."""

    colours: tuple[tuple[int, int, int], ...]
    """Of each class, the background first."""
    sheet: Sheet


class PhotographFile(NamedTuple):
    """A photograph that is to be segmented."""

    root: str
    path: str
    """Seen from the root."""
    sha256: str


@dataclass(frozen=True)
class OpenNetwork:
    """What a worker holds."""

    model: nn.Module
    data: Data
    classes: tuple[str, ...]
    device: torch.device

    def predict(self, image: Tensor) -> Tensor:
        """Logits [B, C, S, S] of images on the CPU, in full precision."""
        with torch.autocast(self.device.type, enabled=False):
            return self.model(image.to(self.device, memory_format=torch.channels_last))


def photograph_files(places: Iterable[tuple[str, str]]) -> list[PhotographFile]:
    """Photographs (root, path) with the digest of their bytes; a file is read once."""
    every = list(places)
    with ThreadPoolExecutor(READERS) as readers:
        digests = readers.map(lambda place: files.sha256_file(files.join(*place)), every)
        return [
            PhotographFile(*place, digest) for place, digest in zip(every, digests, strict=True)
        ]


def segmented_rows(
    bundle: str,
    photographs: Sequence[PhotographFile],
    plan: SegmentPlan,
    folder: str,
    drawing: Drawing,
    cpus: int = 0,
) -> list[dict[str, Any]]:
    """A row of ROWS for each photograph in order, and its `image`, the file's name.

    Its files lie in `folder`, where the same call goes on after it was broken off. One that does
    not decode, shows no fundus or kills its workers is refused by its name, and the others go on.

    Raises:
        InputError: there is no bundle, or a training that still runs wrote it anew meanwhile.
    """
    weights = weights_digest(bundle)
    different = {one.sha256: one for one in photographs}
    units = [
        Unit(unit_key(weights, digest, plan.text), (one,), 1, one.path, TRIES)
        for digest, one in different.items()
    ]
    parts = files.join(folder, "parts")
    _drop_without_files(folder, parts, units)
    gpu = cluster_resources()["GPU"] > 0
    threads = cpus or cpus_each(len(units), MOST_CPUS, float(gpu))
    opened = partial(opened_network, bundle, weights, gpu)
    rows: dict[str, dict[str, Any]] = {}

    def died(unit: Unit, why: str) -> list[Unit]:
        (one,) = unit.arguments
        rows[one.sha256] = _refused(one, DIED.format(tries=TRIES, why=why))
        return []

    work = partial(segmented_part, folder, plan, drawing)
    with Pool("segmenting", work, Workers(opened, threads, float(gpu)), parts) as pool:
        for unit, location in pool.results(units, died):
            (row,) = files.read_table(location).to_pylist()
            rows[unit.arguments[0].sha256] = row
            refused = sum(row["status"] == REFUSED for row in rows.values())
            pool.note = f"{refused} refused" if refused else ""
    return [{"image": files.base_name(one.path)} | rows[one.sha256] for one in photographs]


def opened_network(bundle: str, weights: str, gpu: bool) -> OpenNetwork:
    """The bundle of these weights on its device.

    Raises:
        InputError: there is no bundle, or it has other weights.
    """
    opened = open_network(bundle)
    if weights_digest(bundle) != weights:
        raise InputError(
            f"{bundle} was written anew while it segmented, by a training that still runs; give "
            "the command again, or after the training"
        )
    for part in opened.model.modules():
        if isinstance(part, SegmentationNetwork):
            # The plan cuts the tiles; the network would cut each of them once more.
            part.tile = 0
    device = torch.device("cuda" if gpu else "cpu")
    model = opened.model.eval().to(device, memory_format=torch.channels_last)
    return OpenNetwork(model, opened.recipe.data, opened.classes, device)


def segmented_part(
    folder: str, plan: SegmentPlan, drawing: Drawing, network: OpenNetwork, one: PhotographFile
) -> pa.Table:
    """A row for a photograph, after its class map and its sheet are written into `folder`."""
    began = time.monotonic()
    try:
        content = read_photo(one.root, one.path)
        if files.sha256(content) != one.sha256:
            raise BadImage("its file was changed meanwhile; give the command again")
        made = segment_photograph(network.predict, network.data, content, plan)
    except (BadImage, FileNotFoundError, InputError) as error:
        return pa.Table.from_pylist([_refused(one, str(error))], ROWS)
    slug = file_name_slug(files.base_name(one.path).rpartition(".")[0])[:60] or "photograph"
    name = f"{slug}-{one.sha256[:8]}.png"
    row = {
        "sha256": one.sha256, "status": SEGMENTED, "reason": made.note,
        "height": made.classes.shape[0], "width": made.classes.shape[1], "size": made.size,
        "areas": made.areas.tolist(), "class_map": f"class-maps/{name}", "sheet": f"sheets/{name}",
    }  # fmt: skip
    write_class_map(files.join(folder, row["class_map"]), made.classes, drawing.colours)
    picture = drawing.sheet(made, network.classes, files.base_name(one.path))
    files.write_bytes(files.join(folder, row["sheet"]), picture)
    row["seconds"] = time.monotonic() - began
    return pa.Table.from_pylist([row], ROWS)


def _refused(one: PhotographFile, reason: str) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(ROWS.names)
    said = {"sha256": one.sha256, "status": REFUSED, "reason": reason, "areas": []}
    return empty | said | {"class_map": "", "sheet": ""}


def _drop_without_files(folder: str, parts: str, units: Sequence[Unit]) -> None:
    """Removes the rows of photographs whose class map or sheet is not there any more."""
    there = {name for name, _, _ in files.list_dir(parts)} if files.exists(parts) else set()
    for unit in units:
        location = file_of(parts, unit)
        if files.base_name(location) not in there or not is_whole(location):
            continue
        (row,) = files.read_table(location).to_pylist()
        places = [files.join(folder, row[name]) for name in ("class_map", "sheet") if row[name]]
        if not all(files.exists(place) for place in places):
            files.remove(location)
