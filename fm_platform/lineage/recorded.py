"""What the ledger has recorded of many versions at once: which recipes, and how long they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from fm_platform.lineage import schema
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import Slot

_AT_ONCE = 5_000  # values in one query; SQLite takes 32,766


def recipes_made(ledger: Ledger, recipe_hashes: Sequence[str]) -> set[str]:
    """Return those recipe hashes that made a version."""
    v = schema.versions.c
    found: set[str] = set()
    with ledger.reading() as connection:
        for start in range(0, len(recipe_hashes), _AT_ONCE):
            some = recipe_hashes[start : start + _AT_ONCE]
            query = sa.select(v.recipe_hash).where(v.recipe_hash.in_(some))
            found.update(connection.scalars(query))
    return found


def refused_gold(ledger: Ledger, ids: Sequence[int]) -> set[int]:
    """Return those days of raw, by id, on which gold labels that were no class were refused."""
    v = schema.versions.c
    found: set[int] = set()
    with ledger.reading() as connection:
        for start in range(0, len(ids), _AT_ONCE):
            query = sa.select(v.id, v.metrics).where(v.id.in_(ids[start : start + _AT_ONCE]))
            found |= {row.id for row in connection.execute(query) if refuses_gold(row.metrics)}
    return found


def refuses_gold(metrics: Mapping[str, Any]) -> bool:
    """Whether the metrics of a day of raw tell of refused gold labels."""
    records = metrics.get("tables", {}).get("quarantined by rule", ())
    return any(record["rule"] == "gold_class" for record in records)


def durations(ledger: Ledger, project: str) -> dict[Slot, float]:
    """Return slot -> the most seconds that one of its versions took to make.

    The most, since some are quick for reasons that do not last: votes that were only carried
    over to other classes, answers that a cache held.
    """
    v = schema.versions.c
    query = (
        sa.select(v.kind, v.name, v.partition, sa.func.max(v.duration_s))
        .where(v.project == project)
        .group_by(v.kind, v.name, v.partition)
        .order_by(v.kind, v.name, v.partition)
    )
    with ledger.reading() as connection:
        return {(r[0], r[1], r[2] or None): float(r[3]) for r in connection.execute(query)}
