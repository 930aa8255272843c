"""Whether a map depends on what the network has learned at all (Adebayo et al. 2018).

Weights are drawn anew, or learned from labels that were shuffled; a map of the network that stays
as it was says nothing of it. An edge detector, which asks no network, is what fails: `edge_map`.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.hashed_numbers import normal_numbers
from fundusray.metrics.map_agreement import map_similarity
from fundusray.registry import unknown_name
from fundusray.saliency.registry import MapProblem
from fundusray.saliency.run import Explanation, explainable


def weighted_layers(model: nn.Module) -> list[str]:
    """Paths of the modules that hold weights of their own, the last one (the top) first; as they
    were registered, which in networks for images is the order in which they are passed."""
    held = [path for path, module in model.named_modules() if _own_weights(module)]
    return held[::-1]


def randomised_copy(
    model: nn.Module, layers: Sequence[str] | None = None, seed: int = 0
) -> nn.Module:
    """A copy of the model with the weights of some layers drawn anew; the model stays as it is.

    Each tensor is drawn from a normal distribution with its own mean and standard deviation, so
    that signals keep their size through the network: one whose signals die away would give other
    maps for that reason alone. A tensor in which all are equal (a norm that has not learned)
    stays. Numbers are hashes of the seed and the tensor's name, so that a layer is drawn the same
    whatever else is. Running statistics of norms are not weights and stay.

    Args:
        layers: paths of `weighted_layers`; None: all.

    Raises:
        InputError: a layer that there is not.
    """
    known = weighted_layers(model)
    for path in layers or ():
        if path not in known:
            raise unknown_name("layer with weights", path, known)
    copied = deepcopy(model)
    names = {name: number for number, (name, _) in enumerate(model.named_parameters())}
    with torch.no_grad():
        for path in known if layers is None else layers:
            module = copied.get_submodule(path)
            for name, weight in _own_weights(module):
                number = names.get(f"{path}.{name}" if path else name)
                if number is not None:
                    # A weight that layers share is drawn with the one that is registered first.
                    _draw(weight, seed, number)
    return copied


def parameter_randomisation(
    explain: Explanation,
    problem: MapProblem,
    *,
    fundus: Tensor | None = None,
    stages: int = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """How alike maps are before and after weights are drawn anew: a row for each stage and image.

    A row has row, layers (how many from the top are drawn anew), layer (the lowest of them), and
    rank_correlation, absolute_rank_correlation and linear_correlation, see `map_similarity`. A map
    that depends on the weights has rank correlations near 0 in the last stage, where all are.

    Args:
        explain: `explanation(name, args)`, or another that asks `problem.model`.
        fundus: bool [B, 1, S, S], where maps are compared; None: everywhere.
        stages: of the cascade from the top, with numbers of layers as even as can be; 1: all
            weights at once.

    Raises:
        InputError: stages below 1, or a model without weights.
    """
    layers = weighted_layers(problem.model)
    if stages < 1 or not layers:
        raise InputError(
            f"a network of {len(layers)} layers with weights is drawn anew in 1 to {len(layers)} "
            f"stages, got {stages}"
        )
    before, stages, rows = _maps(explain, problem), min(stages, len(layers)), []
    for stage in range(1, stages + 1):
        num = round(stage * len(layers) / stages)
        drawn = randomised_copy(problem.model, layers[:num], seed)
        after = _maps(explain, replace(problem, model=drawn))
        stage_row = {"layers": num, "layer": layers[num - 1]}
        rows += [stage_row | row for row in _similarities(problem, before, after, fundus)]
    return rows


def label_randomisation(
    explain: Explanation,
    problem: MapProblem,
    shuffled: nn.Module,
    fundus: Tensor | None = None,
) -> list[dict[str, Any]]:
    """How alike the maps of a network are to those of one of the same kind that learned shuffled
    labels: a row for each image with row and the correlations of `map_similarity`.

    Args:
        problem: of the network that learned true labels.
        shuffled: the other one, trained alike; is left as it was.
    """
    before = _maps(explain, problem)
    after = _maps(explain, replace(problem, model=shuffled))
    return _similarities(problem, before, after, fundus)


def edge_map(image: Tensor) -> Tensor:
    """How steep the brightness of images [B, 3, S, S] is (Sobel), [B, 1, S, S]: a map that looks
    like an explanation and knows no network."""
    grey = F.pad(image.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    kernel = image.new_tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 8
    slopes = F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None])
    return slopes.norm(dim=1, keepdim=True)


def _own_weights(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(recurse=False))


def _draw(weight: nn.Parameter, seed: int, number: int) -> None:
    if weight.numel() < 2:
        spread, middle = weight.abs().mean(), weight.new_zeros(())
    else:
        spread, middle = weight.std(), weight.mean()
    place = torch.tensor([number], device=weight.device)
    drawn = normal_numbers(seed, place, 0, weight.numel()).view(weight.shape)
    weight.copy_(middle + spread * drawn.to(weight.dtype))


def _maps(explain: Explanation, problem: MapProblem) -> Tensor:
    with explainable(problem.model), torch.no_grad():
        return explain(problem)


def _similarities(
    problem: MapProblem, before: Tensor, after: Tensor, fundus: Tensor | None
) -> list[dict[str, Any]]:
    places = [None] * len(before) if fundus is None else list(fundus.cpu().numpy())
    maps = zip(before.cpu().numpy(), after.cpu().numpy(), places, strict=True)
    rows = problem.row.tolist()
    return [{"row": row, **map_similarity(*three)} for row, three in zip(rows, maps, strict=True)]
