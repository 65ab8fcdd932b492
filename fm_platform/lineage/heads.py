"""The versions in use at a moment as nodes, and what each of them reads.

What a version is and what it reads never changes, so a ledger that stays open (a server of pages, a
sensor) reads a version once: the next moment costs its ids and what is new since.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fm_platform.errors import LedgerError
from fm_platform.lineage import schema
from fm_platform.lineage.cards import Reading, readings
from fm_platform.lineage.ledger import Ledger

__all__ = ["heads_at"]

KEPT = 50_000  # versions, of about one kilobyte each
_AT_ONCE = 5_000  # ids in one query; SQLite takes 32,766


def heads_at(ledger: Ledger, project: str, at: datetime | None) -> list[Reading]:
    """Return the versions in use at a time, or now, in the order of their ids.

    Raises:
        LedgerError: If a use has no card.
    """
    kept: dict[int, Reading] = ledger.kept_readings
    u, span = schema.uses.c, ledger.spanning(project, at)
    with ledger.reading() as connection:
        if not kept:
            ids = _read(connection, span, kept)
        else:
            ids = list(connection.scalars(sa.select(u.version_id).where(*span)))
            missing = sorted(set(ids) - kept.keys())
            if len(missing) > len(ids) / 2:
                _read(connection, span, kept)
            else:
                for start in range(0, len(missing), _AT_ONCE):
                    some = missing[start : start + _AT_ONCE]
                    _read(connection, [*span, u.version_id.in_(some)], kept)
    found = [kept[i] for i in sorted(ids)]
    if len(kept) > KEPT:
        kept.clear()
        kept.update((reading.node.id, reading) for reading in found[:KEPT])
    return found


def _read(
    connection: Connection, span: Sequence[sa.ColumnElement[bool]], kept: dict[int, Reading]
) -> list[int]:
    """Keep the versions of some uses; return their ids. One text comes faster than many."""
    card = schema.uses.c.card
    query = sa.select(sa.func.aggregate_strings(card, ","), sa.func.count()).where(*span)
    told, count = connection.execute(query).one()
    found = readings(told or "")
    if len(found) != count:
        raise LedgerError(
            "some versions in use have no card", expected=f"{count} cards", found=str(len(found)),
            next_step="fm ledger rebuild makes the ledger again from history",
        )  # fmt: skip
    kept.update((reading.node.id, reading) for reading in found)
    return [reading.node.id for reading in found]
