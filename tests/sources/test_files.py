"""Bad input: each a clear error or quarantine with a reason, and nothing lost."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fm_platform.cleaning.contracts import check_batch
from fm_platform.errors import SourceFormatError, SourceUnavailableError, SpecError
from fm_platform.hashing import sha256_hex
from fm_platform.sources.connectors import connect
from fm_platform.sources.ingest import Ingest, row_id, split_of, text_key
from fm_platform.spec.models import ProjectSpec, Split

DAY = "2026-01-01"


def spec(path: str = "rows.csv", **options: Any) -> ProjectSpec:
    return ProjectSpec.model_validate(
        {
            "name": "small",
            "taxonomy": {"classes": ["bad", "good"]},
            "calendar": {"start": DAY},
            "gold": {"column": "label"},
            "sources": [{"name": "main", "options": {"path": path, "key_column": "id", **options}}],
            "contract": {
                "columns": {
                    "text": {"max_chars": 1000},
                    "stars": {"type": "integer", "nullable": True, "minimum": 1, "maximum": 5},
                }
            },
        }
    )


def ingest(folder: Path, made: ProjectSpec) -> tuple[list[Any], list[Any], list[Any]]:
    connector = connect(made.sources[0], made, folder, folder / "cache")
    rows: list[Any] = []
    gold: list[Any] = []
    refused: list[Any] = []
    for part in Ingest(made, DAY, check_batch).source("main", connector.read(DAY)):
        rows += part.rows
        gold += part.gold
        refused += part.quarantine
    return rows, gold, refused


def write_csv(folder: Path, rows: list[list[Any]], head: tuple[str, ...] = ()) -> None:
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([head or ("id", "text", "stars", "label"), *rows])


def test_good_rows_get_ids_splits_and_gold_apart(tmp_path: Path) -> None:
    write_csv(tmp_path, [[i, f"text {i}", 1 + i % 5, "good"] for i in range(40)])

    rows, gold, refused = ingest(tmp_path, spec())

    assert (len(rows), len(gold), refused) == (40, 40, [])
    assert {row["split"] for row in rows} <= {"train", "dev", "test"}
    assert "label" not in rows[0]
    assert rows[0]["stars"] == 1


def test_a_missing_column_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "x"]], head=("id", "body"))

    with pytest.raises(SourceFormatError, match=r"(?s)lacks column text.*found: body, id"):
        ingest(tmp_path, spec())


def test_a_wrong_type_in_one_percent_goes_to_quarantine_with_its_value(tmp_path: Path) -> None:
    write_csv(tmp_path, [[i, f"t {i}", "many" if i % 100 == 0 else 3, ""] for i in range(500)])

    rows, _, refused = ingest(tmp_path, spec())

    assert (len(rows), len(refused)) == (495, 5)
    assert {(r["rule"], r["column"], r["before"]) for r in refused} == {("type", "stars", "many")}


def test_bytes_that_are_not_utf8_go_to_quarantine(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"id,text,stars,label\n1,ok,1,\n2,caf\xe9,1,\n")

    rows, _, refused = ingest(tmp_path, spec())

    assert [row["text"] for row in rows] == ["ok"]
    assert refused[0]["rule"] == "encoding"
    assert "caf" in refused[0]["before"]


def test_ten_megabytes_in_one_field_are_quarantined_shortened(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "x" * 10_000_000, 1, ""], [2, "fine", 1, ""]])

    rows, _, refused = ingest(tmp_path, spec())

    assert [row["text"] for row in rows] == ["fine"]
    assert refused[0]["rule"] == "length"
    assert len(refused[0]["before"]) < 2_200
    assert "10000000 characters, sha256" in refused[0]["before"]


def test_the_second_row_of_an_id_is_quarantined(tmp_path: Path) -> None:
    write_csv(tmp_path, [[7, "first", 1, ""], [7, "second", 1, ""]])

    rows, _, refused = ingest(tmp_path, spec())

    assert [row["text"] for row in rows] == ["first"]
    assert (refused[0]["rule"], refused[0]["before"]) == ("duplicate_id", "7")


def test_an_unknown_gold_class_is_quarantined(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "x y", 1, "ugly"]])

    _, _, refused = ingest(tmp_path, spec())

    assert refused[0]["reason"] == "not one of bad, good"


def test_an_empty_file_gives_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("")

    assert ingest(tmp_path, spec()) == ([], [], [])


def test_nul_bytes_do_not_stop_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"id,text,stars,label\n1,a\0b,1,\n2,ok,2,\n")

    rows, _, refused = ingest(tmp_path, spec())

    assert len(rows) + len(refused) == 2


def test_lone_surrogates_in_json_are_marked_and_quarantined(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "\\ud800 x", "stars": 1}\n')

    rows, _, refused = ingest(tmp_path, spec("rows.jsonl"))

    assert (rows, refused[0]["rule"]) == ([], "encoding")


def test_a_line_that_is_not_json_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "x", "stars": 1}\n{oops\n')

    with pytest.raises(SourceFormatError, match=r"rows.jsonl, line 2"):
        ingest(tmp_path, spec("rows.jsonl"))


def test_damaged_parquet_names_the_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "text": ["x"]}), tmp_path / "rows.parquet")
    data = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(data[: len(data) // 2])

    with pytest.raises(SourceFormatError, match=r"(?s)not readable Parquet.*rows.parquet"):
        ingest(tmp_path, spec("rows.parquet"))


def test_no_file_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"(?s)no file matches.*expected: rows.csv"):
        ingest(tmp_path, spec())


def test_a_wrong_option_lists_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"sources.main.options.pth.*allowed: .*path"):
        ingest(tmp_path, spec(pth="x"))


def test_the_date_column_sorts_rows_into_days(tmp_path: Path) -> None:
    rows = [[1, "a b", 1, "", DAY], [2, "c d", 1, "", "2026-01-02"]]
    write_csv(tmp_path, rows, head=("id", "text", "stars", "label", "day"))
    made = spec(date_column="day")
    connector = connect(made.sources[0], made, tmp_path, tmp_path)

    assert connector.days() == [DAY, "2026-01-02"]
    assert [row["text"] for row in ingest(tmp_path, made)[0]] == ["a b"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture],
          deadline=None)  # fmt: skip
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.text(st.characters(blacklist_categories=("Cs",)), max_size=12),
            st.sampled_from(["1", "5", "9", "x", ""]),
            st.sampled_from(["good", "bad", "other", ""]),
        ),
        max_size=12,
    )
)
def test_rows_in_are_rows_out_plus_quarantined(
    tmp_path: Path, rows: list[tuple[int, str, str, str]]
) -> None:
    lines = [
        json.dumps({"id": i, "text": t or None, "stars": s, "label": g or None})
        for i, t, s, g in rows
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")

    good, gold, refused = ingest(tmp_path, spec("rows.jsonl"))

    assert len(good) + len(refused) == len(rows)
    assert len(gold) <= len(good)
    assert all(r["reason"] and r["rule"] for r in refused)


def test_split_and_ids_are_the_same_for_ever() -> None:
    identity = row_id("main", "7")

    assert identity == sha256_hex(b"main\x007")[:32]
    assert text_key("  Gr\u00fc\u00dfe,\tWELT ") == text_key("gr\u00fcsse, welt")
    assert text_key("a b") != text_key("ab")


def test_split_shares_are_near_what_is_declared() -> None:
    sides = [split_of(row_id("s", str(i)), Split()) for i in range(5000)]

    assert abs(sides.count("train") / 5000 - 0.7) < 0.03
    assert abs(sides.count("test") / 5000 - 0.2) < 0.03
