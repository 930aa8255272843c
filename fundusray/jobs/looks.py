"""How often test rows were looked at: whoever looks and then changes something has used them up.

A look is a command that shows figures of test rows. Each leaves a file of its own below
`<storage>/looks/`, by the prepared set and the rows, so that no two commands at a time lose one.
"""

import secrets
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fundusray import files
from fundusray.verified import DamagedError

FOLDER = "looks"
MOST_NAMED = 3
"""Earlier commands that a note names."""


@dataclass(frozen=True)
class Looks:
    """What was known of the test rows before this command looked at them."""

    earlier: int = 0
    """Looks before this one."""
    notes: list[str] = field(default_factory=list)
    """A sentence on them; none for the first look."""

    @property
    def result(self) -> dict[str, Any]:
        """What the job's last line says."""
        return {"test_rows_looked_at_before": self.earlier}


def record_look(
    manifest: str,
    seen: dict[str, Any],
    storage: str,
    folder: str,
    others: dict[str, Looks] | None = None,
) -> Looks:
    """Notes that this command shows figures of test rows, there and in the folder's `looks.json`.

    Validation rows, which choose the epoch anyhow, are not counted.

    Args:
        manifest: of the prepared set (`info["manifest"]`).
        seen: `predictions`, for whose rows figures are shown, and their `reported_split`.
        folder: whose figures they are.
        others: the looks of the same command by their rows; the same rows count once.
    """
    if seen["reported_split"] == "val":
        return Looks()
    rows = sorted(files.read_table(seen["predictions"])["image_id"].to_pylist())
    key = files.hash_json([manifest, rows], 16)
    if others is not None and key in others:
        return others[key]
    place = files.join(storage, FOLDER, key)
    earlier = _looks(place)
    now = datetime.now(UTC)
    mine = {
        "when": now.isoformat(timespec="seconds"),
        "command": "python " + " ".join(sys.argv),
        "folder": files.base_name(folder),
        "rows": len(rows),
    }
    name = f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.json"
    files.write_json(files.join(place, name), mine)
    own = [one for one in [*earlier, mine] if one.get("folder") == mine["folder"]]
    files.write_json(files.join(folder, "looks.json"), {"looks": own})
    looks = Looks(len(earlier), [_sentence(earlier)] if earlier else [])
    if others is not None:
        others[key] = looks
    return looks


def _looks(place: str) -> list[dict[str, Any]]:
    """The looks at some rows in order; of one whose file is damaged only that there was one."""
    found = []
    for name, _, _ in files.list_dir(place):
        try:
            found.append(files.read_json(files.join(place, name)))
        except DamagedError:
            found.append({})
    return found


def _sentence(earlier: list[dict[str, Any]]) -> str:
    count = len(earlier)
    by = [str(one["folder"]) for one in earlier if "folder" in one]
    names = sorted(set(by), key=by.index)
    shown = ", ".join(names[-MOST_NAMED:]) + (
        f" and {len(names) - MOST_NAMED} more" if names[MOST_NAMED:] else ""
    )
    times = "once" if count == 1 else f"{count:,} times"
    return (
        f"These test rows were looked at {times} before (by {shown or 'commands not recorded'}); "
        "what was changed after a look has used them to choose, and the figures may flatter."
    )
