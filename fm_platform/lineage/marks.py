"""Which base model every model belongs to, and with which it was evaluated.

An adapter means nothing without the base it was trained on. So every model is marked: is its base
the one that the project declares, and is there an evaluation that measured it on that base? All
of it follows from recorded inputs, for any moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from fm_platform.errors import LedgerError
from fm_platform.lineage import schema
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import version_name

MODELS = ("start", "adapter", "merged_model")
_JUDGED = ("start", "adapter", "merged_model", "champion")

State = Literal["current", "other base", "unknown base"]


@dataclass(frozen=True)
class Mark:
    """What is to be known of one model before it is used.

    Attributes:
        version: The model.
        base: Content hash of the base model it was made for; None where it is not recorded.
        declared: Content hash of the base model that the project declared at that moment; None
            where no definition is recorded.
        state: `current`: both are the same; `other base`: it must be trained again, or stay with
            its own base; `unknown base`: one of them is not recorded.
        evaluations: Versions that measured it on `base`, newest first.
        aliases: Aliases that named it at that moment.
    """

    version: ArtifactVersion
    base: str | None
    declared: str | None
    state: State
    evaluations: tuple[ArtifactVersion, ...]
    aliases: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """The state in words; empty for a model that is current and evaluated."""
        told = []
        if self.state == "other base" and self.base and self.declared:
            told.append(
                f"made for base {self.base[:12]}, the project declares {self.declared[:12]}"
            )
        elif self.state == "unknown base":
            told.append("its base is not recorded" if self.base is None else "no base is declared")
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
    """Return the evaluations that measured a model, newest first.

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
    return ledger.get_many(ids)[::-1]


def declared_base(ledger: Ledger, project: str, at: datetime | None = None) -> str | None:
    """Return the content hash of the base model that a project declared at a time, or None."""
    spec = ledger.latest(project, "spec", "spec", at=at)
    if spec is None:
        return None
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
    base, declared = base_of(ledger, version), declared_base(ledger, version.project, at)
    state: State = "unknown base"
    if base is not None and declared is not None:
        state = "current" if base == declared else "other base"
    named = ledger.aliases(version.project, at=at)
    return Mark(
        version,
        base,
        declared,
        state,
        tuple(evaluations_of(ledger, version, at)),
        tuple(sorted(alias for alias, id_ in named.items() if id_ == version.id)),
    )


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
    return [mark(ledger, version, at) for version in found]
