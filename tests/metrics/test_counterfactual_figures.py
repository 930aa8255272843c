"""What counterfactuals need, and which are smoother, counted by hand."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fundusray.metrics.counterfactuals import (
    counterfactual_figures,
    h9_verdict,
    method_differences,
    network_differences,
    probability_curve,
)

STEPS = (0.5, 1.0, 2.0)


def table(
    num: int = 24, tv: float = 0.5, failing: tuple[int, ...] = (), goal: int = 1, far: float = 1.0
) -> pa.Table:
    """Two eyes of each patient. Integrated gradients reach all but `failing`, the gradient all but
    the first image; the variation of the one's change is `tv` times the other's."""
    rows: list[dict[str, Any]] = []
    for n in range(num):
        image = {"image_id": f"i{n:02d}", "patient_id": f"p{n // 2}", "goal": goal, "gap": n / 100}
        size = 1 + n / num

        def add(method: str, kind: str, levels: float, **own: Any) -> None:
            row = {"method": method, "kind": kind, "levels": levels}
            zero = dict.fromkeys(("logit", "probability", "l2", "linf", "tv_change"), 0.0)
            rows.append(image | row | zero | {"tv_image": 2 * size} | own)  # noqa: B023

        add("", "original", 0.0, probability=0.25, logit=-1.0)
        for method, factor in (("integrated_gradients", tv), ("gradient", 1.0)):
            for step in STEPS:
                # Of the last image the gradient's logit falls at first.
                falls = method == "gradient" and n == num - 1 and step == 0.5
                logit = -2.0 if falls else -1 + step
                add(method, "swept", step, probability=0.25 + step * factor / 8, logit=logit)
            reached = n not in failing if method == "integrated_gradients" else n > 0
            if reached:
                own = {"tv_change": size * factor, "l2": far * size, "linf": 0.1, "logit": 1.0}
                add(method, "smallest", 1.5, **own)
            add(method, "equal", 1.0, tv_change=size * factor * 2, probability=0.5)
    return pa.Table.from_pylist(rows)


def test_figures_are_counted() -> None:
    ours, theirs = counterfactual_figures(table(failing=(3, 4)))
    assert (ours["method"], ours["n"], ours["num_patients"]) == ("integrated_gradients", 24, 12)
    assert ours["n_reached"] == 22 and ours["reached_rate"] == pytest.approx(22 / 24)
    assert theirs["n_reached"] == 23 and theirs["reached_rate"] == pytest.approx(23 / 24)
    assert ours["reached_rate_low"] < 22 / 24 < ours["reached_rate_high"]
    assert ours["rising_rate"] == 1 and theirs["rising_rate"] == pytest.approx(23 / 24)
    sizes = 1 + np.arange(24) / 24
    assert ours["tv_change"] == pytest.approx(np.delete(sizes, (3, 4)).mean() / 2)
    assert theirs["l2"] == pytest.approx(sizes[1:].mean()) and theirs["levels"] == 1.5
    assert ours["equal_tv_change"] == pytest.approx(sizes.mean())
    assert ours["tv_change_low"] < ours["tv_change"] < ours["tv_change_high"]
    assert ours["clean_probability"] == 0.25 and ours["equal_probability"] == 0.5
    assert ours["gap"] == pytest.approx(0.115) and theirs["gap"] is None


def test_methods_are_compared_on_what_both_reach() -> None:
    found = {(row["compared"], row["measure"]): row for row in method_differences(table())}
    sizes = 1 + np.arange(24) / 24
    row = found["smallest", "tv_change"]
    assert row["n"] == 23 and row["num_patients"] == 12
    assert row["difference"] == pytest.approx(-sizes[1:].mean() / 2)
    assert row["low"] < row["difference"] < row["high"] < 0 and row["verdict"] == "better"
    assert row["ratio"] == pytest.approx(0.5)
    assert found["smallest", "l2"]["difference"] == 0
    equal = found["equal", "tv_change"]
    assert equal["n"] == 24 and equal["difference"] == pytest.approx(-sizes.mean())
    assert found["all", "reached_rate"]["difference"] == pytest.approx(1 / 24)
    assert found["all", "reached_rate"]["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("tv", "verdict"), [(0.5, "supported"), (2.0, "not supported"), (1.0, "undecided")]
)
def test_the_claim(tv: float, verdict: str) -> None:
    found = h9_verdict(method_differences(table(tv=tv)))
    assert (found["verdict"], found["equal_verdict"]) == (verdict, verdict)
    assert (found["n"], found["equal_n"]) == (23, 24)
    assert bool(found["why"]) == (verdict == "undecided")


def test_where_nothing_reaches_nothing_is_claimed() -> None:
    rows = table(failing=tuple(range(24)))
    found = h9_verdict(method_differences(rows))
    assert found["verdict"] == "undecided" and found["n"] == 0 and found["why"]
    ours, _ = counterfactual_figures(rows)
    assert ours["reached_rate"] == 0 and ours["tv_change"] is None and ours["n_reached"] == 0


def test_networks_are_compared_on_photographs_of_one_goal() -> None:
    first, second = table(), table(failing=(0, 1, 2, 3), tv=0.25, far=3.0)
    goal = np.array(second["goal"].to_pylist())
    goal[np.array(second["image_id"].to_pylist()) == "i23"] = 2
    place = second.schema.get_field_index("goal")
    second = second.set_column(place, "goal", pa.array(goal))
    found = {row["measure"]: row for row in network_differences({"plain": first, "robust": second})}
    assert {(row["network"], row["against"]) for row in found.values()} == {("robust", "plain")}
    assert found["reached_rate"]["n"] == 23
    assert found["reached_rate"]["difference"] == pytest.approx(-4 / 23)
    sizes = 1 + np.arange(24) / 24
    assert found["l2"]["n"] == 19
    assert found["l2"]["difference"] == pytest.approx(2 * sizes[4:23].mean())
    assert found["l2"]["verdict"] == "worse"
    assert found["equal_tv_change"]["difference"] == pytest.approx(-sizes[:23].mean() / 2)
    assert found["equal_tv_change"]["verdict"] == "better"


def test_the_curve_begins_with_the_photograph_as_it_is() -> None:
    points = probability_curve(table())
    ours = [row for row in points if row["method"] == "integrated_gradients"]
    assert [row["levels"] for row in ours] == [0, *STEPS]
    assert [row["probability"] for row in ours] == pytest.approx([0.25, 0.28125, 0.3125, 0.375])
    assert {row["n"] for row in points} == {24} and len(points) == 8
