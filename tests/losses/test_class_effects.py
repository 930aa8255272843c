"""The honesty panel against gradients worked out on paper."""

import json

import numpy as np
import pytest

from fundusray.errors import InputError
from fundusray.losses import LOSSES, class_effect_sentences, effective_weights, effects_on_classes
from fundusray.losses.priors import class_log_shares, mean_class, next_border_log_odds
from fundusray.settings import Loss, Sampling

WU = (18134, 1710, 3659, 603, 480)
PRIOR = np.array(WU) / sum(WU)
NATURAL, OVERSAMPLE = Sampling(), Sampling(name="oversample")


def norms_at(p: np.ndarray) -> np.ndarray:
    """|p - e_k|: the cross entropy gradient of a row of class k where the network answers p."""
    return np.sqrt((1 - p) ** 2 + (p**2).sum() - p**2)


def shares(values: np.ndarray) -> list[float]:
    return (values / values.sum()).tolist()


class TestGradient:
    def test_of_cross_entropy(self):
        found = effects_on_classes(Loss(), NATURAL, WU)
        assert found["gradient_blank"] == pytest.approx(PRIOR)
        assert found["gradient_prior"] == pytest.approx(shares(PRIOR * norms_at(PRIOR)))

    @pytest.mark.parametrize("beta", [0.99, 0.9999])
    def test_of_weights_is_multiplied_by_them(self, beta):
        loss = Loss(name="class_balanced", args={"beta": beta})
        weights = np.array(effective_weights(loss.name, loss.args, WU))
        found = effects_on_classes(loss, NATURAL, WU)
        assert found["gradient_blank"] == pytest.approx(shares(PRIOR * weights))
        expected = shares(PRIOR * weights * norms_at(PRIOR))
        assert found["gradient_prior"] == pytest.approx(expected)

    def test_of_oversampling_is_that_of_inverse_frequency(self):
        """In expectation each class weighs the same either way."""
        over = effects_on_classes(Loss(), OVERSAMPLE, WU)
        inverse = effects_on_classes(Loss(name="inverse_frequency"), NATURAL, WU)
        assert over["gradient_blank"] == pytest.approx([0.2] * 5)
        for key in ("gradient_blank", "gradient_prior"):
            assert over[key] == pytest.approx(inverse[key])

    def test_of_quotas(self):
        quotas = (0.5, 0.0625, 0.125, 0.0625, 0.25)
        found = effects_on_classes(Loss(), Sampling(name="quotas", quotas=quotas), WU, batch=16)
        assert found["gradient_blank"] == pytest.approx(quotas)

    def test_of_focal(self):
        """|d/dz| = |gamma p (1-p)^(gamma-1) log p - (1-p)^gamma| |e_k - p|."""
        p, gamma = PRIOR, 2.0
        factor = np.abs(gamma * p * (1 - p) ** (gamma - 1) * np.log(p) - (1 - p) ** gamma)
        found = effects_on_classes(Loss(name="focal", args={"gamma": gamma}), NATURAL, WU)
        assert found["gradient_prior"] == pytest.approx(shares(p * factor * norms_at(p)))

    def test_of_balanced_softmax_at_0_is_that_of_cross_entropy_at_the_prior(self):
        found = effects_on_classes(Loss(name="balanced_softmax"), NATURAL, WU)
        assert found["gradient_blank"] == pytest.approx(shares(PRIOR * norms_at(PRIOR)))

    @pytest.mark.parametrize("name", ["quadratic_kappa", "squared_error"])
    def test_of_quadratic_penalties_grows_with_the_distance_to_the_mean(self, name):
        """Both gradients are (k - mean) times the same vector in every row."""
        grades = np.arange(5)
        found = effects_on_classes(Loss(name=name), NATURAL, WU)
        expected = shares(PRIOR * np.abs(grades - PRIOR @ grades))
        # The kappa is that of 1000 rows, whose mean class is the images' to 1 %.
        assert found["gradient_prior"] == pytest.approx(expected, abs=5e-3)

    def test_of_coral_at_the_prior(self):
        above = PRIOR[::-1].cumsum()[::-1][1:]
        truth = np.arange(5)[:, None] > np.arange(4)
        norms = np.linalg.norm(above - truth, axis=1)
        found = effects_on_classes(Loss(name="coral"), NATURAL, WU)
        assert found["gradient_blank"] == pytest.approx(PRIOR)
        assert found["gradient_prior"] == pytest.approx(shares(PRIOR * norms))


def test_prior_outputs_answer_the_frequencies():
    corn = 1 / (1 + np.exp(-next_border_log_odds(WU).numpy()))
    assert np.cumprod(corn) == pytest.approx(PRIOR[::-1].cumsum()[::-1][1:])
    assert mean_class((1, 1, 2)).tolist() == pytest.approx([1.25])
    softmax = np.exp(class_log_shares(WU).numpy())
    assert softmax == pytest.approx(PRIOR)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("sampling", ["natural", "oversample", "quotas"])
@pytest.mark.parametrize("counts", [WU, (5, 0, 40, 3, 0), (9, 0, 0)])
def test_every_loss_and_sampling_has_a_panel(name, sampling, counts):
    found = effects_on_classes(Loss(name=name), Sampling(name=sampling), counts, batch=8)
    json.dumps(found, allow_nan=False)
    for key in ("gradient_blank", "gradient_prior"):
        total = sum(found[key])
        assert total == pytest.approx(1) or total == 0
        assert all(found[key][k] == 0 for k, count in enumerate(counts) if not count)
    said = class_effect_sentences(found)
    assert all(line.endswith(".") for line in said) and len(said) >= 3


def test_weights_and_repeats_make_an_epoch_worth_less():
    plain, weighted, over = (
        effects_on_classes(loss, sampling, WU)
        for loss, sampling in [
            (Loss(), NATURAL),
            (Loss(name="inverse_frequency"), NATURAL),
            (Loss(), OVERSAMPLE),
        ]
    )
    assert plain["effective_epoch"] == pytest.approx(24586)
    # (sum n w)^2 / sum n w^2 with w = 1 / n is K^2 / sum 1/n.
    assert weighted["effective_epoch"] == pytest.approx(25 / sum(1 / n for n in WU))
    # Repeats are uneven by one, so it is a little less than as many weights.
    assert 0.99 < over["effective_epoch"] / weighted["effective_epoch"] <= 1
    assert over["distinct"] == list(WU) and sum(over["images"]) == 90670


def test_sentences_of_a_loss_that_does_nothing():
    found = effects_on_classes(Loss(name="class_balanced", args={"beta": 0.99}), NATURAL, WU)
    said = class_effect_sentences(found, ["none", "mild", "moderate", "severe", "proliferative"])
    assert said == [
        "class_balanced (beta=0.99) gives proliferative 1.008 times the weight of none "
        "(1.006 against 0.9979): in effect no weighting.",
        "An epoch with natural sampling shows 24,586 images, 480 of them of proliferative, the "
        "rarest class: 480 different ones. Weights and repeats counted, the epoch is worth "
        "24,586 images.",
        "Of the gradient, none (73.8 % of the images) gives 73.7 % and proliferative (2.0 %) "
        "gives 2.0 % where all outputs are 0, and 42.9 % and 4.6 % where the network answers the "
        "class frequencies.",
    ]


def test_sentences_of_oversampling_and_of_an_empty_class():
    said = class_effect_sentences(effects_on_classes(Loss(), OVERSAMPLE, (18134, 0, 480)))
    assert said[0] == "cross_entropy weighs all classes alike."
    assert "36,268 images, 18,134 of them of class 2" in said[1]
    assert "480 different ones, each 37.8 times" in said[1]
    assert said[-1] == "Without a training image: class 1."


def test_sentences_of_weights_that_come_later():
    found = effects_on_classes(Loss(name="ldam"), NATURAL, WU)
    assert found["weight_ratio"] == 1
    assert (
        "alike. At the end of the run it gives class 4 17.86 times"
        in class_effect_sentences(found)[0]
    )


def test_a_wrong_argument_is_refused():
    with pytest.raises(InputError, match="gamma"):
        effects_on_classes(Loss(name="focal", args={"gamma": -1}), NATURAL, WU)
