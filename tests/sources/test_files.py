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
from fm_platform.sources.connectors import Connector, connect
from fm_platform.sources.ingest import Ingest, row_id, split_of, text_key
from fm_platform.spec.models import Column, Contract, ProjectSpec, Split

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


def test_a_file_that_lacks_a_column_stops_the_days_it_holds_and_no_others(tmp_path: Path) -> None:
    # one wrong delivery stopped every day of its source, also those that were long built
    (tmp_path / "a.csv").write_text(f"id,day,text,label\n1,{DAY},fine,good\n")
    made = spec("*.csv", date_column="day")

    def connector() -> Connector:
        return connect(made.sources[0], made, tmp_path, tmp_path / "cache")

    before = connector().content_id(DAY)
    (tmp_path / "b.csv").write_text("id,day,body,label\n2,2026-01-02,wrong,good\n")

    assert connector().content_id(DAY) == before
    assert [batch.num_rows for batch in connector().read(DAY)] == [1]
    assert connector().days() == [DAY, "2026-01-02"]
    with pytest.raises(SourceFormatError, match=r"(?s)lacks column text.*where: b.csv"):
        list(connector().read("2026-01-02"))

    (tmp_path / "c.csv").write_text("id,text,label\n3,of no day,good\n")
    with pytest.raises(SourceFormatError, match=r"(?s)lacks column day.*where: c.csv"):
        connector().content_id(DAY)


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


def test_nul_characters_go_to_quarantine(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"id,text,stars,label\n1,a\0b,1,\n2,ok,2,\n")

    rows, _, refused = ingest(tmp_path, spec())

    assert [row["text"] for row in rows] == ["ok"]
    assert refused[0]["before"] is not None


def test_lone_surrogates_in_json_are_marked_and_quarantined(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "\\ud800 x", "stars": 1}\n')

    rows, _, refused = ingest(tmp_path, spec("rows.jsonl"))

    assert (rows, refused[0]["rule"]) == ([], "encoding")


@pytest.mark.parametrize(
    ("line", "rule", "before"),
    [
        ("{oops", "format", "{oops"),
        ("[1]", "format", "[1]"),
        ("[" * 100_000, "format", "[[[["),
        ('{"id": 2, "text": 5}', "type", "5"),
        ('{"id": 2, "text": ["a"]}', "type", '["a"]'),
        ('{"id": 2, "text": "x", "stars": NaN}', "type", "nan"),
        ('{"id": 2, "text": "x", "stars": 1e999}', "type", "inf"),
        ('{"id": 2, "text": "x", "stars": [1]}', "type", "[1]"),
        ('{"id": 2}', "null", None),
        ('{"id": null, "text": "x"}', "null", None),
        ('{"id": 2, "text": "a\\u0000b"}', "control", "a\0b"),
    ],
)
def test_a_bad_line_of_json_is_quarantined_and_the_rest_goes_on(
    tmp_path: Path, line: str, rule: str, before: str | None
) -> None:
    good = [json.dumps({"id": i, "text": f"row {i}", "stars": 2}) for i in (1, 3)]
    (tmp_path / "rows.jsonl").write_text("\n".join([good[0], line, good[1]]) + "\n")

    rows, _, refused = ingest(tmp_path, spec("rows.jsonl"))

    assert [row["text"] for row in rows] == ["row 1", "row 3"]
    assert [r["rule"] for r in refused] == [rule]
    assert (refused[0]["before"] or "").startswith(before or "")


def test_a_file_without_any_json_names_itself_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{oops\n")

    with pytest.raises(SourceFormatError, match=r"(?s)rows.jsonl.*line 1 is not JSON"):
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


def test_a_damaged_part_of_a_parquet_file_names_the_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "text": ["x" * 5000], "stars": [1]}),
                   tmp_path / "rows.parquet", compression="zstd")  # fmt: skip
    data = bytearray((tmp_path / "rows.parquet").read_bytes())
    data[4:40] = b"\xff" * 36
    (tmp_path / "rows.parquet").write_bytes(bytes(data))

    with pytest.raises(SourceFormatError, match=r"(?s)not readable Parquet.*rows.parquet"):
        ingest(tmp_path, spec("rows.parquet"))


def test_parquet_keeps_types_and_marks_bytes_that_are_no_text(tmp_path: Path) -> None:
    damaged = pa.array([b"fine", b"caf\xe9", None], pa.binary()).view(pa.string())
    pq.write_table(
        pa.table({"id": [1, 2, 3], "text": damaged, "stars": pa.array([4, 5, 1])}),
        tmp_path / "rows.parquet",
    )

    rows, _, refused = ingest(tmp_path, spec("rows.parquet"))

    assert [(row["text"], row["stars"]) for row in rows] == [("fine", 4)]
    assert [(r["rule"], r["before"]) for r in refused] == [
        ("encoding", "caf\\xe9"), ("null", None),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_row_without_a_readable_date_is_quarantined_on_the_first_day(
    tmp_path: Path, name: str
) -> None:
    rows = [(1, DAY), (2, "soon"), (3, ""), (4, "2026-01-02"), (5, "2026-02-31")]
    if name.endswith("csv"):
        write_csv(tmp_path, [[i, f"t{i}", 1, "", day] for i, day in rows],
                  head=("id", "text", "stars", "label", "day"))  # fmt: skip
    else:
        lines = [json.dumps({"id": i, "text": f"t{i}", "day": day}) for i, day in rows]
        (tmp_path / name).write_text("\n".join(lines))

    good, _, refused = ingest(tmp_path, spec(name, date_column="day"))

    assert [row["text"] for row in good] == ["t1"]
    assert {(r["rule"], r["column"], r["before"]) for r in refused} == {
        ("date", "day", "soon"), ("date", "day", None), ("date", "day", "2026-02-31"),
    }  # fmt: skip


def test_a_declared_date_after_the_day_of_its_row_is_quarantined(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "a b", "2026-01-02"], [2, "c d", "2999-01-01"]],
              head=("id", "text", "written"))  # fmt: skip
    made = spec()
    columns = {**made.contract.columns, "written": Column(type="date")}
    made = made.model_copy(update={"contract": Contract(columns=columns)})

    rows, _, refused = ingest(tmp_path, made)

    assert [row["text"] for row in rows] == ["a b"]
    assert (refused[0]["rule"], refused[0]["before"]) == ("future", "2999-01-01")


def test_a_file_that_grows_by_a_day_leaves_the_days_before_as_they_are(tmp_path: Path) -> None:
    head = ("id", "text", "stars", "label", "day")
    made = spec(date_column="day")
    write_csv(tmp_path, [[1, "a b", 1, "", DAY]], head=head)
    one = connect(made.sources[0], made, tmp_path, tmp_path / "cache").content_id(DAY)

    write_csv(tmp_path, [[1, "a b", 1, "", DAY], [2, "c d", 1, "", "2026-01-02"]], head=head)
    connector = connect(made.sources[0], made, tmp_path, tmp_path / "cache")

    assert connector.content_id(DAY) == one
    assert connector.content_id("2026-01-02") != one
    write_csv(tmp_path, [[1, "a c", 1, "", DAY], [2, "c d", 1, "", "2026-01-02"]], head=head)
    assert connector.content_id(DAY) != one


def test_a_damaged_index_of_days_is_made_again(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "a b", 1, "", DAY]], head=("id", "text", "stars", "label", "day"))
    made = spec(date_column="day")
    one = connect(made.sources[0], made, tmp_path, tmp_path / "cache").content_id(DAY)
    for path in (tmp_path / "cache" / "files").iterdir():
        path.write_text("{")

    assert connect(made.sources[0], made, tmp_path, tmp_path / "cache").content_id(DAY) == one


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "a b", 1, ""]])
    made = spec()
    batches = connect(made.sources[0], made, tmp_path, tmp_path).read(DAY)
    next(batches)
    write_csv(tmp_path, [[1, "a b", 1, ""], [2, "late", 1, ""]])

    with pytest.raises(SourceUnavailableError, match="changed while it was read"):
        list(batches)


def test_gold_values_are_named_classes(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "a", 1, "1"], [2, "b", 1, "-1"], [3, "c", 1, "bad"], [4, "d", 1, "2"]])
    made = spec()
    gold = made.gold.model_copy(update={"values": {"1": "good", "-1": "bad"}})

    _, found, refused = ingest(tmp_path, made.model_copy(update={"gold": gold}))

    assert [row["label"] for row in found] == ["good", "bad", "bad"]
    assert refused[0]["before"] == "2"


def test_a_unique_column_refuses_the_second_value(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "same", 1, ""], [2, "same", 1, ""]])
    made = spec()
    contract = Contract(columns={"text": Column(unique=True)})

    rows, _, refused = ingest(tmp_path, made.model_copy(update={"contract": contract}))

    assert (len(rows), refused[0]["rule"], refused[0]["column"]) == (1, "unique", "text")


def test_a_stream_of_a_shared_file_takes_its_own_rows(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "a", 1, "", "x"], [2, "b", 1, "", "y"]],
              head=("id", "text", "stars", "label", "kind"))  # fmt: skip

    rows, _, refused = ingest(tmp_path, spec(source_column="kind", source_value="y"))

    assert ([row["text"] for row in rows], refused) == (["b"], [])


def test_a_pattern_with_parent_folders_and_an_absolute_one_find_the_file(tmp_path: Path) -> None:
    write_csv(tmp_path, [[1, "a", 1, ""]])
    below = tmp_path / "assets" / "defs"
    below.mkdir(parents=True)

    for pattern in ("../../rows.csv", str(tmp_path / "r*.csv")):
        made = spec(pattern)
        assert connect(made.sources[0], made, below, tmp_path).days() == [DAY]
