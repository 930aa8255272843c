"""The lock pins everything with a hash, names no address, and keeps the floors."""

import re
from pathlib import Path

LOCK = (Path(__file__).parent.parent / "requirements.lock").read_text()
PINS = re.findall(
    r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)[^\n]*\\\n((?:    --hash=[^\n]+\n?)+)", LOCK, re.M
)


def version(name: str) -> tuple[int, ...]:
    found = [v for n, v, _ in PINS if n == name]
    assert found, f"{name} is not locked"
    return min(tuple(int(p) for p in re.findall(r"\d+", v)[:2]) for v in found)


def test_every_pin_has_a_hash() -> None:
    names = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", LOCK, re.M)
    assert len(names) > 100
    assert len(PINS) == len(names)
    assert all("sha256:" in hashes for _, _, hashes in PINS)


def test_no_addresses() -> None:
    assert "://" not in LOCK


def test_floors_against_known_holes() -> None:
    floors = {"ray": (2, 55), "torch": (2, 10), "pillow": (12, 2), "requests": (2, 32)}
    floors |= {"urllib3": (2, 7), "idna": (3, 7)}
    for name, floor in floors.items():
        assert version(name) >= floor, name
