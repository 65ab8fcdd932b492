"""A ledger made again from its history, or from manifests; and two ledgers compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from fm_platform.errors import LedgerError
from fm_platform.lineage import outbox, schema
from fm_platform.lineage.cards import fill_cards
from fm_platform.lineage.journal import Line
from fm_platform.lineage.ledger import Ledger


@dataclass(frozen=True)
class Difference:
    """A row that two ledgers do not agree on; None where one does not have it."""

    table: str
    key: str
    first: str | None
    second: str | None


class Told(Protocol):
    """What tells all that ever was in a ledger: its history, or the manifests beside the data."""

    @property
    def folder(self) -> object:
        """Where it lies."""

    def lines(self) -> Iterator[Line]:
        """Yield its lines, oldest first."""


def restore(journal: Told, ledger: Ledger) -> int:
    """Write all that was told into an empty ledger; return the number of lines read.

    The ledger takes over the identity of the one that wrote the history, and goes on with it.

    Raises:
        LedgerError: If history was altered or is empty, or the ledger is not empty.
    """
    known = {table.name: table for table in outbox.tables()}
    last: Line | None = None
    count = 0
    with ledger._write() as connection:
        if connection.scalar(sa.select(schema.versions.c.id).limit(1)) is not None:
            raise LedgerError(
                "only an empty ledger can be rebuilt into", where=ledger.address,
                next_step="name an empty database with FM_LEDGER_URL",
            )  # fmt: skip
        for last in journal.lines():
            if last.table in known:
                _apply(connection, known[last.table], last)
            count += 1
        if last is None:
            raise LedgerError(
                "there is no history to rebuild from", where=journal.folder,
                next_step="restore this folder from a copy; it is written beside each ledger",
            )  # fmt: skip
        fill_cards(connection)
        _derive_current(connection)
        _go_on(connection, last)
    return count


def compare(first: Ledger, second: Ledger) -> list[Difference]:
    """Return the rows that two ledgers do not agree on; leases are of now and do not count."""
    with first.reading() as one, second.reading() as other:
        left = {(table, key): text for table, key, text in outbox.dump(one)}
        right = {(table, key): text for table, key, text in outbox.dump(other)}
    return [
        Difference(*name, left.get(name), right.get(name))
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


def _apply(connection: Connection, table: sa.Table, line: Line) -> None:
    key = outbox.key_of(table)
    if line.row is None:
        column = int(line.key) if isinstance(key.type, sa.Integer) else line.key
        connection.execute(table.delete().where(key == column))
        return
    row = outbox.values(table, line.row)
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    others = {name: value for name, value in row.items() if name != key.name}
    statement = insert(table).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=[key], set_=others))
    if table is schema.versions:
        i = schema.inputs.c
        connection.execute(schema.inputs.delete().where(i.version_id == row["id"]))
        if line.row["inputs"]:
            connection.execute(schema.inputs.insert(), line.row["inputs"])


def _derive_current(connection: Connection) -> None:
    """Put in use what was not replaced."""
    u = schema.uses.c
    slot = [u.project, u.kind, u.name, u.partition]
    open_ = sa.select(*slot, u.version_id, u.id.label("use_id")).where(u.until.is_(None))
    names = ["project", "kind", "name", "partition", "version_id", "use_id"]
    connection.execute(schema.current.insert().from_select(names, open_))


def _go_on(connection: Connection, last: Line) -> None:
    """Let identity and numbers go on where history ends."""
    connection.execute(schema.identity.update().values(id=last.ledger))
    connection.execute(schema.outbox.delete())
    if connection.dialect.name == "postgresql":
        for table in schema.metadata.sorted_tables:
            for column in _numbered(table):
                top = connection.scalar(sa.select(sa.func.max(column))) or 0
                top = max(top, last.seq if table is schema.outbox else 0)
                name = sa.func.pg_get_serial_sequence(table.name, column.name)
                connection.execute(sa.select(sa.func.setval(name, top + 1, False)))
        return
    marker = {"seq": last.seq + 1, "entity": "", "key": ""}  # SQLite remembers the greatest
    connection.execute(schema.outbox.insert(), marker)
    connection.execute(schema.outbox.delete())


def _numbered(table: sa.Table) -> Iterator[sa.Column[int]]:
    keys = [key for key in table.primary_key.columns if isinstance(key.type, sa.Integer)]
    yield from (key for key in islice(keys, 1) if len(keys) == 1 and key.autoincrement is True)
