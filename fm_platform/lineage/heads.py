"""The versions in use at a moment as nodes, and what each of them reads.

What a version is and what it reads never changes, so a ledger that stays open (a server of pages, a
sensor) reads a version once: the next moment costs its ids and what is new since.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fm_platform.lineage import schema
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.nodes import RECORDED, Node

__all__ = ["Reading", "columns", "heads_at"]

KEPT = 50_000  # versions, of about one kilobyte each
_AT_ONCE = 5_000  # ids in one query; SQLite takes 32,766
_FRESH = ("fresh", "", (), ())


class Reading(NamedTuple):
    """A version in use.

    Attributes:
        node: As a node of the graph, fresh so far.
        items: What it reads (`rows.reads_of`): ids, `[id, part]` and `[id, null, role]`.
        plain: Whether all of these are ids.
    """

    node: Node
    items: list[Any]
    plain: bool


def heads_at(ledger: Ledger, project: str, at: datetime | None) -> list[Reading]:
    """Return the versions in use at a time, or now, in the order of their ids."""
    kept: dict[int, Reading] = ledger.kept_readings
    used = ledger.used(project, at)
    with ledger.reading() as connection:
        if not kept:
            ids = _read(connection, _query(used), kept)
        else:
            ids = list(connection.scalars(sa.select(used.c.id)))
            missing = sorted(set(ids) - kept.keys())
            if len(missing) > len(ids) / 2:
                _read(connection, _query(used), kept)
            else:
                for start in range(0, len(missing), _AT_ONCE):
                    some = missing[start : start + _AT_ONCE]
                    _read(connection, _query().where(schema.versions.c.id.in_(some)), kept)
    found = [kept[i] for i in sorted(ids)]
    if len(kept) > KEPT:
        kept.clear()
        kept.update((reading.node.id, reading) for reading in found[:KEPT])
    return found


def columns() -> list[Any]:
    """Return the columns of a node, as `Node` wants them."""
    v = schema.versions.c
    return [sa.func.nullif(v.partition, "") if f == "partition" else v[f] for f in RECORDED]


def _query(used: sa.CTE | None = None) -> sa.Select[Any]:
    v = schema.versions.c
    # times are made below: the type's own way takes a third of the whole question
    made = schema.plain_time(v.created_at)
    query = sa.select(*columns()[:9], made, v.reads)
    return query if used is None else query.join(used, used.c.id == v.id)


def _read(connection: Connection, query: sa.Select[Any], kept: dict[int, Reading]) -> list[int]:
    rows = connection.execute(query).all()
    texts = [row[10] or "[]" for row in rows]
    listed = json.loads(f"[{','.join(texts)}]")
    for row, text, items in zip(rows, texts, listed, strict=True):
        node = Node._make((*row[:9], schema.as_utc(row[9]), *_FRESH))
        kept[row[0]] = Reading(node, items, "[" not in text[1:])
    return [row[0] for row in rows]
