"""What stands between the cells of a table, told by its first lines."""

import csv

DELIMITERS = (",", ";", "\t", "|")
SPACES = " "
"""Any number of blanks or tabs, as in lists without a header."""
HEAD = 1 << 16
"""Bytes that are looked at."""
LINES = 50


def delimiter_of(content: bytes, spaces: bool = False) -> str:
    """The delimiter that cuts the first lines into the same number of cells, two at least.

    Of several the one whose cuts agree on the most lines, then the one with most cells, then the
    earlier one of DELIMITERS. A comma where none cuts.

    Args:
        spaces: blanks may be it, too, where no other cuts.
    """
    text = content[:HEAD].decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    lines = lines if len(content) <= HEAD else lines[:-1]
    best, score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        rows = [row for row in csv.reader(lines[:LINES], delimiter=delimiter) if any(row)]
        cells = len(rows[0]) if rows else 0
        agreed = sum(len(row) == cells for row in rows) / max(1, len(rows))
        if cells > 1 and (agreed, cells) > score:
            best, score = delimiter, (agreed, cells)
    if spaces and not score[1]:
        counts = {len(line.split()) for line in lines[:LINES] if line.strip()}
        if len(counts) == 1 and counts != {1}:
            return SPACES
    return best
