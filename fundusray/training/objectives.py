"""Objectives: what a batch's loss is made of when training images are attacked.

An objective is a generator `(network, model, batch, per_sample, settings, seed) -> losses [B]`:
`network` is called where weights need gradients (it may be data-parallel), `model` is the bare
module that attacks look at (its batch statistics have to be the same on every worker, which the
caller sees to), `per_sample(output, target)` is the recipe's loss. The caller
back-propagates each yield and steps before it asks for the next one; it enters autocast anew for
each, since autocast keeps weights as they were. All yield once, `free` once per replay.

Attacks look at the network in evaluation mode (as MadryLab's robustness, TRADES and MART do): batch
statistics stay clean, and an image's attack does not depend on the others of its batch. `fast` and
`free` attack in training mode, as their authors' code does, by the statistics of the batch; of
`fast` the running averages stay those of the passes that learn. Weights learn from one pass in
training mode over all images, clean and attacked, so that batch statistics are those of both, and
data-parallel training sees one forward pass per backward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.attacks import evaluation_mode, pgd, random_offset, training_budget
from fundusray.attacks.gradient import checked_within_budget, project_into_budget, steepest_move
from fundusray.attacks.noise import drawn_rows, slight_offset
from fundusray.config import Adversarial
from fundusray.pipeline.loader import Batch
from fundusray.registry import Registry

Raw = Tensor | tuple[Tensor, Tensor]
"""What a network gives in training mode; of Inception (main, auxiliary), with `loss.sparsity`
(main, evidence of every place)."""
PerSample = Callable[[Raw, Tensor], Tensor]
Rows = Tensor | slice
"""Which images of a batch: their places [M], or all."""

SLIGHT = 0.001
"""Standard deviation of the noise from which TRADES starts: where clean and attacked image are
equal, so are their outputs, and the divergence has no gradient."""


class Losses(Protocol):
    """An objective."""

    def __call__(
        self,
        network: nn.Module,
        model: nn.Module,
        batch: Batch,
        per_sample: PerSample,
        settings: Adversarial,
        seed: int,
    ) -> Iterator[Tensor]: ...


OBJECTIVES: Registry[Losses] = Registry("adversarial.method")


@OBJECTIVES.register("")
def standard(
    network: nn.Module,
    model: nn.Module,
    batch: Batch,
    per_sample: PerSample,
    settings: Adversarial,
    seed: int,
) -> Iterator[Tensor]:
    """The recipe's loss of the images as they are."""
    yield per_sample(network(batch.image), batch.target)


@OBJECTIVES.register("pgd")
def attacked(
    network: nn.Module,
    model: nn.Module,
    batch: Batch,
    per_sample: PerSample,
    settings: Adversarial,
    seed: int,
) -> Iterator[Tensor]:
    """The recipe's loss of attacked images (Madry et al. 2018, eq. 2.1)."""
    rows = attacked_rows(batch, settings, seed)
    found = _attack(model, batch, rows, settings, seed)
    yield per_sample(network(_replaced(batch.image, found, rows)), batch.target)


@OBJECTIVES.register("fast")
def fast(
    network: nn.Module,
    model: nn.Module,
    batch: Batch,
    per_sample: PerSample,
    settings: Adversarial,
    seed: int,
) -> Iterator[Tensor]:
    """The recipe's loss of images after one step from a random start (Wong et al. 2020, alg. 3).

    The whole batch is attacked, whatever the share of it that is learned attacked: the step is
    taken by the statistics of the batch, as the authors' code does.
    """
    budget, rows = training_budget(settings), attacked_rows(batch, settings, seed)
    # Rows that do not count may hold anything.
    image = batch.image.clamp(0.0, 1.0)
    offset = random_offset(image, batch.row, seed, budget) if budget.random_start else None
    with same_statistics(model):
        found = pgd(lambda shown: _logits(model, model(shown)), image, batch.target, budget, offset)
    yield per_sample(network(_replaced(batch.image, found[rows], rows)), batch.target)


@OBJECTIVES.register("trades")
def trades(
    network: nn.Module,
    model: nn.Module,
    batch: Batch,
    per_sample: PerSample,
    settings: Adversarial,
    seed: int,
) -> Iterator[Tensor]:
    """loss(clean) + beta KL(clean || attacked) (Zhang et al. 2019, alg. 1; beta is 1 / lambda).

    The attack raises the same divergence, from the image with noise of 0.001.
    """
    rows = attacked_rows(batch, settings, seed)
    found = _diverging(model, batch.image[rows], batch.row[rows], settings, seed)
    ours, theirs = _both(network, batch.image, found)
    kl = divergence(_logits(model, theirs), _logits(model, ours)[rows].log_softmax(1))
    yield per_sample(ours, batch.target) + settings.beta * _placed(kl, rows, len(batch.row))


@OBJECTIVES.register("mart")
def mart(
    network: nn.Module,
    model: nn.Module,
    batch: Batch,
    per_sample: PerSample,
    settings: Adversarial,
    seed: int,
) -> Iterator[Tensor]:
    """loss(attacked) - log(1 - max_{k != y} p_k(attacked)) + beta KL(clean || attacked)
    (1 - p_y(clean)) (Wang et al. 2020, alg. 1).

    With cross entropy the first two are its boosted cross entropy.
    """
    rows = attacked_rows(batch, settings, seed)
    found = _attack(model, batch, rows, settings, seed)
    ours, theirs = _both(network, batch.image, found)
    target = batch.target[rows]
    clean = _logits(model, ours)[rows].log_softmax(1)
    logits = _logits(model, theirs)
    right = clean.gather(1, target[:, None])[:, 0].exp()
    extra = runner_up(logits, target) + settings.beta * divergence(logits, clean) * (1 - right)
    losses = per_sample(_replaced(ours, theirs, rows), batch.target)
    yield losses + _placed(extra, rows, len(batch.row))


@OBJECTIVES.register("free")
def free(
    network: nn.Module,
    model: nn.Module,
    batch: Batch,
    per_sample: PerSample,
    settings: Adversarial,
    seed: int,
) -> Iterator[Tensor]:
    """The recipe's loss of a batch that each replay attacks further (Shafahi et al. 2019, alg. 1).

    The step uses the images' gradients of the very backward pass that trains the weights, so it
    costs nothing; and it is taken in training mode. Changes do not go over to the next batch, as
    they do in the paper: what an image sees would depend on the one before it.
    """
    budget = training_budget(settings)
    rows = attacked_rows(batch, settings, seed)
    clean = found = batch.image[rows]
    if budget.random_start:
        found = project_into_budget(
            clean + random_offset(clean, batch.row[rows], seed, budget), clean, budget
        )
    for replay in range(settings.replays):
        image = _replaced(
            batch.image, checked_within_budget(found, clean, budget), rows
        ).requires_grad_(True)
        yield per_sample(network(image), batch.target)
        if replay + 1 < settings.replays:
            assert image.grad is not None, "a yielded loss was not back-propagated"
            gradient = image.grad[rows].nan_to_num(nan=0.0)
            found = project_into_budget(found + steepest_move(gradient, budget), clean, budget)


@contextmanager
def same_statistics(model: nn.Module) -> Iterator[None]:
    """Passes in the mode the model is in, after which running statistics are as they were."""
    norms = [
        layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._NormBase)
    ]
    kept = [(value, value.clone()) for norm in norms for value in norm.buffers(recurse=False)]
    try:
        yield
    finally:
        for value, before in kept:
            value.copy_(before)


def attacked_rows(batch: Batch, settings: Adversarial, seed: int) -> Rows:
    """The places of a batch that are attacked: all that count, or a share by (seed, row)."""
    chosen = batch.valid
    if settings.share < 1:
        chosen = chosen & drawn_rows(batch.row, seed, settings.share)
    return slice(None) if bool(chosen.all()) else chosen.nonzero()[:, 0]


def divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """KL(clean || attacked) [B], of logits [B, K] and the clean image's log-probabilities."""
    return (clean.exp() * (clean - logits.log_softmax(1))).sum(1)


def runner_up(logits: Tensor, target: Tensor) -> Tensor:
    """-log(1 - max_{k != y} p_k), [B]; of two classes, cross entropy."""
    of_target = F.one_hot(target, logits.shape[1]).bool()
    other = logits.masked_fill(of_target, -torch.inf).argmax(1)
    rest = logits.masked_fill(F.one_hot(other, logits.shape[1]).bool(), -torch.inf)
    return logits.logsumexp(1) - rest.logsumexp(1)


def _attack(model: nn.Module, batch: Batch, rows: Rows, settings: Adversarial, seed: int) -> Tensor:
    """The attacked images of these rows."""
    budget = training_budget(settings)
    image, row = batch.image[rows], batch.row[rows]
    offset = random_offset(image, row, seed, budget) if budget.random_start else None
    with evaluation_mode(model):
        return pgd(model, image, batch.target[rows], budget, offset)


def _diverging(
    model: nn.Module, image: Tensor, row: Tensor, settings: Adversarial, seed: int
) -> Tensor:
    """The images attacked so that the network says something else than of clean ones."""
    if not len(image):
        return image
    offset = slight_offset(image, row, seed, SLIGHT)
    with evaluation_mode(model):
        # With a graph that nobody uses: without one, autocast would keep weights cast without one
        # for the pass that learns.
        clean = model(image).float().log_softmax(1).detach()
        return pgd(model, image, clean, training_budget(settings), offset, divergence)


def _both(network: nn.Module, clean: Tensor, found: Tensor) -> tuple[Raw, Raw]:
    """What the network gives for clean and for attacked images, in one pass."""
    raw = network(torch.cat([clean, found]))
    num = len(clean)
    if isinstance(raw, tuple):
        main, other = raw
        return (main[:num], other[:num]), (main[num:], other[num:])
    return raw[:num], raw[num:]


def _logits(model: nn.Module, raw: Raw) -> Tensor:
    """Class logits [B, K] float32 of what a network gives, of the main outputs alone."""
    main = raw[0] if isinstance(raw, tuple) else raw
    return model.class_logits(main.float())


def _placed(values: Tensor, rows: Rows, num: int) -> Tensor:
    """[num] with the values [M] in their rows and 0 elsewhere."""
    whole = values.new_zeros(num)
    whole[rows] = values
    return whole


def _replaced(ours: Raw, theirs: Raw, rows: Rows) -> Raw:
    """`ours` with those rows from `theirs`."""
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        main, other = (_replaced(a, b, rows) for a, b in zip(ours, theirs, strict=True))
        return main, other
    whole = ours.clone()
    whole[rows] = theirs
    return whole
