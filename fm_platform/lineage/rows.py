"""Rows of the ledger's tables: how values go in and come out, inside a transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from fm_platform.errors import NonReproducibleError
from fm_platform.lineage import schema
from fm_platform.lineage.cards import cards_of
from fm_platform.lineage.database import moment, now
from fm_platform.lineage.records import (
    ArtifactVersion,
    Head,
    Input,
    Produced,
    Recipe,
    RunContext,
)


def slot_of(recipe: Recipe, scope: str | None = None) -> dict[str, str]:
    """Return the columns that name the slot of a recipe, in the project or in a branch of it."""
    return {
        "project": scope or recipe.project, "kind": recipe.kind, "name": recipe.name,
        "partition": recipe.partition or "",
    }  # fmt: skip


def insert_version(
    connection: Connection,
    recipe: Recipe,
    produced: Produced,
    run: RunContext,
    started_at: datetime,
    finished_at: datetime,
    installed: str,
) -> int:
    """Insert a version with its inputs; return its id."""
    v = schema.versions.c
    slot = slot_of(recipe)
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
            "inputs_hash": recipe.inputs_hash,
            "location": dict(produced.location),
            "parts": dict(produced.parts),
            "metrics": dict(produced.metrics),
            "config": dict(recipe.config),
            "code": recipe.code,
            "environment": recipe.environment,
            "run_environment": installed,
            "seed": recipe.seed,
            "rows": produced.rows,
            "bytes": produced.bytes,
            "created_at": moment(connection, finished_at),
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
            "content_hash": item.content_hash, "from_version_id": item.version_id,
        }
        for position, item in enumerate(recipe.inputs)
    ]  # fmt: skip
    if rows:
        connection.execute(schema.inputs.insert(), rows)
    return version_id


def refresh_location(connection: Connection, version_id: int, produced: Produced) -> int:
    """Say where a version is kept now that it was rebuilt; return its id."""
    connection.execute(
        schema.versions.update()
        .where(schema.versions.c.id == version_id)
        .values(location=dict(produced.location), metrics=dict(produced.metrics))
    )
    r = schema.removals.c
    connection.execute(
        schema.removals.update()
        .where((r.version_id == version_id) & r.restored_at.is_(None))
        .values(restored_at=now())
    )
    return version_id


def used_now(connection: Connection, recipe: Recipe, scope: str | None = None) -> int | None:
    """Return the id of the version in use of the slot of a recipe, or None."""
    c = schema.current.c
    where = [c[key] == value for key, value in slot_of(recipe, scope).items()]
    return connection.scalar(sa.select(c.version_id).where(*where))


def put_in_use(
    connection: Connection, recipe: Recipe, version_id: int, scope: str | None = None
) -> None:
    """Make a version the one in use of the slot of a recipe; the span of the one before ends."""
    use_in_slot(connection, slot_of(recipe, scope), version_id)


def use_in_slot(connection: Connection, slot: Mapping[str, str], version_id: int | None) -> None:
    """Make a version the one in use of a slot, or none; the span of the one before ends."""
    c, u = schema.current.c, schema.uses.c
    where = [c[key] == value for key, value in slot.items()]
    found = connection.execute(sa.select(c.version_id, c.use_id).where(*where)).first()
    if (None if found is None else found.version_id) == version_id:
        return
    since = moment(connection)
    if found is not None:
        # spans of one slot never overlap, also in a ledger of before `moment`
        before = connection.execute(sa.select(u.since).where(u.id == found.use_id)).one().since
        since = max(since, before)
        connection.execute(schema.uses.update().where(u.id == found.use_id).values(until=since))
    if version_id is None:
        connection.execute(schema.current.delete().where(*where))
        return
    card = cards_of(connection, [version_id])[version_id]
    row = {**slot, "version_id": version_id, "since": since, "card": card}
    done = connection.execute(schema.uses.insert(), row)
    use = {"version_id": version_id, "use_id": int(done.inserted_primary_key[0])}  # type: ignore[index]
    if found is None:
        connection.execute(schema.current.insert(), {**slot, **use})
    else:
        connection.execute(schema.current.update().where(*where).values(**use))


def keep_conflict(
    connection: Connection, version_id: int, produced: Produced, seen_at: datetime
) -> None:
    """Keep the fact that a recipe gave a second content."""
    row = {"version_id": version_id, "content_hash": produced.content_hash, "seen_at": seen_at}
    connection.execute(schema.conflicts.insert(), row)


def not_reproducible(recipe: Recipe, expected: str, produced: Produced) -> NonReproducibleError:
    """Return the error that tells of it."""
    return NonReproducibleError(
        f"{recipe.name} {recipe.partition or ''}: one recipe gave two contents",
        where=f"recipe {recipe.hash[:12]}",
        expected=f"content {expected[:12]}",
        found=f"content {produced.content_hash[:12]}",
        next_step="something that matters is not in the recipe: a random source, the order of "
        "rows, a file read on the side",
    )


def inputs_of(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[Input, ...]]:
    """Return version id -> inputs, for those of `ids` that have any."""
    return {
        owner: tuple(
            Input(r.role, r.name, r.partition or None, r.content_hash, r.part or None, r.origin)
            for r in found
        )
        for owner, found in input_rows(connection, ids).items()
    }


def input_rows(connection: Connection, ids: Sequence[int]) -> dict[int, list[Any]]:
    """Return version id -> inputs as rows, in order, for those of `ids` that have any.

    A row is (version id, role, name, partition, content hash, part, id of the version read).
    """
    found: dict[int, list[Any]] = {}
    i = schema.inputs.c
    origin = i.from_version_id.label("origin")
    for start in range(0, len(ids), schema.AT_ONCE):
        query = (
            sa.select(i.version_id, i.role, i.name, i.partition, i.content_hash, i.part, origin)
            .where(i.version_id.in_(ids[start : start + schema.AT_ONCE]))
            .order_by(i.version_id, i.position)
        )
        for row in connection.execute(query).all():
            found.setdefault(row[0], []).append(row)
    return found


def heads_of(connection: Connection, project: str) -> list[Head]:
    """Return the versions in use of a project without their larger fields, ordered by slot."""
    c, v = schema.current.c, schema.versions.c
    names = list(Head.__dataclass_fields__)
    # parts and times are read as they are kept: one at a time they would take a second
    special = {"parts": sa.cast(v.parts, sa.Text), "created_at": schema.plain_time(v.created_at)}
    query = (
        sa.select(*(special.get(name, v[name]) for name in names))
        .join(schema.current, c.version_id == v.id)
        .where(c.project == project)
        .order_by(v.kind, v.name, v.partition)
    )
    found = connection.execute(query).all()
    partition, parts, made = (names.index(n) for n in ("partition", "parts", "created_at"))
    read = json.loads(f"[{','.join([row[parts] for row in found])}]")
    listed = []
    for row, value in zip(found, read, strict=True):
        values: list[Any] = list(row)
        values[partition] = values[partition] or None
        values[parts] = value
        values[made] = schema.as_utc(values[made])
        listed.append(Head(*values))
    return listed


def version_of(row: Row[Any], made_from: tuple[Input, ...]) -> ArtifactVersion:
    """Return the value of one row of `versions`."""
    fields: dict[str, Any] = dict(row._mapping)
    fields["partition"] = fields["partition"] or None
    return ArtifactVersion(**fields, inputs=made_from)
