"""Keyed ids: the same everywhere with one key, of no use without it."""

import hashlib
import hmac
from pathlib import Path

import pytest

from fundusray.data.manifest.contract import RowProblem, SourceContent
from fundusray.data.manifest.pseudonyms import key_ids
from fundusray.errors import InputError

FOUND = SourceContent(
    {"image_id": ["10_left", "10_right"], "patient_id": ["10", "10"], "grade": [0, 1]},
    [RowProblem("labels.csv:4", "11_left", "no image file of '11_left'", False)],
    {"grade": ("a", "b")},
)


def key_file(tmp_path: Path, content: bytes) -> str:
    (tmp_path / "key").write_bytes(content)
    return str(tmp_path / "key")


def test_ids_are_hmac_sha256_of_the_old_ones(tmp_path: Path) -> None:
    secret = bytes(range(32))
    keyed = key_ids(FOUND, key_file(tmp_path, secret))

    def expected(text: str) -> str:
        return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()[:16]

    assert keyed.columns["image_id"] == [expected("10_left"), expected("10_right")]
    assert keyed.columns["patient_id"] == [expected("10")] * 2
    assert keyed.columns["grade"] == [0, 1] and keyed.labels == FOUND.labels
    (problem,) = keyed.problems
    assert problem.image_id == expected("11_left")
    assert problem.where == expected("11_left") and "no usable file" in problem.reason
    assert "11_left" not in str(keyed)


def test_without_a_key_nothing_changes() -> None:
    assert key_ids(FOUND, "") is FOUND


def test_another_key_gives_other_ids(tmp_path: Path) -> None:
    first = key_ids(FOUND, key_file(tmp_path, b"a" * 16)).columns["image_id"]
    second = key_ids(FOUND, key_file(tmp_path, b"b" * 16)).columns["image_id"]
    assert not set(first) & set(second)


def test_no_key_or_a_short_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; make one"):
        key_ids(FOUND, str(tmp_path / "none"))
    with pytest.raises(InputError, match="15 bytes, at least 16"):
        key_ids(FOUND, key_file(tmp_path, b"x" * 15))
