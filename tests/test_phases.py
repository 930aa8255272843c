"""The text of phases: what it means, and what is refused."""

import pytest

from fundusray.config import Train
from fundusray.errors import InputError
from fundusray.phases import Phase, parse_phases, stretched_phases

YU = "head(epochs=5) + all(epochs=20)"
LI = "all(steps=550) + all(steps=350, lr=0.2) + all(steps=495, lr=0.05)"


def test_phases_of_the_papers() -> None:
    assert parse_phases(YU, 1) == (Phase(trainable="head", epochs=5), Phase(epochs=20))
    assert parse_phases(LI, 1) == (
        Phase(steps=550),
        Phase(steps=350, lr=0.2),
        Phase(steps=495, lr=0.05),
    )
    assert parse_phases("  ", 7) == (Phase(epochs=7),)
    assert parse_phases("head( steps=3 , norm=frozen )", 1) == (
        Phase(trainable="head", steps=3, norm="frozen"),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("head", "'head' is no phase; write e.g. 'head"),
        ("heads(epochs=1)", "did you mean 'head'"),
        ("all(epochs=0)", "trains nothing"),
        ("all(steps=-3)", "trains nothing"),
        ("all(epochs=1.5)", "trains nothing"),
        ("all(epochs=²)", "trains nothing"),
        ("head + all(epochs=1)", "is no phase"),
        ("all()", "either epochs=<n> or steps=<n>"),
        ("all(epochs=1, steps=2)", "either epochs=<n> or steps=<n>"),
        ("all(epochs=1, epochs=2)", "gives epochs twice"),
        ("all(epoch=1)", "did you mean 'epochs'"),
        ("all(epochs=1, lr=0)", "lr is a factor above 0, got '0'"),
        ("all(epochs=1, lr=x)", "lr is a factor above 0, got 'x'"),
        ("all(epochs=1, norm=froze)", "did you mean 'frozen'"),
        ("all(epochs=1) + ", "is no phase"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_be_right(text: str, told: str) -> None:
    with pytest.raises(InputError, match="(?s)" + told.replace("(", r"\(").replace(")", r"\)")):
        Train(phases=text)


def test_stretched_keeps_all_but_the_length() -> None:
    halves = stretched_phases(LI, lambda n: n // 2, lambda n: n // 50)
    assert halves == "all(steps=11) + all(steps=7, lr=0.2) + all(steps=9, lr=0.05)"
    assert stretched_phases(YU, lambda n: n // 10, lambda n: n) == "head(epochs=1) + all(epochs=2)"
    frozen = "head(epochs=3, lr=10, norm=frozen)"
    assert stretched_phases(frozen, lambda n: n, lambda n: n) == frozen
    assert stretched_phases("", lambda n: n, lambda n: n) == ""


@pytest.mark.parametrize("lr", [1e6, 1e-7, 1e20, 0.1234567890123, 10.0])
def test_any_factor_is_read_as_it_was_written(lr: float) -> None:
    for text in (f"all(steps=1) + head(steps=2, lr={lr:e})", f"all(steps=1)+head(steps=2,lr={lr})"):
        told = parse_phases(stretched_phases(text, lambda n: n, lambda n: n), 1)
        assert told == parse_phases(text, 1)
        assert told[1].lr == pytest.approx(lr, rel=1e-6)
