"""Lengths are what they say in every unit; what has no unit is refused with what would be right."""

import pytest

from fundusray.attacks import judging_budget, length_text, parse_eps, training_budget
from fundusray.config import Adversarial
from fundusray.errors import InputError


@pytest.mark.parametrize(
    ("text", "eps"),
    [
        ("2/255", 2 / 255),
        ("2px255", 2 / 255),
        (" 0.2 px255 ", 0.2 / 255),
        ("1/100", 0.01),
        ("0.5/100", 0.005),
        ("0.5unit01", 0.5),
        ("5e-3UNIT01", 0.005),
        # [-1, 1] is twice as wide as [0, 1].
        ("0.1norm", 0.05),
    ],
)
def test_units(text: str, eps: float) -> None:
    assert parse_eps(text, "linf") == pytest.approx(eps, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2", r"'2' has no unit.*2/255 for 8-bit levels, 2unit01 .*2norm for pixels in \[-1, 1\]"),
        ("0.03", r"0.03/255 for 8-bit levels"),
        ("2/256", r"no unit '/256'; 2/255 or 2px255"),
        ("2pixels", r"no unit 'pixels'"),
        ("eps", r"a number and its unit"),
        ("", r"a number and its unit"),
        ("-2/255", r"a number and its unit"),
        ("1.2.3/255", r"a number and its unit"),
        ("0/255", r"a length above 0"),
        ("1e999unit01", r"a length above 0"),
        ("2unit01", r"510 levels, more than from black to white; .* 2/255"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"^adversarial.eps: .*{said}"):
        parse_eps(text, "linf")


def test_an_image_may_change_by_more_than_one_in_l2() -> None:
    assert parse_eps("3unit01", "l2") == 3.0


@pytest.mark.parametrize(
    "text", ["2/255", "0.5/255", "127.5/255", "0.0125/255", "1/100", "51/255", "12/100"]
)
def test_shown_reads_back(text: str) -> None:
    assert length_text(parse_eps(text, "l2")) == text


def test_steps_that_are_not_given() -> None:
    eps = 4 / 255
    for method, step, steps in (
        ("pgd", 2.5 * eps / 7, 7),
        ("trades", 2.5 * eps / 7, 7),
        ("fast", 1.25 * eps, 1),
        ("free", eps, 1),
    ):
        budget = training_budget(Adversarial(method=method, eps="4/255"))
        assert (budget.steps, budget.eps) == (steps, pytest.approx(eps))
        assert budget.step == pytest.approx(step)
    given = training_budget(Adversarial(method="fast", eps="4/255", step_size="3/255"))
    assert given.step == pytest.approx(3 / 255)
    with pytest.raises(InputError, match=r"^adversarial.step_size: '3' has no unit"):
        training_budget(Adversarial(method="pgd", eps="4/255", step_size="3"))


def test_the_judge_always_starts_at_random_and_takes_its_own_steps() -> None:
    settings = Adversarial(
        method="pgd", norm="l2", eps="0.5unit01", step_size="1.5unit01", random_start=False
    )
    budget = judging_budget(settings)
    assert (budget.norm, budget.eps, budget.steps, budget.random_start) == ("l2", 0.5, 20, True)
    assert budget.step == pytest.approx(2.5 * 0.5 / 20)
    assert training_budget(settings).step == 1.5
    assert not training_budget(settings).random_start
