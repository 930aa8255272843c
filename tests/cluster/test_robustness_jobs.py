"""Networks under damage and attack, end to end: tables, rows, pages; broken off they go on."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fundusray import files
from fundusray.cluster import attack as attacking
from fundusray.cluster.attack import AttackPlan, ascending, attack_bundle, attacked_sample
from fundusray.conditions import parse_attacks, parse_condition
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.jobs.attacking import photographs_asked

pytestmark = pytest.mark.ray

TABLE = ("scale=tiny", "rows=baseline,corrupt_1_4", "at_once=2", "model.name=timm/test_resnet",
         "cluster.cpus=1", "train.precision=fp32", "train.layout=contiguous", "data.split=patient",
         "data.fractions=0.5,0.2,0.3")  # fmt: skip
ROW = ("image_id", "patient_id", "target", "condition", "attack", "norm", "eps", "clean_prediction",
       "prediction", "success", "changed", "linf", "l2", "queries")  # fmt: skip


def table_of(place: str) -> list[dict[str, str]]:
    with open(place, newline="") as file:
        return list(csv.DictReader(file))


def test_tables_8_and_9_look_at_the_networks_of_table_6(run, tmp_path: Path) -> None:
    """Trained once, on damaged photographs; then damaged, then attacked."""
    code, damaged, text = run("table.py", "wu.table8", *TABLE)
    assert code == 0, text
    rows = table_of(damaged["table"])
    assert [row["row"] for row in rows] == ["wu.table8.baseline", "wu.table8.corrupt_1_4"]
    assert [row["paper_accuracy_drop"] for row in rows] == ["0.088", "0.026"]
    for row in rows:
        drop = float(row["clean_accuracy"]) - float(row["accuracy"])
        assert float(row["accuracy_drop"]) == pytest.approx(drop)
        seen = pq.read_table(row["predictions"])
        assert set(seen["corruption"].to_pylist()) <= {
            "light_leakage", "motion_blur", "under_exposure", "over_exposure"
        }  # fmt: skip
        assert set(seen["level"].to_pylist()) <= {1, 2, 3, 4}
        assert set(seen["condition"].to_pylist()) == {"wu(level=1-4)"}
        assert "wu.table6." in row["bundle"]
    page = Path(damaged["report"]).read_text()
    assert "Under wu(level=1-4)" in page and "<script" not in page and "0.088" in page

    code, attacked, text = run("table.py", "wu.table9", *TABLE)
    assert code == 0, text
    again = table_of(attacked["table"])
    assert {row["bundle"] for row in again} == {row["bundle"] for row in rows}
    assert len(again) == 2 * 9  # three budgets under each reading of their unit
    eps = sorted({float(row["eps"]) * 255 for row in again})
    assert eps == pytest.approx([0.2, 0.4, 0.6, 25.5, 51, 51, 76.5, 102, 153][:3] + eps[3:])
    assert {row["paper_changed_rate"] for row in again if row["row"].endswith("baseline")} == {
        "0.196", "0.238", "0.341"
    }  # fmt: skip
    seen = pq.read_table(again[0]["rows"])
    assert set(ROW) <= set(seen.column_names)

    bundle = rows[1]["bundle"]
    code, result, text = run(
        "attack.py", bundle, "attack=autoattack(eps=1/255|4/255, steps=3, queries=10)",
        "attack.rows=6", "condition=motion_blur(level=2)",
    )  # fmt: skip
    assert code == 0, text
    seen = pq.read_table(result["rows"])
    assert seen.num_rows == 12 and set(seen["condition"].to_pylist()) == {"motion_blur(level=2)"}
    assert "robust accuracy" in text and Path(result["report"]).exists()
    code, sure, text = run("certify.py", bundle, "sigma=0.1", "draws=50", "certify.rows=8")
    assert code == 0, text
    held = pq.read_table(sure["rows"])
    assert held.num_rows == 8 and set(held["answer"].to_pylist()) <= {-1, 0, 1, 2, 3, 4}
    table = table_of(sure["table"])
    shares = [float(r["certified"]) for r in table if r["figure"] == "certified accuracy"]
    assert shares == sorted(shares, reverse=True) and len(shares) == 6
    # A network that learned from damaged photographs is asked about those, too.
    code, judged, text = run("evaluate.py", bundle, "condition=over_exposure(level=1-2)")
    assert code == 0 and {row["level"] for row in judged["levels"]} == {1, 2}, text

    code, judged, text = run(
        "evaluate.py", bundle, "condition=worst_case(of=light_leakage, level=2, draws=2, steps=1)"
    )
    assert code == 0 and {row["level"] for row in judged["levels"]} == {2}, text

    code, made, text = run("derive.py", "demo", "data.num_images=24", "data.size=32",
                           "condition=wu(level=3)")  # fmt: skip
    assert code == 0, text
    stored = open_set(made["prepared"])
    assert len(stored) == 24 and stored.info["derived"]["condition"] == "wu(level=3)"
    code, made, text = run("derive.py", "demo", "condition=pgd(eps=1/255)")
    assert code == 2 and "jobs/attack.py" in text


def test_rows_of_an_attack_are_resumed_and_do_not_depend_on_their_cut(
    unbroken: dict, prepared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, rows = unbroken["bundle"], np.arange(20)
    plan = AttackPlan(ascending(parse_attacks("pgd(eps=4/255|1/255|2/255, steps=3)")))
    assert [attack.budget.eps * 255 for attack in plan.attacks] == pytest.approx([1, 2, 4])
    whole = attack_bundle(bundle, prepared, rows, plan, str(tmp_path / "whole"), cpus=1)
    monkeypatch.setattr(attacking, "LEAST", 7)
    monkeypatch.setattr(attacking, "MOST", 7)
    cut = attack_bundle(bundle, prepared, rows, plan, str(tmp_path / "cut"), cpus=1)
    first, second = files.read_table(whole), files.read_table(cut)
    assert first.num_rows == 60 and first["eps"].to_pylist()[:3] == sorted(
        first["eps"].to_pylist()[:3]
    )
    # Passes are those that were made: a batch in which few are left is asked once more for these
    # alone, so they are of its company.
    exact = [name for name in ROW if name not in ("linf", "l2", "queries")]
    apart = {name: (first[name].to_pylist(), second[name].to_pylist()) for name in exact}
    assert not {name: pair for name, pair in apart.items() if pair[0] != pair[1]}
    assert np.allclose(first["linf"].to_numpy(), second["linf"].to_numpy(), atol=1e-6)
    assert (first["linf"].to_numpy() <= first["eps"].to_numpy() + 1e-6).all()
    # What a smaller budget breaks stays broken, with the smaller change.
    broken = first["success"].to_numpy(zero_copy_only=False).reshape(20, 3)
    assert (broken[:, :-1] <= broken[:, 1:]).all()
    again = attack_bundle(bundle, prepared, rows, plan, str(tmp_path / "cut"), cpus=1)
    assert again == cut and files.read_table(again).equals(second)


def test_a_sample_is_a_function_of_its_seed() -> None:
    rows = np.arange(100, 400)
    some = attacked_sample(rows, 24, 3)
    assert len(set(some.tolist())) == 24 and np.array_equal(some, attacked_sample(rows, 24, 3))
    assert not np.array_equal(some, attacked_sample(rows, 24, 4))
    assert np.array_equal(attacked_sample(rows, 0, 3), rows)
    assert np.array_equal(attacked_sample(rows, 300, 3), rows)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pgd(eps=1/255|2)", "'2' has no unit"),
        ("pgd(eps=1/255|1/255)", "eps is given twice"),
        ("motion_blur(level=2)", "is no attack"),
        ("pgd(eps=-1/255)", "a number and its unit"),
    ],
)
def test_bad_budgets_are_refused(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        ascending(parse_attacks(text))


@pytest.mark.parametrize("text", ["-5", "1.5", "many", ""])
def test_a_number_of_photographs_is_a_number(text: str) -> None:
    with pytest.raises(InputError, match=r"certify\.rows: a number of photographs, or 0 for all"):
        photographs_asked({"certify.rows": text}, "certify.rows", 100)
    assert photographs_asked({}, "certify.rows", 100) == 100


def test_without_attack_the_job_says_what_to_give(run) -> None:
    code, _, text = run("attack.py", "nowhere")
    assert code == 2 and "attack=pgd(eps=2/255, steps=20)" in text
    code, _, text = run(
        "attack.py", "nowhere", "attack=pgd(eps=1/255)", "condition=fgsm(eps=1/255)"
    )
    assert code == 2 and "clean or damaged" in text
    assert str(parse_condition("wu(level=1-4)")) == "wu(level=1-4)"
