"""A Delta table as a source."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pydantic import Field

from fm_platform.errors import SourceFormatError, SourceUnavailableError
from fm_platform.hashing import fingerprint
from fm_platform.sources.connectors import (
    GOLD_LABEL,
    KEY,
    ConnectorContext,
    Options,
    as_day,
    options,
)
from fm_platform.sources.days import day_column
from fm_platform.sources.rows import PROBLEM, Damage, add_damage, plain_batch

_BATCH_ROWS = 4096
_ISO_DATE = r"^\d{4}-\d{2}-\d{2}"


class DeltaOptions(Options):
    """Settings of the `delta` connector.

    Attributes:
        path: Folder of the table, relative to the project folder, or an address (`s3://...`).
        version: A fixed version, or None for the latest.
        date_column: Column (ISO text, date or timestamp) that holds the day. Rows without a
            readable date come on the first day of the source, into quarantine.
        text_column / key_column / rename: As for `files`.
    """

    path: str = Field(min_length=1)
    version: int | None = Field(default=None, ge=0)
    date_column: str
    text_column: str = "text"
    key_column: str | None = None
    rename: dict[str, str] = Field(default_factory=dict)


class DeltaConnector:
    """Reads one day of a Delta table; only the files of that day where it is partitioned by it.

    One connector looks at one version: rows that come while it is used come with the next one.
    """

    options_model = DeltaOptions

    def __init__(self, context: ConnectorContext) -> None:
        self.context = context
        self.options = options(context, DeltaOptions)
        self._opened: ds.Dataset | None = None

    @property
    def _where(self) -> str:
        path = self.options.path
        return path if "://" in path else str(self.context.directory / path)

    def _dataset(self) -> ds.Dataset:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> ds.Dataset:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            dataset = DeltaTable(self._where, version=self.options.version).to_pyarrow_dataset()
        except TableNotFoundError as error:
            raise SourceUnavailableError(
                f"source {self.context.source.name}: there is no Delta table",
                where=self._where, found=str(error)[:200],
            ) from None  # fmt: skip
        except (DeltaError, OSError) as error:
            raise SourceFormatError(
                f"source {self.context.source.name}: a Delta table cannot be opened",
                where=self._where, found=str(error)[:200],
            ) from None  # fmt: skip
        self._require_columns(dataset.schema.names)
        return dataset

    def _require_columns(self, names: list[str]) -> None:
        columns = self._columns()
        contract = self.context.spec.contract.columns
        wanted = {
            old for new, old in columns.items()
            if new != GOLD_LABEL and (new == "text" or new not in contract
                                      or not contract[new].nullable)
        } | {self.options.date_column}  # fmt: skip
        missing = sorted(wanted - set(names))
        if missing:
            raise SourceFormatError(
                f"source {self.context.source.name}: the table lacks {', '.join(missing)}",
                where=self._where,
                found=", ".join(names),
                next_step="change the settings of the source, or map columns with `rename`",
            )

    def _columns(self) -> dict[str, str]:
        """Return given column -> column of the table."""
        inverse = {new: old for old, new in self.options.rename.items()}
        columns = {name: inverse.get(name, name) for name in self.context.spec.contract.columns}
        columns["text"] = self.options.text_column
        if self.options.key_column:
            columns[KEY] = self.options.key_column
        if self.context.spec.gold.column:
            columns[GOLD_LABEL] = self.context.spec.gold.column
        return columns

    def _filter(self, dataset: ds.Dataset, day: str) -> ds.Expression:
        """Return the rows of a day; it prunes files by partition and by statistics."""
        name, field = self.options.date_column, pc.field(self.options.date_column)
        kind = dataset.schema.field(name).type
        first = date.fromisoformat(day)
        following = first + timedelta(days=1)
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            low, high = (_moment(d, kind, self.context.spec.calendar.timezone)
                         for d in (first, following))  # fmt: skip
            chosen = (field >= low) & (field < high)
            undated = field.is_null()
        else:
            # ISO texts sort as their dates do, with a time behind them as well
            chosen = (field >= day) & (field < following.isoformat())
            undated = field.is_null() | ~pc.match_substring_regex(field, _ISO_DATE)
        return chosen | undated if day == self.context.first_day else chosen

    def days(self) -> list[str]:
        """Return the days that have rows."""
        name, found = self.options.date_column, set()
        timezone = self.context.spec.calendar.timezone
        for batch in self._dataset().to_batches(columns=[name], batch_size=_BATCH_ROWS):
            days = day_column(plain_batch(batch).column(name), None, timezone)
            found.update(pc.unique(days.fill_null(self.context.first_day)).to_pylist())
        return sorted(day for day in found if as_day(day))

    def content_id(self, day: str) -> str:
        """Return a hash of the files that hold rows of `day`; Delta never changes a file."""
        dataset = self._dataset()
        fragments = dataset.get_fragments(self._filter(dataset, day))
        return fingerprint(sorted(Path(fragment.path).name for fragment in fragments))

    def origin(self, day: str) -> dict[str, Any]:
        """Return the files of the table that hold rows of a day; Delta never changes one."""
        dataset = self._dataset()
        fragments = dataset.get_fragments(self._filter(dataset, day))
        names = sorted(Path(fragment.path).name for fragment in fragments)
        return {"files": [{"path": name, "sha256": None} for name in names]}

    def read(self, day: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a day."""
        dataset = self._dataset()
        columns = {new: old for new, old in self._columns().items() if old in dataset.schema.names}
        chosen = {new: pc.field(old) for new, old in sorted(columns.items())}
        date_name = self.options.date_column
        try:
            for batch in dataset.to_batches(
                columns={**chosen, PROBLEM: pc.field(date_name)},
                filter=self._filter(dataset, day),
                batch_size=_BATCH_ROWS,
            ):
                if batch.num_rows:
                    yield self._judged(batch, day)
        except FileNotFoundError as error:
            raise SourceUnavailableError(
                f"source {self.context.source.name}: a file of the table is not there",
                where=self._where, found=str(error)[:200],
            ) from None  # fmt: skip
        except (pa.ArrowException, OSError) as error:
            raise SourceFormatError(
                f"source {self.context.source.name}: a file of the table is damaged",
                where=self._where, found=(str(error).splitlines() or ["?"])[0][:200],
            ) from None  # fmt: skip

    def _judged(self, batch: pa.RecordBatch, day: str) -> pa.RecordBatch:
        """Return a batch with the damage of rows without a date; the dates come as `problem`."""
        dates = batch.column(PROBLEM)
        checked = plain_batch(batch.drop_columns([PROBLEM]))
        name = self.options.rename.get(self.options.date_column, self.options.date_column)
        notes: dict[int, Damage] = {}
        known = day_column(dates, None, self.context.spec.calendar.timezone)
        for row in np.flatnonzero(np.asarray(known.is_null())).tolist():
            value: Any = dates[row].as_py()
            before = None if value is None else str(value)
            notes[row] = Damage("date", name, "no date (YYYY-MM-DD)", before)
        return add_damage(checked, notes)


def _moment(day: date, kind: pa.DataType, timezone: str) -> pa.Scalar:
    """Return the beginning of a day as a value of a date or timestamp column."""
    start = pa.scalar(day, pa.date32())
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        local = pc.assume_timezone(start.cast(pa.timestamp("us")), timezone, ambiguous="earliest",
                                   nonexistent="latest")  # fmt: skip
        return local.cast(kind)
    return start.cast(kind)


__all__ = ["DeltaConnector", "DeltaOptions"]
