"""Receipts rebuild to the bit, and an image's damage is nobody's but its own."""

import json
from collections import Counter

import pytest
import torch
from torch import Tensor

from fundusray.corruptions import (
    CORRUPTIONS,
    Receipt,
    corrupted,
    num_levels,
    parse_corruption,
    receipts,
)
from fundusray.corruptions.fundus_area import seen_area
from fundusray.errors import InputError

OPEN = ("jpeg", "noise")
"""Corruptions of the whole picture, the black surround included; MedMNIST-C's are, too."""


@pytest.fixture(params=list(CORRUPTIONS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_stored_receipt_rebuilds_the_image(name: str, drawn: Tensor) -> None:
    rows = [5, 900_000_000_000, 7]
    for level in (1, num_levels(name)):
        done = receipts(parse_corruption(f"{name}(level={level})"), 11, rows, 96)
        stored = [Receipt.from_json(each.to_json()) for each in done]
        assert stored == done and {each.level for each in done} == {level}
        image = corrupted(drawn[:3], done)
        assert torch.equal(image, corrupted(drawn[:3], stored))
        assert image.dtype == torch.uint8 and image.shape == drawn[:3].shape
    assert not torch.equal(image, drawn[:3])


def test_an_image_depends_on_nothing_but_itself(name: str, drawn: Tensor) -> None:
    corruption = parse_corruption(name)
    before = drawn[:4].clone()
    together = corrupted(drawn[:4], receipts(corruption, 3, [8, 1, 40, 2], 96))
    assert torch.equal(drawn[:4], before)
    for place, row in ((2, 40), (0, 8)):
        alone = corrupted(drawn[place : place + 1], receipts(corruption, 3, [row], 96))
        assert torch.equal(alone[0], together[place])


def test_channels_last_are_corrupted_alike_and_stay_so(name: str, drawn: Tensor) -> None:
    done = receipts(parse_corruption(name), 3, [8, 1], 96)
    image = drawn[:2].contiguous(memory_format=torch.channels_last)
    changed = corrupted(image, done)
    assert torch.equal(changed, corrupted(drawn[:2], done))
    assert changed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "name", [name for name in CORRUPTIONS if name not in OPEN and "medmnistc" not in name]
)
def test_black_stays_black(name: str, drawn: Tensor) -> None:
    outside = ~seen_area(drawn[:3]).expand(3, 3, 96, 96)
    changed = corrupted(drawn[:3], receipts(parse_corruption(name), 0, range(3), 96))
    if name not in ("under_exposure", "over_exposure"):  # a table, of all pixels
        assert torch.equal(changed[outside], drawn[:3][outside])
    assert changed[:, :, 0, 0].max() == 0


def test_drawn_parameters_lie_within_their_level(name: str) -> None:
    facts = CORRUPTIONS.facts(name)
    assert facts.title and facts.source
    for level, intervals in enumerate(facts.levels, 1):
        assert all(low <= high for low, high in intervals.values())
        for each in receipts(parse_corruption(f"{name}(level={level})"), 0, range(20), 64):
            for key, (low, high) in intervals.items():
                value = each.parameters.get(key, low)
                assert not isinstance(value, float) or low <= value <= high


def test_levels_and_kinds_are_drawn_evenly_and_by_the_row() -> None:
    done = receipts(parse_corruption("wu(level=2-4)"), 5, range(3000), 64)
    for counts, num in (
        (Counter(each.level for each in done), 3),
        (Counter(each.name for each in done), 4),
    ):
        assert len(counts) == num
        # Four standard errors of 3000 draws.
        spread = 4 * (3000 * (1 / num) * (1 - 1 / num)) ** 0.5
        assert all(abs(count - 3000 / num) < spread for count in counts.values())
    assert {each.level for each in done} == {2, 3, 4}
    again = receipts(parse_corruption("wu(level=2-4)"), 5, torch.tensor([70, 3]), 64)
    assert again == [done[70], done[3]]
    other = receipts(parse_corruption("wu(level=2-4)"), 6, range(3000), 64)
    assert sum(a == b for a, b in zip(done, other, strict=True)) == 0
    twelfths = Counter((each.name, each.level) for each in done)
    assert len(twelfths) == 12 and min(twelfths.values()) > 180


def test_a_mixture_does_to_an_image_what_its_kind_does() -> None:
    for each, row in zip(
        receipts(parse_corruption("wu(level=2)"), 5, range(30), 64), range(30), strict=True
    ):
        assert [each] == receipts(parse_corruption(f"{each.name}(level=2)"), 5, [row], 64)


def test_a_row_keeps_its_numbers_from_level_to_level() -> None:
    mild, severe = (
        receipts(parse_corruption(f"light_leakage(level={level})"), 0, [4], 64)[0].parameters
        for level in (1, 4)
    )
    assert mild["angle"] == severe["angle"] and mild["colour"] == severe["colour"]
    assert mild["gain"] < severe["gain"]


def test_kinds_of_a_batch_do_not_mix(drawn: Tensor) -> None:
    done = receipts(parse_corruption("wu(level=3)"), 2, range(8), 96)
    assert len({each.name for each in done}) > 2
    together = corrupted(drawn, done)
    for place, each in enumerate(done):
        assert torch.equal(together[place : place + 1], corrupted(drawn[place : place + 1], [each]))


def receipt_text(**changes: object) -> str:
    done = receipts(parse_corruption("motion_blur(level=1)"), 0, [1], 64)[0]
    return json.dumps(json.loads(done.to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (receipt_text(version=99), "of version 99 of motion_blur, which is at version 1"),
        (receipt_text(name="motion_blurr"), "did you mean 'motion_blur'"),
        (receipt_text(more=1), "a receipt has level, name, parameters, version"),
        (receipt_text(parameters=3), "a receipt has a whole level and parameters"),
        ("{", "a receipt is a line of JSON"),
        ("[]", "a receipt has"),
    ],
)
def test_another_receipt_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Receipt.from_json(text)
    assert message in str(caught.value)


def test_a_receipt_of_another_version_is_not_applied(drawn: Tensor) -> None:
    done = Receipt("under_exposure", 1, {"stops": -1.0}, 2)
    with pytest.raises(InputError, match="version 2 of under_exposure, which is at version 1"):
        corrupted(drawn[:1], [done])


def test_images_of_another_kind_are_refused(drawn: Tensor) -> None:
    done = receipts(parse_corruption("noise"), 0, [1], 96)
    with pytest.raises(InputError, match=r"images of 8 bits, uint8 .* got float32"):
        corrupted(drawn[:1].float() / 255, done)
    with pytest.raises(InputError, match="a receipt for each"):
        corrupted(drawn[:2], done)
    with pytest.raises(InputError, match="square images"):
        corrupted(drawn[:1, :, :50], done)
