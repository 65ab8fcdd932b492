"""Which rows changed since history was last written to disk: noted by the database itself.

Each insert, update and delete of a table of history leaves a line in `outbox`, in the same
transaction, by a trigger. So a kill between commit and the history on disk loses nothing: the
next writer finds what is missing there (the pattern is known as transactional outbox).
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fm_platform.lineage import schema

# The state of now (`current` follows from `uses`), bookkeeping, and what travels with a version.
_NOT_HISTORY = frozenset({"current", "identity", "inputs", "leases", "outbox", "schema_version"})
_EVENTS = {"INSERT": "NEW", "UPDATE": "NEW", "DELETE": "OLD"}


def tables() -> list[sa.Table]:
    """Return the tables of history, those that others refer to first."""
    return [table for table in schema.metadata.sorted_tables if table.name not in _NOT_HISTORY]


def key_of(table: sa.Table) -> sa.Column[Any]:
    """Return the one column that names a row of a table of history."""
    (key,) = table.primary_key.columns
    return key


def install(connection: Connection) -> None:
    """Make sure that every change is noted; what an older platform wrote is noted now."""
    for table in tables():
        if connection.dialect.name == "sqlite":
            noted = _sqlite_triggers(connection, table)
        else:
            noted = _postgresql_triggers(connection, table)
        if not noted:
            note_all(connection, table)
    if connection.scalar(sa.select(schema.identity.c.id)) is None:
        connection.execute(schema.identity.insert(), {"id": uuid.uuid4().hex})


def note_all(connection: Connection, table: sa.Table) -> None:
    """Note every row of a table as not yet written."""
    listed = sa.select(sa.literal(table.name), sa.cast(key_of(table), sa.String(64)))
    names = [schema.outbox.c.entity, schema.outbox.c.key]
    connection.execute(schema.outbox.insert().from_select(names, listed.order_by(key_of(table))))


def image(connection: Connection, table: sa.Table, key: str) -> dict[str, Any] | None:
    """Return a row of history as JSON values, a version with its inputs; None if it is gone."""
    column = key_of(table)
    value = int(key) if isinstance(column.type, sa.Integer) else key
    row = connection.execute(sa.select(table).where(column == value)).first()
    if row is None:
        return None
    found = {
        column.name: _plain(row._mapping[column.name])
        for column in table.columns
        if not column.info.get("derived")
    }
    if table is schema.versions:
        i = schema.inputs.c
        query = sa.select(schema.inputs).where(i.version_id == value).order_by(i.position)
        found["inputs"] = [dict(r._mapping) for r in connection.execute(query)]
    return found


def values(table: sa.Table, told: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a row from its JSON; columns that it does not know are left out."""
    return {
        column.name: _value(column, told[column.name])
        for column in table.columns
        if column.name in told
    }


def dump(connection: Connection) -> Iterator[tuple[str, str, str]]:
    """Yield (table, key, row in words) of all that the ledger says, in one order."""
    for table in schema.metadata.sorted_tables:
        if table.name in _NOT_HISTORY - {"current", "inputs", "identity"}:
            continue
        keys = list(table.primary_key.columns)
        for row in connection.execute(sa.select(table).order_by(*keys)):
            told = {name: _plain(item) for name, item in row._mapping.items()}
            yield table.name, repr([told[key.name] for key in keys]), repr(sorted(told.items()))


def finite(value: Any) -> Any:
    """Return a JSON value in which numbers that are not finite are text: `NaN`, `Infinity`."""
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else finite(value)


def _value(column: sa.Column[Any], told: Any) -> Any:
    if told is not None and isinstance(column.type, schema.UtcTime):
        return datetime.fromisoformat(told)
    return told


def _note(table: sa.Table, row: str) -> str:
    """Return the statement of a trigger; all names in it are those of our own tables."""
    values = f"('{table.name}', CAST({row}.{key_of(table).name} AS TEXT))"
    return f"INSERT INTO outbox (entity, key) VALUES {values};"  # noqa: S608


def _sqlite_triggers(connection: Connection, table: sa.Table) -> bool:
    """Install the triggers of a table; return whether they were there."""
    known = sa.text("SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = :name")
    there = connection.scalar(known, {"name": f"history_{table.name}_insert"}) is not None
    for event, row in _EVENTS.items():
        connection.exec_driver_sql(
            f"CREATE TRIGGER IF NOT EXISTS history_{table.name}_{event.lower()} "
            f"AFTER {event} ON {table.name} BEGIN "
            f"{_note(table, row)} END"
        )
    return there


def _postgresql_triggers(connection: Connection, table: sa.Table) -> bool:
    """Install the triggers of a table; return whether they were there."""
    known = sa.text(
        "SELECT 1 FROM pg_trigger WHERE tgname = :name AND tgrelid = to_regclass(:table)"
    )
    named = {"name": f"history_{table.name}_insert", "table": table.name}
    if connection.scalar(known, named) is not None:
        return True
    for event, row in _EVENTS.items():
        name = f"history_{table.name}_{event.lower()}"
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"{_note(table, row)} RETURN NULL; END $$"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER {name} AFTER {event} ON {table.name} "
            f"FOR EACH ROW EXECUTE FUNCTION {name}()"
        )
    return False
