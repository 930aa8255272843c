"""The pages of attacks and of networks under a condition say n, intervals and the baseline."""

from typing import Any

from fundusray.reports.attack_page import attack_page, budget_text
from fundusray.reports.condition_page import condition_page
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.robustness_curves import pareto_plot, robustness_curves
from tests.reports.test_html import EVIL, POLICY

CLASSES = ["none", "mild", "moderate"]


def figures(eps: float, robust: float) -> dict[str, Any]:
    shares = {"clean_accuracy": 0.8, "robust_accuracy": robust, "success_rate": 1 - robust / 0.8}
    shares |= {"changed_rate": 0.5, "up_rate": 0.4, "down_rate": 0.1}
    shares |= {f"robust_recall_{k}": robust for k in range(3)}
    found: dict[str, Any] = {"attack": "pgd(steps=20)", "norm": "linf", "eps": eps / 255}
    found |= {"n": 240, "num_patients": 130, "majority_accuracy": 0.61, "queries": 41.0}
    for name, value in shares.items():
        found |= {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.05}
    return found


def test_an_attacks_page() -> None:
    page = evaluation_page(
        attack_page("A network", [figures(1, 0.6), figures(2, 0.3)], CLASSES, [EVIL], "make it")
    )
    assert POLICY in page and "<script" not in page and "onerror=" not in page.split("&lt;")[0]
    for part in ("240 images of 130 patients", "0.610", "2/255", "0.300 [0.250, 0.350]", "make it"):
        assert part in page, part
    assert page.count('<img src="data:image/png;base64,') == 1


def test_a_budget_is_written_as_people_do() -> None:
    assert (budget_text(2 / 255, "linf"), budget_text(0.5, "l2")) == ("2/255", "0.5")


def damaged(name: str, verdict: str) -> dict[str, Any]:
    row: dict[str, Any] = {"row": name, "condition": "wu(level=1-4)", "side": "test", "n": 300}
    row |= {"num_patients": 160, "majority_accuracy": 0.7, "accuracy_drop": 0.04}
    row |= {"accuracy_drop_low": 0.01, "accuracy_drop_high": 0.07, "paper_accuracy_drop": 0.088}
    for figure in ("accuracy", "balanced_accuracy", "kappa"):
        row |= {figure: 0.6, f"{figure}_low": 0.5, f"{figure}_high": 0.7, f"paper_{figure}": 0.5}
        row |= {f"{figure}_vs_baseline": 0.02, f"{figure}_vs_baseline_verdict": verdict}
        row |= {f"{figure}_vs_baseline_low": -0.01, f"{figure}_vs_baseline_high": 0.05}
    return row


def test_a_table_under_damage_says_what_is_decided() -> None:
    rows = [damaged("a.baseline", "baseline"), damaged("a.one", "undecided"),
            damaged("a.two", "better")]  # fmt: skip
    page = evaluation_page(condition_page("Table 8", rows, []))
    assert "3 of 6 differences to the baseline are decided, 3 are within" in page
    assert "two, kappa: +0.020 [−0.010, 0.050] better." in page
    assert ">a.one<" not in page and ">one<" in page
    # Without a figure of the paper's its column is not there.
    own = [row | {"paper_kappa": None, "paper_accuracy_drop": None} for row in rows]
    head = evaluation_page(condition_page("Table 8", own, [])).partition("<tbody>")[0]
    assert page.partition("<tbody>")[0].count(">paper<") == 4 and head.count(">paper<") == 2
    for part in ("300 images of 160 patients, test rows", "0.088", "undecided", "better"):
        assert part in page, part


def under_attack(name: str, robust: float, verdict: str) -> dict[str, Any]:
    row: dict[str, Any] = {"row": name, "condition": "pgd(eps=2/255)", "side": "test", "n": 300}
    row |= {"num_patients": 160, "majority_accuracy": 0.7, "eps": 2 / 255, "norm": "linf"}
    row |= {"paper_changed_rate": None}
    for figure in ("changed_rate", "success_rate", "robust_accuracy", "robust_balanced_accuracy",
                   "clean_accuracy"):  # fmt: skip
        row |= {figure: robust, f"{figure}_low": robust - 0.1, f"{figure}_high": robust + 0.1}
    for figure in ("changed", "robust_accuracy", "robust_balanced_accuracy"):
        row |= {f"{figure}_vs_baseline": 0.25, f"{figure}_vs_baseline_verdict": verdict}
        row |= {f"{figure}_vs_baseline_low": 0.125, f"{figure}_vs_baseline_high": 0.375}
    return row


def test_a_table_under_attack_has_its_differences_beside() -> None:
    rows = [under_attack("a.baseline", 0.2, "baseline"), under_attack("a.one", 0.45, "better")]
    made = condition_page("Paper, Table 9, scale small: 64 px instead of 512", rows, [])
    assert made.title == "Paper, Table 9"
    assert made.caption.startswith("Scale small: 64 px instead of 512. 300 images")
    shares, versus = made.tables
    assert shares.rows[1][:3] == ["one", "0.450 [0.350, 0.550]", "0.450 [0.350, 0.550]"]
    assert versus.rows == [
        ["baseline", *["baseline"] * 3],
        ["one", *["+0.250 [0.125, 0.375] better"] * 3],
    ]
    assert len(condition_page("Paper", rows[:1], []).tables) == 1


def test_curves_are_pictures() -> None:
    rows = [figures(1, 0.6), figures(2, 0.3)]
    rows[1] |= {"robust_accuracy_low": None, "robust_accuracy_high": None}
    png = robustness_curves({"one": rows, "another": [figures(1, 0.2)]}, "levels of 255")
    assert png.startswith(b"\x89PNG")
    assert robustness_curves({"one": rows, "another": [figures(1, 0.2)]}, "levels of 255") == png
    reached = [
        {"number": n, "method": f"method {n}", "front": n < 2, "kappa": n / 4, "robust": 1 - n / 4}
        for n in range(4)
    ]
    assert pareto_plot(reached, ["kappa", "robust"]).startswith(b"\x89PNG")
