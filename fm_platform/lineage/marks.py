"""Which base model every model belongs to, and with which it was evaluated.

An adapter means nothing without the base it was trained on. So every model is marked: is its base
the one that the project declares, and is there an evaluation that measured it on that base? All
of it follows from recorded inputs, for any moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal

import sqlalchemy as sa

from fm_platform.errors import LedgerError
from fm_platform.lineage import schema
from fm_platform.lineage.choosing import before_of
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import version_name

MODELS = ("start", "adapter", "merged_model")
_JUDGED = ("start", "adapter", "merged_model", "champion")

State = Literal["current", "other base", "unknown base", "not declared"]


@dataclass(frozen=True)
class Mark:
    """What is to be known of one model before it is used.

    Attributes:
        version: The model.
        base: Content hash of the base model it was made for; None where it is not recorded.
        declared: Content hash of the base model that the project declared at that moment; None
            where no definition is recorded.
        state: `current`: both are the same; `other base`: it must be trained again, or stay with
            its own base; `unknown base`: one of them is not recorded; `not declared`: its expert
            was declared no longer at that moment, and no run makes it again.
        evaluations: Versions that measured it on `base`, newest first.
        aliases: Aliases that named it at that moment.
        successor: Of a model of another base: the newest of its name that was trained for the
            declared one; None where there is none yet.
        verdict: What was decided about that successor, in words; empty where nothing was.
    """

    version: ArtifactVersion
    base: str | None
    declared: str | None
    state: State
    evaluations: tuple[ArtifactVersion, ...]
    aliases: tuple[str, ...] = ()
    successor: ArtifactVersion | None = None
    verdict: str = ""

    @property
    def why(self) -> str:
        """The state in words; empty for a model that is current and evaluated."""
        told = []
        if self.state == "not declared":
            told.append(f"expert {self.version.name} is no longer declared")
        if self.state == "other base" and self.base and self.declared:
            told.append(
                f"made for base {self.base[:12]}, the project declares {self.declared[:12]}"
            )
        elif self.state == "unknown base":
            told.append("its base is not recorded" if self.base is None else "no base is declared")
        if self.successor is not None:
            again = f"trained again as {version_name(self.successor)}"
            told.append(f"{again}, {self.verdict}" if self.verdict else again)
        elif self.state == "other base":
            told.append("not trained again yet")
        if not self.evaluations:
            told.append("not evaluated")
        return "; ".join(told)


def base_of(ledger: Ledger, version: ArtifactVersion) -> str | None:
    """Return the content hash of the base model that a model was made for, or None.

    Args:
        ledger: The record.
        version: A model with its inputs: a start and a merged model read the base themselves,
            an adapter by its start.
    """
    seen: set[int] = set()
    todo = [version]
    while todo:
        here = todo.pop()
        for item in here.inputs:
            if item.role == "base_model":
                return item.content_hash
        above = [i.version_id for i in here.inputs if i.role == "start" and i.version_id]
        todo += [v for v in ledger.get_many(above) if v.id not in seen]
        seen.update(above)
    return None


def evaluations_of(
    ledger: Ledger, version: ArtifactVersion, at: datetime | None = None
) -> list[ArtifactVersion]:
    """Return the evaluations that measured a model, newest first, without their inputs.

    A model with equal content is the same model, whatever recipe gave it.
    """
    i, v = schema.inputs.c, schema.versions.c
    query = (
        sa.select(v.id)
        .join(schema.inputs, i.version_id == v.id)
        .where(
            i.content_hash == version.content_hash,
            i.role.in_(_JUDGED),
            v.kind == "evaluation",
            v.project == version.project,
        )
        .distinct()
    )
    if at is not None:
        query = query.where(v.created_at <= at)
    with ledger.reading() as connection:
        ids = list(connection.scalars(query))
    return ledger.get_many(ids, with_inputs=False)[::-1]


def declared_base(ledger: Ledger, project: str, at: datetime | None = None) -> str | None:
    """Return the content hash of the base model that a project declared at a time, or None.

    Where it declared candidates, it is the one that was chosen last.
    """
    spec = ledger.latest(project, "spec", "spec", at=at)
    if spec is None:
        return None
    if any(i.role == "candidate" for i in spec.inputs):
        choices = ledger.all_latest(project, "choice", at=at)
        chosen = before_of(choices, "~", "base")
        return None if chosen is None else str(chosen.content_hash)
    return next((i.content_hash for i in spec.inputs if i.role == "base_model"), None)


def mark(ledger: Ledger, version: ArtifactVersion, at: datetime | None = None) -> Mark:
    """Return the mark of one model, now or at a time.

    Raises:
        LedgerError: If the version is no model.
    """
    if version.kind not in MODELS:
        raise LedgerError(
            f"{version_name(version)} is no model", found=version.kind, expected=", ".join(MODELS)
        )
    return _Moment(ledger, version.project, at).mark(version)


def marks(
    ledger: Ledger, project: str, at: datetime | None = None, *, every: bool = False
) -> list[Mark]:
    """Return the marks of the models in use and of those that an alias names.

    Args:
        ledger: The record.
        project: Whose models.
        at: The moment; None: now.
        every: All models that were ever made up to then.
    """
    ids: set[int] = set(ledger.aliases(project, at=at).values())
    for kind in MODELS:
        listed: Sequence[ArtifactVersion] = (
            ledger.versions(project, kind) if every else ledger.all_latest(project, kind, at=at)
        )
        ids.update(v.id for v in listed if at is None or v.created_at <= at)
    found = [v for v in ledger.get_many(sorted(ids)) if v.kind in MODELS]
    found.sort(key=lambda v: (MODELS.index(v.kind), v.name, v.number))
    moment = _Moment(ledger, project, at)
    return [moment.mark(version) for version in found]


@dataclass
class _Moment:
    """One project at one moment; what its marks share is asked once."""

    ledger: Ledger
    project: str
    at: datetime | None
    _newest: dict[tuple[str, str], ArtifactVersion | None] = field(default_factory=dict)

    @cached_property
    def declared(self) -> str | None:
        return declared_base(self.ledger, self.project, self.at)

    @cached_property
    def experts(self) -> frozenset[str] | None:
        """The experts that the project declared; None where no definition is recorded."""
        spec = self.ledger.latest(self.project, "spec", "spec", at=self.at)
        listed = None if spec is None else spec.config.get("experts")
        return None if listed is None else frozenset(expert["name"] for expert in listed)

    @cached_property
    def aliases(self) -> dict[str, int]:
        return self.ledger.aliases(self.project, at=self.at)

    @cached_property
    def decisions(self) -> dict[int, str]:
        """Id of a version -> the last decision about it, in words."""
        words = {"promotion": "promoted", "refusal": "refused"}
        return {
            record["version_id"]: f"{words.get(record['kind'], record['kind'])}: {record['reason']}"
            for record in self.ledger.decisions(self.project, at=self.at)
            if record["version_id"] is not None
        }

    def mark(self, version: ArtifactVersion) -> Mark:
        base = base_of(self.ledger, version)
        state: State = "unknown base"
        if base is not None and self.declared is not None:
            state = "current" if base == self.declared else "other base"
        known = self.experts
        if version.kind == "adapter" and known is not None and version.name not in known:
            state = "not declared"
        later = self.newest(version.kind, version.name) if state == "other base" else None
        successor = later if later is not None and later.number > version.number else None
        return Mark(
            version,
            base,
            self.declared,
            state,
            tuple(evaluations_of(self.ledger, version, self.at)),
            tuple(sorted(alias for alias, id_ in self.aliases.items() if id_ == version.id)),
            successor,
            "" if successor is None else self.decisions.get(successor.id, ""),
        )

    def newest(self, kind: str, name: str) -> ArtifactVersion | None:
        """Return the newest version that was made for the declared base, or None."""
        if (kind, name) not in self._newest:
            made = [
                version.id
                for version in self.ledger.versions(self.project, kind, name)
                if self.at is None or version.created_at <= self.at
            ]
            candidates = (self.ledger.get(id_) for id_ in reversed(made))
            self._newest[kind, name] = next(
                (v for v in candidates if base_of(self.ledger, v) == self.declared), None
            )
        return self._newest[kind, name]
