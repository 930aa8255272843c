"""What is linear in what, on units whose terms are written down."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from fundusray.metrics.linearity import (
    image_figures,
    linearity_figures,
    r_squared,
    step_figures,
    unit_fits,
)

C = np.array([0.0, 1, 2, 4, 8])


def rows(units: list[tuple[str, np.ndarray, np.ndarray]]) -> pa.Table:
    """(image, difference [J], gradient [J]) of units."""
    names = [name for name, _, _ in units]
    difference, gradient = ([unit[n] for unit in units] for n in (1, 2))
    return pa.table(
        {
            "image_id": names,
            "patient_id": [f"p{name}" for name in names],
            "c": [C] * len(units),
            "moved": [C / 100] * len(units),
            "output": [C * 2] * len(units),
            "attribution": [a * b for a, b in zip(difference, gradient, strict=True)],
            "difference": difference,
            "gradient": gradient,
        }
    )


FLAT = np.full(5, 3.0)
LINEAR = ("a", 1 + C, FLAT)
"""Its difference grows with c, its gradient stays."""
BENT = ("b", np.full(5, 2.0), 1 + C)
"""The other way round."""


def test_r_squared_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 7)) * 1e-12
    for row, found in enumerate(r_squared(a, b)):
        assert found == pytest.approx(stats.linregress(b[row], a[row]).rvalue ** 2)
    assert np.isnan(r_squared(a, np.full((3, 7), 0.1))).all()
    # What is left of rounding is no change.
    noise = 1 + rng.normal(size=(3, 7)) * 1e-7
    assert np.isnan(r_squared(a, noise)).all() and np.isnan(r_squared(0 * a, b)).all()


def test_units() -> None:
    fits = unit_fits(rows([LINEAR, BENT]))
    assert fits["r_squared_difference"].tolist() == pytest.approx([1, np.nan], nan_ok=True)
    assert fits["r_squared_gradient"].tolist() == pytest.approx([np.nan, 1], nan_ok=True)
    assert fits["r_squared_c"].tolist() == pytest.approx([1, 1])
    assert fits["gradient_change"].tolist() == pytest.approx([0, 15 / 4])
    assert fits["difference_change"].tolist() == pytest.approx([15 / 4, 0])
    assert fits["change"].tolist() == pytest.approx([24, 16])


def test_images() -> None:
    falling, steady = ("a", -(1 + C), FLAT), ("a", 5 + C / 100, FLAT)
    found = image_figures(rows([LINEAR, BENT, falling, steady]))
    assert found["patient_id"].tolist() == ["pa", "pb"]
    for name, first, second in (
        ("r_squared_difference", 1, 0),
        ("r_squared_gradient", 0, 1),
        ("linear_share", 1, 0),
        ("rising_share", 1 / 3, 1),
        ("falling_share", 1 / 3, 0),
        ("constant_share", 1 / 3, 0),
        ("gradient_change", 0, 15 / 4),
        ("difference_change", (15 / 4 * 2 + 15 / 400) / 7, 0),
    ):
        assert found[name].tolist() == pytest.approx([first, second]), name


def around(unit: tuple[str, np.ndarray, np.ndarray], bend: float) -> pa.Table:
    """Thirty images' units about this one; `bend`: how much of each gradient changes with c."""
    rng = np.random.default_rng(2)
    units = []
    for place in range(30):
        spread = rng.uniform(0.5, 1.5)
        noise = rng.uniform(-0.02, 0.02, 5)
        gradient = unit[2] * (1 + bend * spread * C / 8)
        units.append((f"{place:02d}", unit[1] * (1 + noise), gradient))
    return rows(units)


def test_the_verdict() -> None:
    linear = linearity_figures(around(LINEAR, 0.05))
    assert linear["verdict"] == "supported" and (linear["n"], linear["num_patients"]) == (30, 30)
    assert linear["r_squared_difference_low"] > 0.9 > 0.1 > linear["gradient_change_high"]
    assert not linear["built"]
    # The gradient grows as well: linear no more in the difference alone.
    bent = linearity_figures(around(LINEAR, 5.0))
    assert bent["verdict"] == "not supported" and bent["gradient_change_low"] > 0.1
    other = linearity_figures(around(("b", FLAT, 1 + C), 0.05))
    assert other["verdict"] == "not supported"
    assert other["more_than_gradient"]["difference"] < 0
    assert linearity_figures(rows([LINEAR]))["verdict"] == "undecided"


def test_a_gradient_that_is_the_same_everywhere_is_the_networks_build() -> None:
    found = linearity_figures(around(LINEAR, 0.0))
    assert found["built"] and found["r_squared_gradient"] == 0 and found["verdict"] == "undecided"
    assert found["more_than_gradient"]["difference"] == pytest.approx(1, abs=0.01)


def test_steps() -> None:
    found = step_figures(rows([LINEAR, ("a", -(1 + C), FLAT), BENT]))
    assert [row["step"] for row in found] == [0, 1, 2, 3, 4]
    last = found[-1]
    assert last["moved"] == pytest.approx(0.08) and last["output"] == pytest.approx(16)
    # Two units of the first image, one of the second.
    assert last["attribution"] == pytest.approx((2 * 27 + 18) / 2)
    assert last["difference_change"] == pytest.approx((8 + 0) / 2)
    assert last["gradient_change"] == pytest.approx((0 + 8) / 2)
    assert found[0]["difference_change"] == found[0]["gradient_change"] == 0
