"""The pages of what transfers and of one change for all say n, intervals and the baseline."""

import io
from typing import Any

import numpy as np
from PIL import Image

from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.transfer_page import TransferFacts, transfer_page
from fundusray.reports.universal_page import UniversalFacts, perturbation_picture, universal_page
from tests.reports.test_html import EVIL, POLICY


def around(**shares: float) -> dict[str, float]:
    ends = {"": 0.0, "_low": -0.05, "_high": 0.05}
    return {f"{n}{end}": value + by for n, value in shares.items() for end, by in ends.items()}


def cell(surrogate: str, target: str, success: float, eps: float = 2) -> dict[str, Any]:
    row: dict[str, Any] = {"surrogate": surrogate, "target": target, "shared_rows": 0.25}
    row |= {f"{side}_architecture": "lite0" for side in ("surrogate", "target")}
    row |= {"surrogate_start": "imagenet", "target_start": "random", "attack": "pgd(steps=20)"}
    row |= {"norm": "linf", "eps": eps / 255, "n": 240, "num_patients": 130}
    return row | around(success_rate=success, clean_accuracy=0.8) | {"majority_accuracy": 0.61}


def test_a_matrix() -> None:
    rows = [cell(a, b, 0.9 if a == b else 0.3) for a in "ab" for b in "ab"]
    rows += [cell("a", "b", 0.07, eps=1)]
    group = {"fact": "start", "kind": "the same weights", "pairs": 2, "same_start": 2}
    group |= {"same_architecture": 1, "shared_photographs": 0, "n": 400, "num_patients": 128}
    group |= around(success_rate=0.3)
    difference = {"fact": "start", "first": "the same weights", "second": "others, or random"}
    difference |= {"difference": 0.1, "low": -0.02, "high": 0.21, "p": 0.09, "why": ""}
    difference |= {"verdict": "undecided"}
    facts = TransferFacts({"a": 1200, "b": None}, (EVIL,), "make it")
    page = evaluation_page(transfer_page(facts, rows, [group], [difference]))
    assert POLICY in page and "<script" not in page and "onerror=" not in page.split("&lt;")[0]
    for part in (
        "2/255", "240 images of 130 patients", "0.610", "0.90 [0.85, 0.95]", "0.30 [0.25, 0.35]",
        "1,200", "not known", "400 images of 128 patients", "make it", "other trainings",
        "start the same weights against others, or random: +0.100 [−0.020, 0.210], undecided.",
        "wrong of 0.900 of the photographs it is right of along its own gradients, and of 0.300",
    ):  # fmt: skip
        assert part in page, part
    assert "0.07" not in page.partition("<h2>Notes")[0]
    assert "Differences" not in evaluation_page(transfer_page(facts, rows, [group], []))


def test_one_change_for_all() -> None:
    figures = []
    for added, changed in (("as they are", 0.0), ("noise", 0.04), ("universal", 0.35)):
        row: dict[str, Any] = {"attack": "universal(passes=10)", "norm": "linf", "eps": 4 / 255}
        row |= {"added": added, "n": 200, "num_patients": 110, "majority_accuracy": 0.7}
        row |= around(accuracy=0.8 - changed, changed_rate=changed, success_rate=changed)
        figures.append(row | around(goal_rate=0.2 + changed))
    more = {"difference": 0.31, "low": 0.2, "high": 0.4, "verdict": "better", "why": ""}
    noise = np.full((3, 8, 8), 4 / 255, np.float32)
    noise[0] *= -1
    picture = perturbation_picture(noise)
    pixels = np.array(Image.open(io.BytesIO(picture)))
    assert pixels.shape == (256, 256, 3) and np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [
        [0, 255, 255]
    ]
    assert np.array(Image.open(io.BytesIO(perturbation_picture(0 * noise)))).max() == 128
    facts = UniversalFacts("net", ("none", "mild"), (EVIL,), "make it")
    changes = {"changed_rate": more, "goal_rate": more}
    page = evaluation_page(universal_page(facts, figures, changes, 1, picture))
    assert POLICY in page and "<script" not in page and "onerror=" not in page.split("&lt;")[0]
    for part in ("linf 4/255", "200 images of 110 patients", "0.350 [0.300, 0.400]", "0.700",
                 "answered mild", "+0.310 [0.200, 0.400], more", "make it"):  # fmt: skip
        assert part in page, part
    assert page.count('<img src="data:image/png;base64,') == 1
    alike = dict.fromkeys(("low", "high")) | {"difference": 0.0, "verdict": "undecided"}
    changes["changed_rate"] = alike | {"why": "both answer alike here"}
    page = evaluation_page(universal_page(facts, figures, changes, 1, picture))
    assert "undecided (both answer alike here)" in page
    assert "answered mild" not in evaluation_page(universal_page(facts, figures, changes, None,
                                                                 picture))  # fmt: skip
