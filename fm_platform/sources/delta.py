"""A Delta table as a source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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


class DeltaOptions(Options):
    """Settings of the `delta` connector.

    Attributes:
        path: Folder of the table, relative to the project folder.
        version: A fixed version, or None for the latest.
        date_column: Column (text or date) that holds the day.
        text_column / key_column / rename: As for `files`.
    """

    path: str
    version: int | None = None
    date_column: str
    text_column: str = "text"
    key_column: str | None = None
    rename: dict[str, str] = Field(default_factory=dict)


class DeltaConnector:
    """Reads one day of a Delta table; only the files of that day where it is partitioned by it."""

    def __init__(self, context: ConnectorContext) -> None:
        self.context = context
        self.options = options(context, DeltaOptions)

    def _dataset(self) -> ds.Dataset:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        path = self.context.directory / self.options.path
        try:
            table = DeltaTable(str(path), version=self.options.version)
        except TableNotFoundError as error:
            raise SourceUnavailableError(
                f"source {self.context.source.name}: there is no Delta table", where=path,
                found=str(error)[:200],
            ) from None  # fmt: skip
        except DeltaError as error:
            raise SourceFormatError(
                "a Delta table cannot be opened", where=path, found=str(error)[:200]
            ) from None
        return table.to_pyarrow_dataset()

    def _filter(self, dataset: ds.Dataset, day: str) -> ds.Expression:
        name = self.options.date_column
        if name not in dataset.schema.names:
            raise SourceFormatError(
                f"source {self.context.source.name}: the table lacks column {name}",
                found=", ".join(dataset.schema.names),
            )
        kind = dataset.schema.field(name).type
        return pc.field(name).cast(pa.date32()) == pa.scalar(day).cast(pa.date32()) if (
            pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        ) else pc.field(name) == day  # fmt: skip

    def days(self) -> list[str]:
        """Return the days that have rows."""
        column = self._dataset().to_table(columns=[self.options.date_column])
        values = pc.unique(column[self.options.date_column]).to_pylist()
        return sorted(day for day in map(as_day, values) if day is not None)

    def content_id(self, day: str) -> str:
        """Return a hash of the files that hold rows of `day`."""
        dataset = self._dataset()
        fragments = dataset.get_fragments(self._filter(dataset, day))
        return fingerprint(sorted(Path(fragment.path).name for fragment in fragments))

    def read(self, day: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a day."""
        dataset = self._dataset()
        columns: dict[str, ds.Expression] = {}
        inverse = {new: old for old, new in self.options.rename.items()}
        wanted = {name: inverse.get(name, name) for name in self.context.spec.contract.columns}
        wanted["text"] = self.options.text_column
        if self.options.key_column:
            wanted[KEY] = self.options.key_column
        if self.context.spec.gold.column:
            wanted[GOLD_LABEL] = self.context.spec.gold.column
        missing = sorted(set(wanted.values()) - set(dataset.schema.names))
        if missing:
            raise SourceFormatError(
                f"source {self.context.source.name}: the table lacks {', '.join(missing)}",
                found=", ".join(dataset.schema.names),
            )
        columns = {name: pc.field(old) for name, old in sorted(wanted.items())}
        yield from dataset.to_batches(columns=columns, filter=self._filter(dataset, day))


__all__ = ["DeltaConnector", "DeltaOptions"]
