"""A Delta table as a source: days, pruning, pinned versions, damage."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from fm_platform.cleaning.contracts import check_batch
from fm_platform.errors import SourceFormatError, SourceUnavailableError
from fm_platform.sources.connectors import Connector, connect
from fm_platform.sources.ingest import Ingest
from fm_platform.spec.models import ProjectSpec

DAYS = ["2026-01-01", "2026-01-02"]


def spec(**options: Any) -> ProjectSpec:
    settings = {"path": "table", "date_column": "at", "key_column": "id", **options}
    return ProjectSpec.model_validate(
        {
            "name": "small",
            "taxonomy": {"classes": ["bad", "good"]},
            "calendar": {"start": DAYS[0]},
            "gold": {"column": "label"},
            "contract": {"columns": {"text": {}, "stars": {"type": "integer", "nullable": True}}},
            "sources": [{"name": "main", "connector": "delta", "options": settings}],
        }
    )


def connector(folder: Path, made: ProjectSpec) -> Connector:
    return connect(made.sources[0], made, folder, folder / "cache")


def table(at: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    n = len(at)
    return pa.table(
        {"id": list(range(n)), "text": [f"t{i}" for i in range(n)], "stars": [3] * n,
         "label": ["good"] * n, "at": pa.array(at, kind)}
    )  # fmt: skip


def texts(folder: Path, made: ProjectSpec, day: str) -> list[str]:
    return [t for b in connector(folder, made).read(day) for t in b.column("text").to_pylist()]


@pytest.mark.parametrize(
    ("at", "kind"),
    [
        (["2026-01-01", "2026-01-02"], None),
        (["2026-01-01 23:59", "2026-01-02T00:00"], None),
        ([date(2026, 1, 1), date(2026, 1, 2)], pa.date32()),
        ([datetime(2026, 1, 1, 23), datetime(2026, 1, 2)], pa.timestamp("us")),
        ([datetime(2026, 1, 1, 23), datetime(2026, 1, 2)], pa.timestamp("us", "UTC")),
    ],
)
def test_rows_come_on_their_day(tmp_path: Path, at: list[Any], kind: pa.DataType | None) -> None:
    write_deltalake(str(tmp_path / "table"), table(at, kind))

    assert connector(tmp_path, spec()).days() == DAYS
    assert [texts(tmp_path, spec(), day) for day in DAYS] == [["t0"], ["t1"]]


def test_an_instant_belongs_to_the_day_of_the_calendars_time_zone(tmp_path: Path) -> None:
    at = [datetime(2026, 1, 1, 22, 30), datetime(2026, 1, 1, 23, 30)]
    write_deltalake(str(tmp_path / "table"), table(at, pa.timestamp("us", "UTC")))
    made = spec()
    berlin = made.calendar.model_copy(update={"timezone": "Europe/Berlin"})
    made = made.model_copy(update={"calendar": berlin})

    assert connector(tmp_path, made).days() == DAYS
    assert [texts(tmp_path, made, day) for day in DAYS] == [["t0"], ["t1"]]


def test_rows_without_a_date_are_quarantined_on_the_first_day(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "table"), table(["2026-01-01", None, "soon", "2026-01-02"]))
    made = spec()
    parts = list(Ingest(made, DAYS[0], check_batch)
                 .source("main", connector(tmp_path, made).read(DAYS[0])))  # fmt: skip

    assert [row["text"] for part in parts for row in part.rows] == ["t0"]
    assert [(r["rule"], r["before"]) for part in parts for r in part.quarantine] == [
        ("date", None), ("date", "soon"),
    ]  # fmt: skip


def test_a_new_day_leaves_the_id_of_another_day(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    write_deltalake(path, table(["2026-01-02"]), partition_by=["at"])
    one = connector(tmp_path, spec()).content_id(DAYS[1])
    write_deltalake(path, table(["2026-01-03"]), mode="append")

    assert connector(tmp_path, spec()).content_id(DAYS[1]) == one
    write_deltalake(path, table(["2026-01-02"]), mode="append")
    assert connector(tmp_path, spec()).content_id(DAYS[1]) != one


def test_a_version_can_be_pinned(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    write_deltalake(path, table(["2026-01-01"]))
    write_deltalake(path, table(["2026-01-01"] * 3), mode="overwrite")

    assert len(texts(tmp_path, spec(version=0), DAYS[0])) == 1
    assert len(texts(tmp_path, spec(), DAYS[0])) == 3


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="there is no Delta table"):
        connector(tmp_path, spec()).days()
    write_deltalake(str(tmp_path / "table"), table(["2026-01-01"]).drop_columns(["text"]))
    with pytest.raises(SourceFormatError, match=r"(?s)lacks text.*found: .*stars"):
        list(connector(tmp_path, spec()).read(DAYS[0]))


def test_a_damaged_file_of_the_table_is_an_error(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "table"), table(["2026-01-01"]))
    file = next((tmp_path / "table").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(SourceFormatError, match="is damaged"):
        texts(tmp_path, spec(), DAYS[0])
    file.unlink()
    with pytest.raises(SourceUnavailableError, match="is not there"):
        texts(tmp_path, spec(), DAYS[0])
