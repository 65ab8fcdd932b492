"""Cards: a version in use with what it reads, as one short text beside each use of it.

The graph of a moment has thousands of versions; from `versions` and `inputs` themselves they come
six times slower, for their rows are wide. A card follows from them, so history does not tell it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fm_platform.errors import LedgerError
from fm_platform.lineage import schema
from fm_platform.lineage.nodes import RECORDED, Node
from fm_platform.lineage.records import PINNED_ROLES

__all__ = ["Reading", "card", "cards_of", "fill_cards", "readings"]


class Reading(NamedTuple):
    """A version in use.

    Attributes:
        node: As a node of the graph, fresh so far.
        items: What it reads: an id where all of a version is read, `[id, part]` where one part
            is, and `[id, null, role]` where this very version was meant, whatever takes its place.
        plain: Whether all of these are ids.
    """

    node: Node
    items: list[Any]
    plain: bool


def card(version: Mapping[str, Any], inputs: Iterable[tuple[int | None, str, str | None]]) -> str:
    """Return the card of a version: its fields as those of a node, what it reads, whether plain.

    Args:
        version: Column of `versions` -> value.
        inputs: (version id or None, role, part or None) of every input, in order.
    """
    items: dict[Any, None] = {}
    for version_id, role, part in inputs:
        if version_id is None:
            continue
        if role in PINNED_ROLES:
            items[version_id, None, role] = None
        else:
            items[(version_id, part) if part else version_id] = None
    told = {**version, "partition": version["partition"] or None}
    made: datetime = told["created_at"]
    told["created_at"] = made.isoformat()
    plain = all(isinstance(item, int) for item in items)
    fields = [told[name] for name in RECORDED]
    return json.dumps([fields, list(items), plain], separators=(",", ":"))


def cards_of(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Return version id -> card."""
    v, i = schema.versions.c, schema.inputs.c
    found = {}
    for start in range(0, len(ids), schema.AT_ONCE):
        some = ids[start : start + schema.AT_ONCE]
        read: dict[int, list[tuple[int | None, str, str | None]]] = {}
        query = (
            sa.select(i.version_id, i.from_version_id, i.role, i.part)
            .where(i.version_id.in_(some))
            .order_by(i.version_id, i.position)
        )
        for reader, *item in connection.execute(query):
            read.setdefault(reader, []).append((item[0], item[1], item[2]))
        for row in connection.execute(sa.select(*(v[f] for f in RECORDED)).where(v.id.in_(some))):
            found[row.id] = card(dict(row._mapping), read.get(row.id, ()))
    return found


def fill_cards(connection: Connection) -> None:
    """Write the cards that are missing: of an older platform, or of a ledger made from history."""
    u = schema.uses.c
    missing = list(connection.scalars(sa.select(u.version_id).where(u.card.is_(None)).distinct()))
    for start in range(0, len(missing), schema.AT_ONCE):
        made = cards_of(connection, missing[start : start + schema.AT_ONCE])
        connection.execute(
            schema.uses.update()
            .where(u.version_id == sa.bindparam("of"), u.card.is_(None))
            .values(card=sa.bindparam("told")),
            [{"of": version_id, "told": text} for version_id, text in made.items()],
        )


def readings(cards: str) -> list[Reading]:
    """Return the versions of some cards, with commas between them.

    Raises:
        LedgerError: If one is not as `card` writes it.
    """
    try:
        return _CARDS.decode(f"[{cards}]")
    except msgspec.MsgspecError as error:
        raise LedgerError(
            "a card of the ledger cannot be read", found=str(error),
            next_step="fm ledger rebuild makes the ledger again from history",
        ) from error  # fmt: skip


_CARDS = msgspec.json.Decoder(list[Reading])  # a quarter of the time of `json` and a loop
