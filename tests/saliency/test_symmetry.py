"""Maps toward two classes, and sums of maps."""

import numpy as np
import pytest
import torch

from fundusray.saliency import MAPS
from fundusray.saliency.sum_heat_map import SumHeatMap
from fundusray.saliency.symmetry import symmetry_maps
from tests.saliency.layered_networks import Plain, Straight, built, problem_of


def test_opposite_classes_have_opposite_maps() -> None:
    """Of a linear network whose second class is against what its first is for."""
    model = built(Straight)
    model.head.weight[1] = -model.head.weight[0]
    args = {"steps": 1, "neurons": 30, "layer": "first"}
    found = symmetry_maps(problem_of(model), (0, 1), args=args)
    assert torch.allclose(found.first, -found.second, atol=1e-5)
    assert found.pearson.tolist() == pytest.approx([-1, -1])
    assert found.spearman.tolist() == pytest.approx([-1, -1], abs=1e-3)


def test_the_second_class_may_be_the_answer() -> None:
    problem = problem_of(built(Plain), num=5)
    answers = problem.model(problem.image).argmax(dim=1)
    found = symmetry_maps(problem, (int(answers[0]), None), "saliency")
    assert torch.equal(found.classes[:, 1], answers)
    same = (answers == answers[0]).numpy()
    assert np.isnan(found.pearson[same]).all() and same.any()
    other = symmetry_maps(problem, (0, 2), "saliency")
    assert np.isfinite(other.pearson).all()
    asked = MAPS.find("saliency")(problem_of(problem.model, num=5)).values
    assert torch.equal(other.first[0], asked[0])  # its class is 0
    assert list(other.columns()) == ["first_class", "second_class", "pearson", "spearman"]
    assert other.columns()["second_class"].tolist() == [2] * 5


def test_sums_of_maps() -> None:
    values = torch.randn(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([2, 0, 2, 2, 0, 4, 2])
    whole, first, second = SumHeatMap(), SumHeatMap(), SumHeatMap()
    whole.add(values, classes)
    first.add(values[:3], classes[:3])
    second.add(values[3:], classes[3:])
    first.join(second)
    assert whole.counts == first.counts == {2: 4, 0: 2, 4: 1}
    assert list(whole.means()) == [0, 2, 4]
    for number, mean in whole.means().items():
        assert torch.allclose(mean, values[classes == number].mean(dim=0)[0], atol=1e-6)
        assert torch.equal(mean, first.means()[number])
