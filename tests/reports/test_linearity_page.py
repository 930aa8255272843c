"""The page of a sweep says n, intervals and what is no finding; squares are as large as they
should be."""

import io
from typing import Any

import numpy as np
from PIL import Image

from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.linearity_figures import unit_squares
from fundusray.reports.linearity_page import TEXTS, LinearityFacts, linearity_page
from tests.reports.test_html import EVIL, POLICY


def figures(built: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"n": 100, "units": 6400, "num_patients": 80, "built": built}
    for name in TEXTS:
        found |= {name: 0.5, f"{name}_low": 0.4, f"{name}_high": 0.6}
    found |= {"r_squared_difference": 0.93, "r_squared_difference_low": 0.91}
    more = {"difference": 0.43, "low": 0.3, "high": 0.5, "verdict": "better", "why": ""}
    return found | {"more_than_gradient": more, "verdict": "supported"}


def test_the_page() -> None:
    facts = LinearityFacts("net", "head.0", "the logit of severe", (EVIL,), "make it")
    step = dict.fromkeys(("moved", "output", "attribution", "difference_change"), 0.25)
    steps = [step | {"step": float(n), "gradient_change": 0.125} for n in range(3)]
    picture = unit_squares(np.ones((3, 2)), [4, 7])
    page = evaluation_page(linearity_page(facts, figures(False), steps, [("27790", picture)]))
    assert POLICY in page and "<script" not in page and "onerror=" not in page.split("&lt;")[0]
    for part in (
        "The logit of severe is linear in the units of head.0: supported", "0.930 [0.910, 0.600]",
        "+0.430 [0.300, 0.500]", "100 images of 80 patients", "6,400 units", "0.125", "make it",
        "as it is", "Unit attribution against c, 27790", "The bounds are ours",
    ):  # fmt: skip
        assert part in page, part
    assert "no finding" not in page
    page = evaluation_page(linearity_page(facts, figures(True), steps, []))
    assert "units of head.0: by its build" in page and "no finding" in page and "<img" not in page


def test_squares_grow_with_size_and_are_coloured_by_sign() -> None:
    values = np.zeros((4, 3))
    values[:, 0], values[:, 1] = (1, 2, 4, 8), (-1, -1, -1, -8)
    png = unit_squares(values, [11, 2, 30])
    assert png == unit_squares(values, [11, 2, 30])
    pixels = np.array(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    green = (pixels[..., 1] - pixels[..., 0] > 60).sum()
    red = (pixels[..., 0] - pixels[..., 1] > 60).sum()
    # Areas: 15 parts of 8 against 11.
    assert 1.2 < green / red < 1.5
    smaller = unit_squares(np.where(values == 4, 0, values), [11, 2, 30])
    assert smaller != png
    assert unit_squares(np.zeros((4, 3)), [0, 1, 2]).startswith(b"\x89PNG")
