"""What is said of the networks behind figures: how many trainings, which epochs, chosen by what."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fundusray import files, metrics
from fundusray.reports import leaderboards, paper_table, training_repeats
from fundusray.reports.comparisons import comparisons
from fundusray.reports.paper_table import DifferenceText, Line
from fundusray.reports.trials import ReportTrial, measure_trials


@pytest.fixture
def make_repeated(
    make_trial: Callable[..., ReportTrial], tmp_path: Path
) -> Callable[..., ReportTrial]:
    """(method, skill, trainings) -> a trial that was trained so often, "" where one failed."""

    def make(method: str, skill: float, numbers: str, **changes) -> ReportTrial:
        places, rng = [], np.random.default_rng(0)
        targets = rng.choice(5, 120, p=(0.5, 0.2, 0.1, 0.1, 0.1))
        ids, patients = [f"eye{i}" for i in range(120)], [f"p{i // 2}" for i in range(120)]
        base = rng.normal(size=(120, 5))
        base[np.arange(120), targets] += skill
        for number in numbers:
            if number == "-":
                places.append("")
                continue
            # Another method at the same place has another seed's noise.
            own = np.random.default_rng([int(number), len(method)]).normal(size=base.shape)
            table = metrics.predictions_table(ids, patients, targets, base + 0.4 * own)
            places.append(str(tmp_path / f"{method}-{number}.parquet"))
            files.write_table(places[-1], table)
        first = next(place for place in places if place)
        repeats = tuple(places) if len(places) > 1 else ()
        return make_trial(method, None, predictions=first, repeats=repeats, **changes)

    return make


def read(places: tuple[str, ...]) -> list:
    return [files.read_table(place) for place in places]


def test_a_method_trained_several_times_is_judged_as_a_method(
    make_repeated, about: dict, tmp_path: Path
) -> None:
    base = make_repeated("plain", 1.0, "123", baseline=True)
    better = make_repeated("better", 4.0, "123", seconds=3600.0)
    found = {m.trial.method: m for m in measure_trials([base, better])}
    ours, theirs = read(better.repeats), read(base.repeats)
    assert found["better"].summary == metrics.repeated_summary(ours)
    assert found["better"].versus == metrics.repeated_differences(ours, theirs)
    assert found["plain"].versus == {}
    kappa = next(r for r in comparisons(list(found.values())) if r["metric"] == "kappa")
    exact = metrics.repeated_differences(ours, theirs)["kappa"]
    assert (kappa["about"], kappa["repeats"]) == ("methods", 3)
    assert (kappa["p"], kappa["seed_sd"]) == (exact["p"], exact["seed_sd"])
    lines = [Line(name=t.method, trial=t, cores=2.0, trainings=3) for t in (base, better)]
    places = paper_table.write_paper_table(
        str(tmp_path / "out"), lines, DifferenceText(title="T", about=about)
    )
    text = Path(places["table"]).read_text()
    assert "| better (3 trainings) |" in text and "(verdict on the methods)" in text
    assert "Trained 3 times, on one split with a seed each: all rows." in text
    assert "means of 3 trainings" in text.splitlines()[2]
    spread = text.split("## Standard deviation over trainings")[1].splitlines()
    assert spread[2] == "| row | trainings | accuracy | balanced accuracy | kappa | auc referable |"
    deviation = f"{found['better'].summary['kappa_seed_sd']:.3f}"
    assert next(s for s in spread if s.startswith("| better | 3 |")).split(" | ")[4] == deviation
    assert "was trained once" not in text
    rows = files.read_json(places["json"])["rows"]
    # An hour each on two cores.
    assert rows[1]["core_hours"] == 6.0 and rows[1]["repeats"] == 3
    assert rows[1]["kappa_seed_sd"] == found["better"].summary["kappa_seed_sd"]
    page = Path(places["report"]).read_text()
    assert "95 % interval over patients and trainings." in page and "3 trainings" in page
    assert "Means of 3 trainings each: it is about the methods." in page


def test_trainings_are_compared_place_by_place_and_a_failed_one_is_left_out(make_repeated) -> None:
    base, other = (
        make_repeated("plain", 1.0, "123", baseline=True),
        make_repeated("odd", 1.0, "4-6"),
    )
    odd = next(m for m in measure_trials([base, other]) if m.trial.method == "odd")
    left = [base.repeats[0], base.repeats[2]]
    mine = [place for place in other.repeats if place]
    assert odd.versus == metrics.repeated_differences(read(mine), read(left))
    assert (
        odd.summary["repeats"] == 2
        and training_repeats.finished_count_text(odd) == "2 of 3 trainings"
    )
    # One training of a row is compared with the first of the baseline's: two networks.
    single = make_repeated("once", 1.0, "7")
    once = next(m for m in measure_trials([base, single]) if m.trial.method == "once")
    assert once.versus == metrics.paired_differences(*read((single.predictions, base.predictions)))
    assert training_repeats.compared_trainings([odd, once]) == 1
    assert "once: each was trained once" in " ".join(training_repeats.network_notes([odd, once]))


def test_one_training_each_tells_networks_apart(make_trial, about: dict, tmp_path: Path) -> None:
    trials = [make_trial("plain", 0.6, baseline=True), make_trial("good", 1.0)]
    leaderboards.write_search(str(tmp_path), trials, {}, about, None)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "Each was trained once: “better”" in text
    page = (tmp_path / "report.html").read_text()
    said = "One training each: it is about these networks, not about their methods."
    assert page.count(said) == 2
    assert "95 % interval over patients." in page
    alone = leaderboards.write_run(str(tmp_path / "run"), trials[0], about, None)
    assert b"trained once" not in files.read_bytes(alone["report"])


def test_figures_of_two_epochs_are_said_to_be(make_trial, about: dict, tmp_path: Path) -> None:
    halved = make_trial("halved", 0.6, side="val", held_out_epochs=(1, 3), best_epoch=2)
    places = leaderboards.write_run(str(tmp_path / "run"), halved, about, None)
    page = files.read_bytes(places["report"]).decode()
    caption = page.partition('<p class="lede">')[2].partition("</p>")[0]
    assert "figures of two networks of a training (epochs 1 and 3)" in caption
    assert "judged by epochs 1 and 3, bundle of epoch 2" in page
    assert "is a third choice, by all validation rows" in page
    assert files.read_json(places["metrics"])["held_out_epochs"] == [1, 3]
    trials = [replace(halved, baseline=True), make_trial("other", 0.9, held_out_epochs=(2, 2))]
    leaderboards.write_search(str(tmp_path / "search"), trials, {}, about, None)
    text = (tmp_path / "search" / "leaderboard.md").read_text()
    assert "figures of two networks of a training" in text.splitlines()[2]
    assert "(other epoch 2, chosen twice; halved epochs 1 and 3)" in text
    row = files.read_table(str(tmp_path / "search" / "leaderboard.parquet")).to_pylist()[1]
    assert (row["held_out_epochs"], row["best_epoch"]) == ("1, 3", 2)
    lines = [Line(name=trial.method, trial=trial) for trial in trials]
    table = paper_table.write_paper_table(
        str(tmp_path / "paper"), lines, DifferenceText(title="T", about=about)
    )["table"]
    text = Path(table).read_text()
    assert "figures of two networks of a training" in text.splitlines()[2]
    assert "| 3: judged by epochs 1 and 3, bundle of epoch 2 |" in text
    agreed = [make_trial("agreed", 0.9, held_out_epochs=(2, 2))]
    assert training_repeats.networks_caption(measure_trials(agreed)).endswith(
        "on the other half: both chose the same (epoch 2, chosen twice)"
    )
    plain = paper_table.write_paper_table(
        str(tmp_path / "p"),
        [Line(name="a", trial=make_trial("a"))],
        DifferenceText(title="T", about=about),
    )
    assert "two networks" not in Path(plain["table"]).read_text()


def test_rows_of_different_precisions_are_told_apart(make_trial, about, tmp_path: Path) -> None:
    trials = [make_trial("plain", 0.6, baseline=True, precision="bf16")]
    trials += [make_trial(name, 0.6, precision="fp32") for name in ("a", "b")]
    lines = [Line(name=trial.method, trial=trial) for trial in trials]
    places = paper_table.write_paper_table(
        str(tmp_path), lines, DifferenceText(title="T", about=about), page=False
    )
    said = "Not all were computed in one precision (bf16: plain; fp32: a and b)"
    assert said in Path(places["table"]).read_text()
    rows = files.read_json(places["json"])["rows"]
    assert [row["precision"] for row in rows] == ["bf16", "fp32", "fp32"]
    assert not any(
        "one precision" in note
        for note in training_repeats.network_notes(measure_trials(trials[1:]))
    )
    row = leaderboards.leaderboard(trials)[0]
    assert row["precision"] in ("bf16", "fp32")


def test_a_start_that_the_judged_rows_chose_is_marked(
    make_trial, about: dict, tmp_path: Path
) -> None:
    published = {"kappa": 0.6}
    trials = [
        make_trial("plain", 0.5, baseline=True, published=published),
        make_trial("restart", 0.99, start_chosen=True, published={"kappa": 0.7}),
    ]
    found = comparisons(measure_trials(trials))
    assert {row["flattered"] for row in found if row["row"] == "restart"} == {True}
    lines = [Line(name=trial.method, trial=trial) for trial in trials]
    text = Path(
        paper_table.write_paper_table(str(tmp_path), lines, DifferenceText(title="T", about=about))[
            "table"
        ]
    ).read_text()
    assert "| restart ‡ |" in text and "| plain |" in text
    assert "‡ restart: began from a network whose epoch these very validation rows chose" in text
    assert "supported: restart in kappa (paper +0.100, here +0." in text and ") ‡." in text
    leaderboards.write_search(str(tmp_path / "s"), trials, {}, about, None)
    assert "| restart ‡ |" in (tmp_path / "s" / "leaderboard.md").read_text()
    table = files.read_table(str(tmp_path / "s" / "leaderboard.parquet"))
    assert table["start_chosen"].to_pylist() == [True, False]
