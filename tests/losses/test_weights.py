"""Class weights against the tables that papers print."""

import pytest

from fundusray.losses import effective_weights, weight_ratio

WU = (18134, 1710, 3659, 603, 480)
YU = (20655, 1955, 4210, 698, 581)
YU_PRINTED = (1.0, 10.5652173913043, 4.9061757719714, 29.5916905444126, 35.5507745266781)
RATIOS = [(0.9, 1.0000, 4), (0.99, 1.008, 3), (0.999, 2.62, 2), (0.9999, 17.9, 1)]


@pytest.mark.parametrize("beta, ratio, digits", [*RATIOS, (0.99999, 34.6, 1)])
def test_class_balanced_ratio_on_wus_counts(beta, ratio, digits):
    weights = effective_weights("class_balanced", {"beta": beta}, WU)
    assert round(weight_ratio(weights), digits) == ratio
    assert sum(weights) == pytest.approx(5, abs=1e-12)
    closed = [(1 - beta) / (1 - beta**n) for n in WU]
    scaled = [5 * w / sum(closed) for w in closed]
    assert weights == pytest.approx(scaled, rel=1e-9)


@pytest.mark.parametrize("base", ["softmax", "sigmoid", "focal"])
def test_class_balanced_weights_at_point_99_do_almost_nothing(base):
    weights = effective_weights("class_balanced", {"beta": 0.99, "base": base}, WU)
    assert [round(w, 4) for w in weights] == [0.9979, 0.9979, 0.9979, 1.0003, 1.0060]


def test_class_balanced_next_to_1_is_inverse_frequency():
    near = effective_weights("class_balanced", {"beta": 1 - 1e-12}, WU)
    inverse = effective_weights("inverse_frequency", {}, WU)
    assert [w / near[0] for w in near] == pytest.approx([w / inverse[0] for w in inverse], rel=1e-6)


def test_inverse_frequency_to_the_letter_and_with_mean_1():
    literal = effective_weights("inverse_frequency", {"normalise": False}, WU)
    assert literal == pytest.approx([sum(WU) / n for n in WU])
    scaled = effective_weights("inverse_frequency", {}, WU)
    assert scaled == pytest.approx([w / 5 for w in literal])
    assert round(weight_ratio(scaled), 1) == 37.8


@pytest.mark.parametrize("args", [{}, {"power": 0.5}, {"weights": YU_PRINTED}])
def test_class_weights_have_mean_1_over_the_training_images(args):
    weights = effective_weights("class_weights", args, YU)
    assert sum(n * w for n, w in zip(YU, weights, strict=True)) / sum(YU) == pytest.approx(1)


def test_yus_counts_are_the_whole_numbers_behind_the_printed_weights():
    """20655 over each weight is a whole number to all printed digits; of 20656 it is not."""
    assert [round(20655 / w) for w in YU_PRINTED] == list(YU)
    assert [20655 / w for w in YU_PRINTED] == pytest.approx(YU, rel=1e-13)
    assert max(abs(20656 / w - round(20656 / w)) for w in YU_PRINTED) > 0.02
    given = effective_weights("class_weights", {"weights": YU_PRINTED}, YU)
    assert given == pytest.approx(effective_weights("class_weights", {}, YU), rel=1e-12)
    assert [w / given[0] for w in given] == pytest.approx(YU_PRINTED, rel=1e-13)


def test_power_is_the_exponent_of_the_ratio():
    weights = effective_weights("class_weights", {"power": 0.5}, WU)
    assert weight_ratio(weights) == pytest.approx((18134 / 480) ** 0.5)


def test_ldam_weighs_at_the_end_as_class_balanced_with_mean_1():
    balanced = effective_weights("class_balanced", {"beta": 0.9999}, WU)
    late = effective_weights("ldam", {}, WU)
    assert [w / late[0] for w in late] == pytest.approx([w / balanced[0] for w in balanced])
    assert sum(n * w for n, w in zip(WU, late, strict=True)) / sum(WU) == pytest.approx(1)
    assert effective_weights("ldam", {}, WU, progress=0.5) == [1.0] * 5
    assert effective_weights("ldam", {"defer": 1.0}, WU) == [1.0] * 5


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "coral", "quadratic_kappa"])
def test_a_loss_without_weights_has_ones(name):
    assert effective_weights(name, {}, (3, 0, 5)) == [1.0, 1.0, 1.0]
