"""Verified folders: whole, or refused by name."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from fundusray import files
from fundusray.errors import FundusError
from fundusray.verified import MANIFEST, DamagedError, read_verified, write_verified

CONTENT = {"model.safetensors": bytes(range(256)) * 8, "state.json": b'{"step": 3}', "empty": b""}
INFO = {"step": 3, "name": "Grün", "values": [0.1, 1e-300, None], "nested": {"b": 1, "a": True}}


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


@pytest.fixture
def folder(tmp_path):
    where = str(tmp_path / "runs" / "step-3")
    write_verified(where, CONTENT, INFO)
    return where


def test_comes_back_as_written(folder):
    assert read_verified(folder) == (CONTENT, INFO)
    assert sorted(os.listdir(folder)) == sorted([*CONTENT, MANIFEST])


def test_same_content_same_bytes(folder, tmp_path):
    write_verified(str(tmp_path / "again"), CONTENT, INFO)
    assert (tmp_path / "again" / MANIFEST).read_bytes() == read(f"{folder}/{MANIFEST}")


@pytest.mark.parametrize("name", [n for n in CONTENT if n != "empty"] + [MANIFEST])
def test_every_flipped_bit_is_found_and_its_file_named(folder, name):
    rng = random.Random(0)
    path = os.path.join(folder, name)
    whole = read(path)
    for _ in range(50):
        broken = bytearray(whole)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        with open(path, "wb") as stream:
            stream.write(broken)
        with pytest.raises(DamagedError, match=name):
            read_verified(folder)


def test_every_bit_of_the_manifest_counts(folder):
    path = os.path.join(folder, MANIFEST)
    whole = read(path)
    for place in range(0, 8 * len(whole), 7):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        with open(path, "wb") as stream:
            stream.write(broken)
        with pytest.raises(DamagedError):
            read_verified(folder)


@pytest.mark.parametrize("name", [n for n in CONTENT if n != "empty"] + [MANIFEST])
def test_every_truncation_is_found(folder, name):
    path = os.path.join(folder, name)
    whole = read(path)
    for keep in {0, 1, len(whole) // 2, len(whole) - 1}:
        with open(path, "wb") as stream:
            stream.write(whole[:keep])
        with pytest.raises(DamagedError, match=name):
            read_verified(folder)
    with open(path, "wb") as stream:
        stream.write(whole + b"x")
    with pytest.raises(DamagedError, match=name):
        read_verified(folder)


@pytest.mark.parametrize("name", [*CONTENT, MANIFEST])
def test_a_missing_file_is_named(folder, name):
    os.unlink(os.path.join(folder, name))
    with pytest.raises(DamagedError, match=f"{name}: missing"):
        read_verified(folder)


def test_two_files_swapped_are_found(tmp_path):
    where = tmp_path / "f"
    write_verified(str(where), {"a": b"one", "b": b"two"}, {})
    os.rename(where / "a", where / "c")
    os.rename(where / "b", where / "a")
    os.rename(where / "c", where / "b")
    with pytest.raises(DamagedError, match="sha256"):
        read_verified(str(where))


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", "[" * 100_000, '{"files": 3, "info": {}}']
)
def test_any_other_manifest_is_damage_not_a_crash(folder, text):
    with open(os.path.join(folder, MANIFEST), "w") as stream:
        stream.write(text)
    with pytest.raises(DamagedError, match=MANIFEST):
        read_verified(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "", "a/b", "a\\b"])
def test_a_manifest_cannot_reach_out_of_its_folder(tmp_path, folder, name):
    """Even one whose own digest is right."""
    (tmp_path / "runs" / "secret").write_bytes(b"secret")
    body = {"files": {name: [6, files.sha256(b"secret")]}, "info": {}}
    body["digest"] = files.sha256(json.dumps(body, sort_keys=True).encode())
    text = json.dumps(body, indent=1, sort_keys=True) + "\n"
    with open(os.path.join(folder, MANIFEST), "w") as stream:
        stream.write(text)
    with pytest.raises(DamagedError, match=MANIFEST):
        read_verified(folder)


def test_files_it_does_not_name_are_ignored(folder):
    with open(os.path.join(folder, "notes.txt"), "w") as stream:
        stream.write("mine")
    assert read_verified(folder) == (CONTENT, INFO)


def test_a_folder_is_replaced_whole(folder):
    write_verified(folder, {"only": b"new"}, {"step": 4})
    assert read_verified(folder) == ({"only": b"new"}, {"step": 4})
    assert sorted(os.listdir(folder)) == [MANIFEST, "only"]
    assert os.listdir(os.path.dirname(folder)) == ["step-3"]


def test_damage_ends_with_its_own_exit_code(folder):
    assert issubclass(DamagedError, FundusError) and DamagedError.exit_code == 3


def test_what_a_crash_left_of_this_folder_is_swept_and_only_that(folder):
    parent = os.path.dirname(folder)
    for left in (".tmp-0123456789ab-step-3", ".tmp-0123456789ab-very-step-3", ".tmp-ab-step-4"):
        os.makedirs(os.path.join(parent, left))
        with open(os.path.join(parent, left, "part"), "w") as stream:
            stream.write("half")
    write_verified(folder, CONTENT, INFO)
    names = sorted(os.listdir(parent))
    assert names == [".tmp-0123456789ab-very-step-3", ".tmp-ab-step-4", "step-3"]


def test_cut_off_between_the_two_renames_the_old_folder_still_counts(folder):
    parent = os.path.dirname(folder)
    os.rename(folder, os.path.join(parent, ".old-step-3"))
    assert read_verified(folder) == (CONTENT, INFO)
    write_verified(folder, {"only": b"new"}, {})
    assert read_verified(folder)[0] == {"only": b"new"}
    assert os.listdir(parent) == ["step-3"]


def test_cut_off_before_the_old_folder_was_removed_the_new_one_counts(folder):
    parent = os.path.dirname(folder)
    write_verified(os.path.join(parent, ".old-step-3"), {"old": b"1"}, {})
    assert read_verified(folder) == (CONTENT, INFO)
    write_verified(folder, {"only": b"new"}, {})
    assert os.listdir(parent) == ["step-3"]


def test_under_a_uri_too(tmp_path):
    where = f"file://{tmp_path}/remote/bundle"
    write_verified(where, CONTENT, INFO)
    assert read_verified(where) == (CONTENT, INFO)
    write_verified(where, {"only": b"new"}, {})
    assert read_verified(where) == ({"only": b"new"}, {})
    (tmp_path / "remote" / "bundle" / "only").write_bytes(b"neu")
    with pytest.raises(DamagedError, match="only"):
        read_verified(where)


def test_a_relative_folder_is_that_of_the_working_directory(tmp_path):
    code = "from fundusray.verified import *; write_verified('b', {'a': b'1'}, {})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert read_verified(str(tmp_path / "b"))[0] == {"a": b"1"}


WRITER = """
import sys
from fundusray.verified import write_verified
print("ready", flush=True)
step = 0
while True:
    step += 1
    write_verified(sys.argv[1], {"a": b"%d" % step * 50_000, "b": b"%d" % step}, {"step": step})
"""


def test_killed_at_any_moment_the_folder_is_old_or_new(tmp_path):
    where = str(tmp_path / "best")
    rng = random.Random(1)
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, where], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.05 + 0.1 * rng.random())
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        content, info = read_verified(where)
        step = b"%d" % info["step"]
        assert content == {"a": step * 50_000, "b": step}
    write_verified(where, {"a": b""}, {})
    assert os.listdir(tmp_path) == ["best"]
