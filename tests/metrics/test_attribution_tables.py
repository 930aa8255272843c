"""Means and paired differences of scores of maps, counted by hand and against `interval`."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fundusray.errors import InputError
from fundusray.metrics.any_statistic import interval, paired_interval
from fundusray.metrics.attribution_tables import (
    higher_is_better,
    score_differences,
    score_span,
    score_table,
)

IMAGES = 24


def values_of(network: str, method: str) -> np.ndarray:
    """A score of each image; robust networks have a tenth more on the same images."""
    rng = np.random.default_rng(len(method))
    base = rng.uniform(0.2, 0.5, IMAGES)
    return base + (0.1 + rng.normal(0, 0.02, IMAGES) if network == "robust" else 0)


def rows(skip: str = "") -> pa.Table:
    """Two eyes of each of twelve patients, two networks, two methods, three scores."""
    table = []
    for network in ("plain", "robust"):
        for method in ("grad_cam", "saliency"):
            for image, value in enumerate(values_of(network, method)):
                own = {
                    "image_id": f"i{image}", "patient_id": f"p{image // 2}", "method": method,
                    "network": network,
                }  # fmt: skip
                if f"{network} {image}" == skip:
                    continue
                for lesion, score, number in (
                    ("any lesion", "mass_share", value),
                    ("any lesion", "mass_share_by_chance", 0.1 + image / 1000),
                    ("optic_disc", "mass_share", value / 2),
                    ("any lesion", "infidelity", 100 * value),
                ):
                    table.append(own | {"lesion": lesion, "score": score, "value": number})
    # The order of rows says nothing.
    order = np.random.default_rng(0).permutation(len(table))
    return pa.Table.from_pylist([table[k] for k in order])


def test_means_stand_beside_their_chance() -> None:
    table = score_table(rows())
    assert len(table) == 2 * 2 * 3
    patients = [f"p{k // 2}" for k in range(IMAGES)]
    for row in table:
        values = values_of(row["network"], row["method"])
        if row["lesion"] == "any lesion" and row["score"] == "mass_share":
            expected = interval(np.mean, values, patients, span=(0, 1))
            assert {name: row[name] for name in expected} == pytest.approx(expected)
            assert row["by_chance"] == pytest.approx(0.1 + np.arange(IMAGES).mean() / 1000)
            assert row["against_chance"] == "better"
        else:
            scale = 0.5 if row["lesion"] == "optic_disc" else 100
            assert row["value"] == pytest.approx(scale * values.mean())
            assert row["by_chance"] is None is row["against_chance"]
        assert (row["n"], row["num_patients"]) == (IMAGES, IMAGES // 2)
        assert row["low"] < row["value"] < row["high"]


def test_networks_are_compared_on_the_same_images() -> None:
    found = score_differences(rows(), "robust", "plain")
    assert [(row["method"], row["lesion"], row["score"]) for row in found] == [
        (method, lesion, score)
        for method in ("grad_cam", "saliency")
        for lesion, score in (
            ("any lesion", "infidelity"), ("any lesion", "mass_share"), ("optic_disc", "mass_share")
        )
    ]  # fmt: skip
    patients = [f"p{k // 2}" for k in range(IMAGES)]
    a, b = values_of("robust", "grad_cam"), values_of("plain", "grad_cam")
    expected = paired_interval(np.mean, a, b, patients, span=(0, 1))
    assert {name: found[1][name] for name in expected} == pytest.approx(expected)
    assert found[1]["first_value"] == pytest.approx(a.mean())
    # More on the disc is worse, as is more infidelity.
    assert [row["verdict"] for row in found[:3]] == ["worse", "better", "worse"]


def test_methods_are_compared_within_a_network() -> None:
    found = score_differences(rows(), "saliency", "grad_cam", between="method")
    assert {row["network"] for row in found} == {"plain", "robust"}
    for row in found:
        a, b = (values_of(row["network"], method) for method in ("saliency", "grad_cam"))
        if row["score"] == "mass_share" and row["lesion"] == "any lesion":
            assert row["difference"] == pytest.approx(a.mean() - b.mean())


def test_an_image_that_one_side_lacks_counts_for_neither() -> None:
    found = score_differences(rows(skip="plain 3"), "robust", "plain")
    kept = np.delete(np.arange(IMAGES), 3)
    a, b = (values_of(name, "grad_cam")[kept] for name in ("robust", "plain"))
    assert found[1]["n"] == IMAGES - 1
    assert found[1]["difference"] == pytest.approx(a.mean() - b.mean())
    assert found[1]["second_value"] == pytest.approx(b.mean())


def test_equal_sides_are_undecided() -> None:
    table = rows()
    twin = table.set_column(
        table.column_names.index("network"),
        "network",
        pa.array([name.replace("robust", "twin") for name in table["network"].to_pylist()]),
    )
    both = pa.concat_tables([table, twin.filter(pc.equal(twin["network"], "twin"))])
    for row in score_differences(both, "robust", "twin"):
        assert (row["difference"], row["verdict"]) == (0, "undecided")


def test_what_cannot_be_compared_is_refused_in_words() -> None:
    table = rows()
    with pytest.raises(InputError, match="no network named other; the rows have: plain, robust"):
        score_differences(table, "other", "plain")
    with pytest.raises(InputError, match="between network or method"):
        score_differences(table, "a", "b", between="lesion")
    with pytest.raises(InputError, match="lacks value"):
        score_table(table.drop_columns(["value"]))
    with pytest.raises(InputError, match="stands there twice"):
        score_table(pa.concat_tables([table, table]))
    apart = [
        row for row in table.to_pylist()
        if (row["network"] == "plain") == (int(row["image_id"][1:]) < 9)
    ]  # fmt: skip
    with pytest.raises(InputError, match="in common"):
        score_differences(pa.Table.from_pylist(apart), "robust", "plain")


def test_what_is_better_and_how_far_it_goes() -> None:
    for lesion, score, higher, span in (
        ("any lesion", "insertion", True, (0, 1)),
        ("any lesion", "deletion", False, (0, 1)),
        ("", "max_sensitivity", False, None),
        ("", "rank_correlation", True, (-1, 1)),
        ("", "randomised_rank_correlation", False, (-1, 1)),
        ("disc", "mass_share", False, (0, 1)),
    ):
        assert higher_is_better(lesion, score) is higher
        assert score_span(score) == span
