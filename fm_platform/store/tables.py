"""Versioned tables: Delta Lake with exactly-once commits, fencing and verified reads.

Delta alone promises that version N is committed once. This store adds what it leaves to its
clients: a repeated delivery is recognised, an older epoch is refused, two writers of one
partition never both win, bytes are on the disk before a write is acknowledged, and no byte is
used before its hash is checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from fm_platform.errors import CorruptArtifactError, MissingArtifactError, SchemaMismatchError
from fm_platform.store import log as delta_log
from fm_platform.store.content import content_hash as content_hash
from fm_platform.store.content import plain_schema
from fm_platform.store.delta import Committer, where
from fm_platform.store.files import (
    Storage,
    buffer_sha256,
    safe_name,
    safe_relative,
    storage_errors,
)
from fm_platform.store.parquet import PartitionWriter, file_schema, read_rows, select
from fm_platform.store.refs import Commit as Commit
from fm_platform.store.refs import FileRecord as FileRecord
from fm_platform.store.refs import TableRef as TableRef
from fm_platform.store.repoint import Repointed, repoint


def _no_fence() -> None:
    """Let every commit pass."""


class TableStore:
    """All tables below one root folder or `s3://` prefix.

    Example:
        store = TableStore("/srv/fm/lake")
        ref = store.write_partition(
            "sentiment/raw", schema, batches, column="day", value="2026-01-01",
            commit=Commit("sentiment|raw|2026-01-01", lease.epoch, {"recipe": recipe.hash}),
        )
        table = store.read_table(ref)
    """

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.storage = Storage(root, storage_options)
        self._committer = Committer(self.storage)

    def write_partition(
        self,
        table: str,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        *,
        column: str,
        value: str,
        commit: Commit,
        fence: Callable[[], None] = _no_fence,
    ) -> TableRef:
        """Replace one partition by the rows of `batches`, exactly once.

        The files are written and synced, then `fence` is called, then one commit replaces the
        partition and nothing else; the commit is synced before this returns. The same
        (`app_id`, `number`) again gives the first result without a commit.

        Args:
            table: Name, parts joined by slashes.
            schema: All columns, `column` (a string) included.
            batches: Rows; each has `value` in `column`. Streamed. No rows is legal.
            column: The partition column of the table.
            value: The partition.
            commit: Who writes.
            fence: Raises if this writer must no longer commit.

        Raises:
            FencedError: If a higher number of this `app_id` is committed, or `fence` says so.
            SchemaMismatchError: If a batch does not fit `schema`, or `schema` not the table.
            ConcurrentWriteError: If 100 attempts each lost to another writer.
            StorageFullError: If the disk is full; nothing changed.
            UnsafePathError: If a name would leave its folder.
        """
        safe_relative(table, "table name")
        safe_name(column, "partition column")
        safe_name(value, f"value of {column}")
        schema = plain_schema(schema)
        if column not in schema.names or schema.field(column).type != pa.string():
            raise SchemaMismatchError(
                f"the partition column {column!r} must be a string column",
                where=table, found=", ".join(schema.names),
            )  # fmt: skip
        with storage_errors(self.storage.uri(table)):
            snapshot = self._committer.open(table)
            known = self._committer.committed(snapshot, table, commit) if snapshot else None
            if known is not None:
                return known
            writer = PartitionWriter(self.storage, table, schema, column, value)
            try:
                for batch in batches:
                    writer.write(batch)
                files = writer.close()
            except BaseException:
                writer.discard()
                raise
            ref = TableRef(table, column, value, -1, writer.content_hash, writer.rows, files)
            return self._committer.commit(ref, schema, commit, fence, writer)

    def read(self, ref: TableRef, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `ref`, in the order written; every file is verified first.

        Args:
            ref: Any version, also one long replaced.
            columns: Which columns, in which order; None for all.

        Raises:
            CorruptArtifactError: If a byte of a file differs.
            MissingArtifactError: If a file is gone.
            SchemaMismatchError: If a column is not there.
        """
        for buffer in self._verified(ref):
            yield from read_rows(buffer, columns)

    def read_table(self, ref: TableRef, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of `ref` at once; see `read`."""
        buffers = self._verified(ref)
        schema = select(file_schema(buffers[0]), columns)
        batches = [batch for buffer in buffers for batch in read_rows(buffer, columns)]
        return pa.Table.from_batches(batches, schema=schema)

    def verify(self, ref: TableRef) -> None:
        """Check the hash of every file.

        Raises:
            CorruptArtifactError: If a byte differs.
            MissingArtifactError: If a file is gone.
        """
        self._verified(ref)

    def quarantine(self, ref: TableRef) -> Path:
        """Move the damaged files of `ref` aside, with a note of what was expected.

        Good files stay. Afterwards `verify` says missing, and writing the partition again
        (with a higher commit number) makes a whole version.

        Returns:
            The folder with the evidence, under `_damaged` of the store.
        """
        target = self.storage.free(f"_damaged/{ref.table}/{ref.value}/v{ref.version}")
        report: list[dict[str, object]] = []
        for file in ref.files:
            path = f"{ref.table}/{file.path}"
            try:
                self._verified_file(ref, file)
            except MissingArtifactError:
                report.append({"path": file.path, "expected": file.sha256, "found": None})
            except CorruptArtifactError as error:
                report.append({"path": file.path, "expected": file.sha256, "found": error.found})
                self.storage.move(path, f"{target}/{file.path.rpartition('/')[2]}")
        note = {"ref": ref.to_json(), "damaged": report}
        self.storage.write(f"{target}/damage.json", json.dumps(note, indent=1).encode())
        return Path(self.storage.path(target))

    def remove(self, refs: Iterable[TableRef], why: str) -> int:
        """Delete the files of some versions for good; return the bytes.

        A partition that shows one of them now is emptied first, by a commit that says `why`: so
        the table can be read at every moment. Versions that share a file with one of `refs` lose
        it, too: give only files that nothing else needs.

        Raises:
            ConcurrentWriteError: If other writers were always first.
        """
        freed = 0
        by_table: dict[str, list[TableRef]] = {}
        for ref in refs:
            by_table.setdefault(safe_relative(ref.table), []).append(ref)
        for table, listed in sorted(by_table.items()):
            names = {file.path for ref in listed for file in ref.files}
            with storage_errors(self.storage.uri(table)):
                self._committer.empty(table, names, why)
                for name in sorted(names):
                    freed += self.storage.remove(safe_relative(f"{table}/{name}", "file"))
        return freed

    def repoint(
        self,
        table: str,
        wanted: Mapping[str, TableRef],
        gone: Iterable[str] = (),
        *,
        why: str,
        fence: Callable[[], None] = _no_fence,
    ) -> Repointed:
        """Make partitions hold files that are there already, in one commit; see `repoint`."""
        with storage_errors(self.storage.uri(safe_relative(table, "table name"))):
            return repoint(self.storage, self._committer, table, wanted, gone, why=why, fence=fence)

    def old_checkpoints(self) -> list[str]:
        """Return the checkpoints, below the root, that a later one has made superfluous.

        Delta opens a table from its last checkpoint; every commit is kept besides.
        """
        found = []
        for table in self.tables():
            last = delta_log.last_checkpoint(self.storage, table)
            known = delta_log.checkpoints(self.storage, table)
            if last in {number for number, _ in known}:
                found += [path for number, path in known if number < last]
        return found

    def size(self, ref: TableRef) -> int:
        """Return the bytes of the files of a version that are there."""
        return sum(self.storage.size(f"{ref.table}/{file.path}") or 0 for file in ref.files)

    def tables(self) -> list[str]:
        """Return the names of all tables, sorted."""
        return sorted(self._tables(""))

    def refs(self, table: str) -> list[TableRef]:
        """Return every version this store committed, oldest first, from the log alone."""
        return [stored.ref for stored in self.commits(table)]

    def commits(self, table: str) -> list[delta_log.Stored]:
        """Return every commit of this store with who made it, oldest first.

        Raises:
            CorruptArtifactError: If a log entry is damaged.
        """
        return list(delta_log.stored_commits(self.storage, safe_relative(table)))

    def _tables(self, folder: str) -> Iterator[str]:
        entries = [(path, is_dir) for path, _, is_dir in self.storage.listing(folder) if is_dir]
        if any(path.rpartition("/")[2] == "_delta_log" for path, _ in entries):
            yield folder
            return
        for path, _ in entries:
            if not path.rpartition("/")[2].startswith(("_", ".")):
                yield from self._tables(path)

    def _verified(self, ref: TableRef) -> list[pa.Buffer]:
        if not ref.files:
            raise MissingArtifactError("a table version without files", where=where(ref))
        return [self._verified_file(ref, file) for file in ref.files]

    def _verified_file(self, ref: TableRef, file: FileRecord) -> pa.Buffer:
        path = safe_relative(f"{ref.table}/{file.path}", "file of a table")
        buffer = self.storage.buffer(path)
        found = buffer_sha256(buffer)
        if buffer.size != file.bytes or found != file.sha256:
            raise CorruptArtifactError(
                f"{where(ref)} is damaged: the bytes do not match their hash",
                where=self.storage.uri(path),
                expected=f"{file.sha256} ({file.bytes} bytes)",
                found=f"{found} ({buffer.size} bytes)",
                next_step="run the stage again: it rebuilds this partition",
            )
        return buffer
