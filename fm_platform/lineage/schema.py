"""Tables of the ledger. SQLite in WAL mode by default, PostgreSQL by URL.

New tables, new columns that may be null and new indexes are added to an older ledger when it is
opened (`database.upgrade`); `SCHEMA_VERSION` says that an older platform must not write it.

History is append-only: `versions`, `inputs`, `aliases`, `decisions`, `reviews`, `alert_events`,
`conflicts` and `documents` are never rewritten (a version rebuilt after damage may move: its
`location` follows). Rows of `uses` are closed once, by setting `until`. `current` and `leases` hold
the state of now.

Questions of any moment: what was in use at T is `since <= T and (until is null or until > T)`;
what an alias named at T is its greatest `number` with `set_at <= T`; the graph is `inputs`, where
`from_version_id` is the edge.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

SCHEMA_VERSION = 5
metadata = sa.MetaData()

AT_ONCE = 500
"""Ids or rows in one statement: below the limit of old SQLite builds."""

DERIVED = {"derived": True}
"""Marks a column that follows from others: history does not tell it."""


class UtcTime(sa.TypeDecorator[datetime]):
    """An instant, kept as UTC in both databases (SQLite itself forgets time zones)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the instant as UTC; a time without a zone is a mistake."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a time zone: {value}")
        return value.astimezone(timezone.utc)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return the instant with its zone."""
        if value is None:
            return None
        return as_utc(value)


def as_utc(at: datetime | str) -> datetime:
    """Return an instant that a database gave, in UTC; SQLite keeps it as text."""
    if isinstance(at, str):
        return datetime.fromisoformat(at + "+00:00")
    if at.tzinfo is None:
        return at.replace(tzinfo=timezone.utc)
    return at.astimezone(timezone.utc)


def plain_time(column: Any) -> Any:
    """Return a column of times as the driver gives them: for thousands, with `as_utc` after it."""
    return sa.type_coerce(column, sa.types.NullType())


def _slot() -> list[sa.Column[Any]]:
    """The columns that name an artifact; partition `` is that of an unpartitioned one."""
    return [
        sa.Column("project", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("partition", sa.String(64), nullable=False, default=""),
    ]


schema_version = sa.Table(
    "schema_version",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    *_slot(),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("recipe_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("content_hash", sa.String(64), nullable=False, index=True),
    sa.Column("inputs_hash", sa.String(64), nullable=False),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("environment", sa.String(64), nullable=False),
    sa.Column("run_environment", sa.String(64)),
    sa.Column("seed", sa.BigInteger),
    sa.Column("rows", sa.BigInteger),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("duration_s", sa.Float, nullable=False),
    sa.Column("asked_by", sa.String(128), nullable=False),
    sa.Column("dagster_run_id", sa.String(64)),
    sa.Column("mlflow_run_id", sa.String(64)),
    sa.Column("git_commit", sa.String(64)),
    sa.Column("git_dirty", sa.Boolean),
    # large values last: SQLite reads a row from its beginning, as far as it must
    sa.Column("location", sa.JSON, nullable=False),
    sa.Column("parts", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.UniqueConstraint("project", "kind", "name", "partition", "number"),
    sa.Index("versions_by_time", "project", "created_at"),
)

inputs = sa.Table(
    "inputs",
    metadata,
    sa.Column("version_id", sa.ForeignKey("versions.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    # None where the input is no version of the ledger: source files, the base model, a summary
    sa.Column("from_version_id", sa.ForeignKey("versions.id")),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("partition", sa.String(64), nullable=False, default=""),
    sa.Column("part", sa.String(128), nullable=False, default=""),
    sa.Column("content_hash", sa.String(64), nullable=False),
    # both directions of the graph are answered by an index alone
    sa.Index("inputs_by_origin", "from_version_id", "version_id"),
    sa.Index("inputs_by_reader", "version_id", "from_version_id"),
)

# Which version of a slot is in use, and since when: a reuse of an old recipe is a new line here.
uses = sa.Table(
    "uses",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    *_slot(),
    sa.Column("version_id", sa.ForeignKey("versions.id"), nullable=False, index=True),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("until", UtcTime),
    # The version and what it reads, as JSON (`cards`): `versions` and `inputs` once more, so that
    # the graph of a moment is read from this table alone.
    sa.Column("card", sa.Text, info=DERIVED),
    sa.Index("uses_by_slot", "project", "kind", "name", "partition", "id"),
    sa.Index("uses_by_time", "project", "since", "until", "version_id"),
    sa.Index(
        "uses_now", "project", "version_id",
        postgresql_where=sa.text("until IS NULL"), sqlite_where=sa.text("until IS NULL"),
    ),
)  # fmt: skip

# The head of `uses` for each slot: one row a slot, so that "what is in use" never scans history.
current = sa.Table(
    "current",
    metadata,
    sa.Column("project", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("partition", sa.String(64), primary_key=True, default=""),
    sa.Column("version_id", sa.ForeignKey("versions.id"), nullable=False),
    sa.Column("use_id", sa.ForeignKey("uses.id"), nullable=False),
    sa.Index("current_by_version", "version_id"),
)

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("alias", sa.String(64), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("version_id", sa.ForeignKey("versions.id")),
    sa.Column("set_at", UtcTime, nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # A move that goes back: the state after the move of this number holds again (0: none was).
    sa.Column("restores", sa.Integer),
    # two promoters can never both write the same next number
    sa.UniqueConstraint("project", "alias", "number"),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("version_id", sa.ForeignKey("versions.id"), index=True),
    sa.Column("numbers", sa.JSON, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decided_at", UtcTime, nullable=False),
    sa.Column("actor", sa.String(128)),  # None: decided before actors were recorded
    sa.Index("decisions_by_time", "project", "decided_at"),
)

# One recipe, two contents: a bug that must be seen.
conflicts = sa.Table(
    "conflicts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("version_id", sa.ForeignKey("versions.id"), nullable=False, index=True),
    sa.Column("content_hash", sa.String(64), nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
)

# What a fingerprint stands for: packages, modules of a closure, the source of a function.
documents = sa.Table(
    "documents",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("first_seen", UtcTime, nullable=False),
)

# A branch is a second `project` for `uses`, `current`, `aliases` and `decisions`: its `namespace`.
# Versions belong to the project itself, so every universe shares what has an equal recipe.
branches = sa.Table(
    "branches",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("namespace", sa.String(64), nullable=False, unique=True),
    sa.Column("at", UtcTime, nullable=False),  # the moment of the project that it began from
    sa.Column("definition_id", sa.ForeignKey("versions.id")),  # what the project declared then
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("merged_at", UtcTime),  # the last time
    sa.Column("merged_definition_id", sa.ForeignKey("versions.id")),
    sa.Column("deleted_at", UtcTime),
)

# Results of pure functions of recorded content that a recipe needs as an input, e.g. the hash of
# the gold rows that a day may read. `key` is the hash of all that they depend on.
derived = sa.Table(
    "derived",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(64), nullable=False),
)

# Versions that a person wants kept whatever the rules of retention say.
pins = sa.Table(
    "pins",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("version_id", sa.ForeignKey("versions.id"), nullable=False, index=True),
    sa.Column("pinned_at", UtcTime, nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("unpinned_at", UtcTime),  # None: pinned now
    sa.Column("unpinned_by", sa.String(128)),
)

# Versions whose bytes retention removed; the record stays, and building them again is possible.
removals = sa.Table(
    "removals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("version_id", sa.ForeignKey("versions.id"), nullable=False, index=True),
    sa.Column("removed_at", UtcTime, nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("forgotten_at", UtcTime),  # what MLflow kept of it is removed as well
    sa.Column("restored_at", UtcTime),  # built again; None: the bytes are gone
)

# What people said of single actions of cleaning rules; the last verdict on a row and rule stands.
reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("day", sa.String(64), nullable=False),
    sa.Column("row_id", sa.String(64), nullable=False),
    sa.Column("rule", sa.String(64), nullable=False),
    sa.Column("settings", sa.String(64), nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decided_at", UtcTime, nullable=False),
    sa.Index("reviews_by_day", "project", "day"),
    sa.Index("reviews_by_rule", "project", "rule", "settings"),
)

# Steps in the lives of alerts; `once` keeps a step that is asked for twice from being two records.
alert_events = sa.Table(
    "alert_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("alert", sa.String(32), nullable=False),
    sa.Column("what", sa.String(32), nullable=False),
    sa.Column("once", sa.String(200), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.UniqueConstraint("project", "alert", "once"),
)

# Which ledger this is: one row, made with it. The history beside it names it.
identity = sa.Table("identity", metadata, sa.Column("id", sa.String(32), primary_key=True))

# Rows that changed and are not yet in the history on disk. Triggers write it (`outbox`), so no
# writer can forget it; numbers are never used twice.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("entity", sa.String(64), nullable=False),
    sa.Column("key", sa.String(64), nullable=False),
    sqlite_autoincrement=True,
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("key", sa.String(320), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.String(128), nullable=False),
    sa.Column("host", sa.String(256), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("acquired_at", UtcTime, nullable=False),
    sa.Column("released_at", UtcTime),
)
