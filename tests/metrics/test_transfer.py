"""What transfers, counted by hand: pairs, what they have in common, and the difference it makes."""

import numpy as np
import pyarrow as pa
import pytest

from fundusray.metrics.robustness import share_difference, share_interval
from fundusray.metrics.transfer import (
    TransferNetwork,
    TransferPair,
    transfer_differences,
    transfer_groups,
    transfer_rows,
)

A = TransferNetwork("a", "lite0", "imagenet")
B = TransferNetwork("b", "lite0", "imagenet")
C = TransferNetwork("c", "lite0", "random")
D = TransferNetwork("d", "resnet18", "random")
ROWS = 40
PATIENTS = [f"p{n // 2}" for n in range(ROWS)]


def attacked(broken: int, right: int = ROWS, patients=PATIENTS, eps=(1.0, 2.0)) -> pa.Table:
    """The first `right` photographs are right, of these the first `broken` broken at the largest
    budget, half as many at the smaller one."""
    rows = []
    for budget, num in zip(eps, (broken // 2, broken), strict=True):
        for n in range(len(patients)):
            rows.append(
                {
                    "image_id": f"i{n}", "patient_id": patients[n], "target": n % 2,
                    "attack": "pgd(steps=20)", "norm": "linf", "eps": budget,
                    "clean_prediction": n % 2 if n < right else 1 - n % 2,
                    "prediction": 1 - n % 2 if n < num or n >= right else n % 2,
                    "success": n < min(num, right), "changed": n < min(num, right), "queries": 3,
                }
            )  # fmt: skip
    return pa.Table.from_pylist(rows)


def pair(first, second, broken, shared=0.5, **options) -> TransferPair:
    return TransferPair(first, second, shared, attacked(broken, **options))


def test_a_row_for_each_pair_and_budget() -> None:
    rows = transfer_rows([pair(A, A, 40), pair(A, C, 10, right=20)])
    assert [(row["surrogate"], row["target"], row["eps"]) for row in rows] == [
        ("a", "a", 1.0), ("a", "a", 2.0), ("a", "c", 1.0), ("a", "c", 2.0),
    ]  # fmt: skip
    assert [row["success_rate"] for row in rows] == [0.5, 1.0, 0.25, 0.5]
    last = rows[-1]
    assert (last["n"], last["num_patients"], last["shared_rows"]) == (40, 20, 0.5)
    assert (last["clean_accuracy"], last["majority_accuracy"]) == (0.5, 0.5)
    assert (last["surrogate_start"], last["target_start"]) == ("imagenet", "random")
    assert last["success_rate_low"] < 0.5 < last["success_rate_high"]


def test_groups_pool_the_pairs_off_the_diagonal() -> None:
    """Of a pair whose target is right of fewer photographs fewer count."""
    pairs = [
        pair(A, A, 40), pair(A, B, 20, 1.0), pair(B, A, 10, 1.0, right=20),
        pair(A, C, 4, 0.0), pair(C, D, 8, None),
    ]  # fmt: skip
    found = {(row["fact"], row["kind"]): row for row in transfer_groups(pairs, 2.0)}
    same = found["start", "the same weights"]
    assert (same["pairs"], same["n"], same["num_patients"]) == (2, 60, 20)
    assert same["success_rate"] == pytest.approx(30 / 60)
    assert (same["same_start"], same["same_architecture"], same["shared_photographs"]) == (2, 2, 2)
    others = found["start", "others, or random"]
    assert (others["pairs"], others["success_rate"]) == (2, pytest.approx(12 / 80))
    assert (others["same_start"], others["same_architecture"]) == (0, 1)
    assert found["architecture", "another"]["success_rate"] == pytest.approx(8 / 40)
    assert found["architecture", "the same"]["success_rate"] == pytest.approx(34 / 100)
    # Of the last pair it is not known what is shared; it is in neither of these.
    assert found["training photographs", "shared"]["pairs"] == 2
    assert found["training photographs", "none shared"]["pairs"] == 1
    assert transfer_groups([pair(A, A, 40)], 2.0) == []


def test_pairs_that_answer_alike_are_no_more_than_one() -> None:
    """Five copies of a pair's answers say nothing more of patients than the pair alone."""
    once = transfer_groups([pair(A, B, 16)], 2.0)[0]
    copies = [TransferNetwork(f"x{n}", "lite0", "imagenet") for n in range(5)]
    often = transfer_groups([pair(A, copy, 16) for copy in copies], 2.0)[0]
    for end in ("low", "high"):
        assert often[f"success_rate_{end}"] == pytest.approx(once[f"success_rate_{end}"], abs=1e-9)
    # Also of unknown patients, where the photograph is the unit.
    unknown = {"patients": [""] * ROWS}
    once = transfer_groups([pair(A, B, 16, **unknown)], 2.0)[0]
    often = transfer_groups([pair(A, copy, 16, **unknown) for copy in copies], 2.0)[0]
    width = [row["success_rate_high"] - row["success_rate_low"] for row in (once, often)]
    assert width[1] == pytest.approx(width[0], rel=0.05)


def test_two_random_starts_are_not_the_same() -> None:
    kinds = {row["kind"] for row in transfer_groups([pair(C, D, 4)], 2.0) if row["fact"] == "start"}
    assert kinds == {"others, or random"}
    assert transfer_differences([pair(C, D, 4), pair(D, C, 4)], 2.0) == []


def test_a_difference_is_that_of_two_shares_of_the_same_photographs() -> None:
    """With one pair on each side and every photograph right: `share_difference` of their rows."""
    found = transfer_differences([pair(A, B, 30, 1.0), pair(A, D, 6, 1.0)], 2.0)
    assert [row["fact"] for row in found] == ["start", "architecture"]
    first, second = (np.arange(ROWS) < num for num in (30, 6))
    # The same patients once more: what is said by 2 N rows is what N pairs of answers say.
    alone = share_difference(first, second, np.array(PATIENTS))
    for row in found:
        assert row["difference"] == pytest.approx(24 / 40)
        assert row["verdict"] == "easier"
        for end in ("low", "high", "p"):
            assert row[end] == pytest.approx(alone[end])
    (start, *_) = transfer_differences([pair(A, B, 6, 1.0), pair(A, C, 30, 1.0)], 2.0)
    assert (start["difference"], start["verdict"]) == (pytest.approx(-24 / 40), "harder")
    (start, *_) = transfer_differences([pair(A, B, 8, 1.0), pair(A, C, 6, 1.0)], 2.0)
    assert start["verdict"] == "undecided" and start["low"] < 0 < start["high"]


def test_a_share_of_a_part_is_compared_as_it_is_alone() -> None:
    """A difference to a side that is apart is as wide as both sides' own reaches allow."""
    hits = np.arange(80) % 4 == 0
    among = np.arange(80) < 40, np.arange(80) >= 40
    patients = np.array([f"p{n}" for n in range(80)])
    found = share_difference(hits & among[0], hits & among[1], patients, among=among)
    alone = share_interval(hits[:40], np.ones(40, bool), patients[:40])
    reach = np.hypot(alone["value"] - alone["low"], alone["high"] - alone["value"])
    assert (found["difference"], found["verdict"]) == (0.0, "undecided")
    # Two more patients are taken to differ, which makes it a little wider than Newcombe's.
    assert reach <= found["high"] <= 1.1 * reach


def test_few_patients_have_no_interval() -> None:
    few = [TransferPair(A, other, 1.0, attacked(4, 4, PATIENTS[:4])) for other in (B, C)]
    group = transfer_groups(few, 2.0)[0]
    assert group["success_rate"] == 1.0 and group["success_rate_low"] is None
    assert "at least 5" in transfer_differences(few, 2.0)[0]["why"]
