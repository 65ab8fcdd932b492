"""What happened: versions put in use, aliases moved, decisions taken, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fm_platform.errors import RefError
from fm_platform.lineage import schema
from fm_platform.lineage.causes import Before, differences
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import parse, projects, resolve, version_name

__all__ = ["LogEntry", "log", "log_of"]


@dataclass(frozen=True)
class LogEntry:
    """One thing that happened.

    Attributes:
        at: When.
        what: `in use`, `alias <name>`, or the kind of a decision.
        project: Whose.
        name: Reference of the version, e.g. `adapter/nyt#2`; empty where there is none.
        content_hash: Of the version.
        version_id: Of the version.
        why: What made it differ from the version before it, or the reason that was given.
        actor: Who or what asked.
        git_commit: Of the code that made the version.
        git_dirty: Whether that code had uncommitted changes.
        until: When another version took its place; None: still in use (or no span).
    """

    at: datetime
    what: str
    project: str
    name: str = ""
    content_hash: str = ""
    version_id: int | None = None
    why: str = ""
    actor: str = ""
    git_commit: str | None = None
    git_dirty: bool | None = None
    until: datetime | None = None


def log_of(
    ledger: Ledger, project: str | None, text: str | None, *, at: datetime | None = None,
    limit: int = 50,
) -> list[LogEntry]:  # fmt: skip
    """Return the history of what a reference names: an alias, artifacts, or one version's slot.

    Args:
        ledger: The record.
        project: Where to look; None: in all projects.
        text: A reference; a kind or name may stand for many days. None: everything.
        at: Leave out what happened later.
        limit: At most so many entries.

    Raises:
        RefError: If the reference names nothing.
    """
    names = [project] if project else projects(ledger)
    if text is None:
        found = [entry for name in names for entry in log(ledger, name, at=at, limit=limit)]
        return _newest(found, limit)
    ref = parse(text)
    at = ref.at or at
    names = [ref.project] if ref.project else names
    found = []
    words = ref.body.split("/")
    for name in names:
        if ledger.alias_history(name, ref.body):
            found += _alias_moves(ledger, name, ref.body, at)
        elif "#" not in ref.body:
            found += log(ledger, name, words=words, at=at, limit=limit, others=False)
    if not found:
        if at is not None and log_of(ledger, project, ref.body):
            raise RefError(f"nothing had happened to {ref.body!r} by {at:%Y-%m-%d %H:%M:%S %Z}")
        version = resolve(ledger, ref.project or project, ref.body, at)
        slot = [version.kind, version.name, *([version.partition] if version.partition else [])]
        found = log(ledger, version.project, words=slot, at=at, limit=limit, others=False)
    return _newest(found, limit)


def log(
    ledger: Ledger,
    project: str,
    *,
    words: Sequence[str] = (),
    at: datetime | None = None,
    limit: int = 50,
    others: bool = True,
) -> list[LogEntry]:
    """Return what happened in a project, newest first.

    Args:
        ledger: The record.
        project: Whose history.
        words: Only artifacts that these name: `[kind, ][name, ][day]`.
        at: Leave out what happened later.
        limit: At most so many entries.
        others: Whether alias moves and decisions are told, too.
    """
    entries = _uses(ledger, project, words, at, limit)
    if others:
        entries += _alias_moves(ledger, project, None, at) + _decisions(ledger, project, at)
    return _newest(entries, limit)


def _newest(entries: list[LogEntry], limit: int) -> list[LogEntry]:
    return sorted(entries, key=lambda e: (e.at, e.version_id or 0), reverse=True)[:limit]


def _uses(
    ledger: Ledger, project: str, words: Sequence[str], at: datetime | None, limit: int
) -> list[LogEntry]:
    u = schema.uses.c
    query = sa.select(schema.uses).where(u.project == ledger.scope(project), *_named(u, words))
    if at is not None:
        query = query.where(u.since <= at)
    before = schema.uses.alias()
    previous = (
        sa.select(before.c.version_id)
        .where(*(before.c[k] == u[k] for k in ("project", "kind", "name", "partition")))
        .where(before.c.id < u.id)
        .order_by(before.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = query.add_columns(previous.label("previous")).order_by(u.since.desc(), u.id.desc())
    with ledger.reading() as connection:
        rows = connection.execute(query.limit(limit)).all()
    ids = {i for row in rows for i in (row.version_id, row.previous) if i is not None}
    versions = {version.id: version for version in ledger.get_many(sorted(ids))}
    return [_use(ledger, row, versions) for row in rows]


def _use(ledger: Ledger, row: sa.Row[Any], versions: dict[int, ArtifactVersion]) -> LogEntry:
    version, before = versions[row.version_id], versions.get(row.previous)
    why = "first version" if before is None else "another version"
    if before is not None and before.recipe_hash != version.recipe_hash:
        why = differences(Before.of(before), version, ledger.document)
    if before is not None and version.number < before.number:
        why = f"back to an earlier version: {why}"
    return LogEntry(
        row.since, "in use", version.project, version_name(version), version.content_hash,
        version.id, why, version.asked_by, version.git_commit, version.git_dirty, row.until,
    )  # fmt: skip


def _named(u: Any, words: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """Return what says that a slot fits the words, as in references; days may be left out."""
    if not words:
        return []
    first, *rest = words
    either = (u.kind == first) | (u.name == first)
    if not rest:
        return [either]
    if len(rest) == 1:
        return [((u.kind == first) & (u.name == rest[0])) | (either & (u.partition == rest[0]))]
    return [u.kind == first, u.name == rest[0], u.partition == rest[1]]


def _alias_moves(
    ledger: Ledger, project: str, alias: str | None, at: datetime | None
) -> list[LogEntry]:
    names = [alias] if alias is not None else ledger.alias_names(project)
    moves = [move for name in names for move in ledger.alias_history(project, name, at=at)]
    versions = _by_id(ledger, [move.version_id for move in moves])
    entries = []
    for move in moves:
        version = versions.get(move.version_id or 0)
        why = move.reason if version else f"taken away: {move.reason}"
        entries.append(
            LogEntry(
                move.set_at, f"alias {move.alias}", project,
                version_name(version) if version else "",
                version.content_hash if version else "", move.version_id, why, move.actor,
            )
        )  # fmt: skip
    return entries


def _decisions(ledger: Ledger, project: str, at: datetime | None) -> list[LogEntry]:
    taken = ledger.decisions(project, at=at)
    versions = _by_id(ledger, [decision["version_id"] for decision in taken])
    entries = []
    for decision in taken:
        version = versions.get(decision["version_id"] or 0)
        entries.append(
            LogEntry(
                decision["decided_at"], decision["kind"], project,
                version_name(version) if version else "",
                version.content_hash if version else "", decision["version_id"],
                decision["reason"], decision["actor"] or "",
            )
        )  # fmt: skip
    return entries


def _by_id(ledger: Ledger, ids: Sequence[int | None]) -> dict[int, ArtifactVersion]:
    known = [i for i in ids if i is not None]
    return {version.id: version for version in ledger.get_many(known, with_inputs=False)}
