"""An exponential moving average of the weights, which is judged and kept in their place.

Polyak and Juditsky (1992); as networks are trained with it, Tarvainen and Valpola (2017). It lives
in the optimiser's state, each weight's beside its moments, so that a checkpoint holds it and a run
that was broken off goes on with the same bits; a norm's statistics are averaged beside its scale.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

AVERAGE = "average"
STATISTICS = ("running_mean", "running_var")
UPDATES = "average_updates"


def keep_average(optimizer: Optimizer, model: nn.Module, decay: float) -> None:
    """After every step of the optimiser, average <- d average + (1 - d) weight.

    d is (1 + t) / (10 + t) at a weight's update t until that reaches `decay`, so that the average
    of a short run soon forgets where it began. Only what learns is averaged; 0: nothing is.
    """
    if not decay:
        return
    norms = _norms(model)

    def update(optimizer: Optimizer, args: object, kwargs: object) -> None:
        averages: dict[int, list[Tensor]] = defaultdict(list)
        values: dict[int, list[Tensor]] = defaultdict(list)
        for parameter in _parameters(optimizer):
            if parameter.grad is None:
                continue
            state = optimizer.state[parameter]
            count = state[UPDATES] = state.get(UPDATES, -1) + 1
            for name, value in _followed(parameter, norms):
                if name not in state:
                    state[name] = value.detach().clone()
                averages[count].append(state[name])
                values[count].append(value.detach())
        for count, group in averages.items():
            kept = min(decay, (1 + count) / (10 + count))
            torch._foreach_lerp_(group, values[count], 1 - kept)

    optimizer.register_step_post_hook(update)


def _parameters(optimizer: Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


def _norms(model: nn.Module) -> dict[Tensor, nn.Module]:
    """Scale -> the norm with statistics whose scale it is."""
    kinds = nn.modules.batchnorm._BatchNorm
    return {
        module.weight: module
        for module in model.modules()
        if isinstance(module, kinds) and module.affine and module.track_running_stats
    }


def _followed(parameter: Tensor, norms: dict[Tensor, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """(name in a weight's state, what is averaged): the weight, of a norm's its statistics, too."""
    yield AVERAGE, parameter
    if parameter in norms:
        for name in STATISTICS:
            yield f"{AVERAGE}_{name}", norms[parameter].get_buffer(name)


@contextmanager
def averaged(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """While the block runs, the model holds the average, where there is one; then its weights."""
    norms = _norms(model)
    pairs = [
        (value, optimizer.state[parameter][name])
        for parameter in _parameters(optimizer)
        for name, value in _followed(parameter, norms)
        if name in optimizer.state.get(parameter, {})
    ]
    own = [value.detach().clone() for value, _ in pairs]
    with torch.no_grad():
        for value, average in pairs:
            value.copy_(average)
    try:
        yield
    finally:
        with torch.no_grad():
            for (value, _), kept in zip(pairs, own, strict=True):
                value.copy_(kept)
