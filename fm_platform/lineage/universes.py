"""Universes: what is in use, aliases and decisions of a project, on main or on a branch of it.

Versions belong to the project and are shared: a branch is only another set of `uses`, `current`,
`aliases` and `decisions`, kept under its namespace. A ledger looks at one universe: at main, or
with `on_branch` at a branch; every question and every record of it then is about that one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fm_platform.errors import BranchError, ConcurrentWriteError
from fm_platform.lineage import rows, schema
from fm_platform.lineage.aliases import Aliases, moves_of, standing
from fm_platform.lineage.database import moment
from fm_platform.lineage.leases import Lease, ensure_held
from fm_platform.lineage.records import Slot

NAMESPACE_LENGTH = 64
Self = TypeVar("Self", bound="Universes")


@dataclass(frozen=True)
class Branch:
    """A branch of one project.

    Attributes:
        namespace: Under which its uses are kept, and its tables in the lake.
        at: The moment of the project that it began from.
        definition_id: Version of kind `spec`: what the project declared at that moment.
        merged_at: When it was merged the last time.
        merged_definition_id: What the project declared after that.
    """

    id: int
    name: str
    project: str
    namespace: str
    at: datetime
    definition_id: int | None
    created_at: datetime
    actor: str
    merged_at: datetime | None
    merged_definition_id: int | None
    deleted_at: datetime | None


@dataclass(frozen=True)
class AliasTarget:
    """What an alias shall name: the outcome of move `restores`, or of a new one where None."""

    version_id: int | None
    restores: int | None = None


@dataclass(frozen=True)
class Arrangement:
    """A change of a whole universe, made at once.

    Attributes:
        expected: What is in use now, as the plan was made for it.
        uses: Slot -> the version to put in use; None: nothing shall be.
        aliases: Alias -> what it shall name.
        locations: Version -> where it is kept from now on.
        kind: Of the decision that is recorded: `rollback` or `merge`.
        numbers: Of the decision.
        reason: Of the decision and of the moves.
        actor: Who.
    """

    expected: Mapping[Slot, int]
    uses: Mapping[Slot, int | None]
    aliases: Mapping[str, AliasTarget]
    kind: str
    numbers: Mapping[str, Any]
    reason: str
    actor: str
    locations: Mapping[int, Mapping[str, Any]] | None = None


class Universes(Aliases):
    """Branches, and changes of everything at once."""

    branch: str | None = None

    def on_branch(self: Self, name: str | None) -> Self:
        """Return this ledger looking at a branch, or at main (None)."""
        view = copy.copy(self)
        view.branch = name
        view.__dict__.pop("_parted", None)
        return view

    def scope(self, project: str, at: datetime | None = None) -> str:
        """Return under which name uses, aliases and decisions of a project are kept here.

        With `at` those of that moment: before a branch parted, its past is that of main.

        Raises:
            BranchError: If the project has no such branch.
        """
        if self.branch is None:
            return project
        parted: dict[str, Branch] = self.__dict__.setdefault("_parted", {})
        if project not in parted:
            parted[project] = self.branch_of(project, self.branch)
        branch = parted[project]
        return project if at is not None and at < branch.at else branch.namespace

    # --- branches ---------------------------------------------------------------------------

    def branches(self, name: str | None = None) -> list[Branch]:
        """Return the branches that are there, or those of one name, oldest first."""
        b = schema.branches.c
        query = sa.select(schema.branches).where(b.deleted_at.is_(None)).order_by(b.id)
        if name is not None:
            query = query.where(b.name == name)
        with self._read() as connection:
            return [Branch(**row._mapping) for row in connection.execute(query)]

    def branch_of(self, project: str, name: str) -> Branch:
        """Return a branch of a project.

        Raises:
            BranchError: If there is none.
        """
        found = [branch for branch in self.branches(name) if branch.project == project]
        if not found:
            known = sorted({branch.name for branch in self.branches() if branch.project == project})
            raise BranchError(
                f"{project} has no branch {name!r}",
                expected=", ".join(known) or None,
                next_step=f"fm branch create {name}",
            )
        return found[0]

    def create_branch(
        self, name: str, projects: Mapping[str, int | None], at: datetime, actor: str
    ) -> list[Branch]:
        """Begin a branch of projects, as they were at a moment; all of them or none.

        Args:
            name: Its name.
            projects: Project -> version of its definition then.
            at: The moment.
            actor: Who.

        Raises:
            BranchError: If there is one of that name, or the names are too long together.
        """
        with self._write() as connection:
            for project, definition_id in sorted(projects.items()):
                _begin(connection, name, project, definition_id, at, actor)
        return self.branches(name)

    def note_merge(self, branch: Branch, definition_id: int | None) -> None:
        """Note that a branch was merged now, and what its project declares since."""
        b = schema.branches.c
        with self._write() as connection:
            connection.execute(
                schema.branches.update()
                .where(b.id == branch.id)
                .values(merged_at=moment(connection), merged_definition_id=definition_id)
            )

    def delete_branch(self, branch: Branch) -> None:
        """End a branch: nothing is in use on it any more; what it was stays in the history."""
        b, u, c = schema.branches.c, schema.uses.c, schema.current.c
        space = branch.namespace
        with self._write() as connection:
            ended = moment(connection)
            open_uses = (u.project == space) & u.until.is_(None)
            connection.execute(schema.uses.update().where(open_uses).values(until=ended))
            connection.execute(schema.current.delete().where(c.project == space))
            connection.execute(
                schema.branches.update().where(b.id == branch.id).values(deleted_at=ended)
            )

    def ever_used(self, project: str) -> set[int]:
        """Return the versions that were ever in use of a project here."""
        u = schema.uses.c
        query = sa.select(u.version_id).where(u.project == self.scope(project)).distinct()
        with self._read() as connection:
            return set(connection.scalars(query))

    def born_on_branches(self, project: str) -> dict[int, str]:
        """Return version -> namespace, for versions that a branch put in use before main did."""
        b, u = schema.branches.c, schema.uses.c
        earlier = schema.uses.alias("earlier").c
        first = ~sa.exists().where(earlier.version_id == u.version_id, earlier.id < u.id)
        with self._read() as connection:
            spaces = sa.select(b.namespace).where(b.project == project)
            names = list(connection.scalars(spaces))
            if not names:
                return {}
            query = sa.select(u.version_id, u.project).where(u.project.in_(names), first)
            return {row.version_id: row.project for row in connection.execute(query)}

    # --- everything at once -----------------------------------------------------------------

    def arrange(self, project: str, change: Arrangement, lease: Lease) -> int:
        """Put versions in use and set aliases in one transaction, with a decision; return its id.

        Nothing is rewritten: uses end and begin, aliases move.

        Raises:
            ConcurrentWriteError: If something else is in use than the plan was made for.
            FencedError: If somebody else took the lease.
        """
        scope = self.scope(project)
        with self._write() as connection:
            ensure_held(connection, lease)
            if _in_use(connection, scope) != dict(change.expected):
                raise ConcurrentWriteError(
                    f"{scope} changed while this was prepared",
                    next_step="run the command again when nothing else builds",
                )
            for (kind, name, partition), version_id in change.uses.items():
                slot = {
                    "project": scope, "kind": kind, "name": name, "partition": partition or "",
                }  # fmt: skip
                rows.use_in_slot(connection, slot, version_id)
            for alias, target in sorted(change.aliases.items()):
                _move(connection, scope, alias, target, change)
            for version_id, location in (change.locations or {}).items():
                connection.execute(
                    schema.versions.update()
                    .where(schema.versions.c.id == version_id)
                    .values(location=dict(location))
                )
            row = {
                "project": scope, "kind": change.kind, "version_id": None, "actor": change.actor,
                "numbers": dict(change.numbers), "reason": change.reason,
                "decided_at": moment(connection),
            }  # fmt: skip
            done = connection.execute(schema.decisions.insert(), row)
            return int(done.inserted_primary_key[0])  # type: ignore[index]

    def aliases_to_restore(self, project: str, at: datetime) -> dict[str, AliasTarget]:
        """Return the moves that bring the aliases of a moment back; those that stand so are out."""
        found = {}
        for alias in self.alias_names(project):
            now_standing = next(standing(self.alias_history(project, alias)), None)
            then = next(standing(self.alias_history(project, alias, at=at)), None)
            number = then.number if then else 0
            if (now_standing.number if now_standing else 0) != number:
                found[alias] = AliasTarget(then.version_id if then else None, number)
        return found


def _in_use(connection: Connection, scope: str) -> dict[Slot, int]:
    c = schema.current.c
    query = sa.select(c.kind, c.name, c.partition, c.version_id).where(c.project == scope)
    return {(r[0], r[1], r[2] or None): r[3] for r in connection.execute(query)}


def _move(
    connection: Connection, scope: str, alias: str, target: AliasTarget, change: Arrangement
) -> None:
    last = moves_of(connection, scope, alias, last=True)
    row = {
        "project": scope, "alias": alias, "version_id": target.version_id,
        "number": last[0].number + 1 if last else 1, "restores": target.restores,
        "set_at": moment(connection), "actor": change.actor, "reason": change.reason,
    }  # fmt: skip
    connection.execute(schema.aliases.insert(), row)


def _begin(
    connection: Connection,
    name: str,
    project: str,
    definition_id: int | None,
    at: datetime,
    actor: str,
) -> None:
    b, u = schema.branches.c, schema.uses.c
    mine = (b.project == project) & (b.name == name)
    earlier = connection.execute(sa.select(b.deleted_at).where(mine)).all()
    if any(row.deleted_at is None for row in earlier):
        raise BranchError(
            f"{project} has a branch {name!r} already", next_step=f"fm branch delete {name}"
        )
    namespace = f"{project}@{name}" + (f"+{len(earlier) + 1}" if earlier else "")
    if len(namespace) > NAMESPACE_LENGTH:
        raise BranchError(
            "the names of project and branch are too long together",
            expected=f"{NAMESPACE_LENGTH - 4 - len(project)} characters for the branch at most",
            found=f"{len(name)} characters",
        )
    row = {
        "name": name, "project": project, "namespace": namespace, "at": at,
        "definition_id": definition_id, "created_at": moment(connection), "actor": actor,
    }  # fmt: skip
    connection.execute(schema.branches.insert(), row)
    slot = (u.kind, u.name, u.partition)
    held = sa.select(sa.literal(namespace), *slot, u.version_id, u.since, u.card).where(
        u.project == project, u.since <= at, u.until.is_(None) | (u.until > at)
    )
    columns = ["project", "kind", "name", "partition", "version_id", "since", "card"]
    connection.execute(schema.uses.insert().from_select(columns, held))
    heads = sa.select(u.project, *slot, u.version_id, u.id).where(u.project == namespace)
    columns = ["project", "kind", "name", "partition", "version_id", "use_id"]
    connection.execute(schema.current.insert().from_select(columns, heads))
    for table, when in ((schema.aliases, "set_at"), (schema.decisions, "decided_at")):
        names = [c.name for c in table.columns if c.name not in ("id", "project")]
        copied = sa.select(sa.literal(namespace), *(table.c[n] for n in names)).where(
            table.c.project == project, table.c[when] <= at
        )
        connection.execute(table.insert().from_select(["project", *names], copied))
