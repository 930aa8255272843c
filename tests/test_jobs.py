"""Every job: short, helpful, and clear about wrong input."""

import json
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
JOBS = sorted((ROOT / "jobs").glob("*.py"))


Ended = tuple[int, dict, str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a job's file as `python jobs/<job>` would: (exit code, its RESULT, all output)."""

    def go(job: str, *arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [f"jobs/{job}", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "jobs" / job), run_name="__main__")
        told = capsys.readouterr()
        last = (told.out.strip().splitlines() or [""])[-1]
        result = json.loads(last.removeprefix("RESULT ")) if last.startswith("RESULT ") else {}
        return int(ended.value.code or 0), result, told.out + told.err

    return go


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_jobs_are_short(job: Path) -> None:
    assert len(job.read_text().splitlines()) < 60


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_jobs_help(job: Path, run) -> None:
    code, _, text = run(job.name, "--help")
    assert code == 0
    assert "train.epochs=" in text and "python jobs/" in text


def test_show_prints_the_resolved_recipe(run) -> None:
    code, result, text = run("train.py", "wu.table5.focal_gamma2", "show=true", "train.epochs=5")
    assert (code, result["status"]) == (0, "shown")
    shown = json.loads(text[text.index("{") : text.rindex("RESULT")])
    assert shown["loss"] == {"name": "focal", "args": {"gamma": 2.0}, "sparsity": 0.0}
    assert shown["train"]["epochs"] == 5 and shown["train"]["batch"] == 48


@pytest.mark.parametrize(("mark", "kept"), [("full_df.csv", True), ("trainLabels.csv", False)])
def test_a_given_folder_keeps_the_keywords_its_source_has(
    mark: str, kept: bool, tmp_path: Path, run
) -> None:
    (tmp_path / mark).write_text("")
    code, _, text = run("train.py", "kon.odir_only", f"data={tmp_path}", "show=true")
    assert code == 0
    assert f'"keywords": "{"normal fundus" if kept else ""}"' in text
    assert ("data.keywords='normal fundus' is dropped" in text) != kept


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train.py", "wu.table5.focal_gama2"), "did you mean 'wu.table5.focal_gamma2'"),
        (("train.py", "demo", "train.epoch=3"), "did you mean 'train.epochs'"),
        (("train.py", "demo", "loss.name=focl"), "did you mean 'focal'"),
        (("train.py", "demo", "loss.args.gamma=2"), "gamma"),
        (("train.py", "demo", "model.name=resnet81"), "did you mean 'resnet18'"),
        (("train.py", "demo", "model.weights=/no/such/file.pth"), "/no/such/file.pth"),
        (("train.py", "demo", "train.batch=x"), "train.batch: needs int"),
        (("train.py", "demo", "data.source=eyepacs"), "data.root"),
        (("train.py", "demo", "train.phases=head(epochs=0)"), "trains nothing"),
        (("train.py", "demo", "sampling.quotas=0.5,0.25"), "shares that sum to 1"),
        (("train.py", "demo", "adversarial.method=pgd", "adversarial.eps=2"), "2/255 for 8-bit"),
        (("train.py", "demo", "adversarial.method=pgd"), "adversarial.eps"),
        (("train.py", "demo", "train.select=robust_accuracy"), "needs adversarial.eps"),
        (("train.py", "demo", "loss.name=coral"), "model.output=coral"),
        (("train.py", "demo", "loss.sparsity=1e-4"), "needs an evidence map"),
        (("train.py", "demo", "model.init_from=/no/such/bundle"), "/no/such/bundle"),
        (("train.py", "demo", "preset=madri_quickstart"), "did you mean 'madry_quickstart'"),
        (("train.py", "demo", "data=/no/such/folder"), "no folder /no/such/folder"),
        (("train.py", "demo", "cluster.workers=4,1"), "cluster.workers"),
        (("train.py", "wu.table5.oversample_restart", "smoke=false"), "data.root"),
        (("evaluate.py", "/no/such/bundle"), "/no/such/bundle"),
        (("evaluate.py",), "give one bundle"),
        (("two_eyes.py",), "give one bundle"),
        (("transfer.py", "one", "attack=pgd(eps=2/255)"), "give two bundles or more"),
        (("transfer.py", "one", "another"), "give two bundles or more, and the attack"),
        (("transfer.py", "one", "another", "attack=pgd(eps=2)"), "has no unit"),
        (("universal.py", "one"), "eps=4/255"),
        (("universal.py", "one", "eps=4"), "has no unit"),
        (("universal.py", "one", "eps=4/255", "norm=l3"), "did you mean 'l2'"),
        (("universal.py", "one", "eps=4/255", "passes=0"), "passes: a number from 1"),
        (("counterfactuals.py",), "give a bundle, or several"),
        (("counterfactuals.py", "/no/such+/no/other"), "no bundle at /no/such;"),
        (("counterfactuals.py", "b", "counterfactuals.steps=0"), "steps: a number from 1"),
        (("counterfactuals.py", "b", "counterfactuals.output=logits"), "did you mean 'logit'"),
        (("counterfactuals.py", "b", "counterfactuals.rows=few"), "or 0 for all, got 'few'"),
        (("two_eyes.py", "b", "fit=tran"), "did you mean 'train'"),
        (("symmetry.py",), "give one bundle"),
        (("symmetry.py", "b", "method=lesion_detecton"), "did you mean 'lesion_detection'"),
        (("symmetry.py", "b", "method=saliency,smooth_grad"), "give one map"),
        (("linearity.py",), "give one bundle"),
        (("linearity.py", "b", "output=logits"), "did you mean 'logit'"),
        (("linearity.py", "b", "doublings=0"), "doublings: a number from 1"),
        (("linearity.py", "b", "linearity.rows=some"), "linearity.rows: a number of photographs"),
        (("linearity.py", "/no/such/bundle"), "/no/such/bundle"),
        (("segment.py",), "give a bundle and photographs"),
        (("segment.py", "/no/such/bundle", "eye.jpg"), "no bundle at /no/such/bundle"),
        (("segment.py", "b", "eye.jpg", "segment.tiles=9"), "did you mean 'segment.tile'"),
        (("modulation.py",), "give one bundle"),
        (("modulation.py", "one", "eps=3"), "has no unit"),
        (("modulation.py", "one", "eps=3unit01|1unit01"), "budgets that ascend"),
        (("modulation.py", "one", "norm=linf"), "eps=1/255|2/255|4/255"),
        (("modulation.py", "one", "norm=l3"), "did you mean 'l2'"),
        (("modulation.py", "one", "method=saliensy"), "did you mean 'saliency'"),
        (("modulation.py", "one", "method=targeted_modulation"), "the maps beside"),
        (("modulation.py", "one", "modulation.rows=few"), "a number of photographs"),
    ],
)
def test_wrong_input_is_told_before_anything_is_written(
    arguments: tuple[str, ...], told: str, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, result, text = run(*arguments)
    assert code == result["code"] == 2, text
    assert told in text
    assert "Traceback" not in text
    assert not list(tmp_path.iterdir())
