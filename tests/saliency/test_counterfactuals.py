"""Counterfactuals are the paper's formula: by hand on a toy, in closed form on a linear network."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.metrics.counterfactuals import METHODS
from fundusray.saliency.counterfactuals import (
    Sweep,
    attribution_direction,
    counterfactual_columns,
    counterfactual_images,
    gradient_direction,
    moved_image,
    total_variation,
)

SIDE = 6
SWEEP = Sweep(first=1, last=256, factor=2, steps=3)


class Linear(nn.Module):
    """Two classes: the second's logit is w x + bias, the first's 0."""

    def __init__(self, seed: int = 0, bias: float = -2.0) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, SIDE, SIDE, generator=draws) / 4)
        self.bias = bias

    def forward(self, image: Tensor) -> Tensor:
        score = (image * self.weight).flatten(1).sum(dim=1) + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


def images(num: int = 4) -> Tensor:
    return torch.rand(num, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def test_the_papers_formula_by_hand() -> None:
    """Pixels of the paper 255, 178.5, 127.5, 51, 0; c = 10 moves one with an IG of 2 by 20 levels:
    away from grey where that speaks for the class, towards it where it speaks against it; a grey
    one stays, and none leaves 0 to 255."""
    x = torch.tensor([255.0, 178.5, 127.5, 51.0, 0.0, 178.5, 51.0]) / 255
    ig = torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0, -1.0, -1.0])
    direction = attribution_direction(x, ig)
    assert direction.tolist() == [2, 2, 0, -2, -2, -1, 1]
    moved = moved_image(x[None, None, None], direction[None, None, None], 10.0)[0, 0, 0]
    levels = torch.tensor([255.0, 198.5, 127.5, 31.0, 0.0, 168.5, 61.0])
    torch.testing.assert_close(moved * 255, levels)


def test_the_gradient_is_by_a_level() -> None:
    """dF/dx of 510 by pixels in [0, 1] is 2 by a level: c = 10 moves by 20 levels."""
    x, gradient = torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[510.0, -2550.0]]]])
    moved = moved_image(x, gradient_direction(gradient), torch.tensor([10.0]))
    torch.testing.assert_close(moved * 255, torch.tensor([[[[147.5, 27.5]]]]))


def test_total_variation_by_hand() -> None:
    values = torch.tensor([[[[0.0, 1.0, 3.0], [2.0, 2.0, 2.0]]]])
    # Across 1 + 2 + 0 + 0, down 2 + 1 + 1, of six numbers.
    assert total_variation(values).tolist() == pytest.approx([7 / 6])
    assert total_variation(torch.ones(2, 3, 4, 5)).tolist() == [0, 0]


def steps_of(columns: dict[str, np.ndarray], place: int, method: str, kind: str) -> np.ndarray:
    keep = (columns["place"] == place) & (columns["method"] == method) & (columns["kind"] == kind)
    return np.flatnonzero(keep)


def test_of_a_linear_network_every_row_is_the_closed_form() -> None:
    network, image = Linear(), images()
    columns = counterfactual_columns(network, image, torch.ones(4, dtype=torch.int64), SWEEP)
    weight = network.weight.detach()
    for place, x in enumerate(image):
        # IG is (x - b) w; with the sign |x - b| w.
        for method, direction in zip(
            METHODS, ((x - 0.5).abs() * weight, weight / 255), strict=True
        ):
            largest = float(direction.abs().max())
            rows = steps_of(columns, place, method, "swept")
            assert columns["levels"][rows].tolist() == [2.0**k for k in range(9)]
            for row in rows:
                levels = columns["levels"][row]
                assert columns["c"][row] == pytest.approx(levels / largest, rel=1e-4)
                changed = (x + levels / 255 * direction / largest).clamp(0, 1)
                change = changed - x
                score = float((changed * weight).sum()) - 2
                known = {
                    "logit": score,
                    "probability": 1 / (1 + math.exp(-score)),
                    "prediction": int(score > 0),
                    "reached": score > 0,
                    "l2": float(change.square().sum().sqrt()),
                    "linf": float(change.abs().max()),
                    "tv_change": float(total_variation(change[None])),
                    "tv_image": float(total_variation(changed[None])),
                }
                for name, value in known.items():
                    assert columns[name][row] == pytest.approx(value, abs=2e-5, rel=1e-4), name
            (row,) = steps_of(columns, place, "", "original")
            assert columns["logit"][row] == pytest.approx(float((x * weight).sum()) - 2, abs=1e-5)
            assert columns["l2"][row] == columns["levels"][row] == 0
    assert columns["gap"].max() < 1e-4


def test_a_linear_network_never_turns_back() -> None:
    """Clipping included: no pixel ever moves against its weight. So the smallest step is where the
    score is 0, and both methods can be made equally long."""
    network, image = Linear(), images()
    columns = counterfactual_columns(network, image, torch.ones(4, dtype=torch.int64), SWEEP)
    reached = 0
    for place in range(4):
        for method in METHODS:
            rows = steps_of(columns, place, method, "swept")
            assert (np.diff(columns["logit"][rows]) >= -1e-6).all()
            assert (np.diff(columns["l2"][rows]) >= -1e-6).all()
            hits = columns["reached"][rows]
            assert (np.diff(hits.astype(int)) >= 0).all()
            least = steps_of(columns, place, method, "smallest")
            assert len(least) == hits.any()
            for row in least:
                first = columns["levels"][rows][hits][0]
                before = ([0.0, *columns["levels"][rows][~hits]])[-1]
                assert columns["reached"][row] and before < columns["levels"][row] <= first
                # Six halvings of the interval from the step before.
                width = (first - before) / 2**6
                back = columns["levels"][row] - width
                direction = network.weight.detach()
                if method == "integrated_gradients":
                    direction = (image[place] - 0.5).abs() * direction
                unit = direction / direction.abs().max()
                moved = (image[place] + back / 255 * unit).clamp(0, 1)
                assert float((moved * network.weight.detach()).sum()) - 2 <= 1e-5
                reached += 1
            (row,) = steps_of(columns, place, method, "equal")
            assert columns["l2"][row] == pytest.approx(2 / 255 * math.sqrt(108), rel=1e-4)
    assert reached >= 4


def test_what_cannot_be_reached_has_no_smallest_step() -> None:
    network = Linear(bias=-1e4)
    columns = counterfactual_columns(network, images(2), torch.tensor([1, 1]), SWEEP)
    assert not columns["reached"].any() and "smallest" not in columns["kind"]
    found = counterfactual_images(network, images(2), torch.tensor([1, 1]), SWEEP)
    for method in METHODS:
        changed, measures = found[method]
        assert measures["levels"].tolist() == [256, 256] and not measures["reached"].any()
        assert changed.min() >= 0 and changed.max() <= 1


def test_a_class_that_no_pixel_speaks_for_moves_nothing() -> None:
    """The first class of a network with one logit: its own is 0 whatever it sees."""
    image = images(2)
    columns = counterfactual_columns(Linear(bias=9), image, torch.tensor([0, 0]), SWEEP)
    assert columns["l2"].max() == 0 and not columns["reached"].any()
    assert "equal" not in columns["kind"]
    chance = Sweep(first=1, last=256, factor=2, steps=3, output="probability")
    columns = counterfactual_columns(Linear(bias=9), image, torch.tensor([0, 0]), chance)
    assert columns["l2"].max() > 0


def test_images_are_those_of_the_smallest_step_and_batches_do_not_matter() -> None:
    network, image = Linear(), images()
    target = torch.ones(4, dtype=torch.int64)
    network.train()
    whole = counterfactual_columns(network, image, target, SWEEP, chunk=2)
    assert network.training and network.weight.requires_grad
    found = counterfactual_images(network, image, target, SWEEP)
    for place in range(4):
        alone = counterfactual_columns(network, image[place : place + 1], target[:1], SWEEP)
        rows = np.flatnonzero(whole["place"] == place)
        assert whole["levels"][rows] == pytest.approx(alone["levels"], rel=1e-5)
        assert whole["logit"][rows] == pytest.approx(alone["logit"], abs=1e-4)
        for method in METHODS:
            changed, measures = found[method]
            for row in steps_of(whole, place, method, "smallest"):
                assert whole["levels"][row] == pytest.approx(float(measures["levels"][place]))
                apart = float((changed[place] - image[place]).norm())
                assert whole["l2"][row] == pytest.approx(apart, rel=1e-4)


def test_a_gradient_that_overflows_is_refused() -> None:
    network = Linear()
    with torch.no_grad():
        network.weight[0, 0, 0] = math.inf
    with pytest.raises(InputError, match="integrated gradients of a photograph is not finite"):
        counterfactual_columns(network, images(1), torch.tensor([1]), SWEEP)
