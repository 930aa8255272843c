"""Every flipped bit and every cut of what we write is seen, by name, when it is read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fundusray import files
from fundusray.errors import DamagedError
from fundusray.sealed import MARK

VALUE = {"text": "é <|>", "float": 0.1 + 0.2, "tiny": 5e-324, "list": [1, None, True, {"a": -0.0}]}


def table() -> pa.Table:
    columns = {
        "image_id": ["10_left", "10_right", MARK.decode() + "0" * 64],
        "target": pa.array([0, None, 4], pa.int32()),
        "logit_0": pa.array([0.1, -0.0, 1e-30], pa.float32()),
        "masks": pa.array([[("disc", "a.png")], [], None], pa.map_(pa.string(), pa.string())),
    }
    return pa.table(columns).replace_schema_metadata({"classes": '["a", "b"]'})


@pytest.fixture(params=["v.json", "t.parquet"])
def kept(request, tmp_path: Path) -> tuple[Path, Callable]:
    """A file that was written, and how it is read."""
    place = tmp_path / request.param
    if request.param == "v.json":
        files.write_json(str(place), VALUE)
        return place, lambda: files.read_json(str(place))
    files.write_table(str(place), table())
    return place, lambda: files.read_table(str(place))


def test_what_is_written_is_read(kept) -> None:
    place, read = kept
    if place.suffix == ".json":
        assert read() == VALUE and json.loads(place.read_text())["text"] == VALUE["text"]
    else:
        assert read().equals(table()) and read().schema.metadata == table().schema.metadata
        assert pq.read_table(place).equals(table()), "any reader of Parquet reads it"


def test_every_flipped_bit_is_seen(kept) -> None:
    place, read = kept
    content = place.read_bytes()
    rng = np.random.default_rng(0)
    places = {0, len(content) - 1, *rng.integers(len(content), size=250).tolist()}
    for at in sorted(places):
        flipped = content[at] ^ (1 << int(rng.integers(8)))
        place.write_bytes(content[:at] + bytes([flipped]) + content[at + 1 :])
        with pytest.raises(DamagedError, match=rf"^{place}: .*run|again") as caught:
            read()
        assert caught.value.exit_code == 3


def test_every_cut_is_seen(kept) -> None:
    place, read = kept
    content = place.read_bytes()
    for length in [0, 1, len(content) - 1, *range(2, len(content) - 1, 37)]:
        place.write_bytes(content[:length])
        with pytest.raises(DamagedError, match=str(place)):
            read()


@pytest.mark.parametrize("text", ["[]", "3", '"seal"', '{"a": 1}', '{"seal": 3}', '{"a": NaN}'])
def test_json_that_nobody_vouches_for_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(DamagedError, match=r"v\.json: .*delete it and give the command"):
        files.read_json(str(tmp_path / "v.json"))
    assert files.read_plain_json(str(tmp_path / "v.json")) is not None


def test_a_table_of_an_older_version_is_told(tmp_path: Path) -> None:
    pq.write_table(table().slice(0, 2), tmp_path / "t.parquet")
    with pytest.raises(DamagedError, match="made by an older version"):
        files.read_table(str(tmp_path / "t.parquet"))


def test_numbers_as_keys_are_read_as_text(tmp_path: Path) -> None:
    files.write_json(str(tmp_path / "v.json"), {"epochs": {10: 1, 9: 2}, "shape": (1, 2)})
    read = files.read_json(str(tmp_path / "v.json"))
    assert read == {"epochs": {"9": 2, "10": 1}, "shape": [1, 2]}
