"""Local files: CSV, JSON Lines and Parquet, by glob, dated by a column or by their name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
from fm_platform.sources.days import DayIndex, day_column
from fm_platform.sources.readers import format_of, read_file
from fm_platform.sources.rows import PROBLEM, Damage, add_damage
from fm_platform.store.content import ContentHasher

_DATE_IN_NAME = re.compile(r"(?<!\d)(\d{4}-\d{2}-\d{2})(?!\d)")
_DAY = "day"
_INDEX_FORMAT = 1


class FileOptions(Options):
    """Settings of the `files` connector.

    Attributes:
        path: Glob, relative to the project folder.
        format: `auto` goes by the file's ending.
        date_column: Column that holds the day. Without it the day is in the file's name
            (YYYY-MM-DD), and without that it is the first day of the source. Rows outside the
            calendar are not taken; rows without a readable date come on the first day, into
            quarantine.
        date_format: How the date is written (`%d.%m.%Y`); ISO 8601 by default.
        text_column: Column that becomes `text`.
        key_column: Column with a stable id; without it a row is known by its text.
        rename: File column -> contract column.
        source_column / source_value: Take only the rows of one stream.
        delimiter: Of CSV, one character.
    """

    path: str = Field(min_length=1)
    format: Literal["auto", "csv", "jsonl", "parquet"] = "auto"
    date_column: str | None = None
    date_format: str | None = None
    text_column: str = "text"
    key_column: str | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    source_column: str | None = None
    source_value: str | None = None
    delimiter: str = Field(default=",", min_length=1, max_length=1)


class FilesConnector:
    """Reads files in batches; a damaged row is given on, for quarantine to name it."""

    options_model = FileOptions

    def __init__(self, context: ConnectorContext) -> None:
        self.context = context
        self.options = options(context, FileOptions)
        inverse = {new: old for old, new in self.options.rename.items()}
        contract = context.spec.contract.columns
        # given column -> column of the file
        self._columns = {name: inverse.get(name, name) for name in contract}
        self._columns["text"] = self.options.text_column
        if self.options.key_column is not None:
            self._columns[KEY] = self.options.key_column
        if context.spec.gold.column is not None:
            self._columns[GOLD_LABEL] = context.spec.gold.column

    def files(self) -> list[Path]:
        """Return the files that match, sorted.

        Raises:
            SourceUnavailableError: If none does.
        """
        pattern = self.options.path
        root = Path(pattern).anchor
        try:
            found = (
                Path(root).glob(str(Path(pattern).relative_to(root)))
                if root
                else self.context.directory.glob(pattern)
            )
            listed = sorted(path for path in found if path.is_file())
        except (ValueError, NotImplementedError) as error:
            raise SourceFormatError(
                f"source {self.context.source.name}: not a pattern for files", found=str(error),
                where=pattern,
            ) from None  # fmt: skip
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
        return sorted({day for path in self.files() for day in self._index(path)})

    def content_id(self, day: str) -> str:
        """Return a hash of what `read` gives for a day.

        With a date column it is the hash of that day's rows: a file that grows by a day leaves
        the days before as they are.
        """
        if self.options.date_column is None:
            chosen = [path for path in self.files() if self._day_of_file(path) == day]
            return fingerprint([[path.name, _file_hash(path)] for path in chosen])
        indexes = [self._index(path) for path in self.files()]
        return fingerprint([index[day] for index in indexes if day in index])

    def origin(self, day: str) -> dict[str, Any]:
        """Return name and hash of every file that holds rows of a day."""
        if self.options.date_column is None:
            chosen = [path for path in self.files() if self._day_of_file(path) == day]
        else:
            chosen = [path for path in self.files() if day in self._index(path)]
        return {"files": [{"path": path.name, "sha256": _file_hash(path)} for path in chosen]}

    def read(self, day: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a day; their types are judged later, by the contract."""
        dated = self.options.date_column is not None
        for path in self.files():
            if (dated and day not in self._index(path)) or (
                not dated and self._day_of_file(path) != day
            ):
                continue
            before = _state(path)
            for batch in self._batches(path):
                if dated:
                    batch = batch.filter(pc.equal(batch.column(_DAY), day)).drop_columns([_DAY])
                if batch.num_rows:
                    yield batch
            if _state(path) != before:
                raise SourceUnavailableError(
                    f"source {self.context.source.name}: a file changed while it was read",
                    where=path.name, next_step="run again; write new files under another name first"
                )  # fmt: skip

    def _batches(self, path: Path, *, whole: bool = True) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file in the columns that are wanted; with their day, if dated.

        A file that lacks a column is refused, but where only days are asked for (not `whole`): it
        must not stop days that it holds no row of.
        """
        kind = format_of(path) if self.options.format == "auto" else self.options.format
        choosing = (self.options.date_column, self.options.source_column)
        wanted = {*self._columns.values(), *(name for name in choosing if name is not None)}
        read = read_file(
            path, kind, text_column=self.options.text_column, delimiter=self.options.delimiter,
            wanted=wanted,
        )  # fmt: skip
        for number, batch in enumerate(read):
            if number == 0:
                self._require_columns(path, batch.schema.names, whole)
            batch = self._of_source(batch)
            if self.options.date_column is not None:
                yield self._dated(batch)
            else:
                yield self._named(batch)

    def _of_source(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of one stream, and damaged rows: nobody knows whose they are."""
        column = self.options.source_column
        if column is None or column not in batch.schema.names:
            return batch
        values = batch.column(column).cast(pa.string())
        chosen = pc.fill_null(pc.equal(values, self.options.source_value or ""), False)
        lost = pc.and_(pc.is_null(values), pc.is_valid(batch.column(PROBLEM)))
        return batch.filter(pc.or_(chosen, lost))

    def _named(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = set(batch.schema.names)
        columns = {
            new: batch.column(old) if old in names else pa.nulls(batch.num_rows, pa.string())
            for new, old in sorted(self._columns.items())
        }
        return pa.record_batch({**columns, PROBLEM: batch.column(PROBLEM)})

    def _dated(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the wanted columns and `day`; rows without a date come on the first day."""
        name = self.options.date_column or ""
        if name in batch.schema.names:
            came = batch.column(name)
            timezone = self.context.spec.calendar.timezone
            days = day_column(came, self.options.date_format, timezone)
        else:
            came = days = pa.nulls(batch.num_rows, pa.string())
        unknown = np.flatnonzero(np.asarray(days.is_null()))
        expected = f"no date ({self.options.date_format or 'YYYY-MM-DD'})"
        notes = {}
        for row in unknown.tolist():
            value = came[row].as_py()
            before = None if value is None else str(value)
            notes[row] = Damage("date", self._given_name(name), expected, before)
        named = add_damage(self._named(batch), notes)
        return named.append_column(_DAY, pc.fill_null(days, self.context.first_day))

    def _given_name(self, column: str) -> str:
        return self.options.rename.get(column, column)

    def _index(self, path: Path) -> DayIndex:
        """Return day -> hash of its rows, from the cache where the file was seen before."""
        key = fingerprint(
            [
                _file_hash(path), self.options.model_dump(exclude={"path"}), self._columns,
                self.context.first_day, self.context.spec.calendar.timezone, _INDEX_FORMAT,
            ]
        )  # fmt: skip
        return DayIndex.cached(self.context.cache / "files", key, lambda: self._hash_days(path))

    def _hash_days(self, path: Path) -> dict[str, str]:
        hashers: dict[str, ContentHasher] = {}
        for batch in self._batches(path, whole=False):
            rows = batch.drop_columns([_DAY])
            for day in pc.unique(batch.column(_DAY)).to_pylist():
                part = rows.filter(pc.equal(batch.column(_DAY), day))
                hashers.setdefault(day, ContentHasher(part.schema)).update(part)
        return {day: hashers[day].hexdigest() for day in sorted(hashers)}

    def _day_of_file(self, path: Path) -> str:
        found = _DATE_IN_NAME.search(path.name)
        day = as_day(found[1]) if found else None
        return day or self.context.first_day

    def _require_columns(self, path: Path, names: list[str], whole: bool) -> None:
        """Refuse a file that lacks a declared column as a whole: no row of it can be right.

        What chooses rows (date and source) is always needed; the others where rows are read.
        """
        nullable = {
            name for name, column in self.context.spec.contract.columns.items() if column.nullable
        }
        # gold may be missing: new files often come before anybody has labeled them
        wanted = {
            old for new, old in self._columns.items()
            if whole and new != GOLD_LABEL and (new == "text" or new not in nullable)
        }  # fmt: skip
        choosing = (self.options.date_column, self.options.source_column)
        wanted |= {name for name in choosing if name is not None}
        missing = sorted(wanted - set(names))
        if missing:
            raise SourceFormatError(
                f"source {self.context.source.name}: a file lacks "
                f"{'columns' if len(missing) > 1 else 'column'} {', '.join(missing)}",
                where=path.name,
                expected=", ".join(sorted(wanted)),
                found=", ".join(sorted(name for name in names if name != PROBLEM)),
                next_step="mend the file, or map its columns with `rename`",
            )


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _file_hash(path: Path) -> str:
    return _cached_hash(str(path), *_state(path))


@lru_cache(maxsize=4096)
def _cached_hash(path: str, _size: int, _mtime_ns: int) -> str:
    return sha256_file(Path(path))
