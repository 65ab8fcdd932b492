"""Aliases (`champion`, `challenger`) with compare-and-set, and decisions with their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fm_platform.errors import AliasConflictError, LedgerError
from fm_platform.lineage import schema
from fm_platform.lineage.database import Database, moment
from fm_platform.lineage.records import AliasChange


class Aliases(Database):
    """The moves of aliases and the decisions about versions."""

    def scope(self, project: str) -> str:
        """Return under which name the uses, aliases and decisions of a project are kept here."""
        return project

    def alias_history(
        self, project: str, alias: str, *, at: datetime | None = None
    ) -> list[AliasChange]:
        """Return all moves of an alias, or those up to `at`, oldest first."""
        with self._read() as connection:
            return moves_of(connection, self.scope(project), alias, at)

    def alias_id(self, project: str, alias: str, *, at: datetime | None = None) -> int | None:
        """Return the id of the version an alias names now, or named at a time; None if none."""
        with self._read() as connection:
            moves = moves_of(connection, self.scope(project), alias, at, last=True)
        return moves[0].version_id if moves else None

    def alias_names(self, project: str) -> list[str]:
        """Return every alias that a project ever had, sorted."""
        a = schema.aliases.c
        query = (
            sa.select(a.alias).distinct().where(a.project == self.scope(project)).order_by(a.alias)
        )
        with self._read() as connection:
            return list(connection.scalars(query))

    def aliases(self, project: str, *, at: datetime | None = None) -> dict[str, int]:
        """Return alias -> id of the version it names now, or named at a time.

        A challenger that became champion is no challenger any more, whoever is champion by then.
        """
        a = schema.aliases.c
        scope = self.scope(project)
        moved = [a.project == scope] if at is None else [a.project == scope, a.set_at <= at]
        newest = (
            sa.select(a.alias, sa.func.max(a.number).label("number"))
            .where(*moved)
            .group_by(a.alias)
            .subquery()
        )
        query = (
            sa.select(a.alias, a.version_id, a.set_at)
            .join(newest, (newest.c.alias == a.alias) & (newest.c.number == a.number))
            .where(a.project == scope, a.version_id.is_not(None))
            .order_by(a.alias)
        )
        with self._read() as connection:
            found = {row.alias: row for row in connection.execute(query)}
            if (new := found.get("challenger")) is not None:
                became = sa.select(a.id).where(
                    *moved, a.alias == "champion", a.version_id == new.version_id,
                    a.set_at >= new.set_at,
                )  # fmt: skip
                if connection.execute(became.limit(1)).first() is not None:
                    found.pop("challenger")
        return {alias: row.version_id for alias, row in found.items()}

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

        Naming what it names already is no move and leaves no trace.

        Args:
            project: Whose alias.
            alias: `champion` or `challenger`.
            version_id: What it shall name; None takes it away.
            expected: What the caller believes that it names now; None: nothing.
            reason: Why, in words.
            actor: Who.

        Raises:
            AliasConflictError: If somebody else moved it first.
            LedgerError: If there is no such version.
        """
        scope = self.scope(project)
        with self._write() as connection:
            moves = moves_of(connection, scope, alias, last=True)
            found = moves[0].version_id if moves else None
            if found != expected:
                raise AliasConflictError(
                    f"alias {alias!r} of {project} moved while this run was deciding",
                    expected=f"version {expected}" if expected is not None else "not set",
                    found=f"version {found}, set by {moves[0].actor}: {moves[0].reason}"
                    if moves
                    else "not set",
                    next_step="run the evaluation again: it compares with the new champion",
                )
            if found == version_id:
                return
            if version_id is not None:
                _ensure_version(connection, project, version_id)
            row = {
                "project": scope, "alias": alias, "version_id": version_id,
                "number": moves[0].number + 1 if moves else 1,
                "set_at": moment(connection), "actor": actor, "reason": reason,
            }  # fmt: skip
            connection.execute(schema.aliases.insert(), row)

    def record_decision(
        self,
        project: str,
        kind: str,
        version_id: int | None,
        numbers: Mapping[str, Any],
        reason: str,
        actor: str = "person",
    ) -> int:
        """Record a promotion, refusal, rollback or acceptance with its numbers; return its id."""
        with self._write() as connection:
            if version_id is not None:
                _ensure_version(connection, project, version_id)
            row = {
                "project": self.scope(project), "kind": kind, "version_id": version_id,
                "actor": actor, "numbers": dict(numbers), "reason": reason,
                "decided_at": moment(connection),
            }  # fmt: skip
            done = connection.execute(schema.decisions.insert(), row)
            return int(done.inserted_primary_key[0])  # type: ignore[index]

    def decisions(self, project: str, *, at: datetime | None = None) -> list[dict[str, Any]]:
        """Return the decisions of a project, or those up to `at`, oldest first."""
        d = schema.decisions.c
        query = sa.select(schema.decisions).where(d.project == self.scope(project)).order_by(d.id)
        if at is not None:
            query = query.where(d.decided_at <= at)
        with self._read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]


def moves_of(
    connection: Connection,
    project: str,
    alias: str,
    at: datetime | None = None,
    *,
    last: bool = False,
) -> list[AliasChange]:
    """Return the moves of an alias, oldest first, or only its last one."""
    a = schema.aliases.c
    query = sa.select(
        a.alias, a.number, a.version_id, a.set_at, a.actor, a.reason, a.restores
    ).where((a.project == project) & (a.alias == alias))
    if at is not None:
        query = query.where(a.set_at <= at)
    query = query.order_by(a.number.desc()).limit(1) if last else query.order_by(a.number)
    return [AliasChange(**row._mapping) for row in connection.execute(query)]


def standing(moves: Sequence[AliasChange]) -> Iterator[AliasChange]:
    """Yield the moves of an alias that stand, newest first: not what a rollback took back."""
    by_number = {move.number: move for move in moves}
    number = max(by_number, default=0)
    while number > 0:
        move = by_number.get(number)
        if move is None or move.restores is None:
            if move is not None:
                yield move
            number -= 1
        else:
            number = move.restores


def _ensure_version(connection: Connection, project: str, version_id: int) -> None:
    v = schema.versions.c
    found = connection.scalar(sa.select(v.project).where(v.id == version_id))
    if found != project:
        raise LedgerError(
            f"version {version_id} is no version of {project}",
            found="no such version" if found is None else f"a version of {found}",
        )
