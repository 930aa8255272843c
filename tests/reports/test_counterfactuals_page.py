"""The page of counterfactuals says n, intervals, the verdict and what was not reached."""

import io

import numpy as np
import pyarrow as pa
from PIL import Image

from fundusray.metrics.counterfactuals import (
    METHODS,
    counterfactual_figures,
    h9_verdict,
    method_differences,
    network_differences,
    probability_curve,
)
from fundusray.reports.counterfactuals_page import (
    CounterfactualFacts,
    counterfactual_sheet,
    counterfactuals_page,
)
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.robustness_curves import probability_curves
from tests.metrics.test_counterfactual_figures import table
from tests.reports.test_html import EVIL, POLICY

SIDE = 16


def pictures(reached: int = 1) -> pa.Table:
    """A grey photograph whose left half each method moves by ten levels, up and down."""
    grey = np.full((3, SIDE, SIDE), 0.5, np.float32)
    rows = []
    for method, by in zip(METHODS, (10, -10), strict=True):
        changed = grey.copy()
        changed[:, :, : SIDE // 2] += by / 255
        row = {
            "image_id": "eye\x07",
            "goal": 1,
            "method": method,
            "levels": 10.0,
            "reached": reached,
        }
        row |= {"prediction": 1, "probability": 0.625, "size": SIDE}
        rows.append(row | {"original": grey.ravel(), "counterfactual": changed.ravel()})
    return pa.Table.from_pylist(rows)


def test_a_sheet_draws_what_moved() -> None:
    content = counterfactual_sheet({"plain": pictures()}, ("none", "mild"), side=32)
    sheet = np.asarray(Image.open(io.BytesIO(content)))
    # Of five pictures the third and the fifth are changes: white and black where it moved.
    tops, lefts = np.nonzero((sheet == 255).all(axis=2))
    white = (sheet[:, 8 + 2 * 40 : 8 + 2 * 40 + 32] == 255).all(axis=2).sum()
    black = (sheet[:, 8 + 4 * 40 : 8 + 4 * 40 + 32] == 0).all(axis=2).sum()
    assert white > 32 * 12 and black > 32 * 12
    assert len(tops) == white and lefts.min() >= 8 + 2 * 40
    assert content == counterfactual_sheet({"plain": pictures()}, ("none", "mild"), side=32)
    # What is not reached says so.
    pair = [counterfactual_sheet({"plain": pictures(hit)}, ("none", "mild")) for hit in (0, 1)]
    assert pair[0] != pair[1]


def test_the_page() -> None:
    tables = {"plain": table(), EVIL: table(failing=(3,), tv=2.0)}
    figures, differences = (
        [{"network": name} | row for name, rows in tables.items() for row in made(rows)]
        for made in (counterfactual_figures, method_differences)
    )
    verdicts = {
        name: h9_verdict([row for row in differences if row["network"] == name]) for name in tables
    }
    curve = probability_curves({name: probability_curve(rows) for name, rows in tables.items()})
    assert curve.startswith(b"\x89PNG")
    sheet = counterfactual_sheet({"plain": pictures()}, ("none", "mild"))
    facts = CounterfactualFacts("photographs led to mild", 2.0, 50, "logit", (EVIL,), "make it")
    between = network_differences(tables)
    made = counterfactuals_page(facts, figures, differences, between, verdicts, (curve, sheet))
    page = evaluation_page(made)
    assert POLICY in page and "<script" not in page and "onerror=" not in page.split("&lt;")[0]
    for part in (
        "Counterfactuals of 2 networks", "photographs led to mild", "make it", "in 50 steps",
        "plain: that counterfactuals of integrated gradients are smoother than those of the "
        "gradient is supported. Variation of the change", "is not supported. Variation",
        "levels, 0.50 times as much,", "23 images of 12 patients", "24 images of 12 patients",
        ", 1.000] of 24 images of 12 patients to the class", "a probability of 0.250",
        "minus plain", "at equal length",
    ):  # fmt: skip
        assert part in page, part
    # In levels of 255: -0.5 of a mean size of 1.5.
    mean = (1 + np.arange(1, 24) / 24).mean() * 0.5 * 255
    assert f"−{mean:.3f}" in page


def test_a_page_of_what_no_step_reaches() -> None:
    rows = table(failing=tuple(range(24)))
    figures, differences = (
        [{"network": "one"} | row for row in made(rows)]
        for made in (counterfactual_figures, method_differences)
    )
    facts = CounterfactualFacts("photographs", 2.0, 50, "logit", (), "make it")
    verdicts = {"one": h9_verdict(differences)}
    pair = (
        probability_curves({"one": probability_curve(rows)}),
        counterfactual_sheet({}, ("a", "b")),
    )
    made = counterfactuals_page(facts, figures, differences, [], verdicts, pair)
    page = evaluation_page(made)
    assert "is undecided (no photograph to compare)" in page and "nan" not in page
    assert "Networks against the first" not in page
