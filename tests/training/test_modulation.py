"""What is measured of each photograph, from batches as a loader gives them."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fundusray.attacks.gradient import perturbation_distance
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.regions.retina import REGIONS, retina_regions
from fundusray.data.sampling import plan_eval
from fundusray.metrics.regions import energy_shares, rank_correlation
from fundusray.pipeline.loader import Batch, make_loader
from fundusray.saliency import parse_methods, run_map
from fundusray.saliency.targeted_modulation import modulated, modulation_budget
from fundusray.training.modulation import (
    MODULATION,
    ModulationPlan,
    modulation_columns,
    read_pictures,
)
from fundusray.training.step import to_device
from tests.attacks.linear_networks import convolutional_network

ROWS = np.array([3, 11, 20, 7, 30, 41])
PLAN = ModulationPlan(
    ("0.02unit01", "0.2unit01", "1unit01"),
    steps=8,
    methods=parse_methods("saliency, smooth_grad(draws=2)"),
    pictured=frozenset({11, 7}),
)


def batches(prepared: PreparedSet, rows: np.ndarray, size: int = 4) -> Iterator[Batch]:
    loader = make_loader(prepared, batch=size, augment="none", engine="plain")
    epoch = loader.epoch(plan_eval(rows, size), seed=0, epoch=0)
    return to_device(epoch, torch.device("cpu"), contiguous=True)


@pytest.fixture(scope="module")
def image(prepared: PreparedSet) -> Tensor:
    (batch,) = batches(prepared, ROWS, len(ROWS))
    return batch.image


@pytest.fixture(scope="module")
def network(image: Tensor) -> nn.Module:
    return convolutional_network(image, num_classes=2)


@pytest.fixture(scope="module")
def columns(network: nn.Module, prepared: PreparedSet) -> dict[str, list]:
    """The last of the two batches is filled up with rows that do not count."""
    return modulation_columns(network, {}, prepared, batches(prepared, ROWS), PLAN)


def test_each_row_says_who_was_led_where_and_how_far(
    columns: dict[str, list], network: nn.Module, image: Tensor
) -> None:
    assert columns["row"] == ROWS.tolist()
    answers = network(image).argmax(dim=1)
    assert columns["prediction"] == answers.tolist()
    assert columns["goal"] == (1 - answers).tolist()
    needed, lengths = np.array(columns["budget"]), np.array(PLAN.lengths)
    assert (np.array(columns["distance"]) <= lengths[needed] + 1e-6).all()
    for number, eps in enumerate(PLAN.lengths):
        done = modulated(network, image, 1 - answers, modulation_budget(eps, steps=8))
        reached = np.array(columns["reached"]) & (needed <= number)
        # What this budget alone reaches is reached; more where a smaller one had reached it.
        assert (reached >= done.reached.numpy()).all()
    assert len(set(columns["budget"])) > 1, "the budgets tell these photographs apart"


def test_shares_and_correlations_are_those_of_the_maps(
    columns: dict[str, list], network: nn.Module, image: Tensor, prepared: PreparedSet
) -> None:
    target, row = torch.tensor(columns["prediction"]), torch.from_numpy(ROWS)
    maps = {}
    for name, method in PLAN.maps.items():
        found = run_map(method.name, method.keywords, network, image, target, row=row, layers={})
        maps[name] = found.values[:, 0].numpy()
    assert list(maps) == [MODULATION, "saliency", "smooth_grad(draws=2)"]
    for place in range(len(ROWS)):
        eye = prepared.table["eye"][int(ROWS[place])].as_py()
        regions = {
            name: mask.numpy()
            for name, mask in retina_regions(image[place], prepared.fill, eye).items()
        }
        for name, values in maps.items():
            shares = energy_shares(values[place], regions)
            found = {region: columns[f"share:{name}:{region}"][place] for region in REGIONS}
            assert found == pytest.approx(shares, rel=1e-4) and sum(
                found.values()
            ) == pytest.approx(1)
        fundus = sum(regions.values()).astype(bool)
        alike = rank_correlation(
            *(np.abs(maps[name][place])[fundus] for name in (MODULATION, "saliency"))
        )
        assert columns[f"rank:{MODULATION}:saliency"][place] == pytest.approx(alike, abs=1e-3)
    areas = [columns[f"area:{name}"] for name in REGIONS]
    assert np.sum(areas, axis=0) == pytest.approx(1)


def test_pictures_are_kept_of_the_rows_that_were_named(
    columns: dict[str, list], image: Tensor
) -> None:
    kept = {row: content for row, content in zip(columns["row"], columns["pictures"], strict=True)}
    assert {row for row, content in kept.items() if content} == {11, 7}
    arrays = read_pictures(kept[11])
    assert np.array_equal(arrays["image"], (image[1] * 255).round().permute(1, 2, 0).byte().numpy())
    moved = torch.from_numpy(arrays["difference"].astype(np.float32)).permute(2, 0, 1)[None]
    far = perturbation_distance(moved, torch.zeros_like(moved), "l2")
    assert 0.5 < far.item() <= 1.01, "the picture is of the largest budget"
    assert {f"map:{name}" for name in PLAN.maps} <= set(arrays)
    assert {f"region:{name}" for name in REGIONS} <= set(arrays)


def test_what_is_measured_does_not_depend_on_the_batch(
    columns: dict[str, list], network: nn.Module, prepared: PreparedSet
) -> None:
    alone = modulation_columns(network, {}, prepared, batches(prepared, ROWS[[4]], 1), PLAN)
    for name, (value,) in alone.items():
        expected = columns[name][4]
        assert value == (pytest.approx(expected, abs=2e-3) if name != "pictures" else expected)


def test_a_plan_in_words() -> None:
    other = ModulationPlan(PLAN.budgets, steps=8, methods=PLAN.methods)
    assert other.text != PLAN.text and "smooth_grad(draws=2)" in PLAN.text
    assert PLAN.lengths == (0.02, 0.2, 1.0)
    assert str(PLAN.modulation) == "targeted_modulation(eps=1unit01, steps=8)"
    assert PLAN.passes(32) > 4 * 3 * 8
