"""Augmentations as text: what is read, what is refused and where the error points."""

import dataclasses
import re
from pathlib import Path

import pytest

from fundusray.config import Data
from fundusray.errors import InputError
from fundusray.pipeline.augment.augmentation import (
    DEEPEST,
    LONGEST,
    PRESETS,
    check_augmentation,
    output_size,
    parse_augmentation,
    train_text,
    view_text,
)
from fundusray.pipeline.augment.operations import OPERATIONS

DOCS = Path(__file__).parents[2] / "docs" / "augmentations.md"


def data(augment: str, size: int = 256, view: str = "") -> Data:
    return dataclasses.replace(Data(size=size), augment=augment, view=view)


@pytest.mark.parametrize(
    "text, size",
    [
        ("none", 256),
        ("wu", 256),
        ("random_crop(224) + rotate(20) + hflip(0.5) + vflip(0.5)", 224),
        ("choice(hflip(), rotate(15)) + apply(0.3, jitter(brightness=0.2, saturation=0.2))", 256),
        ("yu + wu", 224),
        ("pad(4) + random_crop(256)", 256),
        ("pad(4)", 264),
        ("resize(64) + pad(3)", 70),
        ("apply(p=0.5, operation=rotate((-30, 10)) + (hflip(1) + none))", 256),
        ("order(hflip(), random_crop(256), rotate(degrees=3.5))", 256),
        ("choice(center_crop(200), resize(200) + hflip(), random_resized_crop(200))", 200),
        ("ten_crop(100) + five_crop(30) + crop(10, x=20, y=0)", 10),
        ("  hflip( ) \n + vflip(1) ", 256),
    ],
)
def test_texts_are_read(text: str, size: int) -> None:
    assert output_size(text, 256) == size
    check_augmentation(text, 256)


@pytest.mark.parametrize(
    "text, part, words",
    [
        ("hflip() + rotat(20)", "rotat", "did you mean 'rotate'"),
        ("rotate(degree=20)", "degree=20", "did you mean 'degrees'"),
        ("rotate()", "rotate()", "missing a required .* it is rotate.degrees"),
        ("wu + hflip(0.5, 3)", "hflip(0.5, 3)", "too many positional .* it is hflip.p=0.5"),
        ("hflip(0.5, p=1)", "hflip(0.5, p=1)", "multiple values for argument 'p'"),
        ("hflip(p=1, p=1)", "p=1)", "p is given twice"),
        ("hflip", "hflip", r"needs brackets: hflip\(p=0.5\)"),
        ("wu()", "wu()", "'wu' is a preset, written without brackets"),
        ("wuu + wu", "wuu", "did you mean 'wu'"),
        ("hflip(2)", "hflip(2)", "p: needs a number from 0 to 1, got 2"),
        ("hflip(-0.1)", "hflip(-0.1)", "got -0.1"),
        ("hflip('x')", "hflip('x')", "p: needs a number from 0 to 1, got 'x'"),
        ("hflip(vflip())", "hflip(vflip())", "got an operation"),
        ("hflip(1e999)", "hflip(1e999)", "got inf"),
        ("random_crop(1" + 60 * "0" + ")", "random_crop", "a whole number from 1 to 8192"),
        ("random_crop(224.0)", "random_crop(224.0)", "a whole number"),
        ("rotate((10, -30))", "rotate((10, -30))", "degrees: the lower end comes first"),
        ("rotate((1, 2, 3))", "rotate((1, 2, 3))", "degrees: needs 2 numbers in brackets"),
        ("wu + random_crop(300)", "random_crop(300)", "300 pixels are more than .* 256"),
        ("random_crop(200) + crop(100, x=101)", "crop(100, x=101)", "x: .* from 0 to 100"),
        ("apply(0.5, resize(64))", "apply(0.5, resize(64))", "keep the size, .* 256 to 64"),
        ("order(hflip(), pad(1))", "order(hflip(), pad(1))", "keep the size"),
        ("choice(hflip(), resize(64))", "choice", r"different sizes: \[64, 256\]"),
        ("choice()", "choice()", "at least one operation"),
        ("choice(hflip(), 3)", "choice(hflip(), 3)", "needs an operation, got 3"),
        ("apply(hflip(), 0.5)", "apply(hflip(), 0.5)", "p: needs a number"),
        ("choice(operations=hflip())", "operations=hflip()", "no value of choice named"),
        ("order(wu, apply(0.1, rotate(999)))", "rotate(999)", "from 0 to 360, got 999"),
        ("whiten((0.5, 0.5, 0.5))", "whiten((0.5, 0.5, 0.5))", "either std or matrix"),
        ("whiten((0.5, 0.5), std=(1, 1, 1))", "whiten", "mean: needs 3 numbers"),
        ("whiten((0, 0, 0), matrix=((1, 2), 3))", "whiten", "three rows of three numbers"),
        ("affine(translate=(0.1, 2))", "affine(translate=(0.1, 2))", "from 0 to 1, got 2"),
        ("hflip() - vflip()", "hflip() - vflip()", "neither an operation nor a preset"),
        ("3", "3", "neither an operation nor a preset"),
        ("-hflip()", "-hflip()", "neither an operation nor a preset"),
        ("hflip(+1)", "+1", "neither a number nor an operation"),
        ("hflip(True)", "True", "neither a number nor an operation"),
        ("hflip(1j)", "1j", "neither a number nor an operation"),
        ("hflip(b'')", "b''", "neither a number nor an operation"),
        ("hflip(p=[1])", "[1]", "neither a number nor an operation"),
        ("hflip(*(1,))", "*(1,)", "neither a number nor an operation"),
        ("hflip(**{})", "**{}", "no value of hflip named 'None'"),
        ("hflip(lambda: 1)", "lambda: 1", "neither a number nor an operation"),
        ("hflip((p := 1))", "p := 1", "neither a number nor an operation"),
        ("hflip(__import__('os'))", "__import__", "no augmentation named '__import__'"),
        ("().__class__()", "().__class__", "is no operation's name"),
        ("hflip()()", "hflip()", "is no operation's name"),
        ("wu.train", "wu.train", "neither an operation nor a preset"),
        ("hflip(", "(", "cannot be read: '\\(' was never closed"),
        ("hflip() +", "+", "cannot be read: invalid syntax"),
        ("hflip(); vflip()", ";", "cannot be read: invalid syntax"),
        ("x = 3", "=", "cannot be read"),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, part: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check_augmentation(text, 256)
    message, quoted, marks = str(caught.value).split("\n")
    assert message.startswith("augmentation: ")
    assert quoted == f"  {' '.join(text.split())}" and len(marks) <= len(quoted)
    begin = marks.index("^")
    assert set(marks[begin:]) == {"^"}
    assert quoted[begin:].startswith(part) or quoted[begin : len(marks)] == part


@pytest.mark.parametrize(
    "text",
    ["", "  ", "hflip() # é", "hflip()\0", "ｈflip()", "hflip() + " * 200 + "hflip()", "\x1b[31m"],
)
def test_what_is_no_plain_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"preset's name .none, wu, .* or a text") as caught:
        check_augmentation(text, 256)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "(" * 400 + "wu" + ")" * 400,
        "hflip(" + "-" * 900 + "1)",
        "apply(1, " * 90 + "wu" + ")" * 90,
        "hflip(" + "(" * 100 + "1" + ",)" * 100 + ")",
        "wu + (" * 60 + "wu" + ")" * 60,
    ],
)
def test_deep_texts_are_refused(text: str) -> None:
    assert len(text) <= LONGEST
    with pytest.raises(InputError, match=r"bracket|neither a number|nested"):
        check_augmentation(text, 256)


def test_long_sums_and_some_depth_are_read() -> None:
    check_augmentation(" + ".join(["none"] * 140), 256)
    half = DEEPEST // 2 - 1
    check_augmentation("apply(1, " * half + "wu" + ")" * half, 256)


def test_every_preset_fits_pictures_of_256_pixels() -> None:
    for name, preset in PRESETS.items():
        assert preset.doc
        side = output_size(name, 256)
        assert output_size(preset.train, 256) == output_size(preset.view, 256) == side
        assert (preset.train == "none") == (not parse_augmentation(name).steps)


def test_texts_of_presets() -> None:
    assert train_text(data("yu")) == "random_crop(224) + rotate(20) + hflip(0.5) + vflip(0.5)"
    assert view_text(data("yu")) == "resize(224)" and output_size("yu", 256) == 224
    assert train_text(data("kon")) == "hflip(0.5)" and view_text(data("kon")) == "none"
    assert train_text(data("none")) == view_text(data("none")) == "none"
    assert view_text(data("wu")) == "none" and "rotate=(-10, 30)" in train_text(data("wu"))
    assert train_text(data("ngc")) == "random_resized_crop(224) + hflip(0.5)"
    assert view_text(data("ngc")) == "resize(256) + center_crop(224)"
    literal = train_text(data("wu_literal"))
    assert literal == train_text(data("wu")).replace("0.05,", "0.0005,")


def test_texts_of_compositions() -> None:
    text = "random_crop(200)  +\n hflip()"
    assert train_text(data(text)) == "random_crop(200) + hflip()"
    assert view_text(data(text)) == "resize(200)"
    assert view_text(data(text, view="center_crop(200)")) == "center_crop(200)"
    assert view_text(data(text, view="yu")) == "resize(224)"
    assert view_text(data("hflip() + pad(4) + random_crop(256)")) == "none"
    assert view_text(data("yu + vflip()")) == "resize(224)"
    with pytest.raises(InputError, match="more than the picture's 128"):
        view_text(data("random_crop(200)", size=128))


def test_the_documentation_names_everything() -> None:
    text = DOCS.read_text()
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)\(.*$", text, re.MULTILINE)}
    assert rows.keys() == OPERATIONS.keys()
    for name in PRESETS:
        assert re.search(rf"^\| `{name}` ", text, re.MULTILINE), name
    for name, row in rows.items():
        signature = re.search(rf"`({name}\([^`]*\))`", row)
        assert signature and OPERATIONS[name].__doc__
        with pytest.raises(InputError) as caught:
            check_augmentation(f"{name}(no=1)", 256)
        known = re.search(r"\(have: (.*)\)", str(caught.value))
        keywords = known[1].split(", ") if known and known[1] else []
        assert all(re.search(rf"\b{word}\b", signature[1]) for word in keywords), name
    for example in re.findall(r"^    (\S.*)$", text, re.MULTILINE):
        check_augmentation(example, 256)
