"""Damaged files of eighteen kinds: each kept, repaired or refused with a reason; none crashes."""

import time
from collections import Counter

import numpy as np
import pytest

from fundusray.config import Data
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.photographs.decode import BadImage, decode_photograph
from fundusray.data.prepared.preprocess import PREPROCESS, preprocess_photograph
from tests.conftest import jpeg
from tests.mutations import KINDS, mutate

DATA = Data(size=64)
HANG = 20.0
"""Seconds; a file takes a few milliseconds, so only one that hangs is this slow."""


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    """Drawn photographs, baseline and progressive."""
    images = [draw_photograph(1, index, index % 5, side=256).image for index in range(4)]
    return [jpeg(image, quality=85, progressive=index == 3) for index, image in enumerate(images)]


def judged(content: bytes) -> tuple[str, str]:
    """(ok, repaired or refused; why) as preparing has it."""
    try:
        decoded = decode_photograph(content, PREPROCESS.find(DATA.preprocess).min_side(DATA.size))
        pixels = preprocess_photograph(DATA, decoded.pixels).pixels
    except BadImage as error:
        return "refused", str(error)
    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
    return ("repaired" if decoded.repaired else "ok"), decoded.note


def judge_all(photographs: list[bytes], kind: str, num: int) -> Counter:
    counts: Counter = Counter()
    for seed in range(num):
        content = mutate(photographs[seed % len(photographs)], kind, seed)
        assert mutate(photographs[seed % len(photographs)], kind, seed) == content
        began = time.monotonic()
        status, reason = judged(content)
        assert time.monotonic() - began < HANG, (kind, seed)
        assert status == "ok" or reason, (kind, seed)
        counts[status] += 1
    return counts


def test_there_are_eighteen_kinds() -> None:
    assert len(KINDS) == 18


@pytest.mark.parametrize("kind", KINDS)
def test_ten_of_each_kind(photographs: list[bytes], kind: str) -> None:
    assert sum(judge_all(photographs, kind, 10).values()) == 10


@pytest.mark.parametrize("kind", ["placeholder", "random_bytes"])
def test_what_is_no_jpeg_any_more_is_refused(photographs: list[bytes], kind: str) -> None:
    assert judge_all(photographs, kind, 10)["refused"] == 10


def test_a_file_without_its_end_is_repaired(photographs: list[bytes]) -> None:
    assert judge_all(photographs, "no_end", 10)["repaired"] == 10


@pytest.mark.slow
def test_a_thousand(photographs: list[bytes]) -> None:
    total = sum((judge_all(photographs, kind, 56) for kind in KINDS), Counter())
    assert sum(total.values()) == 1008
