"""Rows of one partition to Parquet files and back, hashed on the way.

The partition column is not in the files (Delta keeps it in the log); its name, value and place
are in the file's schema metadata, so that a file read alone gives back the whole rows.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fm_platform.errors import SchemaMismatchError
from fm_platform.store.content import ContentHasher, plain_array, plain_schema, plain_type
from fm_platform.store.files import Storage
from fm_platform.store.refs import FileRecord

_METADATA_KEY = b"fm.partition"
_ROWS_PER_GROUP = 65_536
_BYTES_PER_GROUP = 32 << 20
_BYTES_PER_FILE = 128 << 20


class _HashingStream:
    """A write-only stream that hashes what passes."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._stream.write(data)
        self._digest.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._stream.close()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class PartitionWriter:
    """Streams record batches into Parquet files of at most about 128 MiB each (zstd).

    At least one file is written, so that a partition without rows still has its columns.
    """

    def __init__(
        self, storage: Storage, table: str, schema: pa.Schema, column: str, value: str
    ) -> None:
        self.schema = plain_schema(schema)
        self.column, self.value = column, value
        self._storage, self._table = storage, table
        self._folder = f"{column}={value}"
        self._hasher = ContentHasher(self.schema)
        self._token = uuid.uuid4().hex
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = self._rows_in_file = 0
        self.file_rows: dict[str, int] = {}
        self._files: list[FileRecord] = []
        self._paths: list[str] = []
        self._stream: _HashingStream | None = None
        self._parquet: pq.ParquetWriter | None = None
        position = self.schema.get_field_index(column)
        note = json.dumps({"column": column, "value": value, "position": position})
        self._file_schema = self.schema.remove(position).with_metadata({_METADATA_KEY: note})

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._hasher.rows

    @property
    def content_hash(self) -> str:
        """Hash of the logical rows so far."""
        return self._hasher.hexdigest()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows.

        Raises:
            SchemaMismatchError: If columns or types differ, or a row belongs to another partition.
        """
        batch = self._conform(batch)
        self._hasher.update(batch)
        if batch.num_rows == 0:
            return
        self._pending.append(batch.drop_columns([self.column]))
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        if self._pending_rows >= _ROWS_PER_GROUP or self._pending_bytes >= _BYTES_PER_GROUP:
            self._flush()
            if self._stream is not None and self._stream.bytes >= _BYTES_PER_FILE:
                self._finish_file()

    def close(self) -> tuple[FileRecord, ...]:
        """Finish and sync all files; after this they are durable, and still invisible."""
        self._flush()
        if self._parquet is not None or not self._files:
            self._finish_file()
        self._storage.sync_dir(f"{self._table}/{self._folder}")
        return tuple(self._files)

    def discard(self) -> None:
        """Remove the files of this writer. Only for files that no commit names."""
        if self._stream is not None:
            self._stream.close()
        for path in self._paths:
            if self._storage.size(path) is not None:
                self._storage.fs.delete_file(self._storage.path(path))

    def _conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = []
        if sorted(batch.schema.names) != sorted(self.schema.names):
            raise SchemaMismatchError(
                "a batch does not have the columns of the table",
                where=f"{self._table} {self._folder}",
                expected=", ".join(self.schema.names),
                found=", ".join(batch.schema.names),
            )
        for field in self.schema:
            column = batch.column(field.name)
            if plain_type(column.type) != field.type:
                raise SchemaMismatchError(
                    f"column {field.name!r} has the wrong type",
                    where=f"{self._table} {self._folder}",
                    expected=str(field.type),
                    found=str(column.type),
                )
            columns.append(plain_array(column))
        key = columns[self.schema.get_field_index(self.column)]
        if len(key) and not (key.null_count == 0 and pc.all(pc.equal(key, self.value)).as_py()):
            raise SchemaMismatchError(
                "rows of another partition in this write",
                where=f"{self._table} {self._folder}",
                expected=self.value,
                found=", ".join(map(str, key.unique()[:5].to_pylist())),
            )
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending).cast(self._file_schema)
        self._writer().write_table(table, row_group_size=_ROWS_PER_GROUP)
        self._rows_in_file += table.num_rows
        self._pending = []
        self._pending_rows = self._pending_bytes = 0

    def _writer(self) -> pq.ParquetWriter:
        if self._parquet is None:
            path = f"{self._folder}/{self._token}-{len(self._paths):04d}.parquet"
            self._paths.append(f"{self._table}/{path}")
            self._stream = _HashingStream(self._storage.create(self._paths[-1]))
            self._parquet = pq.ParquetWriter(
                pa.PythonFile(self._stream, mode="w"), self._file_schema, compression="zstd"
            )
        return self._parquet

    def _finish_file(self) -> None:
        self._writer().close()
        assert self._stream is not None  # noqa: S101 - for the type checker: _writer() set it
        self._stream.close()
        path = self._paths[-1]
        self._storage.sync_file(path)
        path = path[len(self._table) + 1 :]
        self._files.append(FileRecord(path, self._stream.hexdigest(), self._stream.bytes))
        self.file_rows[path] = self._rows_in_file
        self._parquet = self._stream = None
        self._rows_in_file = 0


def file_schema(buffer: pa.Buffer) -> pa.Schema:
    """Return the columns of the rows in a file, the partition column in its place."""
    schema = pq.read_schema(pa.BufferReader(buffer))
    column, _, position = _partition(schema)
    return plain_schema(schema.insert(position, pa.field(column, pa.string())))


def file_rows(buffer: pa.Buffer) -> int:
    """Return the number of rows in a file."""
    return int(pq.read_metadata(pa.BufferReader(buffer)).num_rows)


def read_rows(buffer: pa.Buffer, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one file; `columns` selects and orders, None means all.

    Raises:
        SchemaMismatchError: If a column is not there.
    """
    file = pq.ParquetFile(pa.BufferReader(buffer))
    column, value, _ = _partition(file.schema_arrow)
    whole = file_schema(buffer)
    names = select(whole, columns).names
    stored = [name for name in names if name != column]
    for batch in file.iter_batches(batch_size=_ROWS_PER_GROUP, columns=stored):
        constant = pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
        arrays = [constant if name == column else batch.column(name) for name in names]
        yield pa.RecordBatch.from_arrays(arrays, schema=select(whole, columns))


def select(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    """Return the fields called `columns`, in that order; all for None.

    Raises:
        SchemaMismatchError: If one is not there.
    """
    if columns is None:
        return schema
    unknown = [name for name in columns if name not in schema.names]
    if unknown:
        raise SchemaMismatchError(
            "columns that the table does not have",
            expected=", ".join(schema.names),
            found=", ".join(unknown),
        )
    return pa.schema([schema.field(name) for name in columns])


def _partition(schema: pa.Schema) -> tuple[str, str, int]:
    note = json.loads((schema.metadata or {})[_METADATA_KEY])
    return str(note["column"]), str(note["value"]), int(note["position"])
