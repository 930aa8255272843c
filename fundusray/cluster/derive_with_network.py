"""Prepared sets that were derived with a network that segments, on the cluster: the photographs of
a set made into layered or selectively enhanced ones, with a receipt of each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fundusray import files
from fundusray.attacks import folded
from fundusray.cluster.runtime.hands import Workers
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.start import cluster_resources, cpus_each
from fundusray.cluster.runtime.train_workers import MOST_CPUS
from fundusray.cluster.runtime.units import Unit
from fundusray.conditions import Enhancement
from fundusray.conditions.enhancement import stored_levels
from fundusray.config import Data
from fundusray.data.prepared.derived import RECEIPT, complete_derived, derived_unit, unit_rows
from fundusray.data.prepared.prepared_set import PreparedSet, is_complete, open_set
from fundusray.errors import InputError
from fundusray.harmless import file_name_slug
from fundusray.lock import locked
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.tasks import is_segmentation
from fundusray.tasks.segmentation import class_map

BATCH = 8
"""Photographs in work at a time; their passes are cut smaller where they are large."""
AS_IT_WAS = json.dumps({"changed": False})
"""The receipt of a row that nobody asked for."""


@dataclass(frozen=True)
class Deriving:
    """What becomes of which rows of a set, made with which network."""

    condition: Enhancement
    bundle: str
    weights: str
    """Digest of the bundle's weights."""
    rows: np.ndarray | None = None
    """Rows that are changed; the others stay as they are. None: all."""

    @property
    def about(self) -> dict[str, Any]:
        """What decides the derived pixels beside the set and the condition."""
        asked = [] if self.rows is None else [files.hash_json(self.rows.tolist(), 8)]
        return {"weights": self.weights, "rows": asked or "all"}

    def asked(self, rows: np.ndarray) -> np.ndarray:
        """Which of some rows are changed, bool [n]."""
        return np.ones(len(rows), bool) if self.rows is None else np.isin(rows, self.rows)


class DerivingNetwork:
    """A set and the network that changes its photographs, both open, on one device."""

    def __init__(self, base: PreparedSet, bundle: Bundle, device: torch.device) -> None:
        self.base, self.classes, self.device = base, bundle.classes, device
        model = bundle.model.to(device).eval().requires_grad_(False)
        grey = torch.full((1, 3, base.size, base.size), 0.5, device=device)
        self._model = folded(model, grey).to(memory_format=torch.channels_last)

    def predict(self, image: Tensor) -> Tensor:
        """Logits float32 [B, C, S, S] of images [B, 3, S, S] in [0, 1]."""
        return self._model(image.contiguous(memory_format=torch.channels_last)).float()

    def changed(
        self, condition: Enhancement, rows: np.ndarray
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """(pixels uint8 [n, S, S, 3] of some rows after the change, a receipt of each: that of the
        condition, and what holds of the stored levels, to which the change was rounded)."""
        pixels = self.base.pixels(rows)
        levels = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
        image = levels.float().div(255)
        target = class_map(torch.from_numpy(self.base.masks(rows)).to(self.device))
        made = condition.examples(self.predict, image, target, self.classes)
        stored = stored_levels(made.image)
        far = (stored.int() - levels.int()).abs().flatten(1).amax(dim=1)
        after = condition.of_stored(self.predict, stored.float().div(255), target)
        receipts = [
            {"changed": True} | receipt | {"linf_stored": linf / 255} | rest
            for receipt, linf, rest in zip(made.receipts, far.tolist(), after, strict=True)
        ]
        return stored.permute(0, 2, 3, 1).cpu().numpy(), receipts


def derive_with_network(
    prepared: str, data: Data, deriving: Deriving, storage: str, cpus: int = 0
) -> str:
    """The folder of a set that holds the photographs of another one changed with a network, their
    masks as they are; it is made unless it is there. Broken off, the same call goes on with the
    units that are left.

    Args:
        prepared: the raw set, with the masks that the network knows.
        data: what the set is described by.
        cpus: of each worker; 0: so many that few units, too, keep the cluster busy.

    Raises:
        InputError: the set keeps JPEG, or other masks than the network's classes, or the bundle
            does not segment.
    """
    base = open_set(prepared)
    check_deriving(base, deriving.bundle, load_bundle(deriving.bundle))
    how = [files.base_name(prepared), base.info["manifest"], str(deriving.condition)]
    key = files.hash_json([*how, deriving.about], 8)
    name = f"{files.base_name(prepared)}-{file_name_slug(str(deriving.condition))}"
    folder = files.join(storage, "prepared", f"{name}-{deriving.weights[:8]}-{key}")
    if is_complete(folder):
        return folder
    with locked(folder):
        files.sweep(folder)
        parts = [int(deriving.asked(rows).sum()) for rows in unit_rows(base)]
        units = [Unit(str(i), (i,), num, f"unit {i}") for i, num in enumerate(parts)]
        gpu = cluster_resources()["GPU"] > 0
        threads = cpus or cpus_each(len(units), MOST_CPUS, float(gpu))
        opened = partial(_opened, prepared, deriving, gpu)
        work = partial(derived_with_network, folder, data, deriving)
        with Pool("deriving", work, Workers(opened, threads, float(gpu))) as pool:
            made = pool.values(units)
        records = [made[unit.key] for unit in units]
        complete_derived(base, data, str(deriving.condition), folder, records, deriving.about)
    return folder


def check_deriving(base: PreparedSet, place: str, bundle: Bundle) -> None:
    """Refuses a set that cannot be changed with a network.

    Raises:
        InputError: what does not fit, and what to do.
    """
    if not is_segmentation(bundle.recipe):
        raise InputError(
            f"{place} gives one class to a whole photograph; layered and selective examples are "
            "made with a network that segments (data.target=lesions or vessels)"
        )
    if base.encoding != "raw":
        raise InputError(
            f"{base.folder} keeps JPEG, which would remove a change of two or three levels; derive "
            "with data.encoding=raw, and train on the copies with data.encoding=raw"
        )
    if base.mask_kinds != bundle.classes[1:]:
        raise InputError(
            f"{place} knows the masks {', '.join(bundle.classes[1:])}, {base.folder} keeps "
            f"{', '.join(base.mask_kinds) or 'none'}; give the same data.target and data.classes"
        )


def _opened(prepared: str, deriving: Deriving, gpu: bool) -> DerivingNetwork:
    """What a worker holds.

    Raises:
        InputError: the bundle has other weights by now.
    """
    bundle = load_bundle(deriving.bundle)
    if weights_digest(deriving.bundle) != deriving.weights:
        raise InputError(
            f"{deriving.bundle} was written anew meanwhile, by a training that still runs; give "
            "the command again, or after the training"
        )
    return DerivingNetwork(open_set(prepared), bundle, torch.device("cuda" if gpu else "cpu"))


def derived_with_network(
    folder: str, data: Data, deriving: Deriving, network: DerivingNetwork, index: int
) -> dict[str, Any]:
    """One unit: the rows that were asked for changed, the others as they are; see
    `derived.derived_unit`."""

    def change(rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        pixels, receipts = network.base.pixels(rows), [AS_IT_WAS] * len(rows)
        places = np.flatnonzero(deriving.asked(rows))
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            pixels[some], done = network.changed(deriving.condition, rows[some])
            for place, receipt in zip(some.tolist(), done, strict=True):
                receipts[place] = json.dumps(receipt, sort_keys=True, allow_nan=False)
        return pixels, receipts

    return derived_unit(network.base, index, change, folder, data.encoding)


def receipts_of(derived: PreparedSet) -> list[dict[str, Any]]:
    """What was done to each row of such a set: image_id, changed, and what the condition says."""
    texts: Sequence[str] = derived.table[RECEIPT].to_pylist()
    pairs = zip(derived.image_ids(), texts, strict=True)
    return [{"image_id": name} | json.loads(text) for name, text in pairs]
