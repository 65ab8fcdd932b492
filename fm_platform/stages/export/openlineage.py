"""OpenLineage events of what the ledger recorded: one START and one COMPLETE a version.

Run ids follow from time and recipe, so that exporting twice gives the same events and a catalogue
that has them already learns nothing new. Datasets are named by project and table or artifact, not
by a place on a machine. A day of a table is a subset of it, with its content hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from fm_platform.errors import FMError
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import AliasChange, ArtifactVersion
from fm_platform.stages.export.conformance import problems
from fm_platform.stages.export.datasets import (
    PRODUCER,
    artifact_name,
    by_key,
    facet,
    inputs,
    outputs,
)
from fm_platform.stages.export.runs import job_facets, run_facets

NAMESPACE = "fm_platform"
_AT_ONCE = 200


@dataclass
class Exporter:
    """Makes the events of one project.

    Attributes:
        ledger: What is told.
        project: Whose history.
        namespace: Of jobs and datasets in the catalogue that reads the events.
    """

    ledger: Ledger
    project: str
    namespace: str = NAMESPACE
    _documents: dict[str, Any] = field(default_factory=dict)

    def events(
        self, *, since: datetime | None = None, at: datetime | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the events of all versions and alias moves in (`since`, `at`], checked.

        Raises:
            FMError: If an event does not conform to the schema: a bug here, never exported.
        """
        moves = [m for m in self._moves() if _within(m.set_at, since, at)]
        for version in self._versions(since, at):
            while moves and moves[0].set_at <= version.created_at:
                yield self._checked(self.alias_event(moves.pop(0)))
            for event in self.version_events(version):
                yield self._checked(event)
        for move in moves:
            yield self._checked(self.alias_event(move))

    def version_events(self, version: ArtifactVersion) -> tuple[Any, Any]:
        """Return START and COMPLETE of the run that made a version."""
        from openlineage.client.generated import base
        from openlineage.client.uuid import generate_static_uuid

        started = version.created_at - timedelta(seconds=version.duration_s)
        run_id = str(generate_static_uuid(started, version.recipe_hash.encode()))
        job = base.Job(self.namespace, self.job_name(version), job_facets(version, self._describe))
        read = inputs(self.namespace, version)

        def event(kind: Any, moment: datetime, made: list[Any], *, ended: bool) -> Any:
            facets = run_facets(self.namespace, version, self._describe, ended=ended)
            return base.RunEvent(
                eventType=kind, eventTime=_time(moment), producer=PRODUCER, job=job, inputs=read,
                outputs=made, run=base.Run(run_id, facets),
            )  # fmt: skip

        return (
            event(base.EventType.START, started, [], ended=False),
            event(
                base.EventType.COMPLETE, version.created_at, outputs(self.namespace, version),
                ended=True,
            ),
        )  # fmt: skip

    def alias_event(self, move: AliasChange) -> Any:
        """Return a dataset event: from now on an alias names this version, or none."""
        from openlineage.client.generated import base, dataset_version_dataset, tags_dataset

        tag = tags_dataset.TagsDatasetFacetFields
        named = move.version_id is not None
        tags = [
            tag(f"alias.{move.alias}", "set" if named else "removed", "fm_platform"),
            tag(f"alias.{move.alias}.by", move.actor, "fm_platform"),
            tag(f"alias.{move.alias}.reason", move.reason, "fm_platform"),
        ]
        name = "merged_model"
        facets = [facet(tags_dataset.TagsDatasetFacet, tags=tags)]
        if move.version_id is not None:
            version = self.ledger.get(move.version_id)
            name = artifact_name(version.kind, version.name)
            facets.append(
                facet(
                    dataset_version_dataset.DatasetVersionDatasetFacet,
                    datasetVersion=version.content_hash,
                )
            )
        dataset = base.StaticDataset(
            self.namespace, f"{self.project}/{name}", facets=by_key(facets)
        )
        return base.DatasetEvent(eventTime=_time(move.set_at), producer=PRODUCER, dataset=dataset)

    def job_name(self, version: ArtifactVersion) -> str:
        """Return e.g. `sentiment.votes.vader`."""
        words = [self.project, version.kind]
        return ".".join(words if version.kind == version.name else [*words, version.name])

    # --- what there is ----------------------------------------------------------------------

    def _versions(self, since: datetime | None, at: datetime | None) -> Iterator[ArtifactVersion]:
        ids = [
            version.id
            for version in self.ledger.versions(self.project)
            if _within(version.created_at, since, at)
        ]
        for start in range(0, len(ids), _AT_ONCE):
            yield from self.ledger.get_many(ids[start : start + _AT_ONCE])

    def _moves(self) -> list[AliasChange]:
        names = sorted({*self.ledger.aliases(self.project), "challenger", "champion"})
        moves = [m for name in names for m in self.ledger.alias_history(self.project, name)]
        return sorted(moves, key=lambda move: (move.set_at, move.alias))

    def _checked(self, event: Any) -> dict[str, Any]:
        from openlineage.client.serde import Serde

        plain: dict[str, Any] = json.loads(Serde.to_json(event))
        _without_empty(plain)
        found = problems(plain)
        if found:
            raise FMError(
                "an event would not conform to the OpenLineage schema",
                where=f"{self.project} {plain.get('job', plain.get('dataset', {})).get('name')}",
                found="; ".join(found[:5]),
                next_step="this is a mistake of the export: nothing was written",
            )
        return plain

    def _describe(self, hash_: str) -> Any:
        if hash_ not in self._documents:
            self._documents[hash_] = self.ledger.document(hash_)
        return self._documents[hash_]


def _time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def _within(moment: datetime, since: datetime | None, at: datetime | None) -> bool:
    return (since is None or moment > since) and (at is None or moment <= at)


def _without_empty(value: Any) -> None:
    """Take away the empty maps that the client writes for facets nobody gave."""
    if isinstance(value, dict):
        for key in [k for k, item in value.items() if item == {} and k.lower().endswith("facets")]:
            del value[key]
        for item in value.values():
            _without_empty(item)
    elif isinstance(value, list):
        for item in value:
            _without_empty(item)
