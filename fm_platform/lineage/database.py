"""One database behind the ledger: engine, short transactions, errors in words.

SQLite has one writer at a time by nature; on PostgreSQL an advisory lock gives the same order, so
"look, then write" inside one transaction is safe in both.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import StaticPool

from fm_platform.errors import (
    FMError,
    HomeError,
    LedgerBusyError,
    LedgerError,
    StorageFullError,
)
from fm_platform.lineage import outbox, schema

_BUSY_TIMEOUT_S = 30
_WRITER_LOCK = 0x666D5F6C  # "fm_l": the advisory lock of all ledger writers
_TICK = timedelta(microseconds=1)
_MEMORY = ("sqlite://", "sqlite:///:memory:")
_LAST = sa.select(
    *(
        sa.select(table.c[column]).order_by(table.c.id.desc()).limit(1).scalar_subquery()
        for table, column in (
            (schema.versions, "created_at"),
            (schema.uses, "since"),
            (schema.aliases, "set_at"),
            (schema.decisions, "decided_at"),
            (schema.reviews, "decided_at"),
            (schema.branches, "created_at"),
        )
    )
)
"""The times of the records that were made last."""


def now() -> datetime:
    """Return the time of a record: UTC."""
    return datetime.now(timezone.utc)


def moment(connection: Connection, at: datetime | None = None) -> datetime:
    """Return the time of a record that is about to be made: `at`, or now.

    It is later than that of every record before, also where the clock was set back or another
    machine's is ahead: what was in use when something was made is asked by time.
    """
    last = connection.execute(_LAST).one()
    recorded: list[datetime] = [told + _TICK for told in last if told is not None]
    return max([at or now(), *recorded])


class Database:
    """An engine with reading and writing transactions."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known_documents: set[str] = set()
        self.kept_readings: dict[int, Any] = {}  # of `heads.heads_at`: never changes once written

    @property
    def address(self) -> str:
        """The URL without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection for questions that no method asks; its errors are told in words."""
        with self._words(), self.engine.connect() as connection:
            yield connection

    _read = reading

    def moment(self) -> datetime:
        """Return the time by which all that is recorded so far has happened."""
        with self._read() as connection:
            return moment(connection)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """Give a transaction that no other writer can interleave with."""
        with self._words(), self.engine.connect() as connection, connection.begin():
            if self.engine.dialect.name == "sqlite":
                # The lock is taken at once: a read that turns into a write would fail instead
                # of waiting.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITER_LOCK)))
            yield connection
        self._written()

    def _written(self) -> None:
        """Called after each committed write; nothing at this level."""

    @contextmanager
    def _words(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            raise _in_words(error, self.address) from error

    def compact(self) -> int:
        """Give the pages that nothing uses back to the disk; return the bytes.

        A PostgreSQL server does this by itself (autovacuum): 0 there.

        Raises:
            LedgerBusyError: If others are reading for too long.
        """
        if self.engine.dialect.name != "sqlite":
            return 0
        with self._read() as connection:
            size, unused = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_size", "freelist_count")
            )
            if not unused:
                return 0
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return size * unused

    def ensure_readable(self) -> None:
        """Refuse a ledger that an older platform left: it cannot be brought up to date here.

        Raises:
            LedgerError: If it has another schema.
        """
        found = self._schema_found()
        if found != schema.SCHEMA_VERSION:
            raise LedgerError(
                "the ledger must first be brought up to date, and nothing can be written here",
                where=self.address,
                expected=f"schema {schema.SCHEMA_VERSION}",
                found="a ledger without its tables" if found is None else f"schema {found}",
                next_step="make FM_HOME writable, with free space, then run again",
            )

    def create(self) -> None:
        """Create the tables where they are missing; bring an older ledger up to date.

        Raises:
            LedgerError: If the ledger was written by a newer version of the platform.
        """
        found = self._schema_found()
        if found is not None and found > schema.SCHEMA_VERSION:
            raise LedgerError(
                "the ledger was written by a newer version of fm-platform",
                where=self.address,
                expected=f"schema {schema.SCHEMA_VERSION} or older",
                found=f"schema {found}",
                next_step="upgrade fm-platform",
            )
        if found != schema.SCHEMA_VERSION:
            with self._write() as connection:
                upgrade(connection)
                self._fill(connection)

    def _fill(self, connection: Connection) -> None:
        """Fill in what an older platform did not keep; nothing at this level."""

    def _schema_found(self) -> int | None:
        """Return the schema of the ledger; None where a table is missing."""
        with self._read() as connection:
            missing = schema.metadata.tables.keys() - set(sa.inspect(connection).get_table_names())
            if "schema_version" in missing:
                return None
            found = connection.scalar(sa.select(sa.func.max(schema.schema_version.c.version)))
        newer = found is not None and found > schema.SCHEMA_VERSION
        return None if missing and not newer else found


def upgrade(connection: Connection) -> None:
    """Add the tables, columns and indexes that are missing, and note the schema."""
    schema.metadata.create_all(connection)
    inspector = sa.inspect(connection)
    dialect = connection.dialect
    for table in schema.metadata.sorted_tables:
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                kind = column.type.compile(dialect)
                name = dialect.identifier_preparer.quote(column.name)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}")
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            index.create(connection, checkfirst=True)
    outbox.install(connection)
    version = schema.schema_version.c.version
    if connection.scalar(sa.select(sa.func.max(version))) != schema.SCHEMA_VERSION:
        connection.execute(schema.schema_version.delete())
        connection.execute(schema.schema_version.insert(), {"version": schema.SCHEMA_VERSION})


def json_text(value: Any) -> str:
    """Return JSON that every database takes: what is not finite goes in as text.

    Example:
        >>> json_text({"loss": float("nan"), "steps": [1, float("inf")]})
        '{"loss": "NaN", "steps": [1, "Infinity"]}'
    """
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(outbox.finite(value), allow_nan=False)


def connect(url: str) -> Engine:
    """Return the engine of an SQLAlchemy URL, safe to use after a fork."""
    if url.startswith("sqlite"):
        engine = _sqlite(url)
    else:
        options = f"-c lock_timeout={_BUSY_TIMEOUT_S * 1000}"
        engine = sa.create_engine(
            url, pool_pre_ping=True, connect_args={"options": options}, json_serializer=json_text
        )
    if url not in _MEMORY:
        reference = weakref.ref(engine)

        def forget() -> None:
            # a connection must not be shared with the parent process
            if (mine := reference()) is not None:
                mine.dispose(close=False)

        os.register_at_fork(after_in_child=forget)
    return engine


def connect_to_read(url: str) -> Engine:
    """Return the engine of a ledger in a folder where nothing can be written.

    SQLite would make files beside the ledger even to read it. Where no log of changes is there,
    nobody has the ledger open, and it is read as it is; else with that log.
    """
    path = sa.make_url(url).database or ""
    if not url.startswith("sqlite") or url in _MEMORY:
        return connect(url)
    log = Path(f"{path}-wal")
    how = "readonly_shm=1" if log.is_file() and log.stat().st_size else "immutable=1"
    address = f"file:{quote(path)}?mode=ro&{how}"
    return sa.create_engine(
        url,
        creator=lambda: sqlite3.connect(
            address, uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
        ),
    )


def _sqlite(url: str) -> Engine:
    options: dict[str, Any] = {
        "connect_args": {"timeout": _BUSY_TIMEOUT_S}, "json_serializer": json_text,
    }  # fmt: skip
    if url in _MEMORY:
        options["poolclass"] = StaticPool
        options["connect_args"]["check_same_thread"] = False
    engine = sa.create_engine(url, **options)

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun by us
        connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_S * 1000}")
        _into_wal_mode(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def _into_wal_mode(connection: Any) -> None:
    """Switch to WAL; the switch itself does not wait for other processes, so try again."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _in_words(error: DatabaseError, address: str) -> FMError:
    found = str(error.orig)
    text = found.lower()
    if "full" in text or "no space" in text:
        return StorageFullError(
            "no space left for the ledger", where=address, found=found,
            next_step="free some space and run again; everything recorded so far is kept",
        )  # fmt: skip
    if "readonly" in text or "unable to open" in text or "permission" in text:
        return HomeError(
            "the ledger cannot be opened or written", where=address, found=found,
            next_step="check that the folder exists and that this user may write it",
        )  # fmt: skip
    if "malformed" in text or "not a database" in text:
        return LedgerError(
            "the ledger file is damaged", where=address, found=found,
            next_step="fm ledger rebuild makes it again from history, and keeps this file",
        )  # fmt: skip
    if "locked" in text or "lock timeout" in text or "connect" in text:
        return LedgerBusyError(
            f"the ledger did not answer within {_BUSY_TIMEOUT_S} s", where=address, found=found,
            next_step="run again; if it stays so, see which process holds it",
        )  # fmt: skip
    return LedgerError("the ledger refused a request", where=address, found=found)
