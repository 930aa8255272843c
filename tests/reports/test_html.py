"""The page as a browser reads it: inert, self-contained, in order, complete."""

import base64
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from fundusray import files
from fundusray.reports import figures, leaderboards

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "nav", "a",
    "main", "section", "dl", "div", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th",
    "td", "small", "span", "strong", "ul", "li", "figure", "figcaption", "img", "pre",
}  # fmt: skip
"""Every tag of the page itself; any other came out of the data."""
EVIL = '<img src=x onerror="alert(1)">\x1b[31m\u202e\n"><script>alert(2)</script>\udcff{{ 7 * 7 }}'


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, *names: str) -> list[dict]:
        return [attrs for tag, attrs in self.tags if tag in names]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def render(tmp_path):
    """(trials, study, about, examples) -> the parsed page of a search."""

    def write(trials, study=None, about=None, examples=None) -> Page:
        out = leaderboards.write_search(
            str(tmp_path / "out"), trials, study or {}, about or {}, examples
        )
        return Page(files.read_bytes(out["report"]).decode())

    return write


def _study(name: str = "plain") -> dict:
    return {
        "history": [{"number": 0, "value": 0.5, "state": "COMPLETE", "method": name}],
        "importance": {"loss.name": 0.7, name: 0.3},
    }


def test_names_from_outside_stay_text(render, make_trial, about):
    trials = [
        make_trial("plain", baseline=True),
        make_trial(EVIL, 0.9, loss=EVIL, sampler=EVIL, published={"kappa": 0.8, "time": EVIL}),
        make_trial(EVIL, None, status="failed", reason=EVIL),
    ]
    about |= {key: EVIL for key in ("title", "command", "recipe", "source", "model", "split")}
    about |= {"classes": [EVIL] * 5, "notes": [EVIL], "mode": {EVIL: EVIL}}
    about["prepared"]["skipped"] = [{"image_id": EVIL, "where": EVIL, "reason": EVIL}]
    about["prepared"]["untaken"] = [EVIL]
    about["splits"] = {EVIL: about["splits"]["test"]}
    page = render(trials, _study(EVIL) | {"importance_note": EVIL}, about)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on") or a == "style"]
    assert all(attrs["src"].startswith("data:image/png;base64,") for attrs in page.all("img"))
    assert all(attrs["href"].startswith("#") for attrs in page.all("a"))
    assert not {"\x1b", "\u202e"} & set("".join(page.words))
    assert "\\x1b[31m\\u202e\\x0a" in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_the_page_holds_everything_and_fetches_nothing(render, make_trial, about):
    page = render([make_trial("plain", baseline=True), make_trial("good", 0.9)], _study(), about)
    policy = [m for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert [m["content"] for m in policy] == [POLICY]
    assert not page.all("link", "script", "iframe", "object")
    images = page.all("img")
    assert len(images) == 1 + 2 + 2 + 2
    for image in images:
        content = base64.b64decode(image["src"].partition(",")[2], validate=True)
        assert content.startswith(b"\x89PNG")
        assert image["alt"]
    style = "".join(page.words)
    assert "url(" not in style
    assert "@import" not in style


def test_photographs_that_are_not_in_the_set_are_told(render, make_trial, about):
    line = "14 photographs not taken, in no class folder: test/a.jpg and 13 more"
    about["prepared"] |= {"untaken": [line], "unlabelled": 3}
    page = render([make_trial("plain", baseline=True), make_trial("good")], _study(), about)
    assert "0 set aside; 3 without a label left out." in page.text
    assert f"{line}." in page.text
    row = {"image_id": "a", "where": "t.csv:2", "reason": "ungradable (dx '5')"}
    about["prepared"] |= {"ungradable": 1, "skipped": [row]}
    page = render([make_trial("plain", baseline=True), make_trial("good")], _study(), about)
    assert "0 set aside; 3 without a label left out (1 of them ungradable)." in page.text
    assert page.text.count("ungradable (dx '5')") == 1


def test_headings_are_in_order_and_links_lead_somewhere(render, make_trial, about):
    about["prepared"]["skipped"] = [{"image_id": "a", "where": "t.csv:2", "reason": "empty file"}]
    page = render([make_trial("plain", baseline=True), make_trial("good")], _study(), about)
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {a["href"][1:] for a in page.all("a")} <= ids
    assert [attrs for tag, attrs in page.tags if tag == "html"] == [{"lang": "en"}]
    assert len(page.all("caption")) == len(page.all("table"))
    assert {th.get("scope") for th in page.all("th")} == {"col", "row"}


def test_the_summary_says_highest_how_sure_majority_and_what_is_decided(render, make_trial, about):
    page = render([make_trial("plain", 0.6, baseline=True), make_trial("good", 1.0)], {}, about)
    assert "Highest kappa on these rows: good: kappa 1.00 [0.92, 1.00] on 120 eyes" in page.text
    assert "above the majority baseline accuracy 0." in page.text
    assert "(every eye called “No DR”)" in page.text
    assert "Difference in kappa to plain: +0." in page.text
    assert "In kappa, better than plain: good; undecided: 0 of 1." in page.text


def test_a_failed_trial_shows_its_reason_and_no_figure(render, make_trial):
    lost = make_trial("broken", None, status="failed", reason="out of memory", history=[])
    page = render([make_trial("plain", baseline=True), lost])
    assert "failed out of memory" in page.text
    assert not any("broken" in image["alt"] for image in page.all("img"))


def test_a_page_of_failures_alone_copes(render, make_trial):
    lost = make_trial("broken", None, status="failed", reason="out of memory", history=[])
    page = render([lost])
    assert "No trial has a measured kappa" in page.text
    assert not page.all("img")


def test_a_search_without_importances_says_why(render, make_trial):
    study = {"history": [], "importance": {}, "importance_note": "needs two finished trials"}
    page = render([make_trial("plain")], study)
    assert "Importance of the settings: needs two finished trials" in page.text


def test_examples_are_shown_inside_the_page(render, make_trial, tmp_path):
    sheet = figures.examples_sheet([("raw", [np.full((40, 40, 3), 128, np.uint8)])])
    (tmp_path / "sheet.png").write_bytes(sheet)
    page = render([make_trial("plain")], examples=str(tmp_path / "sheet.png"))
    shown = [base64.b64decode(image["src"].partition(",")[2]) for image in page.all("img")]
    assert sheet in shown


def test_long_quarantine_is_cut_and_says_so(render, make_trial, about):
    rows = [{"image_id": f"img{i}", "where": "", "reason": "empty file"} for i in range(150)]
    about["prepared"]["skipped"] = rows
    page = render([make_trial("plain")], {}, about)
    assert "the first 100 of 150" in page.text
    assert "img99" in page.text
    assert "img100" not in page.text


def test_rows_without_a_split_are_called_all(render, make_trial):
    page = render([make_trial("abroad", side="all")], {}, {"split": ""})
    assert "all rows" in page.text and "Measured on all rows." in page.text
    assert "test rows" not in page.text


def test_networks_whose_training_is_not_known_claim_no_epochs(render, make_trial):
    unknown = {"epochs_asked": 0, "epochs_run": 0, "history": [], "seconds": float("nan")}
    member = make_trial("a member", baseline=True, best_epoch=3, **unknown)
    page = render([member, make_trial("the mean", best_epoch=0, **unknown)])
    assert "batch 48 · epoch 3" in page.text and " of 0 epochs" not in page.text
    assert "0.0 s" not in page.text
