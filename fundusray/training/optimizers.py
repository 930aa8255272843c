"""The optimiser of a recipe, its learning rate at any step, and its state without pickle."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fundusray.config import Train
from fundusray.registry import Registry
from fundusray.training.average import keep_average

ONECYCLE_RISE = 0.3
"""Share of all steps over which the one-cycle rate rises."""
ONECYCLE_START, ONECYCLE_END = 25.0, 1e4
"""The one-cycle rate starts at lr / 25 and ends at lr / 25 / 10^4."""


class Moment(NamedTuple):
    """Where in a phase a step is."""

    step: int
    total_steps: int
    steps_per_epoch: int


OPTIMIZERS: Registry[Callable[[list[dict[str, Any]], float, Train], Optimizer]] = Registry(
    "train.optimizer"
)
"""name -> (parameter groups with their decay, peak rate, the recipe's train) -> optimiser."""
SCHEDULES: Registry[Callable[[Moment, float, Train], float]] = Registry("train.schedule")
"""name -> (moment, peak rate, the recipe's train) -> the rate of that step."""


def build_optimizer(model: nn.Module, train: Train) -> Optimizer:
    """The recipe's optimiser over the parameters that learn, its rate still at the peak.

    Without train.decay_norms, parameters of one dimension (biases, norms) do not decay: pulling a
    norm's scale to 0 regularises nothing. With train.average it keeps an average of the weights.
    """
    optimizer = _chosen(model, train)
    keep_average(optimizer, model, train.average)
    return optimizer


def _chosen(model: nn.Module, train: Train) -> Optimizer:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    lr, decay = peak_rate(train), train.weight_decay
    groups: list[dict[str, Any]] = [{"params": learned, "weight_decay": decay}]
    if not train.decay_norms:
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ]
    return OPTIMIZERS.find(train.optimizer)(groups, lr, train)


@OPTIMIZERS.register("adam")
def _adam(groups: list[dict[str, Any]], lr: float, train: Train) -> Optimizer:
    return torch.optim.Adam(groups, lr=lr)


@OPTIMIZERS.register("adamw")
def _adamw(groups: list[dict[str, Any]], lr: float, train: Train) -> Optimizer:
    return torch.optim.AdamW(groups, lr=lr)


@OPTIMIZERS.register("rmsprop")
def _rmsprop(groups: list[dict[str, Any]], lr: float, train: Train) -> Optimizer:
    return torch.optim.RMSprop(groups, lr=lr, momentum=train.momentum)


@OPTIMIZERS.register("sgd")
def _sgd(groups: list[dict[str, Any]], lr: float, train: Train) -> Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=train.momentum, nesterov=train.nesterov)


def peak_rate(train: Train) -> float:
    """The peak rate for the recipe's batch: lr for train.lr_batch images, scaled to train.batch.

    linear: lr times the ratio of the batches (Goyal et al. 2017); sqrt: times its root
    (Krizhevsky 2014); none: lr.
    """
    ratio = train.batch / train.lr_batch
    return train.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[train.lr_scaling]


def rate_at_step(step: int, total_steps: int, steps_per_epoch: int, train: Train) -> float:
    """The learning rate of step 0 <= step < total_steps: a function of nothing else.

    With lr the peak for the recipe's batch: cosine: lr/2 (1 + cos(pi t)), t the share done after
    the warm-up (Loshchilov and Hutter 2017); onecycle: cosine up to lr over 30 % of the steps,
    cosine down to lr / 250,000 at the last (Smith and Topin 2018; torch's OneCycleLR; momentum
    stays); step: lr step_factor^k after k times step_epochs epochs; constant. The warm-up of cosine
    and constant is linear and reaches lr at its end.
    """
    assert 0 <= step < total_steps, f"step {step} of {total_steps}"
    moment = Moment(step, total_steps, steps_per_epoch)
    return SCHEDULES.find(train.schedule)(moment, peak_rate(train), train)


def plateau_factor(losses: Sequence[float], train: Train) -> float:
    """By what the rate of the next epoch is multiplied where it is adaptive (train.plateau).

    step_factor^k after k times that train.plateau epochs in a row brought no lower validation loss
    than the lowest before them; 1 where it is 0.

    Args:
        losses: the validation loss of every epoch so far.
    """
    lowest, waited, times = math.inf, 0, 0
    for loss in losses if train.plateau else ():
        waited = 0 if loss < lowest else waited + 1
        lowest = min(lowest, loss)
        if waited == train.plateau:
            times, waited = times + 1, 0
    return train.step_factor**times


@SCHEDULES.register("cosine")
def _cosine(moment: Moment, lr: float, train: Train) -> float:
    warmup = _warmup(moment, train)
    if moment.step < warmup:
        return _rising(moment, lr, warmup)
    return _between(lr, 0.0, (moment.step - warmup) / (moment.total_steps - warmup))


@SCHEDULES.register("constant")
def _constant(moment: Moment, lr: float, train: Train) -> float:
    warmup = _warmup(moment, train)
    return _rising(moment, lr, warmup) if moment.step < warmup else lr


@SCHEDULES.register("step")
def _stepped(moment: Moment, lr: float, train: Train) -> float:
    epoch = moment.step // moment.steps_per_epoch
    return lr * train.step_factor ** (epoch // train.step_epochs)


def _warmup(moment: Moment, train: Train) -> int:
    """Steps over which the rate rises."""
    return round(train.warmup * moment.total_steps)


def _rising(moment: Moment, lr: float, warmup: int) -> float:
    # Not from 0 itself: a first step at rate 0 would be a step wasted.
    return lr * (moment.step + 1) / (warmup + 1)


@SCHEDULES.register("onecycle")
def _onecycle(moment: Moment, peak: float, train: Train) -> float:
    step, total_steps = moment.step, moment.total_steps
    start = peak / ONECYCLE_START
    top, last = ONECYCLE_RISE * total_steps - 1, total_steps - 1
    if step <= top:
        return _between(start, peak, step / top)
    return _between(peak, start / ONECYCLE_END, (step - top) / (last - top))


def _between(start: float, end: float, share: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def state_to_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state as named tensors and a JSON value, for `tensors_to_state`."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                values.setdefault(str(index), {})[name] = value
    return tensors, {"groups": state["param_groups"], "values": values}


def tensors_to_state(
    optimizer: Optimizer, tensors: dict[str, Tensor], meta: dict[str, Any]
) -> None:
    """Puts a state back, bit for bit, into an optimiser built from the same recipe.

    Raises:
        ValueError: another number of parameters or groups.
    """
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        index, entry = name.split(".", 1)
        state.setdefault(int(index), {})[entry] = value
    for index, values in meta["values"].items():
        state.setdefault(int(index), {}).update(values)
    # JSON has no tuples; betas are one.
    groups = [
        {key: tuple(v) if key == "betas" else v for key, v in group.items()}
        for group in meta["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # In the parameter's strides, or every later step takes a slow path.
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
