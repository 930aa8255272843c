"""What is measured of each photograph for the comparison of targeted modulation with other maps."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fundusray.attacks.budget import parse_eps
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.regions.retina import REGIONS, retina_regions
from fundusray.metrics.regions import area_shares, energy_shares, rank_correlation
from fundusray.pipeline.loader import Batch
from fundusray.saliency import MapMethod, explainable, run_map
from fundusray.saliency.targeted_modulation import (
    NOWHERE,
    goal_classes,
    modulated,
    modulated_within,
    modulation_budget,
)

MODULATION = "targeted_modulation"


@dataclass(frozen=True)
class ModulationPlan:
    """What is asked of each photograph."""

    budgets: tuple[str, ...]
    """Ascending, with their units; the map, and the picture, are of the last."""
    norm: str = "l2"
    steps: int = 20
    goal: int = NOWHERE
    """The class that is led to; -1: of two the other one, of more the runner-up."""
    methods: tuple[MapMethod, ...] = ()
    """The maps beside targeted modulation's."""
    pictured: frozenset[int] = frozenset()
    """Rows whose pictures are kept."""

    @property
    def modulation(self) -> MapMethod:
        """The map of the last budget."""
        args = {"eps": self.budgets[-1], "norm": self.norm, "steps": self.steps, "goal": self.goal}
        return MapMethod(MODULATION, tuple(args.items()))

    @property
    def maps(self) -> dict[str, MapMethod]:
        """Name -> method, targeted modulation first."""
        return {MODULATION: self.modulation} | {str(method): method for method in self.methods}

    @property
    def lengths(self) -> tuple[float, ...]:
        """The budgets where pixels are in [0, 1]."""
        return tuple(parse_eps(text, self.norm, "eps") for text in self.budgets)

    @property
    def text(self) -> str:
        """All that decides what is measured of a photograph, for keys."""
        eps = "|".join(self.budgets)
        maps = ", ".join(map(str, self.methods))
        how = f"norm={self.norm} steps={self.steps} goal={self.goal}"
        return f"modulation eps={eps} {how} beside {maps} pictures={sorted(self.pictured)}"

    def passes(self, size: int) -> int:
        """Forward passes that a photograph costs, at most."""
        return self.modulation.passes(size) * (1 + len(self.budgets)) + sum(
            method.passes(size) for method in self.methods
        )


def modulation_columns(
    model: nn.Module,
    layers: Mapping[str, str],
    prepared: PreparedSet,
    batches: Iterator[Batch],
    plan: ModulationPlan,
) -> dict[str, list[Any]]:
    """Of the valid images of some batches, one entry each:

    row; prediction, the class that is explained; goal; reached (whether the modulation reached it)
    and budget (0 for the first: the smallest that did, else the last); distance, by which the image
    was moved there; `share:<method>:<region>`, `area:<region>`, `rank:<method>:<method>` (of the
    absolute values within the fundus), see `metrics.regions`; pictures, an npz of the rows in
    `plan.pictured`, else empty.
    """
    columns: dict[str, list[Any]] = {}
    for batch in batches:
        image, row = batch.image[batch.valid], batch.row[batch.valid]
        if not len(image):
            continue
        for one in _of_batch(model, layers, prepared, image, row, plan):
            for name, value in one.items():
                columns.setdefault(name, []).append(value)
    return columns


def _of_batch(
    model: nn.Module,
    layers: Mapping[str, str],
    prepared: PreparedSet,
    image: Tensor,
    row: Tensor,
    plan: ModulationPlan,
) -> Iterator[dict[str, Any]]:
    """One entry for each image of a batch."""
    budgets = [modulation_budget(eps, plan.norm, plan.steps) for eps in plan.lengths]
    with explainable(model), torch.no_grad():
        logits = model(image).float()
        target = logits.argmax(dim=1)
        goal = goal_classes(logits, target, plan.goal)
        least = modulated_within(model, image, goal, budgets)
        led = image.clone()
        pictured = [i for i, number in enumerate(row.tolist()) if number in plan.pictured]
        if pictured:
            led[pictured] = modulated(model, image[pictured], goal[pictured], budgets[-1]).image
    maps = {
        name: run_map(method.name, method.keywords, model, image, target, row=row, layers=layers)
        .values[:, 0].cpu().numpy()
        for name, method in plan.maps.items()
    }  # fmt: skip
    regions = [_regions(prepared, int(one), pixels) for one, pixels in zip(row, image, strict=True)]
    for place, number in enumerate(row.tolist()):
        own = {name: values[place] for name, values in maps.items()}
        pictures = b""
        if number in plan.pictured:
            pictures = _pictures(image[place], led[place], own, regions[place])
        yield {
            "row": number,
            "prediction": int(target[place]),
            "goal": int(goal[place]),
            "reached": bool(least.reached[place]),
            "budget": int(least.budget[place]),
            "distance": float(least.distance[place]),
            "pictures": pictures,
        } | region_columns(own, regions[place])


def region_columns(
    maps: Mapping[str, np.ndarray], regions: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Shares of one photograph's maps [S, S] and of the area in each region, and the correlations
    of each pair of maps, under the names of the columns."""
    found = {f"area:{name}": share for name, share in area_shares(regions).items()}
    for method, values in maps.items():
        shares = energy_shares(values, regions)
        found |= {f"share:{method}:{name}": share for name, share in shares.items()}
    fundus = np.logical_or.reduce(list(regions.values()))
    for first, second in combinations(maps, 2):
        strength = (np.abs(maps[name])[fundus] for name in (first, second))
        found[f"rank:{first}:{second}"] = rank_correlation(*strength)
    return found


def _regions(prepared: PreparedSet, row: int, image: Tensor) -> dict[str, np.ndarray]:
    """The regions of a row's image, from its masks where the set keeps them."""
    size, masks = image.shape[-1], {}
    if prepared.stored_masks is not None and prepared.size == size:
        layers = torch.from_numpy(prepared.masks(np.array([row]))[0]).bool()
        masks = dict(zip(prepared.mask_kinds, layers, strict=True))
    eye = prepared.table["eye"][row].as_py() if "eye" in prepared.table.column_names else ""
    found = retina_regions(image, prepared.fill, eye, masks)
    assert tuple(found) == REGIONS
    return {name: mask.numpy() for name, mask in found.items()}


def _pictures(
    image: Tensor, led: Tensor, maps: Mapping[str, np.ndarray], regions: Mapping[str, np.ndarray]
) -> bytes:
    """An npz of image and modulated, uint8 [S, S, 3], difference, float16 [S, S, 3], each map,
    float16 [S, S], and each region, bool [S, S]."""
    arrays = {
        "image": _levels(image),
        "modulated": _levels(led),
        "difference": (led - image).permute(1, 2, 0).cpu().numpy().astype(np.float16),
    }
    for name, values in maps.items():
        # Within what float16 holds, whatever a map's unit.
        largest = float(np.abs(values).max()) or 1.0
        arrays[f"map:{name}"] = (values / largest).astype(np.float16)
    arrays |= {f"region:{name}": mask for name, mask in regions.items()}
    sink = io.BytesIO()
    np.savez_compressed(sink, **arrays)
    return sink.getvalue()


def read_pictures(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of one photograph, by their names."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _levels(image: Tensor) -> np.ndarray:
    return (image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
