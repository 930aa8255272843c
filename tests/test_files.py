"""Files: whole or not at all, named, hashed, listed; local paths and URIs alike."""

import csv
import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from fundusray import files
from fundusray.errors import InputError


@pytest.fixture(params=["path", "uri"])
def root(request, tmp_path):
    """The same folder as a local path and as a URI."""
    return str(tmp_path) if request.param == "path" else f"file://{tmp_path}"


def test_options_in_a_uri_are_refused(tmp_path):
    where = f"file://{tmp_path}/runs?region=eu-west-1"
    for use in (files.exists, files.read_bytes, files.absolute, files.list_dir):
        with pytest.raises(InputError, match=r"runs and say the rest .*AWS_ENDPOINT_URL_S3"):
            use(where)
    odd = str(tmp_path / "what?.bin")
    files.write_bytes(odd, b"1")
    assert files.read_bytes(files.absolute(odd)) == b"1"


class TestBothKinds:
    def test_written_is_read(self, root, tmp_path):
        where = files.join(root, "a.bin")
        files.write_bytes(where, b"one")
        files.write_bytes(where, b"second")
        assert files.read_bytes(where) == b"second"
        assert files.size(where) == 6
        assert files.exists(where) and not files.is_dir(where)
        assert (tmp_path / "a.bin").read_bytes() == b"second"
        assert os.listdir(tmp_path) == ["a.bin"]

    def test_json_table_and_hash(self, root):
        value = {"b": [1, 2.5, None, "é"], "a": {"x": True}}
        files.write_json(files.join(root, "v.json"), value)
        assert files.read_json(files.join(root, "v.json")) == value
        table = pa.table({"id": ["a", "b"], "n": [1, None]})
        files.write_table(files.join(root, "t.parquet"), table)
        assert files.read_table(files.join(root, "t.parquet")).equals(table)
        content = bytes(range(256)) * 40_000
        files.write_bytes(files.join(root, "large"), content)
        digest = hashlib.sha256(content).hexdigest()
        assert files.sha256_file(files.join(root, "large")) == digest == files.sha256(content)

    def test_a_missing_file_is_told(self, root):
        where = files.join(root, "none")
        assert not files.exists(where) and not files.is_dir(where)
        for read in (files.read_bytes, files.size, files.sha256_file):
            with pytest.raises(FileNotFoundError):
                read(where)
        with pytest.raises(FileNotFoundError):
            files.size(root)

    def test_listing_is_sorted_and_without_temporaries(self, root):
        for name in ("b", "a", ".tmp-12-c"):
            files.write_bytes(files.join(root, name), b"123")
        files.make_dir(files.join(root, "folder"))
        assert files.list_dir(root) == [("a", False, 3), ("b", False, 3), ("folder", True, 0)]
        assert files.list_dir(files.join(root, "none")) == []

    def test_remove_takes_files_and_folders_and_nothing_twice(self, root):
        files.make_dir(files.join(root, "x", "y"))
        files.make_dir(files.join(root, "x", "y"))
        files.write_bytes(files.join(root, "x", "y", "z"), b"")
        files.write_bytes(files.join(root, "f"), b"")
        for name in ("f", "x", "x"):
            files.remove(files.join(root, name))
        assert files.list_dir(root) == []


class TestLocations:
    def test_uris_are_told_from_paths(self):
        assert files.is_uri("s3://bucket/x") and files.is_uri("file:///x")
        assert not files.is_uri("/a/b") and not files.is_uri("a:b")

    def test_absolute(self, tmp_path):
        assert files.absolute("s3://b/x/") == "s3://b/x"
        assert files.absolute("/a/../b") == "/b"
        assert files.absolute("x", "/base") == "/base/x"
        assert files.absolute("x") == os.path.join(os.getcwd(), "x")
        assert files.absolute("~/x") == os.path.expanduser("~/x")

    def test_join(self):
        assert files.join("s3://b/", "x", "y") == "s3://b/x/y"
        assert files.join("/a", "b") == "/a/b"

    @pytest.mark.parametrize("where", ["nothing://x/y", "://x"])
    def test_an_unknown_scheme_says_what_works(self, where):
        with pytest.raises(InputError, match="local path or s3://"):
            files.exists(where)


WRITER = """
import sys
from fundusray import files
number = 0
while True:
    number += 1
    files.write_bytes(sys.argv[1], b"%07d" % number * 100_000)
    if number == 1:
        print("ready", flush=True)
"""

FULL = """
import resource, sys
from fundusray import files
from fundusray.errors import DiskError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.write_bytes(sys.argv[1], bytes(5000))
except DiskError as error:
    print(error, error.exit_code)
"""


class TestAtomic:
    def test_killed_at_any_moment_a_reader_sees_old_or_new(self, tmp_path):
        where = tmp_path / "state"
        rng = random.Random(0)
        for _ in range(4):
            writer = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(where)], stdout=subprocess.PIPE
            )
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.05 + 0.1 * rng.random())
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
            content = where.read_bytes()
            assert len(content) == 700_000 and content == content[:7] * 100_000
        files.sweep(str(tmp_path))
        assert os.listdir(tmp_path) == ["state"]

    def test_a_full_disk_leaves_what_was_there_and_says_how_much_is_needed(self, tmp_path):
        where = tmp_path / "state"
        where.write_bytes(b"old")
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(where)], capture_output=True, text=True, check=True
        )
        assert str(where) in done.stdout and "needs 5,000 bytes" in done.stdout
        assert done.stdout.endswith(" 4\n")
        assert where.read_bytes() == b"old" and os.listdir(tmp_path) == ["state"]

    def test_other_errors_stay_what_they_are(self, tmp_path):
        (tmp_path / "folder" / "inside").mkdir(parents=True)
        with pytest.raises(OSError) as caught:
            files.write_bytes(str(tmp_path / "folder"), b"x")
        assert caught.value.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)
        assert os.listdir(tmp_path) == ["folder"]

    def test_nan_is_refused_and_the_old_value_stays(self, tmp_path):
        where = str(tmp_path / "v.json")
        files.write_json(where, {"a": 1})
        with pytest.raises(ValueError):
            files.write_json(where, {"a": float("nan")})
        assert files.read_json(where) == {"a": 1}

    def test_same_value_same_bytes(self, tmp_path):
        for name, value in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1})):
            files.write_json(str(tmp_path / name), value)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_missing_parents_are_made_closed_to_others(self, tmp_path):
        files.write_bytes(str(tmp_path / "x" / "y" / "z"), b"1")
        assert (tmp_path / "x" / "y" / "z").read_bytes() == b"1"
        assert (tmp_path / "x" / "y").stat().st_mode & 0o007 == 0

    def test_sweep_takes_only_temporaries_and_only_here(self, tmp_path):
        for name in (".tmp-1-a", "tmp-b", ".hidden"):
            (tmp_path / name).write_bytes(b"")
        (tmp_path / ".tmp-2-folder").mkdir()
        (tmp_path / ".tmp-2-folder" / "x").write_bytes(b"")
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / ".tmp-3-c").write_bytes(b"")
        files.sweep(str(tmp_path))
        assert sorted(os.listdir(tmp_path)) == [".hidden", "sub", "tmp-b"]
        assert os.listdir(tmp_path / "sub") == [".tmp-3-c"]
        files.sweep(str(tmp_path / "none"))


class TestCsv:
    def test_rows_come_back(self, tmp_path):
        rows = [{"name": 'a "b", c\nd', "n": -0.5, "none": None}, {"name": "é", "n": 2, "none": 1}]
        files.write_csv(str(tmp_path / "t.csv"), rows)
        with open(tmp_path / "t.csv", newline="", encoding="utf-8") as stream:
            back = list(csv.DictReader(stream))
        assert [row["name"] for row in back] == ['a "b", c\nd', "é"]
        assert back[0]["n"] == "-0.5" and back[0]["none"] == ""

    @pytest.mark.parametrize(
        "text",
        [
            "=1+1",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "=cmd|' /C calc'!A0",
            "\r=1",
        ],
    )
    def test_text_that_a_spreadsheet_would_run_is_disarmed(self, tmp_path, text):
        files.write_csv(str(tmp_path / "t.csv"), [{"image_id": text}])
        with open(tmp_path / "t.csv", newline="", encoding="utf-8") as stream:
            (row,) = csv.DictReader(stream)
        assert row["image_id"] == "'" + text

    def test_no_text_starts_a_row_of_its_own(self, tmp_path):
        files.write_csv(str(tmp_path / "t.csv"), [{"a": "x\r=1+1"}])
        with open(tmp_path / "t.csv", newline="", encoding="utf-8") as stream:
            assert [row["a"] for row in csv.DictReader(stream)] == ["x\r=1+1"]

    def test_ordinary_text_and_numbers_are_left_alone(self, tmp_path):
        files.write_csv(str(tmp_path / "t.csv"), [{"a": "10_left", "b": -3, "c": "a=b", "d": ""}])
        assert (tmp_path / "t.csv").read_bytes() == b"a,b,c,d\r\n10_left,-3,a=b,\r\n"


class TestHash:
    def test_does_not_depend_on_the_order_of_keys_but_on_all_values(self):
        first = files.hash_json({"a": 1, "b": [1, 2]})
        assert first == files.hash_json({"b": [1, 2], "a": 1}) and len(first) == 12
        assert first != files.hash_json({"a": 1, "b": [2, 1]})
        assert files.hash_json({"a": 1}, length=20).startswith(files.hash_json({"a": 1}))

    def test_takes_a_view_without_copying(self):
        assert files.sha256(memoryview(b"abc")) == hashlib.sha256(b"abc").hexdigest()


class TestLocalCopy:
    def test_a_local_folder_is_its_own_copy(self, tmp_path):
        assert files.local_copy(str(tmp_path), str(tmp_path / "cache")) == str(tmp_path)

    def test_a_remote_folder_is_fetched_once(self, tmp_path):
        source, cache = tmp_path / "remote", str(tmp_path / "cache")
        source.mkdir()
        (source / "a").write_bytes(b"aaa")
        (source / "b").write_bytes(b"bb")
        copy = files.local_copy(f"file://{source}", cache)
        assert copy.startswith(cache) and sorted(os.listdir(copy)) == ["a", "b"]
        before = os.stat(os.path.join(copy, "a")).st_mtime_ns
        (source / "c").write_bytes(b"c")
        assert files.local_copy(f"file://{source}", cache) == copy
        assert sorted(os.listdir(copy)) == ["a", "b", "c"]
        assert os.stat(os.path.join(copy, "a")).st_mtime_ns == before

    def test_a_copy_cut_short_is_fetched_again(self, tmp_path):
        source, cache = tmp_path / "remote", str(tmp_path / "cache")
        source.mkdir()
        (source / "a").write_bytes(b"aaa")
        copy = files.local_copy(f"file://{source}", cache)
        with open(os.path.join(copy, "a"), "wb") as stream:
            stream.write(b"a")
        files.local_copy(f"file://{source}", cache)
        assert files.read_bytes(files.join(copy, "a")) == b"aaa"

    def test_two_folders_do_not_mix(self, tmp_path):
        for name in ("one", "two"):
            files.write_bytes(str(tmp_path / name / "a"), name.encode())
        copies = [
            files.local_copy(f"file://{tmp_path}/{name}", str(tmp_path / "cache"))
            for name in ("one", "two")
        ]
        assert [files.read_bytes(files.join(copy, "a")) for copy in copies] == [b"one", b"two"]
