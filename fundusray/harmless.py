"""Text from outside (class names, ids, paths) made harmless where a person reads it."""

import re
import unicodedata

# Cc: control, Cs: half a surrogate pair (an undecodable file name), Zl and Zp: line separators.
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
# These turn the direction of the text after them, and so can make a name read as another.
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
MARKS = re.compile(r"[|`*\[\]~!]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
"""What is markup in Markdown anywhere in a line; an underscore is none inside a word."""
ADDRESS = re.compile(r"(?<=[A-Za-z]):(?=/)|(?<=www)\.|@", re.IGNORECASE)
"""Where GitHub's Markdown knows an address that nobody marked as a link."""
ENTITIES = {":": "&#58;", ".": "&#46;", "@": "&#64;"}


def printable_text(text: str) -> str:
    """The text with control and direction-turning characters written as escapes, e.g. `\\x1b`."""
    return "".join(_escape(c) if is_unsafe_character(c) else c for c in text)


def is_unsafe_character(character: str) -> bool:
    """Whether a character could move a cursor, end a line or turn the text around it."""
    return unicodedata.category(character) in UNPRINTABLE or character in TURNING


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def escaped_markdown(text: str) -> str:
    """The text as it is, inside a line or a table cell of Markdown: no markup, no HTML, no link, no
    picture, no border of its own."""
    text = printable_text(text).replace("\\", "\\\\").replace("&", "&amp;")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    text = MARKS.sub(lambda mark: "\\" + mark[0], text)
    return ADDRESS.sub(lambda mark: ENTITIES[mark[0]], text)


def file_name_slug(text: str) -> str:
    """The text as a name that every file system and dashboard takes."""
    text = text.replace("γ", "gamma").replace("β", "beta")
    kept = (c if c.isascii() and (c.isalnum() or c in ".=") else " " for c in text)
    return "-".join("".join(kept).split())
