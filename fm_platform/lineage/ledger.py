"""Read and write the ledger. Every write is one short transaction."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, Row

from fm_platform.errors import AliasConflictError, FencedError, LedgerError, NonReproducibleError
from fm_platform.lineage import schema
from fm_platform.lineage.records import ArtifactVersion, Input, Produced, Recipe, RunContext

_BUSY_TIMEOUT_S = 30


@dataclass(frozen=True)
class Lease:
    """The right to write one artifact slot. `epoch` grows with every holder."""

    key: str
    epoch: int
    holder: str


@dataclass(frozen=True)
class AliasChange:
    """One move of an alias; `version_id` None means that it was taken away."""

    alias: str
    number: int
    version_id: int | None
    set_at: datetime
    actor: str
    reason: str


def now() -> datetime:
    """Return the time of a record: UTC."""
    return datetime.now(timezone.utc)


class Ledger:
    """The record of every artifact version.

    Example:
        >>> ledger = Ledger.open("sqlite://")
        >>> ledger.latest("sentiment", "raw", "raw", "2026-01-01") is None
        True
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Open the ledger at an SQLAlchemy `url`, creating its tables where they are missing.

        Raises:
            LedgerError: If the file was written by a newer version of the platform.
        """
        engine = _engine(url)
        ledger = cls(engine)
        with ledger._write() as connection:
            schema.metadata.create_all(connection)
            found = connection.scalar(sa.select(sa.func.max(schema.schema_version.c.version)))
            if found is None:
                connection.execute(
                    schema.schema_version.insert(), {"version": schema.SCHEMA_VERSION}
                )
            elif found > schema.SCHEMA_VERSION:
                raise LedgerError(
                    "the ledger was written by a newer version of fm-platform",
                    expected=f"schema {schema.SCHEMA_VERSION} or older",
                    found=f"schema {found}",
                    next_step="upgrade fm-platform",
                )
        return ledger

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                # A write transaction takes the lock at once: a read that turns into a write
                # would fail instead of waiting.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            with connection.begin() if not connection.in_transaction() else _Commit(connection):
                yield connection

    # --- versions ---------------------------------------------------------------------------

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
        self, project: str, kind: str, name: str, partition: str | None = None
    ) -> ArtifactVersion | None:
        """Return the version in use of one slot, or None where nothing was built."""
        c = schema.current.c
        slot = (
            (c.project == project)
            & (c.kind == kind)
            & (c.name == name)
            & (c.partition == (partition or ""))
        )
        return self._one(
            schema.versions.c.id == sa.select(c.version_id).where(slot).scalar_subquery()
        )

    def all_latest(
        self, project: str, kind: str | None = None, *, with_inputs: bool = False
    ) -> list[ArtifactVersion]:
        """Return the versions in use of a project, ordered by kind, name and partition."""
        c, v = schema.current.c, schema.versions.c
        query = (
            sa.select(schema.versions)
            .join(schema.current, c.version_id == v.id)
            .where(c.project == project)
            .order_by(v.kind, v.name, v.partition)
        )
        if kind is not None:
            query = query.where(c.kind == kind)
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
            made_from = _inputs_of(connection, [row.id for row in rows]) if with_inputs else {}
        return [_version(row, made_from.get(row.id, ())) for row in rows]

    def latest_of_days(
        self, project: str, kind: str, name: str, first: str, last: str
    ) -> list[ArtifactVersion]:
        """Return the versions in use of the partitions `first` .. `last`, in order."""
        c, v = schema.current.c, schema.versions.c
        query = (
            sa.select(schema.versions)
            .join(schema.current, c.version_id == v.id)
            .where(
                (c.project == project) & (c.kind == kind) & (c.name == name),
                c.partition.between(first, last),
            )
            .order_by(c.partition)
        )
        with self.engine.connect() as connection:
            return [_version(row, ()) for row in connection.execute(query)]

    def last_partition(self, project: str, kind: str, name: str) -> str | None:
        """Return the greatest partition in use of one artifact, or None."""
        c = schema.current.c
        query = sa.select(sa.func.max(c.partition)).where(
            (c.project == project) & (c.kind == kind) & (c.name == name)
        )
        with self.engine.connect() as connection:
            return connection.scalar(query) or None

    def find(self, prefix: str) -> list[ArtifactVersion]:
        """Return the versions whose content or recipe hash starts with `prefix`."""
        v = schema.versions.c
        query = (
            sa.select(schema.versions)
            .where(v.content_hash.startswith(prefix) | v.recipe_hash.startswith(prefix))
            .order_by(v.id)
        )
        with self.engine.connect() as connection:
            return [_version(row, ()) for row in connection.execute(query)]

    def record(
        self,
        recipe: Recipe,
        produced: Produced,
        run: RunContext,
        started_at: datetime,
        finished_at: datetime,
    ) -> ArtifactVersion:
        """Record what a recipe gave, and put it in use.

        Recording the same recipe with the same content again only refreshes where it is kept
        (it was rebuilt after damage).

        Raises:
            NonReproducibleError: If the recipe is recorded with another content; the fact is
                kept in the ledger.
        """
        known = self.lookup(recipe.hash)
        if known is not None and known.content_hash != produced.content_hash:
            with self._write() as connection:
                connection.execute(
                    schema.conflicts.insert(),
                    {
                        "version_id": known.id,
                        "content_hash": produced.content_hash,
                        "seen_at": finished_at,
                    },
                )
            raise NonReproducibleError(
                f"{recipe.name} {recipe.partition or ''}: one recipe gave two contents",
                where=f"recipe {recipe.hash[:12]}",
                expected=f"content {known.content_hash[:12]}",
                found=f"content {produced.content_hash[:12]}",
                next_step="something that matters is not in the recipe: a random source, the "
                "order of rows, a file read on the side",
            )
        with self._write() as connection:
            version_id = (
                _insert(connection, recipe, produced, run, started_at, finished_at)
                if known is None
                else _refresh(connection, known.id, produced)
            )
            _put_in_use(connection, recipe, version_id)
        return self.get(version_id)

    def use(self, recipe: Recipe, version: ArtifactVersion) -> None:
        """Put an existing version in use for the slot of `recipe` (nothing if it already is)."""
        with self._write() as connection:
            _put_in_use(connection, recipe, version.id)

    def _one(self, condition: sa.ColumnElement[bool]) -> ArtifactVersion | None:
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(schema.versions).where(condition)).first()
            if row is None:
                return None
            return _version(row, _inputs_of(connection, [row.id]).get(row.id, ()))

    # --- aliases and decisions --------------------------------------------------------------

    def alias(self, project: str, alias: str) -> ArtifactVersion | None:
        """Return the version an alias names now, or None."""
        history = self.alias_history(project, alias)
        if not history or history[-1].version_id is None:
            return None
        return self.get(history[-1].version_id)

    def alias_history(self, project: str, alias: str) -> list[AliasChange]:
        """Return all moves of an alias, oldest first."""
        a = schema.aliases.c
        query = (
            sa.select(schema.aliases)
            .where((a.project == project) & (a.alias == alias))
            .order_by(a.number)
        )
        with self.engine.connect() as connection:
            return [
                AliasChange(r.alias, r.number, r.version_id, _utc(r.set_at), r.actor, r.reason)
                for r in connection.execute(query)
            ]

    def set_alias(
        self,
        project: str,
        alias: str,
        version_id: int | None,
        *,
        expected: int | None,
        reason: str,
        actor: str,
    ) -> None:
        """Move an alias, if it still names version `expected` (compare and set).

        Raises:
            AliasConflictError: If somebody else moved it first.
        """
        history = self.alias_history(project, alias)
        found = history[-1].version_id if history else None
        number = history[-1].number + 1 if history else 1
        row = {
            "project": project, "alias": alias, "number": number, "version_id": version_id,
            "set_at": now(), "actor": actor, "reason": reason,
        }  # fmt: skip
        if found == expected:
            try:
                with self._write() as connection:
                    connection.execute(schema.aliases.insert(), row)
            except sa.exc.IntegrityError:
                found = self.alias_history(project, alias)[-1].version_id
            else:
                return
        raise AliasConflictError(
            f"alias {alias!r} of {project} moved while this run was deciding",
            expected=f"version {expected}",
            found=f"version {found}",
            next_step="run the evaluation again: it compares with the new champion",
        )

    def record_decision(
        self,
        project: str,
        kind: str,
        version_id: int | None,
        numbers: Mapping[str, Any],
        reason: str,
    ) -> int:
        """Record a promotion, refusal or rollback with its numbers; return its id."""
        with self._write() as connection:
            done = connection.execute(
                schema.decisions.insert(),
                {
                    "project": project, "kind": kind, "version_id": version_id,
                    "numbers": dict(numbers), "reason": reason, "decided_at": now(),
                },
            )  # fmt: skip
            return int(done.inserted_primary_key[0])  # type: ignore[index]

    def decisions(self, project: str) -> list[dict[str, Any]]:
        """Return all decisions of a project, oldest first."""
        query = (
            sa.select(schema.decisions)
            .where(schema.decisions.c.project == project)
            .order_by(schema.decisions.c.id)
        )
        with self.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    # --- leases -----------------------------------------------------------------------------

    def acquire_lease(self, key: str, holder: str) -> Lease:
        """Take the right to write `key`; whoever held it before is fenced from now on."""
        values = {
            "holder": holder, "host": socket.gethostname(), "pid": os.getpid(),
            "acquired_at": now(),
        }  # fmt: skip
        c = schema.leases.c
        with self._write() as connection:
            updated = connection.execute(
                schema.leases.update().where(c.key == key).values(epoch=c.epoch + 1, **values)
            )
            if updated.rowcount == 0:
                connection.execute(schema.leases.insert(), {"key": key, "epoch": 1, **values})
            epoch = connection.scalar(sa.select(c.epoch).where(c.key == key))
        return Lease(key, int(epoch or 0), holder)

    def check_lease(self, lease: Lease) -> None:
        """Do nothing while `lease` holds.

        Raises:
            FencedError: If a newer run took it.
        """
        c = schema.leases.c
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(c.epoch, c.holder).where(c.key == lease.key)).first()
        if row is None or row.epoch != lease.epoch:
            raise FencedError(
                f"fenced: another run took over {lease.key}",
                expected=f"epoch {lease.epoch} of {lease.holder}",
                found="no lease" if row is None else f"epoch {row.epoch} of {row.holder}",
                next_step="nothing to do: the newer run writes this artifact",
            )


class _Commit:
    """Commit or roll back a transaction that was begun by hand."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.connection.commit()
        else:
            self.connection.rollback()


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True)
    options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_TIMEOUT_S}}
    if url in ("sqlite://", "sqlite:///:memory:"):
        options["poolclass"] = sa.pool.StaticPool
        options["connect_args"]["check_same_thread"] = False
    engine = sa.create_engine(url, **options)

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun by us
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_S * 1000}")

    return engine


def _insert(
    connection: Connection,
    recipe: Recipe,
    produced: Produced,
    run: RunContext,
    started_at: datetime,
    finished_at: datetime,
) -> int:
    v = schema.versions.c
    slot = {
        "project": recipe.project, "kind": recipe.kind, "name": recipe.name,
        "partition": recipe.partition or "",
    }  # fmt: skip
    last = connection.scalar(
        sa.select(sa.func.max(v.number)).where(*(v[key] == value for key, value in slot.items()))
    )
    done = connection.execute(
        schema.versions.insert(),
        {
            **slot,
            "number": (last or 0) + 1,
            "recipe_hash": recipe.hash,
            "content_hash": produced.content_hash,
            "location": dict(produced.location),
            "parts": dict(produced.parts),
            "metrics": dict(produced.metrics),
            "config": dict(recipe.config),
            "code": recipe.code,
            "environment": recipe.environment,
            "seed": recipe.seed,
            "rows": produced.rows,
            "bytes": produced.bytes,
            "created_at": finished_at,
            "duration_s": (finished_at - started_at).total_seconds(),
            "asked_by": run.asked_by,
            "dagster_run_id": run.dagster_run_id,
            "mlflow_run_id": produced.mlflow_run_id,
            "git_commit": run.git_commit,
            "git_dirty": run.git_dirty,
        },
    )
    version_id = int(done.inserted_primary_key[0])  # type: ignore[index]
    rows = [
        {
            "version_id": version_id, "position": position, "role": item.role,
            "name": item.name, "partition": item.partition or "", "part": item.part or "",
            "content_hash": item.content_hash,
        }
        for position, item in enumerate(recipe.inputs)
    ]  # fmt: skip
    if rows:
        connection.execute(schema.inputs.insert(), rows)
    return version_id


def _refresh(connection: Connection, version_id: int, produced: Produced) -> int:
    connection.execute(
        schema.versions.update()
        .where(schema.versions.c.id == version_id)
        .values(location=dict(produced.location), metrics=dict(produced.metrics))
    )
    return version_id


def _put_in_use(connection: Connection, recipe: Recipe, version_id: int) -> None:
    slot = {
        "project": recipe.project, "kind": recipe.kind, "name": recipe.name,
        "partition": recipe.partition or "",
    }  # fmt: skip
    c = schema.current.c
    where = [c[key] == value for key, value in slot.items()]
    found = connection.scalar(sa.select(c.version_id).where(*where))
    if found == version_id:
        return
    if found is None:
        connection.execute(schema.current.insert(), {**slot, "version_id": version_id})
    else:
        connection.execute(schema.current.update().where(*where).values(version_id=version_id))
    connection.execute(schema.uses.insert(), {**slot, "version_id": version_id, "since": now()})


def _inputs_of(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[Input, ...]]:
    found: dict[int, list[Input]] = {}
    i = schema.inputs.c
    for start in range(0, len(ids), 500):
        query = (
            sa.select(schema.inputs)
            .where(i.version_id.in_(ids[start : start + 500]))
            .order_by(i.version_id, i.position)
        )
        for row in connection.execute(query):
            found.setdefault(row.version_id, []).append(
                Input(row.role, row.name, row.partition or None, row.content_hash, row.part or None)
            )
    return {key: tuple(value) for key, value in found.items()}


def _version(row: Row[Any], made_from: tuple[Input, ...]) -> ArtifactVersion:
    fields = dict(row._mapping)
    fields["partition"] = fields["partition"] or None
    fields["created_at"] = _utc(fields["created_at"])
    return ArtifactVersion(**fields, inputs=made_from)


def _utc(value: datetime) -> datetime:
    """SQLite gives naive times back; they were written as UTC."""
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
