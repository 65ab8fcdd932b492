"""What `fm init` makes of files as people have them, and what it says of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fm_platform.errors import SourceFormatError
from fm_platform.sources.inference import Inferred, infer_project

HEAD = "id,date,text,label"
LINES = [
    f"t{i},2026-01-0{1 + i % 3},some words of row {i},{'bad' if i % 2 else 'good'}"
    for i in range(20)
]


def inferred(tmp_path: Path, name: str, data: bytes | str) -> Inferred:
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return infer_project("small", path, tmp_path / "assets" / "defs" / "small")


@pytest.mark.parametrize(("name", "mark"), [("rows.tsv", "\t"), ("rows.txt", ",")])
def test_tables_in_text_files_are_declared_as_csv(tmp_path: Path, name: str, mark: str) -> None:
    found = inferred(tmp_path, name, "\n".join([HEAD, *LINES]).replace(",", mark))

    (source,) = yaml.safe_load(found.files["defs.yaml"])["attributes"]["sources"]
    assert source["options"]["format"] == "csv"
    assert source["options"].get("delimiter", ",") == mark


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("rows.csv.gz", b"\x1f\x8b", "next: unpack it"),
        ("rows.json", "[]", "next: save it as CSV"),
        ("rows.csv", "\n".join(LINES), "the first line of the file holds values"),
        ("rows.jsonl", json.dumps({"id": "a", "rows": [{"text": "x" * 40}]}), "looks like text"),
    ],
    ids=["packed", "json", "no head", "nested"],
)
def test_what_is_no_table_of_texts_is_refused_with_what_to_do(
    tmp_path: Path, name: str, data: bytes | str, told: str
) -> None:
    with pytest.raises(SourceFormatError) as refused:
        inferred(tmp_path, name, data)

    assert told in str(refused.value)


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    lines = [
        line.replace("some", "gr\u00f6\u00dfe") if i < 7 else line for i, line in enumerate(LINES)
    ]

    found = inferred(tmp_path, "rows.csv", "\n".join([HEAD, *lines]).encode("latin-1"))

    assert (
        "damaged: 7 of 20 rows cannot be read, the first: bytes that are not UTF-8"
        in (found.told[-1])
    )


def test_columns_that_are_not_taken_are_told(tmp_path: Path) -> None:
    more = [f"x{i}" for i in range(30)]
    rows = [",".join([HEAD, *more]), *(",".join([line, *["1"] * 30]) for line in LINES)]

    assert inferred(tmp_path, "rows.csv", "\n".join(rows)).told[-1] == (
        "not taken: 18 columns (x12, x13, x14 … x29); declare them in the contract"
    )
