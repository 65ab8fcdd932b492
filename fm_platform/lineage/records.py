"""The frozen values that go into the ledger and come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from fm_platform.hashing import fingerprint


@dataclass(frozen=True)
class Input:
    """One artifact version that a recipe reads.

    Attributes:
        role: What it is to the recipe, e.g. `raw` or `votes`.
        name: Name of the artifact.
        partition: Its day, or None.
        content_hash: Hash of what is read: of the whole artifact, or of one part.
        part: The part that is read (e.g. the rows of one source), or None for all of it.
    """

    role: str
    name: str
    partition: str | None
    content_hash: str
    part: str | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything an artifact is made from.

    Two equal recipes must give equal content. `label` is for people and not part of the hash.
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
    def hash(self) -> str:
        """SHA-256 over all fields; inputs count in sorted order."""
        return fingerprint(
            {
                "project": self.project,
                "kind": self.kind,
                "name": self.name,
                "partition": self.partition,
                "inputs": sorted(
                    [i.role, i.name, i.partition or "", i.part or "", i.content_hash]
                    for i in self.inputs
                ),
                "code": self.code,
                "config": self.config,
                "environment": self.environment,
                "seed": self.seed,
            }
        )


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


@dataclass(frozen=True)
class ArtifactVersion:
    """One row of the ledger. `number` counts the versions of its slot from 1."""

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
    inputs: tuple[Input, ...] = ()

    def as_input(self, role: str, part: str | None = None) -> Input:
        """Return this version, or one part of it, as the input of a recipe.

        Raises:
            KeyError: If there is no such part.
        """
        content = self.content_hash if part is None else self.parts[part]
        return Input(role, self.name, self.partition, content, part)
