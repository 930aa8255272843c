"""Numbers made readable."""

import pytest

from fundusray.reports import number_text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.1234, "0.123"), (-0.5, "−0.500"), (-0.0001, "0.000"), (None, "–"), (float("nan"), "–")],
)
def test_numbers(value, shown):
    assert number_text.number_text(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.02, "+0.020"), (-0.02, "−0.020"), (0, "+0.000"), (None, "–")]
)
def test_differences_carry_their_sign(value, shown):
    assert number_text.signed_text(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (1.24, "1.2 s"),
        (59.6, "60 s"),
        (754, "13 min"),
        (21720, "6 h 02 min"),
        ("14h59", "14h59"),
        (None, "–"),
    ],
)
def test_durations(seconds, shown):
    assert number_text.duration_text(seconds) == shown


def test_names_with_commas_are_told_apart_by_quotes():
    assert number_text.listed_text(["a", "b", "c"]) == "a, b and c"
    assert number_text.listed_text(["focal, gamma 1", "b"]) == "“focal, gamma 1” and “b”"
    assert number_text.listed_text(["focal, gamma 1"]) == "focal, gamma 1"


def test_an_estimate_without_interval_says_that_patients_are_too_few():
    unsure = {"kappa": 0.5, "kappa_low": None, "kappa_high": None}
    assert number_text.estimate_text(unsure, "kappa") == "0.500 (too few to say)"
    assert number_text.estimate_text(unsure | {"kappa": None}, "kappa") == "–"
    assert number_text.estimate_text({"kappa": 0.5}, "kappa") == "0.500"
    row = {"kappa": 0.5, "kappa_low": -0.1, "kappa_high": 0.9}
    assert number_text.estimate_text(row, "kappa", 2) == "0.50 [−0.10, 0.90]"
