"""Leaderboards: columns, order, verdicts, notes, and the files they become."""

import csv
import io

import pyarrow as pa
import pytest

from fundusray import files, metrics
from fundusray.errors import InputError
from fundusray.reports import leaderboards, sentences
from fundusray.reports.definitions import definitions

FIRST = (
    "method,loss,sampler,n,accuracy,accuracy_low,accuracy_high,balanced_accuracy,"
    "balanced_accuracy_low,balanced_accuracy_high,kappa,kappa_low,kappa_high,auc_referable,"
    "auc_referable_low,auc_referable_high,majority_accuracy,seconds,bundle,predictions"
)


def _broken(make_trial):
    reason = "loss is not finite at step 812"
    return make_trial("broken", None, status="failed", reason=reason, bundle="")


def test_the_csv_begins_with_the_promised_columns_and_a_failed_trial_has_empty_cells(
    tmp_path, make_trial, about
):
    trials = [_broken(make_trial), make_trial("plain", baseline=True), make_trial("good", 0.95)]
    out = leaderboards.write_search(str(tmp_path / "out"), trials, {}, about, None)
    text = files.read_bytes(out["leaderboard"]).decode()
    assert text.startswith(FIRST + ",")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["method"] for row in rows] == ["good", "plain", "broken"]
    numbers = FIRST.split(",")[3:17]
    assert {rows[2][name] for name in numbers} == {""}
    assert all(rows[0][name] for name in numbers)
    assert rows[2]["reason"] == "loss is not finite at step 812"
    assert out["report"].endswith("report.html")


def test_figures_in_the_leaderboard_are_those_of_metrics(make_trial):
    trial = make_trial("plain")
    row = leaderboards.leaderboard([trial])[0]
    expected = metrics.figure_summary(files.read_table(trial.predictions))
    assert {m: row[m] for m in metrics.METRICS} == {m: expected[m] for m in metrics.METRICS}
    assert (row["n"], row["kappa_low"]) == (120, expected["kappa_low"])


def test_verdicts_name_the_baseline_what_is_better_worse_and_undecided(make_trial):
    trials = [
        make_trial("good", 1.0),
        make_trial("plain", 0.6, baseline=True),
        make_trial("same", 0.6),
        make_trial("bad", 0.05),
    ]
    rows = {row["method"]: row for row in leaderboards.leaderboard(trials)}
    verdicts = {name: row["kappa_verdict"] for name, row in rows.items()}
    assert verdicts == {
        "good": "better",
        "plain": "baseline",
        "same": "undecided",
        "bad": "worse",
    }
    assert rows["same"]["kappa_vs_baseline"] == 0
    assert rows["plain"]["kappa_vs_baseline"] is None
    gap = rows["good"]["kappa"] - rows["plain"]["kappa"]
    assert rows["good"]["kappa_vs_baseline"] == pytest.approx(gap)


def test_trials_on_other_eyes_are_shown_but_not_compared(tmp_path, make_trial, about):
    trials = [make_trial("plain", baseline=True), make_trial("elsewhere", 0.9, prefix="other")]
    row = leaderboards.leaderboard(trials)[0]
    assert (row["method"], row["kappa_verdict"]) == ("elsewhere", None)
    leaderboards.write_search(str(tmp_path), trials, {}, about, None)
    note = "elsewhere: measured on other eyes than the baseline, so not compared with it."
    assert note in files.read_bytes(str(tmp_path / "leaderboard.md")).decode()


def test_parquet_has_the_same_rows_and_types_that_do_not_depend_on_empty_cells(
    tmp_path, make_trial
):
    trials = [_broken(make_trial)]
    leaderboards.write_search(str(tmp_path), trials, {}, {}, None)
    table = files.read_table(str(tmp_path / "leaderboard.parquet"))
    assert table.to_pylist() == [row | {"leak": ""} for row in leaderboards.leaderboard(trials)]
    assert "null" not in {str(field.type) for field in table.schema}


def test_markdown_has_the_shape_of_the_papers_table(tmp_path, make_trial, about):
    published = {"accuracy": 0.852, "balanced_accuracy": 0.586, "kappa": 0.805, "time": "14h59"}
    trials = [
        make_trial("plain | <b>", 0.6, baseline=True, published=published, batch=16),
        make_trial("good", 1.0),
        _broken(make_trial),
    ]
    leaderboards.write_search(str(tmp_path), trials, {}, about, None)
    lines = files.read_bytes(str(tmp_path / "leaderboard.md")).decode().splitlines()
    assert lines[0] == "# Losses against imbalance"
    assert lines[2].startswith("120 eyes of 60 patients, test rows; majority baseline accuracy 0.")
    assert lines[2].endswith("split by patient: no patient or near-duplicate is on two sides.")
    table = [line for line in lines if line.startswith("|")]
    assert table[0].startswith("| method | batch | accuracy | balanced accuracy | kappa | time |")
    assert len(table) == 5
    assert {line.replace("\\|", "").count("|") for line in table} == {9}
    assert table[2].startswith("| good | 48 | 1.000 [0.940, 1.000] |")
    assert table[2].rstrip("| ").endswith(", better")
    assert table[3].startswith("| plain \\| &lt;b&gt; | 16 | 0.")
    assert table[3].endswith("| 13 min | baseline | paper: 0.852, 0.586, 0.805, 14h59 |")
    assert table[4] == "| broken | 48 |  |  |  | 13 min | failed |  |"


def test_notes_say_what_a_reader_must_know(tmp_path, make_trial, about):
    trials = [
        make_trial("plain", baseline=True, optimistic=True),
        make_trial("beta 0.9", weight_ratio=1.008, weighs_cross_entropy=True),
        make_trial("beta 0.9999", weight_ratio=17.9, weighs_cross_entropy=True),
        make_trial("slow", 0.4, status="stopped early", epochs_run=1, reason="others did better"),
    ]
    leak = "LEAK ALLOWED (data.allow_leak=true): 3 of 120 test images"
    about |= {"split": "split by image", "leak": leak, "notes": ["Drawn photographs."]}
    leaderboards.write_search(str(tmp_path), trials, {}, about, None)
    text = files.read_bytes(str(tmp_path / "leaderboard.md")).decode()
    assert "- † plain: measured on the very validation rows" in text
    assert "| plain † |" in text
    assert "- beta 0.9: the largest class weight is at most 1.008 times" in text
    assert "is the same as cross entropy" in text
    assert "beta 0.9999:" not in text
    assert "slow: stopped after 1 of 3 epochs (others did better)" in text
    assert "baseline accuracy 0.567; LEAK ALLOWED (" in text and "- LEAK ALLOWED (" in text
    leaderboard = files.read_table(str(tmp_path / "leaderboard.parquet"))
    assert leaderboard["leak"].to_pylist() == [leak] * 4
    assert leak in files.read_bytes(str(tmp_path / "report.html")).decode()
    assert text.endswith("- Drawn photographs.\n")


def test_classes_with_fewer_than_five_eyes_are_named(tmp_path, make_trial, about):
    trial = make_trial("plain")
    table = files.read_table(trial.predictions)
    severe = [i for i, grade in enumerate(table["target"].to_pylist()) if grade == 3][4:]
    kept = [i for i in range(table.num_rows) if i not in severe]
    files.write_table(trial.predictions, table.take(kept))
    leaderboards.write_search(str(tmp_path), [trial], {}, about, None)
    text = files.read_bytes(str(tmp_path / "leaderboard.md")).decode()
    assert "Fewer than 5 eyes of Severe (4) are measured" in text


def test_a_class_of_too_few_patients_gets_no_interval_and_it_is_said_why(
    tmp_path, make_trial, about
):
    trial = make_trial("plain")
    table = files.read_table(trial.predictions)
    severe = [i for i, grade in enumerate(table["target"].to_pylist()) if grade == 3][2:]
    kept = [i for i in range(table.num_rows) if i not in severe]
    files.write_table(trial.predictions, table.take(kept))
    leaderboards.write_search(str(tmp_path), [trial], {}, about, None)
    text = files.read_bytes(str(tmp_path / "leaderboard.md")).decode()
    note = "recall of Severe (2 patients of Severe, at least 5 are needed)."
    assert "Too few to say how sure: balanced accuracy (2 patients of Severe, at least 3" in text
    assert note in text and " (too few to say) | 0." in text
    row = leaderboards.leaderboard([trial])[0]
    assert row["balanced_accuracy"] > 0 and row["balanced_accuracy_low"] is None
    assert "too few to say" in files.read_bytes(str(tmp_path / "report.html")).decode()


def test_halves_of_two_networks_are_compared_with_one_network(tmp_path, make_trial):
    trial, base = make_trial("halves", 1.0), make_trial("plain", 0.6, baseline=True)
    table = files.read_table(trial.predictions)
    half = pa.array([i // 2 % 2 for i in range(table.num_rows)], pa.int8())
    files.write_table(trial.predictions, table.append_column("half", half))
    rows = {row["method"]: row for row in leaderboards.leaderboard([base, trial])}
    assert rows["halves"]["kappa_verdict"] == "better"


def test_no_trial_is_an_error_that_says_what_to_do():
    with pytest.raises(InputError, match="at least one trial"):
        leaderboards.write_search("nowhere", [], {}, {}, None)


def test_one_training_becomes_a_page_and_its_figures(tmp_path, make_trial, about):
    trial = make_trial("plain", weight_ratio=float("inf"), overrides={"train.epochs": 3})
    out = leaderboards.write_run(str(tmp_path / "run"), trial, about, None)
    result = files.read_json(out["metrics"])
    assert sum(map(sum, result["confusion"])) == result["n"] == 120
    assert result["weight_ratio"] is None
    assert result["overrides"] == {"train.epochs": 3}
    assert result["kappa_low"] < result["kappa"] < result["kappa_high"]
    assert b"Leaderboard" not in files.read_bytes(out["report"])


def test_the_same_trials_give_the_same_bytes(tmp_path, make_trial, about):
    trials = [make_trial("plain", baseline=True), make_trial("good", 0.9)]
    study = {"history": [{"number": 0, "value": 0.5, "state": "COMPLETE", "method": "plain"}]}
    for name in ("a", "b"):
        leaderboards.write_search(str(tmp_path / name), trials, study, about, None)
    for name in ("report.html", "leaderboard.csv", "leaderboard.md", "leaderboard.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def _unordered(trial):
    kept = files.read_table(trial.predictions).replace_schema_metadata({"ordered": "false"})
    files.write_table(trial.predictions, kept)
    return trial


def test_without_an_order_of_the_classes_there_is_no_kappa_and_the_best_are_first(
    tmp_path, make_trial, about
):
    trials = [make_trial("plain", 0.3, baseline=True), make_trial("good", 0.95)]
    about |= {"ordered": False, "classes": list("edcba"), "notes": ["The order is not known."]}
    out = leaderboards.write_search(str(tmp_path / "out"), [*map(_unordered, trials)], {}, about)
    rows = list(csv.DictReader(io.StringIO(files.read_bytes(out["leaderboard"]).decode())))
    assert [row["method"] for row in rows] == ["good", "plain"]
    assert rows[0]["kappa"] == rows[0]["kappa_low"] == rows[0]["auc_referable"] == ""
    assert float(rows[0]["balanced_accuracy"]) > 0.9 and rows[0]["balanced_accuracy_verdict"]
    page = files.read_bytes(out["report"]).decode()
    assert "Highest: good: balanced accuracy 0.9" in page
    assert "Highest balanced accuracy on the test rows first" in page
    assert "No kappa is given: the order of the classes is not known." in page


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        (["none", "mild", "moderate", "severe", "proliferative"], "AUC, referable"),
        (["0", "1", "2"], "AUC, referable"),
        (["none", "possible", "clinically significant"], "AUC, clinically significant or worse"),
        (["female", "male"], "AUC, male"),
        (["normal", "glaucoma"], "AUC, glaucoma"),
        ([], "AUC, referable"),
    ],
)
def test_the_auc_names_what_it_is_of(classes, name):
    assert sentences.auc_name({"classes": classes}) == name
    term = [t for t, _ in definitions([], {"classes": classes}) if t.startswith("AUC")]
    assert term == [name]


def _searched(make_trial):
    """The demo's case: validation rows chose quotas, test rows like oversampling better."""
    return [
        make_trial("plain", 0.5, baseline=True, validation=0.41),
        make_trial("oversampling", 1.0, validation=0.55),
        make_trial("quotas", 0.8, validation=0.62, chosen=True, bundle="runs/quotas/bundle"),
        make_trial("broken", None, status="failed", reason="no room", bundle=""),
    ]


def test_the_trial_that_validation_rows_chose_is_the_one_that_is_told(tmp_path, make_trial, about):
    leaderboards.write_search(str(tmp_path), _searched(make_trial), {}, about, None)
    rows = files.read_table(str(tmp_path / "leaderboard.parquet")).to_pylist()
    assert [(row["method"], row["chosen"], row["validation"]) for row in rows] == [
        ("oversampling", False, 0.55),
        ("quotas", True, 0.62),
        ("plain", False, 0.41),
        ("broken", False, None),
    ]
    assert [row["validation_metric"] for row in rows] == ["kappa", "kappa", "kappa", None]
    text = files.read_bytes(str(tmp_path / "leaderboard.md")).decode()
    assert "\nHighest kappa on the test rows first. Chosen by validation kappa: quotas.\n" in text
    assert "| method | batch | Validation kappa | accuracy |" in text
    assert "| **quotas** (chosen) | 48 | 0.620 |" in text and "| broken | 48 | – |" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {10}
    assert "quotas was chosen on other rows" in text
    assert "Each was trained once" in text and "tune.repeats=3" in text
    page = files.read_bytes(str(tmp_path / "report.html")).decode()
    assert "<p>Chosen on validation rows: quotas: kappa 0." in page
    assert (
        "Its validation kappa is 0.620, the highest of 3 trials; the test rows had no part" in page
    )
    assert "One training each: it is about these networks, not about their methods." in page
    assert page.count('<span class="tag">chosen</span>') == 1
    assert '<th scope="col" class="n">Validation kappa</th>' in page
    assert "<dt>Kappa, chosen trial</dt>" in page and "<dt>Chosen</dt>" in page
    assert "Best:" not in page


def test_without_test_rows_the_choice_is_said_to_be_partly_luck(tmp_path, make_trial, about):
    trials = [
        make_trial("plain", 0.5, baseline=True, validation=0.4, side="val"),
        make_trial("good", 0.9, validation=0.5, chosen=True, side="val"),
    ]
    leaderboards.write_search(str(tmp_path), trials, {}, about, None)
    page = files.read_bytes(str(tmp_path / "report.html")).decode()
    assert "there are no test rows, so it was chosen by the rows it is measured on" in page
    assert "chosen on other rows" not in page


def test_a_chosen_baseline_is_called_so_and_a_trial_without_figures_too(
    tmp_path, make_trial, about
):
    trials = [
        make_trial("plain", 0.5, baseline=True, validation=0.6, chosen=True),
        make_trial("good", 0.9, validation=0.5),
    ]
    out = leaderboards.write_search(str(tmp_path / "a"), trials, {}, about, None)
    page = files.read_bytes(out["report"]).decode()
    assert "It is the baseline, plain, itself." in page and "No trial has a higher" not in page
    trials[0] = make_trial("lost", None, validation=0.6, chosen=True)
    out = leaderboards.write_search(str(tmp_path / "b"), trials, {}, about, None)
    page = files.read_bytes(out["report"]).decode()
    assert "Chosen on validation rows: lost, which has no figures" in page


def test_trainings_of_each_method_are_counted_in_words(tmp_path, make_trial, about):
    def thrice(method, hit, **changes):
        places = tuple(make_trial(method, hit).predictions for _ in range(3))
        return make_trial(method, hit, repeats=places, **changes)

    trials = [
        thrice("plain", 0.5, baseline=True, validation=0.4),
        thrice("good", 0.9, validation=0.5, chosen=True),
    ]
    leaderboards.write_search(str(tmp_path), trials, {}, about, None)
    text = files.read_bytes(str(tmp_path / "leaderboard.md")).decode()
    assert "Trained 3 times, on one split with a seed each" in text
    assert "trained once" not in text
