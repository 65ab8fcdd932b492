"""The frozen values that go into the ledger and come out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from fm_platform.hashing import canonical_json, sha256_hex

PINNED_ROLES = ("champion", "parent")
"""Roles of inputs that mean one version for ever: that a slot holds another one by now is no
change. (An evaluation compares with a champion of the past on purpose, and an adapter that goes
on from another takes its place.)"""


@dataclass(frozen=True)
class Input:
    """One artifact version that a recipe reads.

    Attributes:
        role: What it is to the recipe, e.g. `raw` or `votes`.
        name: Name of the artifact.
        partition: Its day, or None.
        content_hash: Hash of what is read: of the whole artifact, or of one part.
        part: The part that is read (e.g. the rows of one source), or None for all of it.
        version_id: Which recorded version held that content, for lineage questions. Not part of
            the recipe: another version with equal content is the same input.
    """

    role: str
    name: str
    partition: str | None
    content_hash: str
    part: str | None = None
    version_id: int | None = field(default=None, compare=False)

    @cached_property
    def line(self) -> str:
        """The fields that count, as one unambiguous line."""
        return json.dumps(
            [self.role, self.name, self.partition or "", self.part or "", self.content_hash]
        )


def config_json(config: Mapping[str, Any]) -> str:
    """Return the canonical JSON of a config; most are plain JSON values and take the short way."""
    try:
        return json.dumps(
            config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except TypeError:
        return canonical_json(config)


@dataclass(frozen=True)
class Recipe:
    """Everything an artifact is made from. Two equal recipes must give equal content.

    Every field counts. The order of `inputs` and the order of keys in `config` do not.
    """

    project: str
    kind: str
    name: str
    partition: str | None
    inputs: tuple[Input, ...]
    code: str
    config: Mapping[str, Any]
    environment: str
    seed: int | None = None

    @cached_property
    def inputs_hash(self) -> str:
        """SHA-256 over the inputs in sorted order."""
        return sha256_hex("\n".join(sorted([item.line for item in self.inputs])).encode())

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all fields."""
        fields = (
            self.project, self.kind, self.name, self.partition, self.inputs_hash, self.code,
            config_json(self.config), self.environment, self.seed,
        )  # fmt: skip
        return sha256_hex(json.dumps(fields).encode())

    @property
    def slot(self) -> Slot:
        """What this recipe makes a version of."""
        return (self.kind, self.name, self.partition)


Slot = tuple[str, str, str | None]
"""(kind, name, partition) of an artifact within its project."""


def slot_name(slot: Slot) -> str:
    """Return the reference of what is in use of a slot.

    Example:
        >>> slot_name(("votes", "vader", "2026-01-05")), slot_name(("raw", "raw", None))
        ('votes/vader/2026-01-05', 'raw')
    """
    kind, name, partition = slot
    words = [name] if kind == name else [kind, name]
    return "/".join([*words, partition] if partition else words)


@dataclass(frozen=True)
class Produced:
    """What a computation wrote.

    Attributes:
        content_hash: Hash of the artifact's content.
        location: JSON that tells the stores where it is.
        parts: Name of a part -> content hash, for readers of less than everything.
        metrics: JSON for people: numbers, small tables, verdicts.
    """

    content_hash: str
    location: Mapping[str, Any]
    rows: int | None = None
    bytes: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    mlflow_run_id: str | None = None


@dataclass(frozen=True)
class RunContext:
    """Who or what asked for a build, and with which code."""

    asked_by: str = "person"
    dagster_run_id: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None


class Readable:
    """A version that can be the input of a recipe."""

    id: int
    kind: str
    name: str
    partition: str | None
    content_hash: str
    parts: Mapping[str, str]
    rows: int | None

    def as_input(self, role: str, part: str | None = None) -> Input:
        """Return this version, or one part of it, as the input of a recipe.

        Raises:
            KeyError: If there is no such part.
        """
        content = self.content_hash if part is None else self.parts[part]
        return Input(role, self.name, self.partition, content, part, self.id)


@dataclass(frozen=True)
class Head(Readable):
    """The version in use of one slot, without its larger fields: cheap to load by thousands."""

    id: int
    kind: str
    name: str
    partition: str | None
    recipe_hash: str
    content_hash: str
    inputs_hash: str
    code: str
    environment: str
    seed: int | None
    parts: Mapping[str, str]
    rows: int | None
    created_at: datetime

    @property
    def slot(self) -> Slot:
        """What this is the version in use of."""
        return (self.kind, self.name, self.partition)

    def as_input(self, role: str, part: str | None = None) -> Input:
        """Return this version, or one part of it, as the input of a recipe; made once."""
        made: dict[object, Input] = self.__dict__.setdefault("_made", {})
        key = role if part is None else (role, part)
        found = made.get(key)
        if found is None:
            found = made[key] = super().as_input(role, part)
        return found


@dataclass(frozen=True)
class ArtifactVersion(Readable):
    """One row of the ledger. `number` counts the versions of its slot from 1.

    `environment` is the fingerprint of the packages that matter to the content,
    `run_environment` that of everything that was installed; the ledger keeps both in full.
    """

    id: int
    project: str
    kind: str
    name: str
    partition: str | None
    number: int
    recipe_hash: str
    content_hash: str
    location: Mapping[str, Any]
    parts: Mapping[str, str]
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    code: str
    environment: str
    seed: int | None
    rows: int | None
    bytes: int | None
    created_at: datetime
    duration_s: float
    asked_by: str
    dagster_run_id: str | None
    mlflow_run_id: str | None
    git_commit: str | None
    git_dirty: bool | None
    inputs_hash: str = ""
    run_environment: str | None = None
    inputs: tuple[Input, ...] = ()

    @property
    def slot(self) -> Slot:
        """What this is a version of."""
        return (self.kind, self.name, self.partition)


@dataclass(frozen=True)
class Use:
    """A span of time in which one version was the one in use of its slot; `until` None: now."""

    version_id: int
    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class AliasChange:
    """One move of an alias; `version_id` None means that it was taken away.

    `restores`: the move whose outcome holds again (0: none had been made yet); None: a new one.
    """

    alias: str
    number: int
    version_id: int | None
    set_at: datetime
    actor: str
    reason: str
    restores: int | None = None


@dataclass(frozen=True)
class Conflict:
    """One recipe gave two contents: `version` holds the first, `content_hash` is the second."""

    version: ArtifactVersion
    content_hash: str
    seen_at: datetime
