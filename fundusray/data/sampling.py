"""Which rows an epoch shows, in which order, cut into global batches and shared by workers.

Everything is a function of (seed, epoch): no generator is kept, so an epoch can be computed alone,
a run resumed anywhere, and the order of rows does not depend on the number of workers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import numpy as np

from fundusray.config import Sampling
from fundusray.errors import InputError
from fundusray.registry import Registry

# One stream of random numbers for each purpose, so that none is used twice.
_EPOCH, _REMAINDER, _CLASS, _WITHIN_BATCH, _MIX = range(5)


class EpochPlan(NamedTuple):
    """An epoch: T steps of a global batch of B rows."""

    rows: np.ndarray  # int64 [T, B] positions in the prepared set
    repeat: np.ndarray  # int32 [T, B] how often the row came before in this epoch
    valid: np.ndarray  # bool [T, B] False on padding, which weighs nothing


class _Epoch(NamedTuple):
    """What a sampling works from."""

    rows: np.ndarray  # int64 [N]
    targets: np.ndarray  # int64 [N] class of each of `rows`
    quotas: tuple[float, ...]
    num_classes: int
    batch: int
    seed: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class SamplingFacts:
    """What is to be known of a sampling."""

    title: str
    """What people call it."""
    images: Callable[[Sampling, Sequence[int], int], list[float]]
    """(sampling, training images per class, global batch) -> showings of each class in an epoch.

    Raises InputError where the sampling does not fit the classes."""
    takes_quotas: bool = False
    """Whether sampling.quotas mean something to it."""


SAMPLINGS: Registry[Callable[[_Epoch], np.ndarray]] = Registry("sampling", SamplingFacts)


def plan_epoch(
    sampling: Sampling,
    rows: np.ndarray,
    targets: np.ndarray,
    *,
    num_classes: int,
    batch: int,
    seed: int,
    epoch: int,
    drop_last: bool = False,
) -> EpochPlan:
    """The plan of one training epoch over `rows` [N], whose classes are `targets` [N].

    An incomplete last batch is filled with the epoch's first rows, which are not valid, or is
    left out with `drop_last`. Quotas fill every batch, so it never has one.

    Raises:
        InputError: a batch larger than N, or quotas that do not fit the classes.
    """
    rows, targets = np.asarray(rows, np.int64), np.asarray(targets, np.int64)
    assert rows.shape == targets.shape, "targets are the classes of the given rows, one each"
    if batch > len(rows):
        raise InputError(
            f"train.batch={batch} is more than the {len(rows)} training rows; "
            f"give train.batch={len(rows)} or less, or more images"
        )
    order = SAMPLINGS.find(sampling.name)(
        _Epoch(rows, targets, sampling.quotas, num_classes, batch, seed, epoch)
    )
    if drop_last:
        order = order[: len(order) // batch * batch]
    return _fold(order, batch)


def plan_eval(rows: np.ndarray, batch: int) -> EpochPlan:
    """The plan that shows every row once, in the given order; the last batch is padded."""
    return _fold(np.asarray(rows, np.int64), batch)


def worker_share(plan: EpochPlan, rank: int, world: int) -> EpochPlan:
    """The part of worker `rank` of `world`: a contiguous slice of each global batch.

    Slices begin at even places, so that neighbours 2i and 2i + 1 fall to one worker. Where
    the batch does not divide they differ by two rows at most, by three if it is odd: the last
    worker has the odd row.

    Raises:
        InputError: fewer than two rows of the batch for each worker.
    """
    batch = plan.rows.shape[1]
    pairs = batch // 2
    if world > 1 and pairs < world:
        raise InputError(
            f"train.batch={batch} leaves some of cluster.workers={world} without two rows; "
            f"give cluster.workers={max(pairs, 1)} or less, or train.batch={2 * world} or more"
        )
    first, last = (2 * (place * pairs // world) for place in (rank, rank + 1))
    last = batch if rank == world - 1 else last
    return EpochPlan(*(part[:, first:last] for part in plan))


def _each_once(sampling: Sampling, counts: Sequence[int], batch: int) -> list[float]:
    return [float(count) for count in counts]


def _as_the_most_frequent(sampling: Sampling, counts: Sequence[int], batch: int) -> list[float]:
    return [float(max(counts)) if count else 0.0 for count in counts]


def _in_shares(sampling: Sampling, counts: Sequence[int], batch: int) -> list[float]:
    present = [float(count > 0) for count in counts]
    quotas = sampling.quotas or tuple(part / sum(present) for part in present)
    if len(quotas) != len(counts):
        raise InputError(
            f"sampling.quotas: {len(counts)} classes need {len(counts)} numbers that sum to 1, "
            f"got {tuple(sampling.quotas)}"
        )
    for k, (quota, count) in enumerate(zip(quotas, counts, strict=True)):
        if quota > 0 and count == 0:
            raise InputError(
                f"sampling.quotas: class {k} is given {quota}, but no training image; give it 0"
            )
    steps = -(-sum(counts) // batch)
    return [quota * steps * batch for quota in quotas]


@SAMPLINGS.register("natural", title="natural sampling", images=_each_once)
def _natural(given: _Epoch) -> np.ndarray:
    """Every row once."""
    return given.rows[_shuffle(len(given.rows), given.seed, _EPOCH, given.epoch)]


@SAMPLINGS.register("oversample", title="oversampling", images=_as_the_most_frequent)
def _oversample(given: _Epoch) -> np.ndarray:
    """Every class as often as the most frequent: K * n_max rows over the K classes present.

    A class is repeated whole as often as it fits; which rows fill the rest differs by epoch.
    """
    members = [given.rows[given.targets == k] for k in np.unique(given.targets)]
    most = max(map(len, members))
    parts = []
    for k, own in enumerate(members):
        rest = _shuffle(len(own), given.seed, _REMAINDER, given.epoch, k)[: most % len(own)]
        parts += [np.tile(own, most // len(own)), own[rest]]
    order = np.concatenate(parts)
    return order[_shuffle(len(order), given.seed, _EPOCH, given.epoch)]


@SAMPLINGS.register("quotas", title="class quotas", images=_in_shares, takes_quotas=True)
def _quotas(given: _Epoch) -> np.ndarray:
    """Global batches of fixed class shares, as many as cover N rows (Li: 8, 1, 2, 1, 4 of 16).

    The rows of a class are one endless stream of its own permutations that the next epoch takes
    up where this one ends: a rare class is gone through evenly, whatever the epochs' length.
    """
    weights = _class_weights(given.quotas, np.bincount(given.targets, minlength=given.num_classes))
    steps = -(-len(given.rows) // given.batch)
    first = given.epoch * steps
    counts = _counts(weights, given.batch, first + steps)
    start, counts = counts[:first].sum(axis=0), counts[first:]
    order = np.empty(steps * given.batch, np.int64)
    # In each batch the classes lie one behind the other; then the batch is shuffled.
    classes = np.tile(np.arange(given.num_classes), steps).repeat(counts.ravel())
    for k in range(given.num_classes):
        own = given.rows[given.targets == k]
        order[classes == k] = _stream(own, start[k], counts[:, k].sum(), given.seed, k)
    draws = _raw(order.size, given.seed, _WITHIN_BATCH, given.epoch).reshape(steps, -1)
    within = np.argsort(draws, axis=1, kind="stable")
    return np.take_along_axis(order.reshape(steps, -1), within, axis=1).ravel()


def _class_weights(quotas: tuple[float, ...], present: np.ndarray) -> list[int]:
    """Whole numbers [K] in the proportion of the quotas; exact, so that no error builds up.

    Raises:
        InputError: another number of quotas than classes, or a quota for a class without rows.
    """
    if not quotas:
        return [int(count > 0) for count in present]
    if len(quotas) != len(present):
        raise InputError(
            f"sampling.quotas: {len(present)} classes need {len(present)} numbers that sum to 1, "
            f"got {tuple(quotas)}"
        )
    for k, (quota, count) in enumerate(zip(quotas, present, strict=True)):
        if quota > 0 and count == 0:
            raise InputError(
                f"sampling.quotas: class {k} is given {quota} of each batch, but the training "
                f"rows hold none of it; give it 0 or add images of it"
            )
    shares = [Fraction(quota).limit_denominator(100_000) for quota in quotas]
    unit = lcm(*(part.denominator for part in shares))
    return [int(part * unit) for part in shares]


def _counts(weights: list[int], batch: int, steps: int) -> np.ndarray:
    """Rows of each class in the first `steps` global batches [steps, K].

    Largest remainder with carry-over: what a class got too little or too much in one batch is
    settled in the next ones, so its total is always within one row of its exact share. As soon as
    nothing is owed the counts repeat.
    """
    unit = sum(weights)
    owed = [0] * len(weights)
    counts: list[list[int]] = []
    while len(counts) < steps and (not counts or any(owed)):
        due = [rest + batch * weight for rest, weight in zip(owed, weights, strict=True)]
        given = [max(part // unit, 0) for part in due]
        owed = [part - unit * got for part, got in zip(due, given, strict=True)]
        while (missing := batch - sum(given)) != 0:
            # One more for the class that is owed most; one less where most was overpaid.
            sign = 1 if missing > 0 else -1
            able = [k for k in range(len(owed)) if sign > 0 or given[k] > 0]
            k = max(able, key=lambda k: sign * owed[k])
            given[k] += sign
            owed[k] -= sign * unit
        counts.append(given)
    period = np.array(counts, np.int64).reshape(-1, len(weights))
    return period[np.arange(steps) % max(len(period), 1)]


def _stream(own: np.ndarray, start: int, length: int, seed: int, k: int) -> np.ndarray:
    """Places start..start+length of the endless stream of class k's rows."""
    if length == 0:
        return own[:0]
    first, last = start // len(own), (start + length - 1) // len(own)
    cycles = [own[_shuffle(len(own), seed, _CLASS, cycle, k)] for cycle in range(first, last + 1)]
    skip = start - first * len(own)
    return np.concatenate(cycles)[skip : skip + length]


def _fold(order: np.ndarray, batch: int) -> EpochPlan:
    """The rows in batches, the last one padded with the first rows."""
    steps = -(-len(order) // batch)
    place = np.arange(steps * batch)
    rows = order[place % max(len(order), 1)]
    valid = place < len(order)
    parts = (rows, _occurrences(rows).astype(np.int32), valid)
    return EpochPlan(*(part.reshape(steps, batch) for part in parts))


def _occurrences(rows: np.ndarray) -> np.ndarray:
    """How often each entry's value came before it [N]."""
    order = np.argsort(rows, kind="stable")
    _, first, counts = np.unique(rows[order], return_index=True, return_counts=True)
    before = np.empty(len(rows), np.int64)
    before[order] = np.arange(len(rows)) - first.repeat(counts)
    return before


def keyed_uniform(size: int, seed: int, epoch: int) -> np.ndarray:
    """Numbers in [0, 1), float64 [size], that depend on nothing but the key."""
    return (_raw(size, seed, _MIX, epoch) >> np.uint64(11)) * 2.0**-53


def _raw(size: int, seed: int, stream: int, *key: int) -> np.ndarray:
    """Random uint64 [size] that depend on nothing but the key."""
    # Raw numbers, since only these are promised to stay the same from numpy to numpy; and a key
    # of a fixed number of words, since SeedSequence takes (1,) and (1, 0) for the same.
    key = (*key, 0)[:2]
    words = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, stream, *key)
    return np.random.Philox(np.random.SeedSequence(words)).random_raw(size)


def _shuffle(size: int, seed: int, stream: int, *key: int) -> np.ndarray:
    """A permutation of range(size) that depends on nothing but the key."""
    return np.argsort(_raw(size, seed, stream, *key), kind="stable")
