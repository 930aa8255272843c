"""Bytes that vouch for themselves: JSON and tables that hold a sha256 of all their other bytes.

One flipped bit in a table of predictions reads without complaint in half of all places, as other
figures. Sealed, it is damage by name.
"""

import hashlib
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fundusray.errors import DamagedError

SEAL = "seal"
"""Key under which the digest stands."""
MARK, BLANK = b"fundusray-sha256:", b"0" * 64
"""What stands before a table's digest, and in its place while it is computed."""
CHANGED = "other bytes than were written"
UNSEALED = "damaged, or made by an older version, which did not vouch for its files"


def json_to_bytes(value: dict[str, Any]) -> bytes:
    """A JSON object as indented, sealed text; ValueError for NaN, which JSON has not."""
    assert SEAL not in value, f"the key {SEAL} is taken"
    # As it will be read: keys are text, and sorted as text.
    body = json.loads(json.dumps(value, allow_nan=False))
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps(body | {SEAL: digest}, indent=1, sort_keys=True) + "\n").encode()


def json_from_bytes(raw: bytes, location: str) -> dict[str, Any]:
    """The object that `json_to_bytes` was given.

    Raises:
        DamagedError: it is not what was written, or nobody vouches for it.
    """
    try:
        body = json.loads(raw)
        vouched = SEAL in body
        # Written again it must be the same text: no flipped bit hides in a number or a name.
        whole = vouched and json_to_bytes({k: v for k, v in body.items() if k != SEAL}) == raw
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged_file_error(location, f"not readable ({type(error).__name__})") from error
    if not whole:
        raise damaged_file_error(location, CHANGED if vouched else UNSEALED)
    return {key: value for key, value in body.items() if key != SEAL}


def table_to_bytes(table: pa.Table) -> bytes:
    """A table as a sealed Parquet file, which any reader of Parquet reads."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({SEAL: (MARK + BLANK).decode()})
    content = sink.getvalue()
    return _stamped(content, content.rindex(MARK) + len(MARK))


def table_from_bytes(content: bytes, location: str) -> pa.Table:
    """The table that `table_to_bytes` was given.

    Raises:
        DamagedError: it is not what was written, or nobody vouches for it.
    """
    place = content.rfind(MARK)
    if place < 0:
        raise damaged_file_error(location, UNSEALED if content else "empty")
    if _stamped(content, place + len(MARK)) != content:
        raise damaged_file_error(location, CHANGED)
    table = pq.read_table(pa.BufferReader(content))
    kept = {k: v for k, v in (table.schema.metadata or {}).items() if k != SEAL.encode()}
    return table.replace_schema_metadata(kept or None)


def sealed_content(content: bytes) -> bytes:
    """Any content with its digest behind it."""
    return content + hashlib.sha256(content).digest()


def unsealed_content(whole: bytes, location: str) -> bytes:
    """The content that `sealed_content` was given.

    Raises:
        DamagedError: it is not what was written, or nobody vouches for it.
    """
    content, digest = whole[:-32], whole[-32:]
    if hashlib.sha256(content).digest() != digest:
        raise damaged_file_error(location, UNSEALED if whole else "empty")
    return content


def _stamped(content: bytes, place: int) -> bytes:
    """The file with the digest of its other bytes at `place`, where there is room for it."""
    before, after = content[:place], content[place + len(BLANK) :]
    return before + hashlib.sha256(before + BLANK + after).hexdigest().encode() + after


def damaged_file_error(location: str, reason: str) -> DamagedError:
    """The error for a file that is not what was written."""
    return DamagedError(
        f"{location}: {reason}; restore it from a copy, or delete it and give the command that "
        "made it again"
    )
