"""Read and write the ledger. Every write is one short transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fm_platform.errors import LedgerError
from fm_platform.lineage import rows, schema
from fm_platform.lineage.alert_events import AlertEvents
from fm_platform.lineage.aliases import standing
from fm_platform.lineage.cards import fill_cards
from fm_platform.lineage.database import connect, now
from fm_platform.lineage.documents import Documents
from fm_platform.lineage.fingerprints import described, environment_hash
from fm_platform.lineage.journal import Journal
from fm_platform.lineage.journaled import Journaled
from fm_platform.lineage.leases import Lease, Leases, ensure_held
from fm_platform.lineage.manifests import Manifests
from fm_platform.lineage.records import (
    AliasChange,
    ArtifactVersion,
    Conflict,
    Head,
    Input,
    Produced,
    Readable,
    Recipe,
    RunContext,
    Slot,
    Use,
)
from fm_platform.lineage.retention import Retention
from fm_platform.lineage.reviews import Reviews
from fm_platform.lineage.universes import Universes

__all__ = ["AliasChange", "ArtifactVersion", "Lease", "Ledger", "RunContext", "now"]


class Ledger(Universes, AlertEvents, Documents, Leases, Retention, Reviews, Journaled):
    """The record of every artifact version.

    Example:
        >>> ledger = Ledger.open("sqlite://")
        >>> ledger.latest("sentiment", "raw", "raw", "2026-01-01") is None
        True
    """

    @classmethod
    def open(cls, url: str, history: Path | None = None, beside: Manifests | None = None) -> Ledger:
        """Open the ledger at an SQLAlchemy `url`, creating its tables where they are missing.

        Args:
            url: Of the database.
            history: Folder of the history on disk, from which it can be rebuilt; None: none.
            beside: The same rows beside the data; None: none.

        Raises:
            HomeError: If the file cannot be opened or written.
            LedgerError: If it is damaged, newer than the platform, or not that of the history.
        """
        ledger = cls(connect(url))
        ledger.create()
        if history is not None:
            ledger.keep_history(Journal(history), beside)
        return ledger

    def _fill(self, connection: Connection) -> None:
        fill_cards(connection)

    # --- one version ------------------------------------------------------------------------

    def lookup(self, recipe_hash: str) -> ArtifactVersion | None:
        """Return the version made by a recipe, or None."""
        return self._one(schema.versions.c.recipe_hash == recipe_hash)

    def get(self, version_id: int) -> ArtifactVersion:
        """Return a version by its id.

        Raises:
            LedgerError: If there is none.
        """
        found = self._one(schema.versions.c.id == version_id)
        if found is None:
            raise LedgerError(f"the ledger holds no version {version_id}")
        return found

    def latest(
        self,
        project: str,
        kind: str,
        name: str,
        partition: str | None = None,
        *,
        at: datetime | None = None,
    ) -> ArtifactVersion | None:
        """Return the version in use of one slot, now or at a time; None where there was none."""
        used = _in_use(at)
        c = used.c
        slot = (c.project == self.scope(project, at)) & (c.kind == kind) & (c.name == name)
        chosen = sa.select(c.version_id).where(slot, c.partition == (partition or ""), *_span(at))
        return self._one(schema.versions.c.id == chosen.scalar_subquery())

    def find(self, prefix: str) -> list[ArtifactVersion]:
        """Return the versions whose content or recipe hash starts with `prefix`, oldest first."""
        if not prefix or set(prefix) - set("0123456789abcdef"):
            return []
        v = schema.versions.c
        # a range uses the index in every collation, `like` does not; "g" follows every hex digit
        query = (
            sa.select(schema.versions)
            .where(
                v.content_hash.between(prefix, prefix + "g")
                | v.recipe_hash.between(prefix, prefix + "g")
            )
            .order_by(v.id)
        )
        return self._many(query)

    def alias(
        self, project: str, alias: str, *, at: datetime | None = None
    ) -> ArtifactVersion | None:
        """Return the version an alias names now, or named at a time; None if none."""
        version_id = self.alias_id(project, alias, at=at)
        return None if version_id is None else self.get(version_id)

    def rival(self, project: str, alias: str, challenger: Readable) -> ArtifactVersion | None:
        """Return what `alias` names, or named last before `challenger` itself took it.

        So an evaluation that promoted its model keeps its recipe: the champion it compared with
        does not turn into the model under test.
        """
        for move in standing(self.alias_history(project, alias)):
            if move.version_id is not None:
                version = self.get(move.version_id)
                if version.content_hash != challenger.content_hash:
                    return version
        return None

    # --- many versions ----------------------------------------------------------------------

    def all_latest(
        self,
        project: str,
        kind: str | None = None,
        *,
        at: datetime | None = None,
        with_inputs: bool = False,
    ) -> list[ArtifactVersion]:
        """Return the versions in use of a project, now or at a time.

        They are ordered by kind, name and partition.
        """
        used, v = _in_use(at), schema.versions.c
        query = (
            sa.select(schema.versions)
            .join(used, used.c.version_id == v.id)
            .where(used.c.project == self.scope(project, at), *_span(at))
            .order_by(v.kind, v.name, v.partition)
        )
        if kind is not None:
            query = query.where(used.c.kind == kind)
        return self._many(query, with_inputs=with_inputs)

    def slots_in_use(
        self, project: str, *, at: datetime | None = None, named: Sequence[str] | None = None
    ) -> dict[Slot, int]:
        """Return slot -> id of the version in use, now or at a time, in order of the slots.

        With `named` only those slots whose kind or name is one of these words.
        """
        c = (used := _in_use(at)).c
        query = (
            sa.select(c.kind, c.name, c.partition, c.version_id)
            .select_from(used)
            .where(c.project == self.scope(project, at), *_span(at))
            .order_by(c.kind, c.name, c.partition)
        )
        if named is not None:
            query = query.where(c.kind.in_(named) | c.name.in_(named))
        with self._read() as connection:
            return {(r[0], r[1], r[2] or None): r[3] for r in connection.execute(query)}

    def spanning(self, project: str, at: datetime | None = None) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on `uses` under which a version is in use, for queries."""
        u = schema.uses.c
        span = _span(at) if at is not None else [u.until.is_(None)]
        return [u.project == self.scope(project, at), *span]

    def heads(self, project: str) -> list[Head]:
        """Return the versions in use of a project without their larger fields."""
        with self._read() as connection:
            return rows.heads_of(connection, self.scope(project))

    def latest_of_days(
        self, project: str, kind: str, name: str | None, first: str, last: str
    ) -> list[ArtifactVersion]:
        """Return the versions in use of the partitions `first` .. `last`, in order.

        With `name` None those of every name, ordered by partition and name.
        """
        c, v = schema.current.c, schema.versions.c
        query = (
            sa.select(schema.versions)
            .join(schema.current, c.version_id == v.id)
            .where(
                (c.project == self.scope(project)) & (c.kind == kind),
                c.partition.between(first, last),
            )
            .order_by(c.partition, c.name)
        )
        return self._many(query if name is None else query.where(c.name == name))

    def last_partition(self, project: str, kind: str, name: str) -> str | None:
        """Return the greatest partition in use of one artifact, or None."""
        c = schema.current.c
        query = sa.select(sa.func.max(c.partition)).where(
            (c.project == self.scope(project)) & (c.kind == kind) & (c.name == name)
        )
        with self._read() as connection:
            return connection.scalar(query) or None

    def versions(
        self,
        project: str,
        kind: str | None = None,
        name: str | None = None,
        partition: str | None = None,
    ) -> list[ArtifactVersion]:
        """Return all versions ever recorded of a project, a kind, an artifact or a slot."""
        v = schema.versions.c
        query = sa.select(schema.versions).where(v.project == project).order_by(v.id)
        for column, value in ((v.kind, kind), (v.name, name), (v.partition, partition)):
            if value is not None:
                query = query.where(column == value)
        return self._many(query)

    def get_many(self, ids: Sequence[int], *, with_inputs: bool = True) -> list[ArtifactVersion]:
        """Return versions by id, in the order of their ids; unknown ids are left out."""
        found: list[ArtifactVersion] = []
        v = schema.versions.c
        listed = sorted(set(ids))
        for start in range(0, len(listed), schema.AT_ONCE):
            some = listed[start : start + schema.AT_ONCE]
            query = sa.select(schema.versions).where(v.id.in_(some)).order_by(v.id)
            found += self._many(query, with_inputs=with_inputs)
        return found

    def configs(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return version id -> config of its recipe."""
        v = schema.versions.c
        found: dict[int, dict[str, Any]] = {}
        with self._read() as connection:
            for start in range(0, len(ids), schema.AT_ONCE):
                some = ids[start : start + schema.AT_ONCE]
                query = sa.select(v.id, v.config).where(v.id.in_(some))
                found.update({row.id: row.config for row in connection.execute(query)})
        return found

    def inputs(self, ids: Sequence[int]) -> dict[int, tuple[Input, ...]]:
        """Return version id -> inputs, for those that have any."""
        with self._read() as connection:
            return rows.inputs_of(connection, ids)

    def input_rows(self, ids: Sequence[int]) -> dict[int, list[sa.Row[Any]]]:
        """Return version id -> its inputs as rows of the ledger: for many, where speed counts."""
        with self._read() as connection:
            return rows.input_rows(connection, ids)

    def uses(
        self,
        project: str,
        kind: str,
        name: str,
        partition: str | None = None,
        *,
        scope: str | None = None,
    ) -> list[Use]:
        """Return which version of a slot was in use when, oldest first; here, or in `scope`."""
        u, scope = schema.uses.c, scope or self.scope(project)
        query = (
            sa.select(u.version_id, u.since, u.until)
            .where(
                (u.project == scope) & (u.kind == kind) & (u.name == name),
                u.partition == (partition or ""),
            )
            .order_by(u.id)
        )
        with self._read() as connection:
            return [Use(**row._mapping) for row in connection.execute(query)]

    def conflicts(self, project: str) -> list[Conflict]:
        """Return every recipe that gave two contents: bugs to be looked into, oldest first."""
        x, v = schema.conflicts.c, schema.versions.c
        query = (
            sa.select(x.version_id, x.content_hash, x.seen_at)
            .join(schema.versions, v.id == x.version_id)
            .where(v.project == project)
            .order_by(x.id)
        )
        with self._read() as connection:
            seen = connection.execute(query).all()
        known = {version.id: version for version in self.get_many([r.version_id for r in seen])}
        return [Conflict(known[r.version_id], r.content_hash, r.seen_at) for r in seen]

    # --- writing ----------------------------------------------------------------------------

    def record(
        self,
        recipe: Recipe,
        produced: Produced,
        run: RunContext,
        started_at: datetime,
        finished_at: datetime,
        lease: Lease | None = None,
    ) -> ArtifactVersion:
        """Record what a recipe gave, and put it in use.

        Recording the same recipe with the same content again only refreshes where it is kept
        (it was rebuilt after damage).

        Args:
            recipe: What it was made from.
            produced: What came out.
            run: Who asked.
            started_at: Begin of the computation, with time zone.
            finished_at: Its end.
            lease: Where given, it is checked in the same transaction.

        Raises:
            FencedError: If a newer run took the lease.
            NonReproducibleError: If the recipe is recorded with another content; the fact is
                kept in the ledger.
        """
        v = schema.versions.c
        installed, scope = environment_hash(), self.scope(recipe.project)
        with self._write() as connection:
            if lease is not None:
                ensure_held(connection, lease)
            known = connection.execute(
                sa.select(v.id, v.content_hash).where(v.recipe_hash == recipe.hash)
            ).first()
            if known is not None and known.content_hash != produced.content_hash:
                rows.keep_conflict(connection, known.id, produced, finished_at)
                version_id = None
            else:
                if known is None:
                    version_id = rows.insert_version(
                        connection, recipe, produced, run, started_at, finished_at, installed
                    )
                else:
                    version_id = rows.refresh_location(connection, known.id, produced)
                rows.put_in_use(connection, recipe, version_id, scope)
            self._remember(connection, described((recipe.code, recipe.environment, installed)))
        if version_id is None:
            raise rows.not_reproducible(recipe, known.content_hash if known else "", produced)
        return self.get(version_id)

    def use(self, recipe: Recipe, version: ArtifactVersion) -> None:
        """Put an existing version in use for the slot of `recipe` (nothing if it already is)."""
        scope = self.scope(recipe.project)
        with self._read() as connection:
            if rows.used_now(connection, recipe, scope) == version.id:
                return
        with self._write() as connection:
            rows.put_in_use(connection, recipe, version.id, scope)

    def note_mlflow_run(self, version_id: int, run_id: str) -> None:
        """Note under which run MLflow shows a version; what is noted once stays."""
        v = schema.versions.c
        with self._write() as connection:
            noted = schema.versions.update().where(v.id == version_id, v.mlflow_run_id.is_(None))
            connection.execute(noted.values(mlflow_run_id=run_id))

    def _one(self, condition: sa.ColumnElement[bool]) -> ArtifactVersion | None:
        found = self._many(sa.select(schema.versions).where(condition).limit(1), with_inputs=True)
        return found[0] if found else None

    def _many(self, query: sa.Select[Any], *, with_inputs: bool = False) -> list[ArtifactVersion]:
        with self._read() as connection:
            found = connection.execute(query).all()
            made_from = rows.inputs_of(connection, [row.id for row in found]) if with_inputs else {}
        return [rows.version_of(row, made_from.get(row.id, ())) for row in found]


def _in_use(at: datetime | None) -> sa.Table:
    return schema.current if at is None else schema.uses


def _span(at: datetime | None) -> list[sa.ColumnElement[bool]]:
    if at is None:
        return []
    u = schema.uses.c
    return [u.since <= at, u.until.is_(None) | (u.until > at)]
