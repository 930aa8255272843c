"""The class that a command names, by its name or its number."""

from collections.abc import Sequence

from fundusray.registry import unknown_name


def class_of_text(key: str, text: str, classes: tuple[str, ...], words: Sequence[str] = ()) -> int:
    """The class's number.

    Args:
        key: of the command, for the error.
        words: what the key takes beside classes, for the error.

    Raises:
        InputError: there is no such class.
    """
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and text.isascii() and int(text) < len(classes):
        return int(text)
    raise unknown_name(key, text, (*words, *classes))
