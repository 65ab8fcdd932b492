"""What people pinned, and what retention removed: the two facts that the ledger keeps of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fm_platform.errors import LedgerError
from fm_platform.lineage import schema
from fm_platform.lineage.database import Database, now


@dataclass(frozen=True)
class Pin:
    """A version that stays whatever the rules say; `unpinned_at` None: pinned now."""

    id: int
    version_id: int
    pinned_at: datetime
    actor: str
    reason: str
    unpinned_at: datetime | None
    unpinned_by: str | None


@dataclass(frozen=True)
class RemovedBytes:
    """The bytes of a version are gone: removed when, by whom, and how many they were."""

    version_id: int
    removed_at: datetime
    actor: str
    bytes: int
    forgotten_at: datetime | None = None


class Retention(Database):
    """Pins and removals in the ledger."""

    def pin(self, version_id: int, *, reason: str, actor: str) -> bool:
        """Keep a version until it is unpinned; return whether it was not pinned before.

        Raises:
            LedgerError: If there is no such version.
        """
        p = schema.pins.c
        with self._write() as connection:
            known = sa.select(schema.versions.c.id).where(schema.versions.c.id == version_id)
            if connection.scalar(known) is None:
                raise LedgerError(f"the ledger holds no version {version_id}")
            held = sa.select(p.id).where(p.version_id == version_id, p.unpinned_at.is_(None))
            if connection.scalar(held) is not None:
                return False
            row = {"version_id": version_id, "pinned_at": now(), "actor": actor, "reason": reason}
            connection.execute(schema.pins.insert(), row)
        return True

    def unpin(self, version_id: int, *, actor: str) -> bool:
        """End the pin of a version; return whether it was pinned."""
        p = schema.pins.c
        with self._write() as connection:
            done = connection.execute(
                schema.pins.update()
                .where((p.version_id == version_id) & p.unpinned_at.is_(None))
                .values(unpinned_at=now(), unpinned_by=actor)
            )
        return done.rowcount > 0

    def pins(self, *, history: bool = False) -> list[Pin]:
        """Return the pins that hold, or all that ever were, oldest first."""
        query = sa.select(schema.pins).order_by(schema.pins.c.id)
        if not history:
            query = query.where(schema.pins.c.unpinned_at.is_(None))
        with self._read() as connection:
            return [Pin(**row._mapping) for row in connection.execute(query)]

    def record_removals(self, sizes: Mapping[int, int], *, actor: str) -> None:
        """Record that the bytes of versions (id -> bytes) are removed; once each."""
        r = schema.removals.c
        at = now()
        with self._write() as connection:
            gone = set(connection.scalars(sa.select(r.version_id).where(r.restored_at.is_(None))))
            rows: list[dict[str, Any]] = [
                {"version_id": version_id, "removed_at": at, "actor": actor, "bytes": size}
                for version_id, size in sorted(sizes.items())
                if version_id not in gone
            ]
            if rows:
                connection.execute(schema.removals.insert(), rows)

    def note_forgotten(self, version_ids: Iterable[int]) -> None:
        """Note that MLflow's copies of removed versions are removed as well."""
        self._mark(version_ids, "forgotten_at")

    def note_restored(self, version_ids: Iterable[int]) -> None:
        """Note that the bytes of versions are there again."""
        self._mark(version_ids, "restored_at")

    def _mark(self, version_ids: Iterable[int], column: str) -> None:
        r = schema.removals.c
        at = now()
        with self._write() as connection:
            for version_id in sorted(set(version_ids)):
                connection.execute(
                    schema.removals.update()
                    .where((r.version_id == version_id) & r.restored_at.is_(None))
                    .values({column: at})
                )

    def removed(self) -> dict[int, RemovedBytes]:
        """Return version id -> what is known of the removal of its bytes, where they are gone."""
        r = schema.removals.c
        query = (
            sa.select(r.version_id, r.removed_at, r.actor, r.bytes, r.forgotten_at)
            .where(r.restored_at.is_(None))
            .order_by(r.id)
        )
        with self._read() as connection:
            return {row.version_id: RemovedBytes(**row._mapping)
                    for row in connection.execute(query)}  # fmt: skip

    def removal(self, version_id: int) -> RemovedBytes | None:
        """Return what is known of the removal of a version's bytes; None where they are there."""
        r = schema.removals.c
        query = sa.select(r.version_id, r.removed_at, r.actor, r.bytes, r.forgotten_at).where(
            r.version_id == version_id, r.restored_at.is_(None)
        )
        with self._read() as connection:
            row = connection.execute(query).first()
        return None if row is None else RemovedBytes(**row._mapping)
