"""The certified share at a radius, by hand, and its interval by patients."""

import pytest
import torch

from fundusray.certificates import CERTIFIED_COLUMNS, Certificates, certified_table
from fundusray.errors import InputError
from fundusray.metrics.any_statistic import interval
from fundusray.metrics.by_patient import share

ANSWER = torch.tensor([1, 1, 0, -1, 1, 1, 0, 1])
RADIUS = torch.tensor([0.3, 0.1, 0.5, 0.0, 0.2, 0.4, 0.2, 0.1], dtype=torch.float64)
TARGET = [1, 1, 0, 1, 0, 1, 0, 1]
PATIENTS = ["a", "a", "b", "c", "d", "e", "f", "g"]
CERTIFICATES = Certificates(ANSWER, RADIUS, torch.zeros(8, 2, dtype=torch.long))


def test_shares_by_hand() -> None:
    table = certified_table(CERTIFICATES, TARGET, PATIENTS, [0.0, 0.1, 0.25, 0.45, 0.6])
    assert table.schema == CERTIFIED_COLUMNS
    # Right: images 0, 1, 2, 5, 6, 7. A change as long as the radius is not covered.
    assert table["certified"].to_pylist() == [6 / 8, 4 / 8, 3 / 8, 1 / 8, 0]
    assert table["abstained"].to_pylist() == [1 / 8] * 5
    assert table["images"].to_pylist() == [8] * 5


def test_sensitivity_is_of_the_referable_ones() -> None:
    table = certified_table(CERTIFICATES, TARGET, PATIENTS, [0.0, 0.2], of=1)
    assert table["certified"].to_pylist() == [4 / 5, 2 / 5]
    assert table["abstained"].to_pylist() == [1 / 5] * 2
    # Four patients are too few for an interval.
    assert table["low"].to_pylist() == [None, None]
    assert "4 patients" in table["why"].to_pylist()[0]


def test_intervals_have_patients_as_units() -> None:
    (row,) = certified_table(CERTIFICATES, TARGET, PATIENTS, [0.15]).to_pylist()
    hits = [True, False, True, False, False, True, True, False]
    expected = interval(share, torch.tensor(hits).numpy(), PATIENTS)
    assert (row["low"], row["high"]) == (expected["low"], expected["high"])
    assert 0 < row["low"] < row["certified"] < row["high"] < 1


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InputError, match="8 certificates need as many targets and patients, got 7"):
        certified_table(CERTIFICATES, TARGET[:7], PATIENTS, [0.1])
    with pytest.raises(InputError, match="no images to certify of target 3"):
        certified_table(CERTIFICATES, TARGET, PATIENTS, [0.1], of=3)
