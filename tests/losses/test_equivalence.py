"""Rows that are one loss under two names are found, and no others."""

import pytest

from fundusray.errors import InputError
from fundusray.losses import same_loss
from fundusray.settings import Loss, Sampling

WU = (18134, 1710, 3659, 603, 480)
PLAIN = ("plain", "cross_entropy", {})
YU_PRINTED = (1.0, 10.5652173913043, 4.9061757719714, 29.5916905444126, 35.5507745266781)


def told(*rows, counts=WU, samplings=(), **given) -> list[str]:
    """What is said of (name, loss, args), with natural sampling unless others are given."""
    samplings = samplings or [Sampling()] * len(rows)
    built = [
        (name, Loss(name=loss, args=args), sampling)
        for (name, loss, args), sampling in zip(rows, samplings, strict=True)
    ]
    return same_loss(built, counts, **given)


SAME = [
    ("focal", {"gamma": 0.0}),
    ("class_balanced", {"beta": 0.0}),
    ("class_balanced", {"beta": 0.9}),
    ("class_balanced", {"beta": 0.99}),
    ("class_weights", {"power": 0.0}),
    ("class_weights", {"power": 0.002}),
    ("class_weights", {"weights": (2.0,) * 5}),
    ("cross_entropy", {"smoothing": 0.0}),
    ("ldam", {"max_margin": 0.0, "scale": 1.0, "defer": 1.0}),
]
OTHER = [
    ("focal", {"gamma": 0.5}),
    ("class_balanced", {"beta": 0.995}),
    ("class_balanced", {"beta": 0.99, "base": "sigmoid"}),
    ("class_weights", {"power": 0.01}),
    ("cross_entropy", {"smoothing": 0.05}),
    ("inverse_frequency", {}),
    ("balanced_softmax", {}),
    ("ldam", {"max_margin": 0.0, "scale": 1.0}),
    ("ldam", {"max_margin": 0.0, "scale": 2.0, "defer": 1.0}),
    ("quadratic_kappa", {}),
    ("coral", {}),
    ("corn", {}),
    ("squared_error", {}),
]


@pytest.mark.parametrize("name, args", SAME)
def test_cross_entropy_under_another_name(name, args):
    (said,) = told(PLAIN, ("other", name, args))
    assert "“other” is the same loss as “plain”: on 18,134 + 1,710" in said
    assert "Both rows use natural sampling" in said


@pytest.mark.parametrize("name, args", OTHER)
def test_another_loss_is_not_called_the_same(name, args):
    assert told(PLAIN, ("other", name, args)) == []


def test_no_two_of_many_losses_are_called_the_same():
    rows = [(f"row {i}", *each) for i, each in enumerate([*OTHER, ("cross_entropy", {})])]
    assert told(*rows) == []


def test_the_difference_is_said():
    (said,) = told(PLAIN, ("CB", "class_balanced", {"beta": 0.99}))
    assert "agree to within 0.6 %" in said
    (said,) = told(PLAIN, ("focal", "focal", {"gamma": 0.0}))
    assert "agree exactly" in said
    assert told(PLAIN, ("CB", "class_balanced", {"beta": 0.99}), tolerance=0.005) == []


def test_it_depends_on_the_counts():
    rows = (PLAIN, ("CB", "class_balanced", {"beta": 0.99}))
    assert told(*rows, counts=(1000, 30, 20)) == []
    assert len(told(*rows, counts=(1000, 900, 800))) == 1


def test_weights_by_three_names():
    said = told(
        ("power", "class_weights", {"power": 1.0}),
        ("inverse", "inverse_frequency", {}),
        ("printed", "class_weights", {"weights": YU_PRINTED}),
        counts=(20655, 1955, 4210, 698, 581),
    )
    assert len(said) == 2 and all("same loss as “power”: on" in line for line in said)


def test_a_constant_factor_is_said():
    (said,) = told(
        ("scaled", "inverse_frequency", {}), ("letter", "inverse_frequency", {"normalise": False})
    )
    assert "“letter” is the same loss as “scaled”, up to a constant factor of 5:" in said
    assert "has another cause" not in said and "on the learning rate." in said


def test_equal_counts_make_all_balancing_the_same():
    names = ["class_balanced", "inverse_frequency", "class_weights", "balanced_softmax"]
    said = told(PLAIN, *((name, name, {}) for name in names), counts=(50,) * 4)
    assert len(said) == 4 and all("same loss as “plain”: on" in line for line in said)


def test_when_weights_come_matters_only_where_they_weigh():
    rows = [("early", "ldam", {"defer": 0.5}), ("late", "ldam", {"defer": 0.8})]
    assert told(*rows) == []
    assert len(told(*rows, counts=(7, 7, 7))) == 1


@pytest.mark.parametrize("name", ["coral", "corn", "squared_error", "quadratic_kappa"])
def test_a_loss_is_itself(name):
    assert len(told(("a", name, {}), ("b", name, {}))) == 1


def test_an_empty_class_decides_nothing():
    """Its weight is nought in one and one in the other, and no row has it."""
    rows = (PLAIN, ("CB", "class_balanced", {"beta": 0.9}))
    assert len(told(*rows, counts=(500, 0, 400))) == 1


def test_rows_that_differ_in_sampling_alone():
    natural, over = Sampling(), Sampling(name="oversample")
    (said,) = told(PLAIN, ("over", "focal", {"gamma": 0.0}), samplings=[natural, over])
    assert said.endswith("The rows differ in sampling: oversampling against natural sampling.")


def test_quotas_are_told_apart():
    samplings = [Sampling(name="quotas"), Sampling(name="quotas", quotas=(0.5, 0.3, 0.2))]
    (said,) = told(PLAIN, PLAIN, counts=(60, 50, 40), samplings=samplings)
    assert said.endswith("class quotas 0.5, 0.3, 0.2 against class quotas.")


def test_samplings_that_come_to_the_same():
    samplings = [Sampling(), Sampling(name="oversample")]
    (said,) = told(PLAIN, PLAIN, counts=(60, 60), samplings=samplings)
    assert "(oversampling, natural sampling) also show every class equally often" in said


def test_the_row_with_the_same_sampling_is_named_first():
    natural, over = Sampling(), Sampling(name="oversample")
    rows = [PLAIN, ("over", "cross_entropy", {}), ("over again", "focal", {"gamma": 0.0})]
    said = told(*rows, samplings=[natural, over, over])
    assert "“over again” is the same loss as “over”:" in said[1]
    assert "Both rows use oversampling" in said[1]


def test_a_wrong_argument_is_refused():
    with pytest.raises(InputError, match="beta"):
        told(("CB", "class_balanced", {"beta": 2.0}))
