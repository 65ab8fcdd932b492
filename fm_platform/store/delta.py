"""Commits to one Delta table: exactly once, fenced, one partition at a time, durable.

The order is Delta's protocol plus what it leaves to clients: on one snapshot, look up the
application transaction, ask the fence, commit with that transaction and one for the partition,
then sync the log entry before anybody is told.
"""

from __future__ import annotations

import fcntl
import json
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import Schema as DeltaSchema
from deltalake.transaction import AddAction

from fm_platform.errors import (
    ConcurrentWriteError,
    CorruptArtifactError,
    FencedError,
    SchemaMismatchError,
    StoreError,
)
from fm_platform.store import log as delta_log
from fm_platform.store.files import Storage, make_dirs
from fm_platform.store.parquet import PartitionWriter
from fm_platform.store.refs import Commit, FileRecord, TableRef

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 100
_CHECKPOINT_EVERY = 50
_LOCK_PATIENCE_S = 60.0
# History is the product: nothing is expired by Delta itself.
_PROPERTIES = {
    "delta.checkpointInterval": str(_CHECKPOINT_EVERY),
    "delta.enableChangeDataFeed": "true",
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
# Checkpoints are made after the acknowledgement, so that one that fails harms no commit.
NO_HOOK = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class Committer:
    """Makes commits in the tables of one store."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def open(self, table: str) -> DeltaTable | None:
        """Return the newest snapshot, None if there is no table.

        Raises:
            CorruptArtifactError: If the log cannot be read, or ends in an empty commit.
        """
        if not delta_log.commit_versions(self._storage, table):
            return None
        try:
            snapshot = DeltaTable(
                self._storage.uri(table), storage_options=self._storage.options or None
            )
        except TableNotFoundError:
            return None
        except DeltaError as error:
            raise CorruptArtifactError(
                "the log of a table cannot be read",
                where=self._storage.uri(table),
                found=str(error).splitlines()[0],
                next_step=delta_log.FSCK,
            ) from error
        last = delta_log.commit_file(table, snapshot.version())
        if self._storage.size(last) == 0:  # delta-rs takes it for a version without actions
            raise CorruptArtifactError(
                "the last commit of a table is an empty file",
                where=self._storage.uri(last), next_step=delta_log.FSCK,
            )  # fmt: skip
        return snapshot

    def committed(self, snapshot: DeltaTable, table: str, commit: Commit) -> TableRef | None:
        """Return what `commit` made before, None if it is new.

        Raises:
            FencedError: If a higher number is committed.
            CorruptArtifactError: If the log has lost the entry.
        """
        number = snapshot.transaction_version(commit.app_id)
        if number is None or number < commit.number:
            return None
        if number > commit.number:
            raise FencedError(
                "a newer run has written this artifact; this one must not",
                where=f"{table}: {commit.app_id}",
                expected=f"a number above {number}",
                found=commit.number,
            )
        for stored in delta_log.stored_commits(self._storage, table, newest_first=True):
            if (stored.commit.app_id, stored.commit.number) == (commit.app_id, commit.number):
                return stored.ref
        raise CorruptArtifactError(
            "the log knows this commit but its entry is gone",
            where=f"{table}: {commit.app_id} {commit.number}", next_step=delta_log.FSCK,
        )  # fmt: skip

    def commit(
        self,
        ref: TableRef,
        schema: pa.Schema,
        commit: Commit,
        fence: Callable[[], None],
        writer: PartitionWriter,
    ) -> TableRef:
        """Make the closed files of `writer` the partition that `ref` names; once.

        Raises:
            FencedError: If a newer run holds this artifact; the files are removed.
            SchemaMismatchError: If the table has other columns or another partitioning.
            ConcurrentWriteError: If every attempt lost to another writer.
        """
        for attempt in range(_ATTEMPTS):
            with self.turn(ref.table):
                try:
                    snapshot = self.ready(ref, schema)
                    known = self.committed(snapshot, ref.table, commit)
                    if known is None:
                        fence()
                except BaseException:
                    if attempt == 0:  # later, an attempt may have landed after all
                        writer.discard()
                    raise
                if known is not None:
                    if not {f.path for f in known.files} & {f.path for f in ref.files}:
                        writer.discard()
                    return known
                try:
                    version = self._try_commit(snapshot, ref, schema, commit, writer.file_rows)
                except CommitFailedError as error:
                    _LOG.info("attempt %d on %s lost: %s", attempt + 1, ref.table, error)
                else:
                    self._checkpoint(ref.table, version)
                    return replace(ref, version=version)
            time.sleep(secrets.randbelow(1 + min(10 * 2**attempt, 500)) / 1000)
        raise ConcurrentWriteError(
            f"another writer was first {_ATTEMPTS} times", where=where(ref),
            next_step="run again when the other writers are done",
        )  # fmt: skip

    def empty(self, table: str, files: Collection[str], why: str) -> None:
        """Empty the partitions that show one of `files` now, in one commit.

        Raises:
            ConcurrentWriteError: If every attempt lost to another writer.
        """
        for _attempt in range(_ATTEMPTS):
            with self.turn(table):
                snapshot = self.open(table)
                if snapshot is None:
                    return
                column = snapshot.metadata().partition_columns[0]
                shown = pa.table(snapshot.get_add_actions(flatten=True))
                pairs = zip(
                    shown["path"].to_pylist(), shown[f"partition.{column}"].to_pylist(), strict=True
                )
                values = sorted({value for path, value in pairs if path in files})
                if not values:
                    return
                try:
                    self._empty(snapshot, table, column, values, why)
                    return
                except CommitFailedError as error:
                    _LOG.info("emptying %s lost: %s", table, error)
        raise ConcurrentWriteError(
            f"another writer was first {_ATTEMPTS} times", where=table,
            next_step="run again when the other writers are done",
        )  # fmt: skip

    def _empty(
        self, snapshot: DeltaTable, table: str, column: str, values: list[str], why: str
    ) -> None:
        turns = [
            Transaction(name, (snapshot.transaction_version(name) or 0) + 1)
            for name in (f"partition|{column}={value}" for value in values)
        ]
        snapshot.create_write_transaction(
            [],
            "overwrite",
            snapshot.schema(),
            [column],
            [(column, "in", values)],
            commit_properties=CommitProperties(
                custom_metadata={"fm_removed": {"partitions": values, "why": why}},
                max_commit_retries=_ATTEMPTS,
                app_transactions=turns,
            ),
            post_commithook_properties=NO_HOOK,
        )
        self._storage.sync_file(delta_log.commit_file(table, snapshot.version()))
        self._storage.sync_dir(delta_log.log_folder(table))
        self._checkpoint(table, snapshot.version())

    def _try_commit(
        self,
        snapshot: DeltaTable,
        ref: TableRef,
        schema: pa.Schema,
        commit: Commit,
        rows: Mapping[str, int],
    ) -> int:
        token = secrets.token_hex(8)
        partition = f"partition|{ref.column}={ref.value}"
        # Delta lets two first writes of one partition both pass, and the rows would be doubled:
        # a transaction per partition makes one of them lose.
        turns = (snapshot.transaction_version(partition) or 0) + 1
        snapshot.create_write_transaction(
            [add_action(ref, file, rows[file.path]) for file in ref.files],
            "overwrite",
            DeltaSchema.from_arrow(schema),
            [ref.column],
            [(ref.column, "=", ref.value)],
            commit_properties=CommitProperties(
                custom_metadata=delta_log.stamp(ref, commit, token),
                max_commit_retries=_ATTEMPTS,
                app_transactions=[
                    Transaction(commit.app_id, commit.number),
                    Transaction(partition, turns),
                ],
            ),
            post_commithook_properties=NO_HOOK,
        )
        return self._landed(ref, snapshot.version(), token)

    def _landed(self, ref: TableRef, before: int, token: str) -> int:
        """Find our commit above version `before`, sync it, and check what it touched.

        Raises:
            StoreError: If the commit changed another partition.
        """
        version = before
        while True:
            version += 1
            actions = delta_log.read_actions(self._storage, ref.table, version)
            stored = delta_log.stored_commit(actions, version)
            if stored is not None and stored.token == token:
                break
        self._storage.sync_file(delta_log.commit_file(ref.table, version))
        self._storage.sync_dir(delta_log.log_folder(ref.table))
        added = {action["add"]["path"] for action in actions if "add" in action}
        strange = [
            action["remove"]["path"]
            for action in actions
            if "remove" in action
            and action["remove"].get("partitionValues", {}).get(ref.column) != ref.value
        ]
        if strange or added != {file.path for file in ref.files}:
            raise StoreError(
                "a commit touched more than its partition",
                where=f"{where(ref)}, version {version}",
                expected=sorted(file.path for file in ref.files),
                found=strange or sorted(added),
                next_step=f"restore version {version - 1} of this table and report this",
            )
        return version

    def ready(self, ref: TableRef, schema: pa.Schema) -> DeltaTable:
        """Open the table, creating it or adding new columns first where needed."""
        snapshot = self.open(ref.table)
        if snapshot is None:
            return self._create(ref, schema)
        if list(snapshot.metadata().partition_columns) != [ref.column]:
            raise SchemaMismatchError(
                "the table is partitioned by another column",
                where=ref.table,
                expected=", ".join(snapshot.metadata().partition_columns),
                found=ref.column,
            )
        have = {field.name: field.type for field in snapshot.schema().fields}
        want = DeltaSchema.from_arrow(schema).fields
        for field in want:
            if field.name in have and have[field.name] != field.type:
                raise SchemaMismatchError(
                    f"column {field.name!r} changed its type",
                    where=ref.table,
                    expected=str(have[field.name]),
                    found=str(field.type),
                    next_step="give the column a new name, or the project a new one",
                )
        new = [field for field in want if field.name not in have]
        if new:
            before = snapshot.version()
            snapshot.alter.add_columns(
                new, commit_properties=CommitProperties(max_commit_retries=_ATTEMPTS),
                post_commithook_properties=NO_HOOK,
            )  # fmt: skip
            for version in delta_log.commit_versions(self._storage, ref.table):
                if version > before:
                    self._storage.sync_file(delta_log.commit_file(ref.table, version))
            return self.ready(ref, schema)
        return snapshot

    def _create(self, ref: TableRef, schema: pa.Schema) -> DeltaTable:
        if self._storage.is_local:
            make_dirs(self._storage.local(delta_log.log_folder(ref.table)))
        DeltaTable.create(
            self._storage.uri(ref.table),
            DeltaSchema.from_arrow(schema),
            mode="ignore",
            partition_by=[ref.column],
            configuration=_PROPERTIES,
            storage_options=self._storage.options or None,
        )
        self._storage.sync_file(delta_log.commit_file(ref.table, 0))
        self._storage.sync_dir(delta_log.log_folder(ref.table))
        snapshot = self.open(ref.table)
        if snapshot is None:
            raise StoreError("a table was made but cannot be opened", where=where(ref))
        return snapshot

    def _checkpoint(self, table: str, version: int) -> None:
        """Write a checkpoint when 50 commits have passed since the last one."""
        if version - (delta_log.last_checkpoint(self._storage, table) or 0) < _CHECKPOINT_EVERY:
            return
        try:
            snapshot = self.open(table)
            if snapshot is not None:
                snapshot.create_checkpoint()
                for path, _, _ in self._storage.listing(delta_log.log_folder(table)):
                    if "checkpoint" in path and f"{snapshot.version():020d}" in path:
                        self._storage.sync_file(path)
                self._storage.sync_dir(delta_log.log_folder(table))
        except (DeltaError, OSError, StoreError) as error:
            # The commit is durable; without a checkpoint the next opening only is slower.
            _LOG.warning("no checkpoint of %s at version %d: %s", table, version, error)

    @contextmanager
    def turn(self, table: str) -> Iterator[None]:
        """Take turns with the other local writers of a table.

        This saves lost attempts, and no more: correctness is Delta's. So a holder that hangs
        delays the others by a minute at most.
        """
        if not self._storage.is_local:
            yield
            return
        path = self._storage.local(f"_locks/{table.replace('/', '+')}.lock")
        make_dirs(path.parent)
        with path.open("w") as handle:
            patience = time.monotonic() + _LOCK_PATIENCE_S
            while time.monotonic() < patience:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.005)
            yield


def add_action(ref: TableRef, file: FileRecord, rows: int) -> AddAction:
    """Return the action that makes a file of `rows` rows part of a table."""
    return AddAction(
        path=file.path,
        size=file.bytes,
        partition_values={ref.column: ref.value},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps({"numRecords": rows}),
    )


def where(ref: TableRef) -> str:
    """Return how messages call a partition."""
    return f"{ref.table} {ref.column}={ref.value}"
