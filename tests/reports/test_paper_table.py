"""A paper's table says what its predictions say, beside what was published."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape

from fundusray import files, metrics, recipes
from fundusray.reports import paper_table
from fundusray.reports.comparisons import comparisons, holm
from fundusray.reports.paper_table import DifferenceText, Line
from fundusray.reports.trials import ReportTrial, measure_trials

PUBLISHED = {"accuracy": 0.85, "balanced_accuracy": 0.586, "kappa": 0.805, "time": "14h59"}
PANEL = {
    "loss": "focal (gamma=2.0)", "sampling": "natural", "weights": [1.0, 1.0],
    "images": [60.0, 12.0], "distinct": [60, 12], "effective_epoch": 72.0,
    "gradient_prior": [0.75, 0.25],
}  # fmt: skip


@pytest.fixture
def lines(make_trial: Callable[..., ReportTrial]) -> list[Line]:
    """A baseline, a far better and a far worse row, one alike, a failed and a quoted one."""

    def line(method: str, hit: float | None, **changes) -> Line:
        trial = make_trial(method, hit, seconds=7200.0, **changes)
        return Line(name=f"wu.table5.{method}", trial=trial, start="random", cores=2.0, workers=2)

    # As published the worse row is ahead in kappa and the better one behind.
    higher, lower = ({"kappa": value, "accuracy": 0.85} for value in (0.9, 0.7))
    return [
        line("baseline", 0.5, baseline=True, published=PUBLISHED),
        line("ahead", 0.99, published=higher),
        line("behind", 0.02, published=higher),
        line("alike", 0.5, published=lower),
        line("odd | <b>", None, status="failed", reason="row 3\nbroke", published=lower),
        line("quoted", None, status="published", reason="quoted", published={"sensitivity": 0.3}),
    ]


def test_holm_by_hand() -> None:
    # .005 <= .05 / 4 and .01 <= .05 / 3, but .03 > .05 / 2: the rest stands, .04 as well.
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.04]) == [True] and holm([0.04, 0.9]) == [False, False]
    assert holm([None, 0.02]) == [False, True]
    assert holm([]) == []


def test_differences_are_row_minus_baseline_and_judge_the_paper(lines: list[Line]) -> None:
    ranked = {m.trial.method: m for m in measure_trials([line.trial for line in lines])}
    found = comparisons([ranked[line.trial.method] for line in lines])
    assert len(found) == 3 * len(metrics.METRICS)
    by = {(row["row"], row["metric"]): row for row in found}
    tables = {
        name: files.read_table(ranked[name].trial.predictions) for name in ("baseline", "ahead")
    }
    exact = metrics.paired_differences(tables["ahead"], tables["baseline"])["kappa"]
    ahead = by["ahead", "kappa"]
    assert ahead["difference"] == exact["difference"] and ahead["low"] == exact["low"]
    assert ahead["paper"] == pytest.approx(0.9 - 0.805)
    assert (ahead["verdict"], ahead["holm"], ahead["claim"]) == ("better", "better", "supported")
    behind = by["behind", "kappa"]
    assert (behind["verdict"], behind["claim"]) == ("worse", "contradicted")
    alike = by["alike", "kappa"]
    assert alike["difference"] == 0
    assert (alike["verdict"], alike["holm"], alike["claim"]) == ("undecided",) * 3
    # The paper prints the same accuracy for all, and no AUC: there is nothing to judge.
    assert by["ahead", "accuracy"]["claim"] == by["ahead", "auc_referable"]["claim"] == ""
    assert by["ahead", "auc_referable"]["paper"] is None


def test_cost_by_hand(lines: list[Line]) -> None:
    # Two hours of two workers that hold two cores together, at 0.9 an hour each.
    spent = paper_table.row_cost(lines[0], 0.9)
    assert spent == {"core_hours": 4.0, "gpu_hours": None, "money": pytest.approx(3.6)}
    on_gpu = replace(lines[0], gpus=4.0, workers=4)
    assert paper_table.row_cost(on_gpu, 0.0) == {
        "core_hours": None,
        "gpu_hours": 8.0,
        "money": None,
    }


def test_the_table_as_files(lines: list[Line], about: dict, tmp_path: Path) -> None:
    told = DifferenceText(
        title="Table 5, scale small: 64 px instead of 512",
        about=about,
        notes=["Differences are to wu.table5.baseline."],
        hourly=0.9,
        panel={"ahead <i>": PANEL},
    )
    places = paper_table.write_paper_table(str(tmp_path / "out"), lines, told)
    text = Path(places["table"]).read_text()
    assert text.startswith("# Table 5, scale small: 64 px instead of 512\n")
    assert "120 eyes of 60 patients, test rows; majority baseline accuracy 0." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    first = rows[2]
    assert first.startswith("| baseline | random | equal | ")
    assert "| baseline | 3: best 3 | 2 h 00 min |" in first
    assert first.endswith("| 4.00 core h, 3.60 to pay | 0.850, 0.586, 0.805, 14h59 |")
    assert "better" in rows[3] and "worse" in rows[4] and "undecided" in rows[5]
    assert rows[6].startswith("| odd \\| &lt;b&gt; |") and "failed: row 3 broke" in rows[6]
    assert rows[7].startswith("| quoted |  |  |") and rows[7].endswith("sensitivity 0.300 |")
    assert "12 comparisons were made. Intervals are not corrected" in text
    # Kappa of three rows; nothing else differs in print.
    assert "Of 3 differences to the baseline that the paper prints" in text
    assert "the direction of 2 is decided here" in text
    assert "(of these networks, one training each, and not of the methods)" in text
    assert "Each was trained once: “better”" in text and "(verdict on the networks)" in text
    assert "supported: ahead in kappa (paper +0.095, here +0." in text
    assert "contradicted: behind in kappa (paper +0.095, here −0." in text
    assert "Training took 12 h 00 min in all" in text
    whole = json.loads(Path(places["json"]).read_text())
    assert [row["row"] for row in whole["rows"]] == [line.name for line in lines]
    assert whole["rows"][0]["core_hours"] == 4.0 and whole["rows"][0]["paper_kappa"] == 0.805
    assert {row["about"] for row in whole["comparisons"]} == {"networks"}
    assert whole["rows"][1]["about"] == "networks" and whole["rows"][1]["repeats"] == 1
    assert whole["rows"][1]["kappa_verdict"] == "better" and len(whole["comparisons"]) == 12
    with open(places["csv"]) as stream:
        assert [row["status"] for row in csv.DictReader(stream)][4:] == ["failed", "published"]
    page = Path(places["report"]).read_text()
    assert "<h1>Table 5, scale small" in page and "<script" not in page
    assert "<h2>Differences to the baseline</h2>" in page
    assert "ahead &lt;i&gt;" in page and "0.750 / 0.250" in page and "<i>" not in page
    assert "row 3\\x0abroke" in page or "row 3 broke" in page
    for note in whole["notes"]:
        assert page.count(f"<li>{escape(note)}</li>") == 1, note
    assert page.count("</main>") == 1 and page.index("0.750 / 0.250") < page.index("</main>")


def test_a_kappa_of_unstated_kind_stands_beside_the_unweighted_one(
    make_trial: Callable[..., ReportTrial], about: dict, tmp_path: Path
) -> None:
    row = recipes.find_recipe("li.table1.ours").published
    trials = [make_trial("ours", 0.8, baseline=True, published=row)]
    quoted = recipes.find_recipe("li.table1.baseline_pratt").published
    trials.append(make_trial("pratt", None, status="published", published=quoted))
    lines = [Line(name=f"li.table1.{trial.method}", trial=trial) for trial in trials]
    places = paper_table.write_paper_table(
        str(tmp_path), lines, DifferenceText(title="Li", about=about)
    )
    exact = metrics.figure_summary(files.read_table(trials[0].predictions))
    text = Path(places["table"]).read_text()
    main = next(line for line in text.splitlines() if line.startswith("| ours | "))
    # The paper's .5107 is not in the column of quadratic kappa, which has none.
    assert (
        "| 0.752, –, –, sensitivity 0.311, specificity 0.962, kappa of unstated kind 0.511 |"
        in main
    )
    beside = text.split("## Further figures of the paper")[1].splitlines()[4:12]

    def here(metric: str) -> str:
        low, high = exact[f"{metric}_low"], exact[f"{metric}_high"]
        return f"{exact[metric]:.3f} [{low:.3f}, {high:.3f}]".replace("[", "\\[").replace(
            "]", "\\]"
        )

    assert beside[:4] == [
        f"| ours | {row} |"
        for row in (
            f"sensitivity, any disease | “specificity” (alias) | 0.311 | {here('sensitivity')}",
            f"specificity, any disease | “sensitivity” (alias) | 0.962 | {here('specificity')}",
            f"kappa, unweighted | kappa, kind not stated | 0.511 | {here('cohen_kappa')}",
            f"kappa, quadratic | – | – | {here('kappa')}",
        )
    ]
    assert beside[4].startswith(
        "| pratt | sensitivity, any disease | “specificity” (alias) | 0.300 |"
    )
    assert "prints sensitivity and specificity under each other's name" in text
    whole = json.loads(Path(places["json"]).read_text())["rows"]
    assert whole[0]["cohen_kappa"] == exact["cohen_kappa"] and whole[0]["paper_kappa"] is None
    assert whole[0]["paper_kappa_of_unstated_kind"] == 0.5107
    assert whole[1]["paper_specificity"] == 0.9505 and whole[1]["sensitivity"] is None
    page = Path(places["report"]).read_text()
    assert "<h2>Further figures of the paper</h2>" in page and "paper 0.511" not in page


def test_a_table_before_its_first_row_is_done(lines: list[Line], tmp_path: Path) -> None:
    waiting = [replace(line, trial=replace(line.trial, status="failed")) for line in lines]
    places = paper_table.write_paper_table(
        str(tmp_path), waiting, DifferenceText(title="t", about={}), page=False
    )
    assert "report" not in places and not (tmp_path / "report.html").exists()
    text = Path(places["table"]).read_text()
    assert "no eyes measured" in text and "Differences to the baseline" not in text
