"""Patients and eyes in the names of photographs, where a data set says neither.

A name is taken apart at an eye's word: what comes before it is the patient, what follows is the
shot. A photograph whose name tells no patient has the patient "".
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from fundusray.errors import FundusError, InputError

APART = r"_\-. ()\[\]"
"""What may stand between the parts of a name, as in a regular expression's class."""
STYLES = {
    "words": {"left": "left", "right": "right"},
    "latin": {"os": "left", "od": "right", "og": "left", "oi": "left"},
    "initials": {"le": "left", "re": "right"},
    "letters": {"l": "left", "r": "right"},
}
"""Ways to write an eye, in either case: OS is oculus sinister, OG and OI are its French and Spanish
names. Words are taken wherever they stand; any other way only where most names agree in it."""
EYES = {word: eye for style in STYLES.values() for word, eye in style.items()}
MOST = 0.8
"""Share of the names that a way other than words must be written in."""
BOTH = 0.5
"""Share of its patients of which it must name both eyes."""
FEW, MANY = 4, 12
"""Photographs that one patient may well have alone in a set, and each of some."""
SOME = 10
"""Names before the eye; where each has MANY photographs and there are no more, they are not
patients but a study, a camera or a class."""
DATE = re.compile(rf"[{APART}]+(19|20)[0-9]{{2}}[{APART}]?[01][0-9][{APART}]?[0-3][0-9]$")
"""Of a visit: behind a patient's name it makes no other patient of them."""
MOMENT = re.compile(r"[0-9]{8}|(19|20)[0-9]{2}[^0-9][01][0-9][^0-9][0-3][0-9]")
"""In what a camera calls a photograph."""
SECONDS = 10.0
"""How long data.patient_pattern may take over all names of a set."""
MOST_NAMED = 5


class NameReading(NamedTuple):
    """What the names of a set's photographs tell."""

    patients: list[str]
    """Of each name; "" where it tells none."""
    eyes: list[str]
    """left, right or ""."""


def read_file_names(names: Sequence[str]) -> NameReading:
    """Patients and eyes by the way of naming that most of the names follow; "" in the others.

    Known are `<patient>_left`, `_OS`, `_LE`, `_l` and the like in either case, with hyphens, dots
    or spaces, a number behind it (`1_l2`, `12_left_1`) or none before it (`12L`, `left_12`).
    """
    words = _in_style(names, "words")
    if all(words.patients):
        return words
    found = [words, *(_in_style(names, style) for style in STYLES if style != "words")]
    return max(found, key=lambda reading: sum(map(bool, reading.patients)))


def eye_word(name: str) -> str:
    """left or right, where a name spells it out; "" otherwise."""
    return _in_style([name], "words").eyes[0]


def _in_style(names: Sequence[str], style: str) -> NameReading:
    """As `read_file_names`, by one way of writing eyes; nothing where too few names are written
    so."""
    eyes = STYLES[style]
    taken = re.compile(
        rf"(?P<before>.*)(?:(?<=[0-9{APART}])|^)(?P<eye>{'|'.join(eyes)})(?P<shot>[0-9]*)"
        rf"(?:$|[{APART}](?P<after>.*))",
        re.IGNORECASE | re.DOTALL,
    )
    parts = [_taken_apart(match) for match in map(taken.fullmatch, names)]
    study = _is_study([before for before, eye, _ in parts if eye])
    if study:
        # study_left_001: whose photograph it is stands behind the eye.
        parts = [(after and f"{before} {after}", eye, after) for before, eye, after in parts]
    both: dict[str, set[str]] = {}
    for patient, eye, _ in parts:
        if patient:
            both.setdefault(patient, set()).add(eyes[eye])
    taken_by = sum(bool(patient) for patient, _, _ in parts)
    pairs = sum(len(seen) == 2 for seen in both.values())
    agreed = taken_by >= MOST * len(names) and pairs >= BOTH * len(both)
    # A moment is no patient; but one eye of each may have been kept, so that none is there twice.
    plain = style == "words" and not study and (pairs or not any(map(MOMENT.search, both)))
    if not (agreed or plain):
        return NameReading([""] * len(names), [""] * len(names))
    patients = [patient for patient, _, _ in parts]
    return NameReading(patients, [eyes[eye] if patient else "" for patient, eye, _ in parts])


def _is_study(before: list[str]) -> bool:
    """Whether what stands before the eyes is no patient: it has too many photographs."""
    num, distinct = len(before), len(set(before))
    return num > FEW * distinct if distinct == 1 else num > MANY * distinct and distinct <= SOME


def _taken_apart(match: re.Match[str] | None) -> tuple[str, str, str]:
    """(patient, the eye's word, what follows it); patient "" where there is none."""
    if match is None:
        return "", "", ""
    before = DATE.sub("", re.sub(rf"[{APART}]+$", "", match["before"]))
    after = re.sub(rf"^[{APART}]+", "", f"{match['shot']} {match['after'] or ''}").strip()
    return before or after, match["eye"].casefold(), after


def read_by(pattern: str, names: Sequence[str], seconds: float = SECONDS) -> NameReading:
    """Patients and eyes by a regular expression with the group `patient`, perhaps also `eye`.

    It is sought anywhere in a name, in a process of its own, which can be ended: a repeat within a
    repeat may take longer than the world will last.

    Raises:
        InputError: it takes longer than `seconds`.
        FundusError: that process failed.
    """
    job = json.dumps([pattern, list(names)])
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=job.encode(),
            capture_output=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"data.patient_pattern={pattern}: not done with {len(names):,} names in {seconds:g} s; "
            "write it without a repeat inside a repeat, such as (a+)+"
        ) from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise FundusError(f"data.patient_pattern={pattern}: the names were not read: {last}")
    found = json.loads(done.stdout)
    patients = [patient for patient, _ in found]
    return NameReading(patients, [EYES.get(eye.casefold(), "") for _, eye in found])


_SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
seek = re.compile(pattern).search
groups = [match.groupdict() if (match := seek(name)) else {} for name in names]
json.dump([[one.get("patient") or "", one.get("eye") or ""] for one in groups], sys.stdout)
"""


def reading_note(names: Sequence[str], reading: NameReading, pattern: str, secret: bool) -> str:
    """What was read of names, with an example; "" where nothing was.

    Args:
        secret: names may not be repeated.
    """
    kept = [row for row, patient in enumerate(reading.patients) if patient]
    if not kept and not pattern:
        return ""
    by = f" by data.patient_pattern={pattern}" if pattern else ""
    text = f"patients read from names{by}"
    if kept and not secret:
        row = kept[0]
        eye = f", {reading.eyes[row]} eye" if reading.eyes[row] else ""
        text += f": {names[row]!r} -> patient {reading.patients[row]}{eye}"
    text += f" ({len(kept):,} of {len(names):,} names)"
    others = [name for name, patient in zip(names, reading.patients, strict=True) if not patient]
    if not others:
        return text
    named = "" if secret else f": {', '.join(map(repr, others[:MOST_NAMED]))}"
    more = f" and {len(others) - MOST_NAMED:,} more" if len(others) > MOST_NAMED and named else ""
    return f"{text}; {len(others):,} tell no patient, each counts on its own{named}{more}"
