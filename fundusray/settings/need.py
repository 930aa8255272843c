"""What every section of a recipe checks itself with."""

import re
from typing import Any

from fundusray.errors import InputError

NAME = re.compile(r"\w[\w.+=() -]*")
LONGEST_NAME = 150
"""Bytes of a name; a folder's may have 255, and more is put behind it."""


def require(condition: bool, setting: str, need: str, given: Any) -> None:
    """Raises InputError naming the setting, what it needs and what was given."""
    if not condition:
        raise InputError(f"{setting}: {need}, got {given!r}")


def require_name(setting: str, name: str) -> None:
    """Raises InputError where a name could not be, or lead out of, a folder in the storage."""
    plain = NAME.fullmatch(name) and ".." not in name and len(name.encode()) <= LONGEST_NAME
    need = (
        f"a name of letters, digits and . _ + = ( ) - or spaces, at most {LONGEST_NAME} bytes "
        "(it names a folder in run.storage; run.storage says where that is)"
    )
    require(bool(plain), setting, need, name if len(name) <= 80 else name[:80] + "...")
