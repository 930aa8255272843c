"""Differences of two networks on the same rows."""

import math

import numpy as np
import pyarrow as pa
import pytest

from fundusray.errors import InputError
from fundusray.metrics import (
    METRICS,
    figure_summary,
    paired_differences,
    point_figures,
)
from fundusray.metrics.comparison import difference_ends, patient_correlation
from fundusray.metrics.intervals import figure_spreads
from fundusray.metrics.jackknife import PatientFigures
from fundusray.metrics.spread import wilson_interval
from tests.metrics.drawn_predictions import drawn, table


def test_difference_is_that_of_the_points_and_turns_its_sign():
    targets, logits = drawn(7)
    other = drawn(8)[1]
    a, b = table(targets, logits), table(targets, other)
    forth, back = paired_differences(a, b), paired_differences(b, a)
    left, right = point_figures(targets, logits), point_figures(targets, other)
    for name in METRICS:
        assert forth[name]["difference"] == pytest.approx(left[name] - right[name], abs=1e-12)
        assert forth[name]["low"] == pytest.approx(-back[name]["high"], abs=1e-12)
        assert forth[name]["p"] == pytest.approx(back[name]["p"], rel=1e-6)
        assert forth[name]["verdict"] == "better" and back[name]["verdict"] == "worse"


def test_one_eye_each_is_newcombe_s_interval_of_paired_shares():
    """Newcombe 1998, method 8: Wilson's ends of both shares, put together by phi; here phi of a
    table whose discordant patients weigh 16 / 14 (two more differ)."""
    both, first, second, none = 20, 12, 2, 16
    a = np.repeat([1, 1, 0, 0], (both, first, second, none))
    b = np.repeat([1, 0, 1, 0], (both, first, second, none))
    rows = [table(np.zeros(50, int), np.eye(2)[1 - right], per_patient=1) for right in (a, b)]
    found = paired_differences(*rows)["accuracy"]
    spread = a - b - (a - b).mean()
    more = 1 + 2 * (spread**4).sum() / (spread**2).sum() ** 2
    phi = (a.var() + b.var() - (a - b).var() * more) / (2 * a.std() * b.std())
    assert phi == pytest.approx(np.corrcoef(a, b)[0, 1], abs=0.12)
    (la, ua), (lb, ub) = wilson_interval(0.64, 50, 1.959964), wilson_interval(0.44, 50, 1.959964)
    down = math.sqrt((0.64 - la) ** 2 + (ub - 0.44) ** 2 - 2 * phi * (0.64 - la) * (ub - 0.44))
    up = math.sqrt((ua - 0.64) ** 2 + (0.44 - lb) ** 2 - 2 * phi * (ua - 0.64) * (0.44 - lb))
    assert (found["low"], found["high"]) == pytest.approx((0.2 - down, 0.2 + up), abs=1e-6)


def test_p_is_the_level_at_which_the_interval_touches_0():
    targets, logits = drawn(1, n=200)
    a, b = table(targets, logits), table(targets, drawn(2, n=200, skill=1.4)[1])
    found = paired_differences(a, b)
    both = [figure_spreads(PatientFigures.of(rows.sort_by("image_id"))) for rows in (a, b)]
    for name in METRICS:
        first, second = (side[name] for side in both)
        together, p = patient_correlation(first, second), found[name]["p"]
        assert 0 < p < 1 and (p < 0.05) == (found[name]["verdict"] != "undecided")
        ends = difference_ends(first, second, together, p)
        assert min(map(abs, ends)) < 1e-8


def test_a_table_with_itself_has_a_difference_of_exactly_0_and_no_interval():
    """That both answer alike on these eyes does not say that they do on all others."""
    rows = table(*drawn(9))
    for value in paired_differences(rows, rows).values():
        assert value["difference"] == 0 and value["low"] is value["high"] is value["p"] is None
        assert value["verdict"] == "undecided" and value["why"] == "both answer alike here"


def test_rows_are_matched_by_image_not_by_place():
    rows = table(*drawn(10))
    other = table(drawn(10)[0], drawn(11)[1])
    turned = other.take(np.arange(other.num_rows)[::-1])
    assert paired_differences(rows, turned) == paired_differences(rows, other)


def test_pairing_sees_what_two_intervals_cannot():
    """One patient in fifty better, none worse: intervals overlap, the pair decides."""
    targets, logits = drawn(12, n=2000, skill=1.0)
    better = logits.copy()
    better[::50, :] += 10 * np.eye(5)[targets[::50]]
    a, b = table(targets, better), table(targets, logits)
    assert figure_summary(a)["accuracy_low"] < figure_summary(b)["accuracy_high"]
    assert paired_differences(a, b)["accuracy"]["verdict"] == "better"


@pytest.mark.parametrize("more, verdict", [(4, "undecided"), (8, "better")])
def test_few_patients_decide_only_where_they_agree(more, verdict):
    """Of 60 patients a few are better and none is worse; 4 of 4 have a p of .125 by the signs."""
    targets = np.zeros(60, int)
    wrong = np.eye(2)[np.ones(60, int)]
    wrong[:30] = [1, 0]
    right = wrong.copy()
    right[30 : 30 + more] = [1, 0]
    found = paired_differences(table(targets, right, 1), table(targets, wrong, 1))["accuracy"]
    assert found["verdict"] == verdict


def test_equal_networks_are_told_apart_one_time_in_twenty():
    rng = np.random.default_rng(14)
    decided = 0
    for _ in range(300):
        right = rng.random((2, 120)) < 0.7
        targets = np.zeros(240, int)
        sides = [table(targets, np.eye(2)[np.repeat(~r, 2).astype(int)]) for r in right]
        decided += paired_differences(*sides)["accuracy"]["verdict"] != "undecided"
    assert 0.02 <= decided / 300 <= 0.09


def test_undefined_and_too_few_are_undecided():
    targets = np.zeros(12, int)
    value = paired_differences(*[table(targets, np.eye(3)[targets])] * 2)["auc_referable"]
    assert value["difference"] is None and value["verdict"] == "undecided"
    targets, logits = drawn(3, n=40)
    targets[:] = 0
    targets[:4] = 4
    found = paired_differences(table(targets, logits), table(targets, drawn(4, n=40)[1]))
    assert found["recall_4"]["low"] is None and "class 4" in found["recall_4"]["why"]
    assert found["recall_0"]["low"] < found["recall_0"]["difference"] < found["recall_0"]["high"]


@pytest.mark.parametrize("column", ["image_id", "target", "patient_id"])
def test_other_rows_are_refused(column):
    rows = table(*drawn(13, n=20))
    values = rows[column].to_pylist()
    values[0] = (values[0] + 1) % 5 if column == "target" else "other"
    place = rows.column_names.index(column)
    changed = rows.set_column(place, column, pa.array(values, rows[column].type))
    with pytest.raises(InputError, match=column):
        paired_differences(rows, changed)
    with pytest.raises(InputError):
        paired_differences(rows, rows.slice(1))


def test_other_classes_are_refused():
    with pytest.raises(InputError, match="other classes"):
        paired_differences(table(*drawn(0, n=20)), table(*drawn(0, n=20, classes=3)))
