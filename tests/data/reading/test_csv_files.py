from pathlib import Path

import pytest

from fundusray.data.reading.csv_files import CHUNK, parse_table, read_csv, read_header, read_table
from fundusray.errors import InputError


def test_columns_come_in_the_order_asked_for_with_their_lines() -> None:
    content = '\ufeffb , a,c\r\n1,2,3\r\n\r\n"x, ""y""\r\nz", 5 ,6\r\n,,\r\n7\r\n'.encode()
    table = parse_table("t.csv", content, ("a", "b"), ("d", "c"))
    assert table.columns == {
        "a": ["2", "5", ""],
        "b": ["1", 'x, "y"\r\nz', "7"],
        "c": ["3", "6", ""],
    }
    assert list(table.lines) == [2, 4, 7]
    assert table.where(1) == "t.csv:4"


def test_rows_with_their_lines() -> None:
    rows = list(read_csv("t.csv", b"image_id,split\na,train\n\nb,val\n", ("image_id", "split")))
    assert rows == [(2, "a", "train"), (4, "b", "val")]


def test_lines_stay_right_over_many_rows() -> None:
    num = 2 * CHUNK + 3
    rows = [f'{i},"two\nlines"' if i % 7 == 0 else f"{i},x" if i % 5 else "" for i in range(num)]
    table = parse_table("t.csv", ("id,note\n" + "\n".join(rows)).encode(), ("id",))
    begins, line = {}, 2
    for i, row in enumerate(rows):
        if row:
            begins[str(i)] = line
        line += 1 + row.count("\n")
    assert dict(zip(table.columns["id"], table.lines, strict=True)) == begins


def test_a_row_whose_named_cells_are_empty_counts_when_others_are_not() -> None:
    table = parse_table("t.csv", b"a,b,c\n,,x\n,,\n , ,\t\n1,,\n", ("a", "b"))
    assert table.columns == {"a": ["", "1"], "b": ["", ""]}
    assert list(table.lines) == [2, 5]


def test_names_of_columns_in_either_form_of_unicode() -> None:
    table = parse_table("t.csv", "Zoe\u0308\nx\n".encode(), ("Zo\u00eb",))
    assert table.columns == {"Zo\u00eb": ["x"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "t.csv is empty"),
        (b"\xef\xbb\xbf", "expected the columns a once each, got ''"),
        (b"a\n", "a header and no rows"),
        (b"b,c\n1,2\n", "t.csv:1: expected the columns a once each, got 'b,c'"),
        (b"a,a\n1,2\n", "t.csv:1: expected the columns a once each, got 'a,a'"),
        (b"a\n1\n\xff\n", "t.csv:3: byte 0xff is not UTF-8"),
        ("a\n1\n".encode("utf-16-be"), "t.csv:1: UTF-16 text; save it as CSV in UTF-8"),
        ("a\n" + "1\n" * 40 + "x" * 140_000, "t.csv:42: not CSV"),
        ("x" * 140_000, "t.csv:1: not CSV"),
    ],
)
def test_texts_that_are_no_table(content: bytes | str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_table("t.csv", content if isinstance(content, bytes) else content.encode(), ("a",))


def test_a_long_header_makes_a_short_error() -> None:
    with pytest.raises(InputError) as caught:
        parse_table("t.csv", ",".join(["column"] * 10_000).encode(), ("a",))
    assert len(str(caught.value)) < 400


def test_files_in_the_root(tmp_path: Path) -> None:
    (tmp_path / "root" / "deep").mkdir(parents=True)
    (tmp_path / "root" / "deep" / "t.csv").write_text("a, b\n1,2\n")
    root = str(tmp_path / "root")
    assert read_header(root, "deep/t.csv") == ["a", "b"]
    assert read_table(root, "deep/t.csv", ("b",)).columns == {"b": ["2"]}
    for name, words in (("none.csv", "is not there; put"), ("deep", "cannot be read: .*directory")):
        with pytest.raises(InputError, match=words):
            read_table(root, name, ("a",))
    (tmp_path / "out.csv").write_text("a\n1\n")
    (tmp_path / "root" / "link.csv").symlink_to("../out.csv")
    for name in ("link.csv", "../out.csv"):
        with pytest.raises(InputError, match="link out of the data root"):
            read_table(root, name, ("a",))
