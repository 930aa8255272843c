"""How often images are shown, against the order of rows that training really takes."""

import numpy as np
import pytest

from fundusray.data.sampling import plan_epoch
from fundusray.errors import InputError
from fundusray.losses.showings import class_showings
from fundusray.settings import Sampling

CASES = [
    Sampling(),
    Sampling(name="oversample"),
    Sampling(name="quotas"),
    Sampling(name="quotas", quotas=(0.5, 0.0625, 0.125, 0.25, 0.0625)),
]


@pytest.mark.parametrize("sampling", CASES, ids=lambda s: f"{s.name}{len(s.quotas)}")
@pytest.mark.parametrize("counts", [(300, 41, 57, 13, 7), (20, 20, 20, 20, 20)])
def test_is_what_the_first_epoch_shows(sampling, counts):
    targets = np.repeat(np.arange(5), counts)
    plan = plan_epoch(
        sampling, np.arange(len(targets)), targets, num_classes=5, batch=16, seed=3, epoch=0
    )
    rows = plan.rows[plan.valid]
    times = np.bincount(rows, minlength=len(targets))
    found = class_showings(sampling, counts, batch=16)
    for k in range(5):
        own = times[targets == k]
        # Quotas are settled to within one row of the exact share.
        loose = 1 if sampling.name == "quotas" else 0
        assert abs(found.images[k] - own.sum()) <= loose
        assert abs(found.distinct[k] - (own > 0).sum()) <= loose
        kish = own.sum() ** 2 / (own**2).sum()
        assert found.effective[k] == pytest.approx(kish, rel=0.02, abs=loose)
    assert sum(found.shares) == pytest.approx(1)
    shares = np.bincount(targets[rows], minlength=5) / len(rows)
    assert found.shares == pytest.approx(shares, abs=5 / len(rows))


def test_an_empty_class_is_not_shown():
    for name in ("natural", "oversample", "quotas"):
        found = class_showings(Sampling(name=name), (30, 0, 10))
        assert found.images[1] == found.distinct[1] == found.effective[1] == 0


def test_kish_by_hand():
    """7 showings of 3 images: 3 + 2 + 2; 49 / 17."""
    found = class_showings(Sampling(name="oversample"), (7, 3))
    assert found.images == [7.0, 7.0]
    assert found.effective == pytest.approx([7.0, 49 / 17])


@pytest.mark.parametrize(
    "quotas, counts, told",
    [
        ((0.5, 0.5), (3, 3, 3), "3 classes need 3 numbers"),
        ((0.5, 0.25, 0.25), (3, 0, 3), "class 1 is given 0.25"),
        ((), (0, 0), "no class has a training image"),
    ],
)
def test_quotas_that_do_not_fit_are_refused(quotas, counts, told):
    with pytest.raises(InputError, match=told):
        class_showings(Sampling(name="quotas", quotas=quotas), counts)
