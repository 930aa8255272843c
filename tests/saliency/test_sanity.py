"""Maps of networks whose weights are drawn anew: those that depend on them change, edges do not."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.saliency import explanation
from fundusray.saliency.sanity import (
    edge_map,
    label_randomisation,
    parameter_randomisation,
    randomised_copy,
    weighted_layers,
)
from tests.saliency.planted import convolutions, eyes, problem_of

CORRELATIONS = ("rank_correlation", "absolute_rank_correlation", "linear_correlation")


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, Tensor], after: nn.Module) -> set[str]:
    """Layers with a number that is another."""
    now = after.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], now[name])}


def test_layers_are_named_from_the_top() -> None:
    assert weighted_layers(convolutions()) == ["9", "5", "3", "1", "0"]


def test_a_copy_has_other_weights_of_the_same_spread() -> None:
    model = convolutions()
    before = weights(model)
    copied = randomised_copy(model, seed=5)
    assert changed(before, model) == set()
    assert changed(before, copied) == {"9", "5", "3", "1", "0"}
    for name in ("3.weight", "5.weight", "9.weight"):
        now = copied.state_dict()[name]
        assert now.std() == pytest.approx(before[name].std(), rel=0.25)
        assert torch.corrcoef(torch.stack([now.flatten(), before[name].flatten()]))[0, 1] < 0.3
    # What is no weight stays, as do weights that are all equal.
    assert torch.equal(copied.state_dict()["1.running_var"], before["1.running_var"])
    assert torch.equal(copied.state_dict()["1.bias"], before["1.bias"])


def test_draws_depend_on_the_seed_and_the_layer_alone() -> None:
    model = convolutions()
    whole = weights(randomised_copy(model, seed=1))
    assert changed(whole, randomised_copy(model, seed=1)) == set()
    assert changed(whole, randomised_copy(model, seed=2)) == {"9", "5", "3", "1", "0"}
    top = randomised_copy(model, ["9", "5"], seed=1)
    assert changed(weights(model), top) == {"9", "5"}
    assert changed(whole, top) == {"3", "1", "0"}


def test_a_shared_weight_is_drawn_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    copied = randomised_copy(model)
    assert copied[0].weight is copied[1].weight
    assert torch.equal(copied[0].weight, randomised_copy(model, ["0"])[0].weight)


def test_saliency_depends_on_weights_and_edges_do_not() -> None:
    image, _, fundus = eyes()
    model = convolutions().eval()
    before, problem = weights(model), problem_of(model, image)
    explain = explanation("saliency", {})
    rows = parameter_randomisation(explain, problem, fundus=fundus, seed=1)
    assert [row["row"] for row in rows] == problem.row.tolist()
    assert {(row["layers"], row["layer"]) for row in rows} == {(5, "0")}
    assert all(abs(row["rank_correlation"]) < 0.4 for row in rows)
    edges = parameter_randomisation(lambda part: edge_map(part.image), problem, fundus=fundus)
    for row in edges:
        assert [row[name] for name in CORRELATIONS] == pytest.approx([1, 1, 1])
    assert changed(before, model) == set()


def test_the_cascade_goes_from_the_top_to_all() -> None:
    image, _, _ = eyes(1)
    problem = problem_of(convolutions().eval(), image)
    explain = explanation("saliency", {})
    rows = parameter_randomisation(explain, problem, stages=3, seed=1)
    assert [(row["layers"], row["layer"]) for row in rows] == [(2, "5"), (3, "3"), (5, "0")]
    assert rows[-1] == parameter_randomisation(explain, problem, seed=1)[0]
    # No more stages than layers.
    assert len(parameter_randomisation(explain, problem, stages=50)) == 5


def test_a_network_of_shuffled_labels_is_compared() -> None:
    image, _, _ = eyes()
    model, other = convolutions(0).eval(), convolutions(1)
    problem, state = problem_of(model, image), copy.deepcopy(other.state_dict())
    explain = explanation("saliency", {})
    rows = label_randomisation(explain, problem, other)
    assert all(row["absolute_rank_correlation"] < 0.8 for row in rows)
    same = label_randomisation(explain, problem, copy.deepcopy(model))
    assert all(row["rank_correlation"] == pytest.approx(1) for row in same)
    assert other.training and changed(state, other) == set()


def test_edges_of_a_step_by_hand() -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[..., 2:] = 1
    assert edge_map(image)[0, 0].tolist() == [[0, 0.5, 0.5, 0]] * 4
    assert edge_map(image.transpose(2, 3))[0, 0].T.tolist() == [[0, 0.5, 0.5, 0]] * 4


def test_wrong_input_is_refused_in_words() -> None:
    model = convolutions()
    with pytest.raises(InputError, match="no layer with weights named '2'"):
        randomised_copy(model, ["2"])
    image, _, _ = eyes(1)
    with pytest.raises(InputError, match="drawn anew in 1 to 5 stages, got 0"):
        parameter_randomisation(explanation("saliency", {}), problem_of(model, image), stages=0)
    with pytest.raises(InputError, match="no map named"):
        explanation("salience", {})
