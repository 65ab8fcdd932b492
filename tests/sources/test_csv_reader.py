"""CSV: a damaged line costs itself and no other; the fast way reads what the strict one reads."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fm_platform.errors import SourceFormatError
from fm_platform.sources import csv_reader
from fm_platform.sources.csv_reader import read_csv
from fm_platform.sources.rows import PROBLEM

Cells = tuple[str | None, ...]


def read(path: Path, data: bytes, **settings: Any) -> tuple[list[Cells], list[tuple[str, str]]]:
    """Return the good rows, and rule and value of the damaged ones."""
    path.write_bytes(data)
    good: list[Cells] = []
    damaged: list[tuple[str, str]] = []
    for batch in read_csv(path, **settings):
        for row in batch.to_pylist():
            note = row.pop(PROBLEM)
            if note is None:
                good.append(tuple(row.values()))
            else:
                told = json.loads(note)
                damaged.append((told["rule"], told["before"]))
    return good, damaged


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


@pytest.mark.parametrize(
    ("data", "good", "damaged"),
    [
        (b"a,b\n1,2\n", [("1", "2")], []),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", [("1", "2")], []),
        (b"\n a , b\n\n1,2\n\n", [("1", "2")], []),
        (b'a,b\n1,"two\nlines, ""quoted"""\n', [("1", 'two\nlines, "quoted"')], []),
        (b'a,b\n1,5" screen\n', [("1", '5" screen')], []),
        (b"a,b\n1,\n,2\n", [("1", None), (None, "2")], []),
        (b"a,b\n1,2,3\n4,5\n6\n", [("4", "5")], [("cells", "1,2,3"), ("cells", "6")]),
        (b"a,b\n1,caf\xe9\n2,x\n", [("2", "x")], [("encoding", "caf\\xe9")]),
        (b'a,b\n1,"x"y\n2,z\n', [("2", "z")], [("format", '1,"x"y')]),
        (b'a,b\n1,"open\n2,x\n3,y\n', [("2", "x"), ("3", "y")], [("format", '1,"open')]),
        (b'a,b\n1,"open\n2,"x"\n3,y\n', [("2", "x"), ("3", "y")], [("format", '1,"open')]),
        (
            b'a,b\n1,"open\n2,"x"\n3,"open\n4,"y"\n5,z\n',
            [("2", "x"), ("4", "y"), ("5", "z")],
            [("format", '1,"open'), ("format", '3,"open')],
        ),
        (
            b'a,b\n1,"first\nsecond"x,3\n4,5\n',
            [("4", "5")],
            [("format", '1,"first'), ("format", 'second"x,3')],
        ),
        (b'a,b\n1,"end', [], [("format", '1,"end')]),
    ],
)
def test_what_stands_there_is_read_and_damage_is_named(
    file: Path, data: bytes, good: list[Cells], damaged: list[tuple[str, str]]
) -> None:
    assert read(file, data) == (good, damaged)


def test_the_delimiter_is_a_setting(file: Path) -> None:
    assert read(file, b"a;b\n1;2,5\n", delimiter=";") == ([("1", "2,5")], [])


def test_an_empty_file_gives_nothing_and_a_head_alone_no_rows(file: Path) -> None:
    file.write_bytes(b"")
    assert list(read_csv(file)) == []
    file.write_bytes(b"a,b\n")
    assert [batch.schema.names for batch in read_csv(file)] == [["a", "b", PROBLEM]]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a,a\n1,2\n", "names a column twice"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"a,b\r1,2\r3,4\r", "carriage return alone"),
        (b'"a"x,b\n1,2\n', "head of a file is not CSV"),
    ],
)
def test_a_head_that_cannot_be_right_is_an_error(file: Path, data: bytes, says: str) -> None:
    with pytest.raises(SourceFormatError, match=says):
        read(file, data)


def test_a_line_longer_than_the_limit_keeps_its_beginning_length_and_hash(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "MAX_LINE_BYTES", 5_000)
    monkeypatch.setattr(csv_reader, "CHUNK_BYTES", 100)

    good, damaged = read(file, b"a,b\n1,x\n2," + b"y" * 50_000 + b"\n3,z\n")

    assert good == [("1", "x"), ("3", "z")]
    assert len(damaged) == 1
    assert damaged[0][1].startswith("2,yyy")
    assert "(50002 bytes, sha256 " in damaged[0][1] or "(50003 bytes" in damaged[0][1]


VALUES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=8)


@settings(max_examples=120, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    st.lists(st.tuples(VALUES, st.sampled_from(["x,y", 'a"b', "two\nlines", "plain", ""])),
             max_size=30),
    st.sampled_from([16, 64, 1 << 20]),
)  # fmt: skip
def test_what_a_writer_wrote_is_read_again_in_chunks_of_any_size(
    file: Path, rows: list[tuple[str, str]], chunk: int
) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("a", "b"), *rows])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_reader, "CHUNK_BYTES", chunk)
        good, damaged = read(file, text.getvalue().encode())

    assert damaged == []
    assert good == [(a or None, b or None) for a, b in rows]


@settings(max_examples=150, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.binary(max_size=20), st.integers(0, 6), st.sampled_from([16, 1 << 20]))
def test_any_bytes_between_good_lines_leave_most_of_them_good(
    file: Path, damage: bytes, place: int, chunk: int
) -> None:
    lines = [b"%d,row %d" % (i, i) for i in range(6)]
    data = b"\n".join([b"a,b", *lines[:place], damage, *lines[place:]]) + b"\n"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_reader, "CHUNK_BYTES", chunk)
        good, _ = read(file, data)

    assert {(str(i), f"row {i}") for i in range(6)} <= set(good)
