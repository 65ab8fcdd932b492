"""Make partitions of a table hold files that are there already, in one commit.

So a rollback gives a table its rows of another moment back as a new version, whatever their
number: no row is read or written again. Files of another table (a branch's) are linked into this
one first, and the two can then be cleaned up independently of each other.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.schema import Schema as DeltaSchema
from deltalake.transaction import AddAction, RemoveAction

from fm_platform.errors import ConcurrentWriteError, SchemaMismatchError
from fm_platform.store import log as delta_log
from fm_platform.store.delta import NO_HOOK, Committer, add_action
from fm_platform.store.files import Storage, safe_name, safe_relative
from fm_platform.store.parquet import file_rows, file_schema
from fm_platform.store.refs import FileRecord, TableRef

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 100
NOTE_KEY = "fm_repoint"


@dataclass(frozen=True)
class Repointed:
    """What became of a table.

    Attributes:
        version: Delta version of the commit; None where nothing had to change.
        changed: Partitions that hold other files now.
        emptied: Partitions that hold nothing now.
        refs: Partition -> where its rows are now, for all that were wanted.
    """

    version: int | None
    changed: tuple[str, ...]
    emptied: tuple[str, ...]
    refs: Mapping[str, TableRef]


def repoint(
    storage: Storage,
    committer: Committer,
    table: str,
    wanted: Mapping[str, TableRef],
    gone: Iterable[str] = (),
    *,
    why: str,
    fence: Callable[[], None],
) -> Repointed:
    """Make the partitions of `wanted` hold those files, and those of `gone` nothing.

    Other partitions are not touched. What is so already is left so: a second call makes no
    commit.

    Args:
        storage: Where the tables are.
        committer: Of the store.
        table: The table; it is made where it is missing.
        wanted: Partition -> the version whose files it shall hold, of this table or another.
        gone: Partitions that shall be empty.
        why: For the commit metadata.
        fence: Raises if this writer must no longer commit.

    Raises:
        SchemaMismatchError: If the versions are of tables with different partition columns.
        ConcurrentWriteError: If every attempt lost to another writer.
    """
    columns = {ref.column for ref in wanted.values()}
    if len(columns) > 1:
        raise SchemaMismatchError(
            "versions of different tables", where=table, found=", ".join(sorted(columns))
        )
    here = {value: _linked(storage, table, ref) for value, ref in sorted(wanted.items())}
    for attempt in range(_ATTEMPTS):
        with committer.turn(table):
            snapshot = _opened(storage, committer, table, here)
            if snapshot is None:
                return Repointed(None, (), (), here)
            change = _Change(snapshot, here, gone)
            if not change.partitions:
                return Repointed(None, (), (), _numbered(here, snapshot.version()))
            fence()
            try:
                version = change.commit(storage, table, why)
            except CommitFailedError as error:
                _LOG.info("attempt %d on %s lost: %s", attempt + 1, table, error)
            else:
                fresh = {value: replace(here[value], version=version) for value in change.changed}
                refs = _numbered(here | fresh, version)
                return Repointed(version, change.changed, change.emptied, refs)
        time.sleep(secrets.randbelow(1 + min(10 * 2**attempt, 500)) / 1000)
    raise ConcurrentWriteError(
        f"another writer was first {_ATTEMPTS} times", where=table,
        next_step="run again when the other writers are done",
    )  # fmt: skip


def _numbered(refs: Mapping[str, TableRef], version: int) -> dict[str, TableRef]:
    """Return versions whose files were linked and are held already under a number that is so."""
    return {
        value: replace(ref, version=version) if ref.version < 0 else ref
        for value, ref in refs.items()
    }


class _Change:
    """The difference between a snapshot and what is wanted."""

    def __init__(
        self, snapshot: DeltaTable, wanted: Mapping[str, TableRef], gone: Iterable[str]
    ) -> None:
        self.snapshot, self.wanted = snapshot, wanted
        self.column = str(snapshot.metadata().partition_columns[0])
        held = _held(snapshot, self.column)
        self.changed = tuple(
            value
            for value, ref in wanted.items()
            if held.get(value, set()) != {file.path for file in ref.files}
        )
        self.emptied = tuple(
            value for value in sorted(set(gone)) if value in held and value not in wanted
        )
        self.partitions = sorted({*self.changed, *self.emptied})

    def commit(self, storage: Storage, table: str, why: str) -> int:
        token = secrets.token_hex(8)
        # the same transactions as those of writers of single partitions: one of two loses
        turns = []
        for value in self.partitions:
            name = f"partition|{self.column}={value}"
            turns.append(Transaction(name, (self.snapshot.transaction_version(name) or 0) + 1))
        refs = [self.wanted[value] for value in self.changed]
        note: dict[str, Any] = {
            NOTE_KEY: {
                "why": why, "token": token, "emptied": list(self.emptied),
                "refs": [{k: v for k, v in r.to_json().items() if k != "version"} for r in refs],
            }
        }  # fmt: skip
        actions: list[AddAction | RemoveAction] = [
            add_action(ref, file, _rows(storage, table, ref, file))
            for ref in refs
            for file in ref.files
        ]
        self.snapshot.create_write_transaction(
            actions,
            "overwrite",
            self.snapshot.schema(),
            [self.column],
            [(self.column, "in", self.partitions)],
            commit_properties=CommitProperties(
                custom_metadata=note, max_commit_retries=_ATTEMPTS, app_transactions=turns
            ),
            post_commithook_properties=NO_HOOK,
        )
        return _landed(storage, table, self.snapshot.version(), token)


def _rows(storage: Storage, table: str, ref: TableRef, file: FileRecord) -> int:
    if len(ref.files) == 1:
        return ref.rows
    return file_rows(storage.buffer(f"{table}/{file.path}"))


def _held(snapshot: DeltaTable, column: str) -> dict[str, set[str]]:
    """Return partition -> paths of its files."""
    actions = pa.table(snapshot.get_add_actions(flatten=True))
    found: dict[str, set[str]] = {}
    if actions.num_rows:
        paths, values = actions["path"].to_pylist(), actions[f"partition.{column}"].to_pylist()
        for path, value in zip(paths, values, strict=True):
            found.setdefault(str(value), set()).add(str(path))
    return found


def _landed(storage: Storage, table: str, before: int, token: str) -> int:
    version = before
    while True:
        version += 1
        actions = delta_log.read_actions(storage, table, version)
        notes = [action.get("commitInfo", {}).get(NOTE_KEY) for action in actions]
        if any(note and note["token"] == token for note in notes):
            break
    storage.sync_file(delta_log.commit_file(table, version))
    storage.sync_dir(delta_log.log_folder(table))
    return version


def _linked(storage: Storage, table: str, ref: TableRef) -> TableRef:
    """Return `ref` as a version of `table`: the files of another table are linked into it."""
    if ref.table == table:
        return ref
    files = []
    for file in ref.files:
        source = f"{safe_relative(ref.table)}/{safe_relative(file.path)}"
        name = safe_name(file.path.rpartition("/")[2])
        path = f"{safe_name(f'{ref.column}={ref.value}')}/{name}"
        storage.link(source, f"{table}/{path}")
        files.append(replace(file, path=path))
    return replace(ref, table=table, version=-1, files=tuple(files))


def _opened(
    storage: Storage, committer: Committer, table: str, wanted: Mapping[str, TableRef]
) -> DeltaTable | None:
    """Open the table with the columns of the wanted files; None where there is none to make."""
    if not wanted:
        return committer.open(table)
    ref = next(iter(wanted.values()))
    schema = file_schema(storage.buffer(f"{table}/{ref.files[0].path}"))
    snapshot = committer.open(table)
    have = {field.name for field in snapshot.schema().fields} if snapshot else set()
    if {field.name for field in DeltaSchema.from_arrow(schema).fields} <= have:
        return snapshot
    return committer.ready(ref, schema)


__all__ = ["Repointed", "repoint"]
