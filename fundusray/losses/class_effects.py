"""The honesty panel: what a loss and a sampling do to each class, in numbers and in words.

A name like "class balanced" says what a setting is meant to do. This says what it does to given
class counts: by weights, by how often images are shown, and by each class's share of the gradient.
"""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from fundusray.losses.arguments import check_args
from fundusray.losses.registry import LOSSES, compute_loss, num_outputs
from fundusray.losses.showings import class_showings, sampling_sentence
from fundusray.losses.weights import effective_weights, weight_ratio
from fundusray.settings import Loss, Sampling

ROWS = 1000
"""Rows of the batch on which gradients are taken."""
EVEN = 1.05
"""Largest over smallest weight up to which classes are said to weigh the same."""


class ClassEffects(TypedDict):
    """What `effects_on_classes` finds; lists have one number per class."""

    loss: str
    sampling: str
    counts: list[int]
    """Training images."""
    weights: list[float]
    """Class weights in the loss; ones where it has none."""
    weights_at_end: list[float]
    """The same at the end of the run."""
    weight_ratio: float
    """Largest over smallest weight of the classes with images."""
    images: list[float]
    """Showings in an epoch."""
    distinct: list[int]
    """Different images among them."""
    effective: list[float]
    """Kish's effective sample size of the showings of a class."""
    effective_epoch: float
    """Kish's effective sample size of the whole epoch, class weights counted: how many images of
    equal weight would say as much."""
    gradient_blank: list[float]
    """Share of the expected gradient norm where all outputs are 0."""
    gradient_prior: list[float]
    """Share of it where the network answers the training set's class frequencies."""


def effects_on_classes(
    loss: Loss,
    sampling: Sampling,
    counts: Sequence[int],
    *,
    batch: int = 1,
    progress: float = 0.0,
) -> ClassEffects:
    """What `loss` with `sampling` does to each class, given its number of training images [K].

    `batch` is the global batch size, which rounds the epoch of quotas up; `progress` the share of
    the run done, at which a loss that changes on the way is looked at. Gradients are those of the
    outputs, by autograd: |dL/dz| of a row of the class, times the share of the showings. They are
    taken on a batch of 1000 rows, which matters to a loss of whole batches alone.

    Raises:
        InputError: a wrong loss argument, no training image, quotas that do not fit the classes.
    """
    check_args(loss.name, loss.args)
    seen = class_showings(sampling, counts, batch)
    weights = effective_weights(loss.name, loss.args, counts, progress)
    parts = list(zip(weights, seen.images, seen.effective, strict=True))
    total = sum(weight * images for weight, images, _ in parts)
    # Sum over a class of (times shown)^2 is (showings)^2 / effective.
    squares = sum((w * images) ** 2 / effective for w, images, effective in parts if effective)
    blank = torch.zeros(num_outputs(loss.name, len(counts)))
    prior = LOSSES.facts(loss.name).prior(counts)
    return ClassEffects(
        loss=_named(loss),
        sampling=sampling_sentence(sampling),
        counts=list(counts),
        weights=weights,
        weights_at_end=effective_weights(loss.name, loss.args, counts),
        weight_ratio=weight_ratio(weights),
        images=seen.images,
        distinct=seen.distinct,
        effective=seen.effective,
        effective_epoch=total**2 / squares if squares else 0.0,
        gradient_blank=gradient_shares(loss, seen.shares, counts, blank, progress),
        gradient_prior=gradient_shares(loss, seen.shares, counts, prior, progress),
    )


def gradient_shares(
    loss: Loss,
    shares: Sequence[float],
    counts: Sequence[int],
    outputs: Tensor,
    progress: float = 0.0,
) -> list[float]:
    """[K] shares of the expected norm of the gradient by the outputs; they sum to 1.

    Every row has the same `outputs` [W], raw as the loss takes them; class k comes with
    probability shares[k]. All 0 where no class has a gradient.
    """
    # At least one row of each class that is shown; how many there are is weighed out below.
    rows = [max(1, round(share * ROWS)) if share > 0 else 0 for share in shares]
    target = torch.arange(len(rows)).repeat_interleave(torch.tensor(rows))
    raw = outputs.double().expand(len(target), -1).clone().requires_grad_(True)
    tensor = torch.tensor(counts, dtype=torch.float64)
    values = compute_loss(loss.name, loss.args, raw, target, counts=tensor, progress=progress)
    (gradient,) = torch.autograd.grad(values.mean(), raw)
    norms = gradient.norm(dim=1)
    means = [norms[target == k].mean().item() if n else 0.0 for k, n in enumerate(rows)]
    expected = [share * mean for share, mean in zip(shares, means, strict=True)]
    total = sum(expected)
    return [part / total if total > 0 else 0.0 for part in expected]


def class_effect_sentences(found: ClassEffects, classes: Sequence[str] = ()) -> list[str]:
    """The panel in words, a sentence or two to each question; `classes` are the classes' names."""
    names = list(classes) or [f"class {k}" for k in range(len(found["counts"]))]
    present = [k for k, count in enumerate(found["counts"]) if count]
    empty = [names[k] for k, count in enumerate(found["counts"]) if not count]
    rare = min(present, key=lambda k: found["counts"][k])
    common = max(present, key=lambda k: found["counts"][k])
    lines = [_weights_said(found, names, present), _shown_said(found, names[rare], rare)]
    lines.append(_gradient_said(found, names, common, rare))
    if empty:
        lines.append(f"Without a training image: {', '.join(empty)}.")
    return lines


def _weights_said(found: ClassEffects, names: list[str], present: list[int]) -> str:
    start, end = found["weights"], found["weights_at_end"]
    said = f"{found['loss']} {_ratio_said(start, names, present)}."
    if end != start:
        said += f" At the end of the run it {_ratio_said(end, names, present)}."
    return said


def _ratio_said(weights: list[float], names: list[str], present: list[int]) -> str:
    least, most = (pick(present, key=lambda k: weights[k]) for pick in (min, max))
    ratio = weight_ratio(weights)
    if ratio == 1:
        return "weighs all classes alike"
    said = (
        f"gives {names[most]} {ratio:.4g} times the weight of {names[least]} "
        f"({weights[most]:.4g} against {weights[least]:.4g})"
    )
    return said + (": in effect no weighting" if ratio < EVEN else "")


def _shown_said(found: ClassEffects, name: str, rare: int) -> str:
    images, distinct = found["images"][rare], found["distinct"][rare]
    said = (
        f"An epoch with {found['sampling']} shows {sum(found['images']):,.0f} images, "
        f"{images:,.0f} of them of {name}, the rarest class: {distinct:,} different ones"
    )
    if distinct and images / distinct >= EVEN:
        said += f", each {images / distinct:.3g} times"
    epoch = found["effective_epoch"]
    return said + f". Weights and repeats counted, the epoch is worth {epoch:,.0f} images."


def _gradient_said(found: ClassEffects, names: list[str], common: int, rare: int) -> str:
    blank, prior, counts = found["gradient_blank"], found["gradient_prior"], found["counts"]
    if not any(prior) and not any(blank):
        return "No class has a gradient at the start."
    if common == rare:
        return f"All of the gradient comes from {names[common]}."
    of_images = [count / sum(counts) for count in counts]
    return (
        f"Of the gradient, {names[common]} ({_percent(of_images[common])} of the images) gives "
        f"{_percent(blank[common])} and {names[rare]} ({_percent(of_images[rare])}) gives "
        f"{_percent(blank[rare])} where all outputs are 0, and {_percent(prior[common])} and "
        f"{_percent(prior[rare])} where the network answers the class frequencies."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 or share == 0 else "less than 0.1 %"


def _named(loss: Loss) -> str:
    """The loss and its arguments, e.g. `class_balanced (beta=0.99)`."""
    args = ", ".join(f"{key}={value}" for key, value in loss.args.items())
    return f"{loss.name} ({args})" if args else loss.name
