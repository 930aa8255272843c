"""Plans of epochs: counts by hand, over many batches, epochs and workers."""

import numpy as np
import pytest

from fundusray.config import Sampling
from fundusray.data.sampling import EpochPlan, _counts, plan_epoch, plan_eval, worker_share
from fundusray.errors import InputError

GRADES = np.repeat(np.arange(5), (73, 7, 15, 3, 2))  # imbalanced as screening is
ROWS = np.arange(len(GRADES)) * 3 + 10
CLASS_OF = dict(zip(ROWS.tolist(), GRADES.tolist(), strict=True))
LI = (0.5, 0.0625, 0.125, 0.0625, 0.25)


def plan_of(
    name="natural", quotas=(), *, batch=16, epoch=0, seed=0, targets=GRADES, **more
) -> EpochPlan:
    sampling = Sampling(name=name, quotas=quotas)
    rows = ROWS[: len(targets)]
    settings = {"num_classes": 5, "batch": batch, "seed": seed, "epoch": epoch} | more
    return plan_epoch(sampling, rows, targets, **settings)


def counts_of(rows: np.ndarray) -> np.ndarray:
    """Rows of each class [5]."""
    return np.bincount([CLASS_OF[row] for row in rows.ravel().tolist()], minlength=5)


def equal(one: EpochPlan, other: EpochPlan) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_natural_shows_each_row_once_and_pads_the_last_batch():
    plan = plan_of(batch=16)
    assert plan.rows.shape == (7, 16) and plan.rows.dtype == np.int64
    assert sorted(plan.rows[plan.valid]) == sorted(ROWS)
    assert plan.valid[:6].all() and plan.valid[6].tolist() == [True] * 4 + [False] * 12
    assert np.array_equal(plan.rows[6, 4:], plan.rows[0, :12])
    assert (plan.repeat == ~plan.valid).all() and plan.repeat.dtype == np.int32


def test_drop_last_leaves_the_incomplete_batch_out():
    whole, dropped = plan_of(batch=16), plan_of(batch=16, drop_last=True)
    assert np.array_equal(dropped.rows, whole.rows[:6]) and dropped.valid.all()
    assert plan_of(batch=50, drop_last=True).rows.shape == (2, 50)


@pytest.mark.parametrize("name", ["natural", "oversample", "quotas"])
def test_a_plan_is_a_function_of_seed_and_epoch(name):
    assert equal(plan_of(name, epoch=3), plan_of(name, epoch=3))
    for other in (plan_of(name, epoch=4), plan_of(name, epoch=3, seed=1)):
        assert (plan_of(name, epoch=3).rows != other.rows).mean() > 0.5


def test_orders_of_seeds_epochs_and_large_seeds_all_differ():
    keys = [(s, e) for s in (0, 1, 2, 2**32, 2**32 + 1, 2**40, -1) for e in range(6)]
    orders = {plan_of(seed=seed, epoch=epoch).rows.tobytes() for seed, epoch in keys}
    assert len(orders) == len(keys)


def test_every_place_of_an_epoch_is_equally_likely():
    first = [plan_of(batch=2, epoch=epoch).rows[0, 0] for epoch in range(2000)]
    _, hits = np.unique(first, return_counts=True)
    # Chi-square of 100 rows: mean 99, sd 14.
    assert len(hits) == 100 and ((hits - 20.0) ** 2 / 20).sum() < 99 + 5 * 14


def test_oversample_shows_every_class_as_often_as_the_largest():
    plan = plan_of("oversample", batch=20)
    shown = plan.rows[plan.valid]
    assert len(shown) == 5 * 73
    assert counts_of(shown).tolist() == [73] * 5
    _, times = np.unique(shown, return_counts=True)
    by_class = {
        k: sorted(times[[CLASS_OF[r] == k for r in np.unique(shown).tolist()]]) for k in range(5)
    }
    # 73 = 10 * 7 + 3 = 4 * 15 + 13 = 24 * 3 + 1 = 36 * 2 + 1.
    assert by_class[0] == [1] * 73
    assert by_class[1] == [10] * 4 + [11] * 3
    assert by_class[2] == [4] * 2 + [5] * 13
    assert by_class[3] == [24] * 2 + [25]
    assert by_class[4] == [36, 37]


def test_oversample_draws_the_remainder_anew_each_epoch():
    def favoured(epoch):
        rows, times = np.unique(plan_of("oversample", epoch=epoch).rows, return_counts=True)
        return tuple(rows[times == 11])

    assert len({favoured(epoch) for epoch in range(20)}) > 10


def test_oversample_leaves_absent_classes_out():
    plan = plan_of("oversample", targets=GRADES[:80], batch=2)
    assert counts_of(plan.rows).tolist() == [73, 73, 0, 0, 0]


def test_repeat_counts_the_occurrences_of_a_row():
    for name in ("natural", "oversample", "quotas"):
        plan = plan_of(name)
        pairs = set(zip(plan.rows.ravel().tolist(), plan.repeat.ravel().tolist(), strict=True))
        assert len(pairs) == plan.rows.size  # no augmentation twice, padding included
        seen: dict[int, int] = {}
        for row, repeat in zip(plan.rows.ravel(), plan.repeat.ravel(), strict=True):
            assert repeat == seen.get(row, 0)
            seen[row] = repeat + 1


def test_quotas_of_li_are_exact_in_each_batch():
    for epoch in range(4):
        plan = plan_of("quotas", LI, epoch=epoch)
        assert plan.rows.shape == (7, 16) and plan.valid.all()
        for batch in plan.rows:
            assert counts_of(batch).tolist() == [8, 1, 2, 1, 4]


@pytest.mark.parametrize("quotas", [LI, (), (0.9, 0.04, 0.03, 0.02, 0.01), (1 / 3, 0, 0, 2 / 3, 0)])
@pytest.mark.parametrize("batch", [2, 3, 10, 16, 25])
def test_quotas_hold_over_all_batches_and_epochs(quotas, batch):
    exact = np.array(quotas or [0.2] * 5)
    total, batches = np.zeros(5), 0
    for epoch in range(12):
        for rows in plan_of("quotas", quotas, batch=batch, epoch=epoch).rows:
            total += counts_of(rows)
            batches += 1
            # Never a whole row off, so long-run shares are exact.
            assert np.abs(total - batches * batch * exact).max() < 1 - 1e-9
    assert batches == 12 * -(-100 // batch)


def test_first_batch_of_ten_goes_by_largest_remainder():
    # 5, 0.625, 1.25, 0.625, 2.5: whole parts 5, 0, 1, 0, 2; the two largest remainders get one.
    assert counts_of(plan_of("quotas", LI, batch=10).rows[0]).tolist() == [5, 1, 1, 1, 2]


def test_quotas_hold_for_many_random_shares():
    draws = np.random.default_rng(0)
    for _ in range(300):
        weights = draws.integers(0, 1000, draws.integers(2, 12)).tolist()
        weights[0] += 1
        batch = int(draws.integers(1, 40))
        counts = _counts(weights, batch, 200)
        assert (counts >= 0).all() and (counts.sum(axis=1) == batch).all()
        owed = np.arange(1, 201)[:, None] * batch * np.array(weights) / sum(weights)
        assert np.abs(counts.cumsum(axis=0) - owed).max() < 1


def test_a_class_is_gone_through_evenly_across_epochs():
    plans = [plan_of("quotas", LI, epoch=epoch) for epoch in range(15)]
    rows = np.concatenate([plan.rows.ravel() for plan in plans])
    for k in range(5):
        own = [row for row in rows.tolist() if CLASS_OF[row] == k]
        shown = np.unique(own, return_counts=True)[1]
        # Every cycle shows each row once; within a batch, cycles may be shuffled together.
        assert len(shown) == np.bincount(GRADES)[k] and np.ptp(shown) <= 1


def test_quotas_shuffle_within_the_batch():
    plans = [plan_of("quotas", LI, epoch=epoch) for epoch in range(30)]
    first = [CLASS_OF[row] for plan in plans for row in plan.rows[:, 0].tolist()]
    assert abs(np.mean(np.array(first) == 0) - 0.5) < 0.15


@pytest.mark.parametrize("name", ["natural", "oversample", "quotas"])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("batch", [16, 17])
def test_workers_together_show_the_global_batch(name, world, batch):
    plan = plan_of(name, batch=batch)
    parts = [worker_share(plan, rank, world) for rank in range(world)]
    sizes = [part.rows.shape[1] for part in parts]
    assert sum(sizes) == batch and min(sizes) >= 2 and max(sizes) - min(sizes) <= 3
    # Neighbours 2i and 2i + 1 stay with one worker.
    assert all(size % 2 == 0 for size in sizes[:-1])
    assert equal(
        EpochPlan(*(np.concatenate(part, axis=1) for part in zip(*parts, strict=True))), plan
    )


def test_an_odd_batch_s_last_row_falls_to_the_last_worker():
    plan = plan_of(batch=7)
    assert [worker_share(plan, rank, 2).rows.shape[1] for rank in range(2)] == [2, 5]


def test_more_workers_than_pairs_of_rows_are_refused():
    told = r"cluster\.workers=9 .*cluster\.workers=8 .*train\.batch=18"
    with pytest.raises(InputError, match=told):
        worker_share(plan_of(), 0, 9)


def test_eval_shows_every_row_in_order_and_pads():
    plan = plan_eval(ROWS[:10], 4)
    assert plan.rows.shape == (3, 4)
    assert plan.rows[plan.valid].tolist() == ROWS[:10].tolist()
    assert plan.rows[2, 2:].tolist() == ROWS[:2].tolist()
    few = plan_eval(ROWS[:3], 8)
    assert few.rows.shape == (1, 8) and few.valid.sum() == 3 and set(few.rows[0]) == set(ROWS[:3])
    assert plan_eval(ROWS[:0], 8).rows.shape == (0, 8)


def test_a_batch_larger_than_the_rows_is_refused():
    with pytest.raises(InputError, match=r"train\.batch=101 .* 100 training rows"):
        plan_of(batch=101)
    assert plan_of(batch=100).rows.shape == (1, 100)


def test_quotas_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="5 classes need 5 numbers"):
        plan_of("quotas", (0.5, 0.5))
    with pytest.raises(InputError, match=r"class 2 is given 0\.125"):
        plan_of("quotas", LI, targets=GRADES[:80])
    present = plan_of("quotas", targets=GRADES[:80], batch=4)
    assert counts_of(present.rows[0]).tolist() == [2, 2, 0, 0, 0]


def test_an_unknown_sampling_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'oversample'"):
        plan_of("oversampel")
