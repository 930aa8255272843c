"""Conditions are values with a text; bad text is refused with what would be right."""

import dataclasses
from typing import Annotated

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from fundusray.attacks import (
    ATTACKS,
    AttackProblem,
    Budget,
    Radius,
    Success,
    judging_budget,
    training_budget,
)
from fundusray.conditions import (
    CONDITIONS,
    AttackCondition,
    Clean,
    Condition,
    parse_condition,
    with_condition,
)
from fundusray.conditions.condition import Arguments, Predict
from fundusray.config import Adversarial, Recipe
from fundusray.errors import InputError
from fundusray.keywords import Within
from fundusray.tasks import Classification

wrong_class = Classification(Recipe(), ("a", "b", "c", "d")).attack_success

TEXTS = [
    ("clean", "clean"),
    ("  clean ", "clean"),
    ("pgd(eps=2/255)", "pgd(eps=2/255, steps=20)"),
    ("pgd( steps = 7 ,eps=2px255)", "pgd(eps=2/255, steps=7)"),
    ("pgd(eps=0.1norm)", "pgd(eps=12.75/255, steps=20)"),
    ("pgd(eps=1/100)", "pgd(eps=1/100, steps=20)"),
    ("pgd(eps=0.01unit01, step=0.1/100)", "pgd(eps=1/100, steps=20, step=0.255/255)"),
    ("pgd(eps=8/255, step=1/255)", "pgd(eps=8/255, steps=20)"),
    ("pgd(eps=8/255, step=2/255, start=image)",
     "pgd(eps=8/255, steps=20, step=2/255, start=image)"),
    ("pgd(eps=0.5unit01, norm=l2, seed=3)", "pgd(eps=0.5unit01, norm=l2, steps=20, seed=3)"),
    ("fgsm(eps=4/255)", "fgsm(eps=4/255)"),
    ("fgsm(eps=1unit01, norm=l2)", "fgsm(eps=1unit01, norm=l2)"),
    ("pgd(eps=2/255, loss=margin, to=0, keep=last, momentum=1, restarts=3, steps=5)",
     "pgd(eps=2/255, steps=5, restarts=3, momentum=1, keep=last, to=0, loss=margin)"),
    ("pgd(eps=2/255, keep=any, to=-1, momentum=0.0)", "pgd(eps=2/255, steps=20)"),
    ("apgd_t(eps=0.5unit01, norm=l2)", "apgd_t(eps=0.5unit01, norm=l2, steps=100)"),
    ("square(eps=2/255)", "square(eps=2/255, queries=5000)"),
    ("autoattack(eps=2/255)", "autoattack(eps=2/255, steps=100, queries=5000)"),
    ("fab", "fab(steps=100)"),
    ("fab_t(norm=l2, restarts=2)", "fab_t(norm=l2, steps=100, restarts=2)"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "text"), TEXTS)
def test_a_text_and_its_value_are_the_same_thing(given: str, text: str) -> None:
    condition = parse_condition(given)
    assert isinstance(condition, Condition) and str(condition) == text
    assert parse_condition(text) == condition and hash(parse_condition(text)) == hash(condition)


def test_values_say_what_is_done() -> None:
    assert parse_condition("clean") == Clean()
    eps = 2 / 255
    budget = Budget("linf", eps, 2.5 * eps / 20, 20, random_start=True)
    assert parse_condition("pgd(eps=2/255)") == AttackCondition("pgd", budget)
    one = Budget("linf", eps, eps, 1, random_start=False)
    assert parse_condition("fgsm(eps=2/255)") == AttackCondition("fgsm", one)
    many = AttackCondition("square", Radius("l2", 0.5), 3, (("queries", 99),))
    assert parse_condition("square(eps=0.5unit01, norm=l2, queries=99, seed=3)") == many


def test_any_budget_has_a_text_that_gives_it_again() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        norm = ("linf", "l2")[int(rng.integers(2))]
        eps, step = (float(x) for x in rng.uniform(1e-9, 1, 2))
        budget = Budget(norm, eps, step, int(rng.integers(1, 99)), bool(rng.integers(2)))
        condition = AttackCondition("pgd", budget, int(rng.integers(9)))
        assert parse_condition(str(condition)) == condition
    settings = Adversarial(method="pgd", eps="3/255", steps=5, judge_steps=12)
    for budget in (training_budget(settings), judging_budget(settings)):
        condition = AttackCondition("pgd", budget, 4)
        assert parse_condition(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "one condition is written clean, pgd"),
        ("pgd", "pgd needs eps, a length with its unit"),
        ("pgd(eps=2)", r"eps of pgd: '2' has no unit.*2/255"),
        ("pgd(eps=-2/255)", "eps of pgd: a number and its unit"),
        ("pgd(eps=0/255)", "a length above 0"),
        ("pgd(eps=400/255)", "more than from black to white"),
        ("pgd(eps=2/255", "one condition is written"),
        ("pgt(eps=2/255)", "no condition named 'pgt'; did you mean 'pgd'"),
        ("pgd(eps=2/255, stps=3)", "no argument of pgd named 'stps'; did you mean 'steps'"),
        ("pgd(eps=2/255, steps=0)", "pgd.steps: needs a whole number of at least 1, got 0"),
        (f"pgd(eps=2/255, steps={'9' * 5000})", "needs a whole number of at least 1, got '9999"),
        ("pgd(eps=2/255, eps=3/255)", "eps is given twice"),
        ("pgd(2/255)", "'2/255' is no argument; write name=value"),
        ("pgd(eps=)", "'eps=' is no argument"),
        ("pgd(eps=2/255, norm=l1)", "no norm of pgd named 'l1'"),
        ("fgsm(eps=2/255, steps=3)", "no argument of fgsm named 'steps'"),
        ("square(eps=2/255, steps=3)", "no argument of square named 'steps'"),
        ("autoattack(eps=2)", "eps of autoattack: '2' has no unit"),
        ("fab(eps=-2/255)", "eps of fab: a number and its unit"),
        ("pgd(eps=2/255, keep=lst)", "pgd.keep: needs any or last, got 'lst'; did you mean 'last'"),
        ("pgd(eps=2/255, momentum=nan)", "pgd.momentum: needs a number of at least 0, got 'nan'"),
        ("pgd(eps=2/255, steps=2.5)", "needs a whole number of at least 1, got '2.5'"),
        ("pgd(eps=2/255, step=3)", "step of pgd: '3' has no unit"),
        ("autoatack(eps=2/255)", "no condition named 'autoatack'; did you mean 'autoattack'"),
        ("clean(x=1)", "clean takes no arguments, got x="),
        ("clean, pgd(eps=2/255)", "one condition is written"),
    ],
)
def test_bad_text_is_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_condition(text)


def test_a_further_condition_is_one_entry() -> None:
    @dataclasses.dataclass(frozen=True)
    class Darker:
        level: int
        passes = 1

        def changed(
            self, predict: Predict, image: Tensor, target: Tensor, row: Tensor, success: Success
        ) -> Tensor:
            return image * (1 - self.level / 8)

        def __str__(self) -> str:
            return f"darker(level={self.level})"

    @CONDITIONS.register("darker")
    def darker(given: Arguments) -> Darker:
        return Darker(given.whole("level", 1))

    condition = parse_condition("darker(level=4)")
    assert condition == Darker(4) and str(condition) == "darker(level=4)"
    image = torch.ones(2, 3, 4, 4)
    row = torch.arange(2)
    assert condition.changed(lambda x: x, image, row, row, wrong_class).max() == 0.5
    with pytest.raises(InputError, match="no condition named 'darkr'; did you mean 'darker'"):
        parse_condition("darkr(level=4)")


def test_every_attack_is_a_condition_by_its_name() -> None:
    for name in ATTACKS:
        condition = parse_condition(f"{name}(eps=3/255, seed=2)")
        assert isinstance(condition, AttackCondition) and condition.seed == 2
        assert condition.budget == Radius(ATTACKS.facts(name).norms[0], 3 / 255)
        assert parse_condition(str(condition)) == condition and condition.passes >= 5


def test_a_further_attack_is_one_entry() -> None:
    @ATTACKS.register("brighter", title="Brighter", source="nobody", norms=("linf",))
    def brighter(
        problem: AttackProblem,
        *,
        share: Annotated[float, Within(0, 1)] = 0.5,
        twice: bool = False,
        steps: int = 1,
    ) -> Tensor:
        far = problem.eps * share * (2 if twice else 1)
        return (problem.image + far).clamp(0, 1)

    condition = parse_condition("brighter(eps=0.2unit01, share=0.25, twice=true)")
    assert str(condition) == "brighter(eps=51/255, share=0.25, twice=true, steps=1)"
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    image, row = torch.full((2, 3, 4, 4), 0.5), torch.arange(2)
    target = net(image).argmax(1)
    outcome = condition.outcome(net, image, target, row, wrong_class)
    torch.testing.assert_close(outcome.image, image + 0.1)
    assert torch.equal(outcome.image, condition.changed(net, image, target, row, wrong_class))
    for text, words in (
        ("share=2", r"brighter.share: needs a number in \[0, 1\], got 2"),
        ("twice=maybe", "brighter.twice: needs true or false, got 'maybe'"),
        ("norm=l2", "no norm of brighter named 'l2'"),
    ):
        with pytest.raises(InputError, match=words):
            parse_condition(f"brighter(eps=1/255, {text})")


def test_the_cost_of_a_condition_is_that_of_its_attack() -> None:
    costs = {
        "fgsm(eps=1/255)": 2 + 3,
        "pgd(eps=1/255, steps=7)": 2 + 3 * 7,
        "pgd(eps=1/255, steps=7, restarts=4)": 2 + 3 * 7 * 4,
        "apgd_t(eps=1/255, steps=10)": 2 + 3 * 10 * 4,
        "square(eps=1/255, queries=50)": 2 + 50,
        "fab(steps=10)": 2 + 10 * (3 * 4 + 1),
        "autoattack(eps=1/255, steps=10, queries=50)": 2 + 30 + 120 + 4 * 10 * 4 + 50,
    }
    assert {text: parse_condition(text).passes for text in costs} == costs


def test_an_attack_keeps_its_budget_and_is_a_function_of_the_row() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    image, row = torch.rand(6, 3, 4, 4), torch.arange(6) + 20
    target = net(image).argmax(1)
    for text in (
        "pgd(eps=2/255, steps=3)",
        "pgd(eps=0.1unit01, norm=l2, steps=3)",
        "fgsm(eps=3/255)",
    ):
        condition = parse_condition(text)
        whole = condition.changed(net, image, target, row, wrong_class)
        order = 2 if condition.budget.norm == "l2" else torch.inf
        far = torch.linalg.vector_norm((whole - image).flatten(1), order, dim=1)
        assert 0 < far.max() <= condition.budget.eps + 1e-6
        alone = condition.changed(net, image[4:5], target[4:5], row[4:5], wrong_class)
        torch.testing.assert_close(alone, whole[4:5])


def test_rows_say_their_condition_and_what_was_measured() -> None:
    table = pa.table({"image_id": ["a", "b"], "logit_0": [0.0, 1.0]})
    assert with_condition(table, Clean(), {})["condition"].to_pylist() == ["clean"] * 2
    columns = {
        "clean_prediction": np.array([1, 2]),
        "success": np.array([True, False]),
        "linf": np.array([0.1, 0.0]),
        "l2": np.array([0.5, 0.0]),
    }
    attack = parse_condition("fgsm(eps=0.1unit01)")
    found = with_condition(table, attack, columns)
    assert found.column_names == [*table.column_names, "condition", *columns]
    assert found["condition"].to_pylist() == ["fgsm(eps=25.5/255)"] * 2
    assert found["success"].to_pylist() == [True, False]
    assert found.schema.field("clean_prediction").type == pa.int32()
