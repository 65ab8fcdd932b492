"""Local files: CSV, JSON Lines and Parquet, by glob, dated by a column or by their name."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from fm_platform.errors import SourceFormatError, SourceUnavailableError
from fm_platform.hashing import fingerprint, sha256_file
from fm_platform.sources.connectors import (
    GOLD_LABEL,
    KEY,
    ConnectorContext,
    Options,
    as_day,
    options,
)

_BATCH_ROWS = 4096
_MAX_FIELD_CHARS = 64 * 1024 * 1024
_DATE_IN_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})")
Row = dict[str, Any]


class FileOptions(Options):
    """Settings of the `files` connector.

    Attributes:
        path: Glob, relative to the project folder.
        format: `auto` goes by the file's ending.
        date_column: Column that holds the day; without it the day is in the file's name
            (YYYY-MM-DD), and without that it is the first day of the calendar.
        text_column: Column that becomes `text`.
        key_column: Column with a stable id; without it a row is known by its text.
        rename: File column -> contract column.
        source_column / source_value: Take only the rows of one stream.
    """

    path: str
    format: Literal["auto", "csv", "jsonl", "parquet"] = "auto"
    date_column: str | None = None
    text_column: str = "text"
    key_column: str | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    source_column: str | None = None
    source_value: str | None = None
    delimiter: str = ","


class FilesConnector:
    """Reads files row by row in batches; a damaged row is given on, for quarantine to name it."""

    def __init__(self, context: ConnectorContext) -> None:
        self.context = context
        self.options = options(context, FileOptions)

    def files(self) -> list[Path]:
        """Return the files that match, sorted.

        Raises:
            SourceUnavailableError: If none does.
        """
        pattern = self.options.path
        if Path(pattern).is_absolute():
            root = Path(Path(pattern).anchor)
            found = root.glob(str(Path(pattern).relative_to(root)))
        else:
            found = self.context.directory.glob(pattern)
        listed = sorted(path for path in found if path.is_file())
        if not listed:
            raise SourceUnavailableError(
                f"source {self.context.source.name}: no file matches",
                where=self.context.directory,
                expected=pattern,
                next_step="put a file there, or change `path` in the project file",
            )
        return listed

    def days(self) -> list[str]:
        """Return the days that have rows."""
        if self.options.date_column is None:
            return sorted({self._day_of_file(path) for path in self.files()})
        found = {self._day_of_row(row) for path in self.files() for row in self._rows(path)}
        return sorted(day for day in found if day is not None)

    def content_id(self, day: str) -> str:
        """Return a hash of the files that may hold rows of `day`."""
        chosen = self._files_of(day)
        return fingerprint([[path.name, _file_hash(path)] for path in chosen])

    def read(self, day: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a day; all values as text, typed later by the contract."""
        for path in self._files_of(day):
            batch: list[Row] = []
            for row in self._rows(path):
                if self.options.date_column is not None and self._day_of_row(row) != day:
                    continue
                if self._other_source(row):
                    continue
                batch.append(self._named(row))
                if len(batch) == _BATCH_ROWS:
                    yield _as_batch(batch, self._columns())
                    batch = []
            if batch:
                yield _as_batch(batch, self._columns())

    def _files_of(self, day: str) -> list[Path]:
        if self.options.date_column is not None:
            return self.files()
        return [path for path in self.files() if self._day_of_file(path) == day]

    def _day_of_file(self, path: Path) -> str:
        found = _DATE_IN_NAME.search(path.name)
        if found and as_day(found[1]):
            return found[1]
        return (self.context.source.starts or self.context.spec.calendar.start).isoformat()

    def _day_of_row(self, row: Row) -> str | None:
        """Rows without a readable date come on the first day, where the contract judges them."""
        day = as_day(row.get(self.options.date_column or ""))
        return day or (self.context.source.starts or self.context.spec.calendar.start).isoformat()

    def _other_source(self, row: Row) -> bool:
        column = self.options.source_column
        return column is not None and str(row.get(column)) != self.options.source_value

    def _columns(self) -> list[str]:
        names = set(self.context.spec.contract.columns) | {"text"}
        if self.options.key_column:
            names.add(KEY)
        if self.context.spec.gold.column:
            names.add(GOLD_LABEL)
        return sorted(names)

    def _named(self, row: Row) -> Row:
        renamed = {self.options.rename.get(name, name): value for name, value in row.items()}
        renamed["text"] = row.get(self.options.text_column)
        if self.options.key_column:
            renamed[KEY] = row.get(self.options.key_column)
        if self.context.spec.gold.column:
            renamed[GOLD_LABEL] = row.get(self.context.spec.gold.column)
        return renamed

    def _format(self, path: Path) -> str:
        if self.options.format != "auto":
            return self.options.format
        ending = path.suffix.lower().lstrip(".")
        known = {"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet"}
        if ending not in known:
            raise SourceFormatError(
                "cannot tell the format of a file by its ending",
                where=path.name,
                expected=", ".join(f".{name}" for name in sorted(known)),
                next_step="set `format` in the options of the source",
            )
        return known[ending]

    def _rows(self, path: Path) -> Iterator[Row]:
        readers = {"csv": self._csv, "jsonl": self._jsonl, "parquet": self._parquet}
        first = True
        for row in readers[self._format(path)](path):
            if first:
                self._require_columns(path, row)
                first = False
            yield row

    def _require_columns(self, path: Path, row: Row) -> None:
        """Refuse a file that lacks a declared column as a whole: no row of it can be right."""
        inverse = {new: old for old, new in self.options.rename.items()}
        wanted = {self.options.text_column}
        wanted |= {
            inverse.get(name, name)
            for name, column in self.context.spec.contract.columns.items()
            if name != "text" and not column.nullable
        }
        wanted |= {
            name
            for name in (self.options.date_column, self.options.key_column,
                         self.options.source_column)
            if name is not None
        }  # fmt: skip
        missing = sorted(wanted - set(row))
        if missing:
            raise SourceFormatError(
                f"source {self.context.source.name}: a file lacks "
                f"{'columns' if len(missing) > 1 else 'column'} {', '.join(missing)}",
                where=path.name,
                expected=", ".join(sorted(wanted)),
                found=", ".join(sorted(str(name) for name in row)),
                next_step="mend the file, or map its columns with `rename`",
            )

    def _csv(self, path: Path) -> Iterator[Row]:
        csv.field_size_limit(_MAX_FIELD_CHARS)
        # surrogateescape keeps the bytes that are not UTF-8: the contract sends them to quarantine
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            reader = csv.DictReader(
                (line.replace("\0", "\ufffd") for line in handle), delimiter=self.options.delimiter
            )
            try:
                for row in reader:
                    row.pop(None, None)  # type: ignore[call-overload]
                    yield row
            except csv.Error as error:
                raise SourceFormatError(
                    "a file is not CSV", where=f"{path.name}, line {reader.line_num}",
                    found=str(error),
                ) from None  # fmt: skip

    def _jsonl(self, path: Path) -> Iterator[Row]:
        with path.open(encoding="utf-8", errors="surrogateescape") as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise SourceFormatError(
                        "a line is not JSON", where=f"{path.name}, line {number}",
                        found=str(error), next_step="one JSON object a line",
                    ) from None  # fmt: skip
                if not isinstance(row, dict):
                    raise SourceFormatError(
                        "a line is not a JSON object", where=f"{path.name}, line {number}"
                    )
                yield row

    def _parquet(self, path: Path) -> Iterator[Row]:
        try:
            file = pq.ParquetFile(path)
            for batch in file.iter_batches(_BATCH_ROWS):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise SourceFormatError(
                "a file is not readable Parquet",
                where=path.name,
                found=str(error).splitlines()[0][:200],
                next_step="fetch the file again: it is damaged or was cut",
            ) from None


def _as_batch(rows: list[Row], columns: list[str]) -> pa.RecordBatch:
    """Return rows as text columns; None where a value is missing or empty."""

    def cell(value: Any) -> str | None:
        if value is None or value == "":
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (dict, list)):
            return json.dumps(value)
        # a lone surrogate has no UTF-8 form: Arrow would refuse it; mark it instead
        text = value if isinstance(value, str) else str(value)
        return text.encode("utf-8", "backslashreplace").decode("utf-8") if _odd(text) else text

    return pa.record_batch(
        {name: pa.array([cell(row.get(name)) for row in rows], pa.string()) for name in columns}
        | {
            "invalid_utf8": pa.array(
                [any(isinstance(v, str) and _odd(v) for v in row.values()) for row in rows]
            )
        }
    )


def _odd(text: str) -> bool:
    """Whether a text holds a lone surrogate: bytes that were not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _file_hash(path: Path) -> str:
    stat = path.stat()
    return _cached_hash(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _cached_hash(path: str, _size: int, _mtime_ns: int) -> str:
    return sha256_file(Path(path))


def read_head(path: Path, rows: int) -> list[Row]:
    """Return the first rows of a file of any known format, for inference.

    Raises:
        SourceFormatError: If it cannot be read.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        try:
            batch = next(pq.ParquetFile(path).iter_batches(rows), None)
        except (pa.ArrowException, OSError) as error:
            raise SourceFormatError(
                "a file is not readable Parquet", where=path.name,
                found=str(error).splitlines()[0][:200],
            ) from None  # fmt: skip
        return [] if batch is None else batch.to_pylist()
    text = path.read_bytes()[: 8 << 20].decode("utf-8-sig", "replace")
    if ending in (".jsonl", ".ndjson"):
        lines = [line for line in text.splitlines() if line.strip()][:rows]
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise SourceFormatError(
                "a line is not JSON", where=path.name, found=str(error)
            ) from None
    if ending != ".csv":
        raise SourceFormatError(
            "a project starts from CSV, JSON Lines or Parquet", where=path.name,
            expected=".csv, .jsonl, .ndjson, .parquet",
        )  # fmt: skip
    csv.field_size_limit(_MAX_FIELD_CHARS)
    return [row for row, _ in zip(csv.DictReader(io.StringIO(text)), range(rows), strict=False)]
