"""A corruption's text: what it means, its shortest form, and what is refused with what is right."""

import pytest

from fundusray.corruptions import CORRUPTIONS, MIXTURES, Corruption, num_levels, parse_corruption
from fundusray.errors import InputError


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("light_leakage(level=1-4)", "light_leakage(level=1-4)"),
        (" motion_blur ( level = 3 ) ", "motion_blur(level=3)"),
        ("wu(level=2-2)", "wu(level=2)"),
        ("cofe(level= 1 - 2 )", "cofe(level=1-2)"),
        ("noise", "noise(level=1-4)"),
        ("medmnistc()", "medmnistc(level=1-5)"),
    ],
)
def test_a_text_is_read_and_written_shortest(text: str, shortest: str) -> None:
    corruption = parse_corruption(text)
    assert str(corruption) == shortest
    assert parse_corruption(shortest) == corruption
    assert hash(parse_corruption(shortest)) == hash(corruption)


@pytest.mark.parametrize("name", [*CORRUPTIONS, *MIXTURES])
def test_every_name_is_read_with_all_its_levels(name: str) -> None:
    corruption = parse_corruption(name)
    assert corruption == Corruption(name, 1, num_levels(name))
    assert parse_corruption(str(corruption)) == corruption


def test_what_mixtures_draw_from() -> None:
    assert parse_corruption("wu").kinds == (
        "light_leakage", "motion_blur", "under_exposure", "over_exposure",
    )  # fmt: skip
    assert len(parse_corruption("cofe").kinds) == 7
    assert len(parse_corruption("medmnistc").kinds) == 8
    assert parse_corruption("jpeg").kinds == ("jpeg",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("light_leekage(level=1)", "did you mean 'light_leakage'"),
        ("wu(level=5)", "level of wu: from 1 to 4, the lower one first, got '5'"),
        ("wu(level=0)", "from 1 to 4"),
        ("wu(level=3-2)", "the lower one first, got '3-2'"),
        ("medmnistc(level=1-6)", "from 1 to 5"),
        ("wu(level=high)", "one level or a range, 2 or 1-4, got 'high'"),
        ("wu(level=-1)", "one level or a range"),
        ("wu(level=1.5)", "one level or a range"),
        ("wu(levle=1)", "no argument of wu named 'levle'; did you mean 'level'"),
        ("wu(level=1, level=2)", "level is given twice"),
        ("wu(2)", "'2' is no argument"),
        ("wu(level=)", "is no argument"),
        ("wu(level=1", "one corruption is written light_leakage(level=1-4)"),
        ("", "one corruption is written"),
        ("wu + cofe", "one corruption is written"),
    ],
)
def test_what_is_no_corruption_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_corruption(text)
    assert message in str(caught.value)
