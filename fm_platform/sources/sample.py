"""The first rows of a data file, and what its few-valued and dated columns hold as a whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from fm_platform.errors import SourceFormatError
from fm_platform.sources.connectors import as_day
from fm_platform.sources.days import day_column
from fm_platform.sources.readers import ENDINGS, format_of, read_file
from fm_platform.sources.rows import PROBLEM

_ROWS = 5_000
_MOST_VALUES = 1_000
_DELIMITERS = ",;\t|"
TEXT_TABLES = (".tsv", ".txt")
"""Endings of files that are read as CSV here, and are declared so."""
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
Row = Mapping[str, Any]


@dataclass
class Sample:
    """What is looked at to infer a project.

    Attributes:
        delimiter: Of a CSV file.
        columns: In the order of the file.
        rows: The first undamaged rows.
        count: Number of undamaged rows of the whole file.
        damaged: Number of damaged rows of the whole file.
        first_damage: Why the first damaged row is damaged.
    """

    delimiter: str
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    count: int = 0
    damaged: int = 0
    first_damage: str | None = None
    _values: dict[str, set[str]] = field(default_factory=dict)
    _days: dict[str, Counter[str]] = field(default_factory=dict)

    def distinct(self, column: str) -> list[str]:
        """Return the different values of a column as text, sorted; at most some thousand."""
        return sorted(self._values.get(column, ()))

    def days(self, column: str) -> Counter[str]:
        """Return day -> rows, for the rows whose value in `column` is a date."""
        return self._days.get(column, Counter())

    def left(self, taken: Collection[str | None]) -> tuple[str, ...]:
        """Return what a project that takes these columns leaves: further ones, damaged rows."""
        rest = [column for column in self.columns if column not in taken]
        told = []
        if rest:
            named = ", ".join(rest[:3]) + (f" … {rest[-1]}" if len(rest) > 3 else "")
            told.append(f"not taken: {len(rest)} columns ({named}); declare them in the contract")
        if self.damaged:
            told.append(
                f"damaged: {self.damaged} of {self.count + self.damaged} rows cannot be read, the "
                f"first: {self.first_damage}; at most 5% of a day may be so: mend the file"
            )
        return tuple(told)

    def add(self, batch: pa.RecordBatch) -> None:
        """Look at a batch."""
        notes = batch.column(PROBLEM)
        if self.first_damage is None and notes.null_count < len(notes):
            self.first_damage = json.loads(notes.drop_null()[0].as_py())["reason"]
        self.damaged += len(notes) - notes.null_count
        good = batch.filter(notes.is_null()).drop_columns([PROBLEM])
        self.columns += [name for name in good.schema.names if name not in self.columns]
        self.count += good.num_rows
        if len(self.rows) < _ROWS:
            self.rows += good.slice(0, _ROWS - len(self.rows)).to_pylist()
        for name in good.schema.names:
            column = good.column(name)
            known = self._values.setdefault(name, set())
            if len(known) < _MOST_VALUES:
                known.update(map(as_text, column.drop_null().unique().to_pylist()))
            if pa.types.is_string(column.type) or pa.types.is_temporal(column.type):
                found = day_column(column, None, "UTC").drop_null()
                counts = self._days.setdefault(name, Counter())
                counts.update({v["values"]: v["counts"] for v in found.value_counts().to_pylist()})


def sample_file(path: Path) -> Sample:
    """Read a file once, in bounded memory.

    Raises:
        SourceFormatError: If it is not readable as CSV, JSON Lines or Parquet.
    """
    ending = path.suffix.lower()
    if ending[1:] not in ENDINGS and ending not in TEXT_TABLES:
        raise SourceFormatError(
            "cannot tell the format of a file by its ending", where=path.name,
            expected=", ".join(sorted({*(f".{name}" for name in ENDINGS), *TEXT_TABLES})),
            next_step="unpack it" if ending in _PACKED
            else "save it as CSV (UTF-8), JSON Lines or Parquet",
        )  # fmt: skip
    kind = "csv" if ending in TEXT_TABLES else format_of(path)
    sample = Sample(_delimiter(path) if kind == "csv" else ",")
    for batch in read_file(path, kind, text_column="", delimiter=sample.delimiter):
        sample.add(batch)
    _require_names(sample.columns, path)
    return sample


def _require_names(columns: Sequence[str], path: Path) -> None:
    """Refuse a file whose first line is a row: its values would become names of columns."""
    if any(as_day(column.strip()) for column in columns):
        raise SourceFormatError(
            "the first line of the file holds values, not names of columns", where=path.name,
            found=", ".join(columns)[:200],
            next_step="write a first line with the names, e.g. id,date,text,label",
        )  # fmt: skip


def is_nested(value: object) -> bool:
    """Whether a value is an object or a list, which readers give on as JSON."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return False
    try:
        return isinstance(json.loads(value), (dict, list))
    except ValueError:
        return False


def as_text(value: object) -> str:
    """Return a value as the files connector gives it on."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _delimiter(path: Path) -> str:
    """Return the mark that separates most cells of the head."""
    with path.open("rb") as handle:
        head = handle.readline(1 << 16).decode("utf-8", "replace")
    return max(_DELIMITERS, key=lambda mark: (head.count(mark), -_DELIMITERS.index(mark)))
