"""Augmentations as one text: operations with their values, joined by `+`, and presets by name.

    random_crop(224) + rotate(20) + hflip(0.5) + vflip(0.5)
    wu + choice(vflip(1), rotate((-30, 30))) + apply(0.3, greyscale(1))

A text is Python's syntax and nothing of Python is run: only names, calls of known operations,
numbers, brackets and `+` are read.
"""

import ast
import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fundusray.errors import InputError
from fundusray.pipeline.augment.draws import (
    Draws,
    ImageEffect,
    KeyedDice,
    Lesions,
    chained_effects,
    draw_keys,
    finished_draws,
    no_effect,
)
from fundusray.pipeline.augment.operations import OPERATIONS, Step
from fundusray.pipeline.augment.presets import PRESETS
from fundusray.registry import unknown_name
from fundusray.settings import Data

LONGEST = 1000  # characters
DEEPEST = 20  # brackets within brackets
GEOMETRIC = {
    "hflip", "vflip", "rotate", "affine", "crop", "center_crop", "random_crop", "five_crop",
    "lesion_crop", "ten_crop", "resize", "random_resized_crop", "pad", "apply", "choice", "order",
}  # fmt: skip
"""Operations that move pixels and do nothing else, or only choose among others."""
SEEKING = {"lesion_crop"}
"""Operations that look for lesions."""
EXAMPLE = "hflip(0.5) + rotate((-30, 10))"


UNSEEN = (
    "lesion_crop looks for lesions, and no masks say where they are; give data.masks=<kinds> or "
    "data.target=lesions, or take random_crop"
)


class Augmentation(NamedTuple):
    """A text that was read."""

    steps: tuple[Step, ...]
    """Empty where nothing is done to any picture."""
    geometric: bool = True
    """Whether it is made of operations alone that move pixels and leave their colours."""
    seeking: bool = False
    """Whether it looks for lesions."""

    def effect(self, dice: KeyedDice) -> ImageEffect:
        """What is done to the rows the dice are of."""
        return _sequence(self.steps)(dice)

    def side(self, size: int) -> int:
        """The side of what becomes of a picture of side `size`.

        Raises:
            InputError: the text does not fit such pictures; points at the part.
        """
        one = np.zeros(1, np.int64)
        return self.effect(KeyedDice(draw_keys(0, 0, one, one), size)).size

    def draw(
        self,
        size: int,
        *,
        seed: int,
        epoch: int,
        rows: np.ndarray,
        repeat: np.ndarray,
        lesions: Lesions | None = None,
    ) -> Draws:
        """What is done to pictures of side `size`: rows [B] of a set, `repeat` [B] counting how
        often each came before in the epoch, `lesions` what they show.

        Raises:
            InputError: lesions are looked for, and none are given.
        """
        if not self.steps:
            return _nothing(len(rows), size)
        if self.seeking and lesions is None:
            raise InputError(f"augmentation: {UNSEEN}")
        keys = draw_keys(seed, epoch, rows, repeat)
        return finished_draws(self.effect(KeyedDice(keys, size, lesions=lesions)))


@lru_cache(8)
def _nothing(num: int, size: int) -> Draws:
    return finished_draws(no_effect(KeyedDice(np.zeros(num, np.uint64), size)))


@lru_cache(256)
def parse_augmentation(text: str) -> Augmentation:
    """The augmentation a text or a preset's name stands for.

    Raises:
        InputError: it is no such text; quotes it and points at the part.
    """
    source = " ".join(text.split())
    if not source or len(source) > LONGEST or not (source.isascii() and source.isprintable()):
        raise InputError(
            f"an augmentation is a preset's name ({', '.join(PRESETS)}) or a text of plain letters "
            f"such as {EXAMPLE!r}, up to {LONGEST} characters long; got {source[:60]!a}"
        )
    try:
        tree = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        place = min(error.offset or len(source), len(source)) - 1
        raise _pointed(source, place, place + 1, f"cannot be read: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise _pointed(source, 0, len(source), "cannot be read: too many brackets") from error
    steps = tuple(_steps(tree, source, DEEPEST))
    return Augmentation(steps, _is_geometric(tree), _is_seeking(tree))


def _is_geometric(tree: ast.expr) -> bool:
    """Whether a text is made of operations alone that leave colours as they are."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"none"}
    presets = names & set(PRESETS)
    return names - presets <= GEOMETRIC and all(
        parse_augmentation(PRESETS[name].train).geometric for name in presets
    )


def _is_seeking(tree: ast.expr) -> bool:
    """Whether any operation of a text looks for lesions."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    presets = names & set(PRESETS) - {"none"}
    return bool(names & SEEKING) or any(
        parse_augmentation(PRESETS[name].train).seeking for name in presets
    )


def check_augmentation(text: str, size: int) -> None:
    """Refuses a text that cannot be read or does not fit pictures of side `size`.

    Raises:
        InputError: says what is wrong and points at the part.
    """
    output_size(text, size)


def output_size(text: str, size: int) -> int:
    """The side of what becomes of a picture of side `size`.

    Raises:
        InputError: as check.
    """
    return parse_augmentation(text).side(size)


def train_text(data: Data) -> str:
    """What is done to the pictures trained on, in full: presets are written out."""
    text = " ".join(data.augment.split())
    return PRESETS[text].train if text in PRESETS else text


def view_text(data: Data) -> str:
    """What is done to the pictures a model is judged on: data.view if given, else what the preset
    says, else the whole picture at the size that is trained on; whole and at its own size where
    windows about lesions are trained on, since lesions are to be found in all of it.

    Raises:
        InputError: data.augment cannot be read, or data.view looks for lesions.
    """
    given, train = (" ".join(text.split()) for text in (data.view, data.augment))
    if given:
        view = PRESETS[given].view if given in PRESETS else given
        if parse_augmentation(view).seeking:
            raise InputError(
                f"data.view={given}: where lesions are is what a judged network is asked; leave it "
                "empty, so that whole pictures are judged"
            )
        return view
    if train in PRESETS:
        return PRESETS[train].view
    if parse_augmentation(train).seeking:
        return "none"
    size = output_size(train, data.size)
    return "none" if size == data.size else f"resize({size})"


def smallest_side(data: Data) -> int:
    """The side of the smallest picture the network is shown, in training or judging.

    Raises:
        InputError: as check.
    """
    return min(output_size(text, data.size) for text in (train_text(data), view_text(data)))


def _steps(node: ast.expr, source: str, depth: int) -> list[Step]:
    """The operations of a sum, in order."""
    terms: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        terms.append(node.right)
        node = node.left
    steps: list[Step] = []
    for term in (node, *reversed(terms)):
        if depth == 0:
            raise _at(source, term, f"more than {DEEPEST} brackets within brackets")
        if isinstance(term, ast.Call):
            steps.append(_call(term, source, depth))
        elif isinstance(term, ast.BinOp) and isinstance(term.op, ast.Add):
            steps += _steps(term, source, depth - 1)
        else:
            steps += _preset(term, source)
    return steps


def _preset(node: ast.expr, source: str) -> list[Step]:
    if not isinstance(node, ast.Name):
        raise _at(source, node, f"is neither an operation nor a preset; write as in {EXAMPLE!r}")
    if node.id in OPERATIONS:
        raise _at(source, node, f"an operation needs brackets: {_signature(node.id)}")
    if node.id not in PRESETS:
        raise _at(source, node, str(unknown_name("augmentation", node.id, _known())))
    return [] if node.id == "none" else list(parse_augmentation(PRESETS[node.id].train).steps)


def _call(node: ast.Call, source: str, depth: int) -> Step:
    """The operation with its values; what is wrong with them shows when it is used."""
    if not isinstance(node.func, ast.Name):
        raise _at(source, node.func, "is no operation's name")
    name = node.func.id
    if name in PRESETS:
        raise _at(source, node, f"{name!r} is a preset, written without brackets")
    if name not in OPERATIONS:
        raise _at(source, node.func, str(unknown_name("augmentation", name, _known())))
    function = OPERATIONS[name]
    values = [_value(part, source, depth) for part in node.args]
    named: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg not in (known := _keywords(function)):
            error = unknown_name(f"value of {name}", str(keyword.arg), known)
            raise _at(source, keyword, str(error))
        if keyword.arg in named:
            raise _at(source, keyword, f"{keyword.arg} is given twice")
        named[keyword.arg] = _value(keyword.value, source, depth)
    try:
        inspect.signature(function).bind(None, *values, **named)
    except TypeError as error:
        raise _at(source, node, f"{error}; it is {_signature(name)}") from error

    def step(dice: KeyedDice) -> ImageEffect:
        try:
            return function(dice, *values, **named)
        except InputError:
            raise  # of an operation within this one, which is pointed at already
        except ValueError as error:
            raise _at(source, node, str(error)) from error

    return step


def _value(node: ast.expr, source: str, depth: int) -> Any:
    """A number, a text, several in brackets, or operations as one."""
    if depth == 0:
        raise _at(source, node, f"more than {DEEPEST} brackets within brackets")
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, str):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = node.operand
        if isinstance(inner, ast.Constant) and type(inner.value) in (int, float):
            return -inner.value
    if isinstance(node, ast.Tuple):
        return tuple(_value(part, source, depth - 1) for part in node.elts)
    if isinstance(node, ast.Call | ast.Name | ast.BinOp):
        return _sequence(tuple(_steps(node, source, depth - 1)))
    raise _at(source, node, "is neither a number nor an operation")


def _sequence(steps: tuple[Step, ...]) -> Step:
    def together(dice: KeyedDice) -> ImageEffect:
        done = no_effect(dice)
        for step in steps:
            done = chained_effects(done, step(dice.after(done)))
        return done

    return together


def _known() -> list[str]:
    return [*PRESETS, *OPERATIONS]


def _keywords(function: Callable[..., ImageEffect]) -> list[str]:
    parts = list(inspect.signature(function).parameters.values())[1:]
    return [part.name for part in parts if part.kind is part.POSITIONAL_OR_KEYWORD]


def _signature(name: str) -> str:
    """How the operation is written, with what its values are unless given."""
    shown = []
    for part in list(inspect.signature(OPERATIONS[name]).parameters.values())[1:]:
        star = "*" if part.kind is part.VAR_POSITIONAL else ""
        shown.append(
            star + part.name + ("" if part.default is part.empty else f"={part.default!r}")
        )
    return f"{name}({', '.join(shown)})"


def _at(source: str, node: ast.expr | ast.keyword, message: str) -> InputError:
    return _pointed(source, node.col_offset, node.end_col_offset or node.col_offset + 1, message)


def _pointed(source: str, begin: int, end: int, message: str) -> InputError:
    """An error with the text and marks under the part from `begin` to `end`."""
    return InputError(f"augmentation: {message}\n  {source}\n  {' ' * begin}{'^' * (end - begin)}")
